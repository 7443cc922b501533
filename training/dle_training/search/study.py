"""The study folder: how a study is requested, planned, created, opened and checked against its data.

`study.yaml` holds the settings, the search space and the fixed settings. `data.json`, `schema.json` and `splits/`
describe the data. `trials/` has a folder for each trial. Any process that can read the folder can continue the study.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dle_bundle import documents
from dle_bundle import schema as schemas
from dle_bundle.errors import InputError
from dle_bundle.files import atomic_folder, write_atomic
from dle_bundle.schema import Schema
from dle_bundle.tables.source_files import STDIN
from dle_training.config import devices, resolve, run_config
from dle_training.config.run_config import RunConfig
from dle_training.data import folds, sources
from dle_training.data.dataset import Dataset
from dle_training.data.images.image_files import ImageProgress
from dle_training.data.splits import split as splits
from dle_training.data.splits.split import Split
from dle_training.export import dry_run as export_trial
from dle_training.models import pack, registry
from dle_training.models.families import ModelConfig
from dle_training.runs import cross_validation, prepare
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import DataFacts, RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.scoring import metrics
from dle_training.scoring.metrics import Metric
from dle_training.search import choices, defaults, points, settings, space, storage
from dle_training.search.settings import StudyConfig
from dle_training.search.storage import Trials
from dle_training.settings import proposals, yaml_text
from dle_training.settings.base import chosen
from dle_training.settings.dimensions import Space
from dle_training.settings.yaml_text import Tree

_LARGEST_GRID = 10_000


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The paths of the files in a study folder."""

    path: Path

    @property
    def study(self) -> Path:
        return self.path / run_folder.STUDY

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def schema(self) -> Path:
        return self.path / "schema.json"

    @property
    def prepared(self) -> Path:
        """The prepared training data, which all processes memory-map."""
        return self.path / "prepared"

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    @property
    def selected(self) -> RunFolder:
        return RunFolder(self.path / run_folder.SELECTED)

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def splits(self) -> Path:
        return self.path / "splits"

    @property
    def actual(self) -> Path:
        """The target of every row of the source, used to write out-of-fold predictions."""
        return self.splits / "actual.npy"

    def split(self, index: int) -> Path:
        """The split with this index: 0 is the hold-out split, and folds count from 1."""
        return self.splits / f"{index}.npz"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    def trial(self, number: int) -> RunFolder:
        return RunFolder(self.trials / f"{number:03}")


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """A user's request: the settings of the study, the fixed run settings as a tree, and the search space."""

    settings: StudyConfig
    fixed: Tree
    space: Space


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A study before its folder exists: request, data and splits.

    `grid` holds the points of a grid search in order, and is None for other searches.
    """

    request: StudyRequest
    prepared: Prepared
    splits: tuple[Split, ...]
    grid: tuple[points.Point, ...] | None

    @property
    def trials(self) -> int:
        """The number of trials of the study."""
        return chosen(self.request.settings.trials)


@dataclass(frozen=True, slots=True)
class Study:
    """An open study with `count` trials.

    `rows` is the number of training rows, in the first fold if there are folds. `grid` holds the points of a grid
    search in order, and is None for other searches.
    """

    folder: StudyFolder
    request: StudyRequest
    schema: Schema
    rows: int
    count: int
    grid: tuple[points.Point, ...] | None
    trials: Trials

    @property
    def folds(self) -> int:
        """The number of networks that a trial trains: one for each fold, or one without folds."""
        return self.request.fixed["split"]["folds"] or 1

    @property
    def metric(self) -> Metric:
        return _metric(self.request)

    @property
    def can_pack(self) -> bool:
        """Whether several trials can be trained together. Only models on table columns alone allow it."""
        return not (self.schema.image or self.schema.sequence or self.schema.text)

    def resolved(self, point: points.Point) -> RunConfig:
        """Return a configuration for `point` without open choices. Raises InputError if its settings conflict.

        A trial that has begun keeps the choices that were made then: see `config`.
        """
        return resolve.resolve(points.apply(self.request.fixed, point), self.schema, self.rows)

    def begin(self, number: int, point: points.Point) -> RunConfig:
        """Return the configuration of a claimed trial. If it has none yet, make its open choices and write them.

        Raises InputError if the settings conflict.
        """
        path = self.folder.trial(number).config
        if not path.is_file():
            write_atomic(path, run_config.dump(self.resolved(point)))
        return self.config(number)

    def config(self, number: int) -> RunConfig:
        """Return the configuration of a trial that has begun, from its config.yaml.

        The device alone is chosen again, because another machine may continue the trial. Raises InputError if the study
        names a device that this machine lacks.
        """
        stored = self.folder.trial(number).read_config()
        return msgspec.structs.replace(stored, device=devices.choose(self.request.fixed["device"]).type)

    def given(self, number: int) -> points.Point:
        """Return the part of a trial's point that is given in advance. The sampler chooses the rest.

        A grid gives the whole point. In other searches the first trial tries the default settings.
        """
        if self.grid is not None:
            return self.grid[number]
        if number > 0:
            return {}
        try:
            config = self.resolved({})
        except InputError:  # the fixed settings conflict unless a setting that varies has another value
            return {}
        return points.within(self.request.space, config)


def request(
    tree: Tree,
    assignments: Sequence[str],
    flags: dict[str, Any],
    spaces: Sequence[str] = (),
    grids: Sequence[str] = (),
) -> StudyRequest:
    """Read a request from a YAML tree, `--set`, flags ({dotted key: value}), `--space` and `--grid`.

    The request is not checked against the data yet. Raises InputError with all errors together.
    """
    fixed, asked, faults = space.read({name: value for name, value in tree.items() if name != "study"}, spaces, grids)
    if "study" in tree:
        fixed["study"] = tree["study"]
    faults += yaml_text.settings(list(assignments), fixed)
    for key, value in flags.items():
        yaml_text.assign(fixed, key, value)
    own = fixed.pop("study", {})
    fixed, misplaced = space.without_spaces(fixed)
    faults += misplaced
    if not isinstance(own, dict):
        faults.append(f"study: expected a mapping, found {yaml_text.found(own)}")
        own = {}
    faults += [f"study.{fault}" for fault in yaml_text.misfits(own, StudyConfig)]
    seeds, folded = own.get("seeds", 1), section(fixed, "split").get("folds")
    if own.get("rule") == "one_standard_error" and isinstance(seeds, int) and isinstance(folded, int | None):
        fault = settings.standard_error_fault(seeds, folded)
        faults += [] if fault is None else [fault]
    if own.get("search") == "grid":
        faults += points.ranges(asked)
        if not asked.dimensions:
            faults.append(f"study.search: a grid needs lists of values: give them, as in --grid {space.GRID_EXAMPLE}")
    if section(fixed, "training").get("refit"):
        faults.append(f"training.refit: {space.CONSTANT['training.refit']}=true")
    for key in ("max_latency", "distill"):
        if section(fixed, "training").get(key):
            faults.append(f"training.{key}: leave it out, because {space.CONSTANT[f'training.{key}']}")
    if not faults:  # the config.yaml of a run may ask for baselines
        yaml_text.assign(fixed, "training.baseline", False)
    if faults or asked.dimensions:
        space.check(asked, fixed, faults)
    return StudyRequest(yaml_text.to_struct(own, StudyConfig, "The search"), fixed, asked)


def section(tree: Tree, name: str) -> Tree:
    """Return a section of an unchecked tree. Empty if the section is missing or not a mapping."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def plan(asked: StudyRequest, progress: ImageProgress | None = None) -> StudyPlan:
    """Read and split the data, and choose the settings that the request leaves open.

    Raises InputError if the data or the request is invalid.
    """
    refuse_several_readers(asked.fixed, asked.settings)
    if "name" not in section(asked.fixed, "model"):
        asked = replace(asked, fixed={"preset": "fast", **asked.fixed})
    prepared = prepare.prepare(_valid(asked), progress)
    config, dataset = prepared.config, prepared.dataset
    kinds = registry.inputs(dataset.schema)
    names = asked.space.dimensions.get("model.name")
    possible = [registry.choose(name, kinds) for name in getattr(names, "values", (config.model.name,))]
    if asked.settings.refit and any(pack.FAMILY.name in families.values() for families in possible):
        raise InputError(
            f"study.refit=true: a pack is chosen by the validation part, so it cannot be refitted on it; set "
            f"{proposals.setting('study.refit', False)}, or {resolve.without_pack(config)}"
        )
    given = yaml_text.to_struct(section(asked.fixed, "model"), ModelConfig, "The model")
    facts = resolve.facts_of(config, dataset.schema, len(dataset.split.train))
    registry.refuse_unread(given, {kind: [families[kind] for families in possible] for kind in kinds}, facts)
    for families in possible:
        model = msgspec.structs.replace(config.model, name=registry.joined(families))
        export_trial.check(msgspec.structs.replace(config, model=model), dataset.schema)
    searched = asked.space
    if not searched.dimensions:
        suited = defaults.space(registry.choose(config.model.name, kinds), asked.fixed)
        searched = defaults.effective(suited, dataset.schema, config.preprocessing)
        if not searched.dimensions:
            raise InputError(
                "nothing is left to vary, because every setting of the default space is fixed: give a --space"
            )
        space.check(searched, asked.fixed)
    count = config.split.folds
    own = (dataset.split,) if count is None else folds.make(dataset, count, config.seed)
    fixed, shared = choices.shared(asked.fixed, searched, prepared, len(own[0].train))
    grid = None
    if asked.settings.search == "grid":
        if (size := points.size(searched)) > _LARGEST_GRID:
            raise InputError(
                f"a grid of {size:,} combinations: expected at most {_LARGEST_GRID:,}: give fewer values, or use "
                "--search random"
            )
        grid = points.grid(searched, fixed)
    resolved = settings.resolve(
        asked.settings, None if grid is None else len(grid), chosen(shared.training.epochs) * len(own)
    )
    return StudyPlan(StudyRequest(resolved, fixed, searched), replace(prepared, config=shared), own, grid)


def _valid(asked: StudyRequest) -> RunConfig:
    """Return a valid configuration of the space, used to read the data. All of them read the data alike."""
    for point in points.some(asked.space, 1_000):
        try:
            return points.apply(asked.fixed, point)
        except InputError as error:
            fault = error
    raise fault


def create(folder: StudyFolder, planned: StudyPlan) -> Study:
    """Create the folder of a new study, readable by its owner only. Raises InputError if the path exists."""
    dataset = planned.prepared.dataset
    asked = planned.request
    # unique, because a storage may be shared, and because a failed creation may have left a name in it
    name = f"{folder.path.resolve().name}-{secrets.token_hex(4)}"
    with atomic_folder(folder.path, mode=0o700) as temporary:
        made = StudyFolder(temporary)
        write(made, name, asked)
        write_atomic(made.data, documents.encode(run_folder.facts(dataset, planned.prepared.config.data.keep_rows)))
        write_atomic(made.schema, documents.encode(dataset.schema))
        dataset.split.save(made.split(0))
        if len(planned.splits) > 1:
            for index, split in enumerate(planned.splits, start=1):
                split.save(made.split(index))
            np.save(made.actual, cross_validation.actual(dataset), allow_pickle=False)
        storage.create(asked.settings.storage, made.journal, name, higher_is_better=_metric(asked).higher_is_better)
    return open_study(folder)


def open_study(folder: StudyFolder) -> Study:
    """Open the study in `folder`. Raises InputError if there is none."""
    name, asked = read(folder)
    schema = schemas.load(folder.schema)
    folded = asked.fixed["split"]["folds"] is not None
    rows = len(splits.load(folder.split(1 if folded else 0)).train)
    grid = points.grid(asked.space, asked.fixed) if asked.settings.search == "grid" else None
    opened = storage.open_study(asked.settings.storage, folder.journal, name, storage.pruner(asked.settings))
    return Study(folder, asked, schema, rows, chosen(asked.settings.trials), grid, opened)


def write(folder: StudyFolder, name: str, asked: StudyRequest) -> None:
    """Write study.yaml, from which `read` returns the same name and request."""
    tree = {
        "name": name,
        "study": msgspec.to_builtins(asked.settings),
        "space": space.to_tree(asked.space),
        "run": asked.fixed,
    }
    write_atomic(folder.study, yaml_text.write(tree))


def read(folder: StudyFolder) -> tuple[str, StudyRequest]:
    """Read the study's name in its storage and its request. Raises InputError if there is no study."""
    try:
        text = folder.study.read_text(encoding="utf-8")
    except OSError:
        if RunFolder(folder.path).config.is_file():
            raise InputError(f"{folder.path} is a run, not a study: {proposals.resuming(folder.path)}") from None
        raise InputError(f"{folder.path} is not a study: expected a folder with a study.yaml") from None
    tree = yaml_text.read(str(folder.study), text)
    expected: dict[str, type] = {"name": str, "study": dict, "space": dict, "run": dict}
    faults = [f"no {name}" for name, kind in expected.items() if not isinstance(tree.get(name), kind)]
    if faults:
        raise InputError(f"{folder.study}: expected a name, and the mappings study, space and run", faults)
    own = yaml_text.to_struct(tree["study"], StudyConfig, str(folder.study))
    return tree["name"], StudyRequest(own, tree["run"], space.from_tree(tree["space"]))


def source(fixed: Tree) -> sources.Place | None:
    """Return the source in the settings that all trials share."""
    place = section(fixed, "data").get("source")
    return tuple(place) if isinstance(place, list) else place


def refuse_several_readers(fixed: Tree, asked: StudyConfig) -> None:
    """Raise InputError if several processes would have to read standard input."""
    if source(fixed) == STDIN and (asked.engine == "ray" or (asked.jobs or 1) > 1):
        raise InputError(
            "standard input can be read only once, so one process must run all trials: leave out --jobs and --engine, "
            "or save the data to a file"
        )


def refuse_differences(folder: StudyFolder, dataset: Dataset, place: sources.Place) -> None:
    """Raise InputError if `dataset` differs from the data or the target of the study, which was made from `place`."""
    facts = documents.read(folder.data, DataFacts)
    found, known = dataset.schema, schemas.load(folder.schema)
    faults = []
    if found.outputs.target != known.outputs.target:
        faults.append(f"target: the study's is {known.outputs.target!r}, found {found.outputs.target!r}")
    names, other = ([field.name for field in each.inputs] for each in (known, found))
    if names != other:
        gone, new = [name for name in names if name not in other], [name for name in other if name not in names]
        faults += [f"input {name!r} is missing now" for name in gone] + [f"input {name!r} is new" for name in new]
    if facts.digest != dataset.digest:
        sizes = {part: len(dataset.split.rows(part)) for part in facts.rows}
        rows = "" if sizes == facts.rows else f" ({sum(facts.rows.values()):,} rows then, {sum(sizes.values()):,} now)"
        changed = "has changed" if dataset.source == place else f"differs from that of {sources.said(place)}"
        faults.append(f"the content of {sources.said(dataset.source)} {changed}{rows}")
    elif found != known and not faults:
        faults.append("the columns are read differently now: see schema.json")
    if not splits.load(folder.split(0)).equals(dataset.split) and not faults:
        faults.append("the rows are split differently now")
    if faults:
        raise InputError(f"{folder.path} is a study of other data: choose another folder with --out", faults)


def key(*parts: object) -> str:
    """Return a short hash of the `parts`. Equal parts have equal hashes."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()


def _metric(asked: StudyRequest) -> Metric:
    return metrics.METRICS[asked.fixed["training"]["metric"]]


def first_point(study: Study) -> points.Point:
    """Return a valid point of the space, used to find settings that all points share."""
    for point in points.some(study.request.space, 1_000):
        try:
            study.resolved(point)
        except InputError as error:
            fault = error
        else:
            return point
    raise fault


def read_again(study: Study, given: Mapping[str, Any] | None = None, progress: ImageProgress | None = None) -> Dataset:
    """Read the data of the study again, in another process or at a later time.

    `given` holds `data.source` and `data.target` if the user names them again. Raises InputError, which lists the
    differences, if the data is not the data that the study was made with.
    """
    fixed = msgspec.to_builtins(study.request.fixed)
    changes = {name: value for name, value in (given or {}).items() if value is not None}
    known = fixed["data"]["target"]
    if changes.get("data.target", known) != known:
        raise InputError(
            f"{study.folder.path} is a study of another target: choose another folder with --out",
            [f"target: the study's is {known!r}, found {changes['data.target']!r}"],
        )
    for name, value in changes.items():
        yaml_text.assign(fixed, name, value)
    place = source(study.request.fixed)
    assert place is not None
    try:
        dataset = prepare.prepare(points.apply(fixed, first_point(study)), progress).dataset
    except InputError as error:
        if "data.source" not in changes:
            raise
        other = sources.said(changes["data.source"])
        raise InputError(
            f"{study.folder.path} is a study of {sources.said(place)}, but {other} cannot be read the same way: "
            "leave SOURCE out, or choose another folder with --out",
            [error.message, *error.details],
        ) from None
    refuse_differences(study.folder, dataset, place)
    return dataset
