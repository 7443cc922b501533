"""What the commands do, from Python: `train` makes a `Run`, which evaluates, predicts and exports itself."""

import html
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa

from dle_bundle import in_memory
from dle_bundle.errors import DleError, InputError, Interrupted
from dle_bundle.in_memory import Rows
from dle_bundle.proposals import in_python
from dle_bundle.schema import Schema
from dle_bundle.tables import prediction_columns
from dle_training.config import run_config
from dle_training.config.resolve import facts_of
from dle_training.config.run_config import RunConfig
from dle_training.data import memory, sources, summary
from dle_training.data.images.image_files import ImageProgress
from dle_training.data.sources import Place, Source
from dle_training.export import bundle, dry_run, latency
from dle_training.fitting.listeners import Listeners
from dle_training.fitting.progress import ProgressLines
from dle_training.models import registry
from dle_training.runs import baselines, budget, cross_validation, evaluate, model_choices, prepare
from dle_training.runs import folder as run_folder
from dle_training.runs import train as training
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.runs.train import RunResult
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring.evaluation import Evaluation
from dle_training.scoring.metrics import Scores
from dle_training.scoring.table_baselines import BASELINES, BaselineScores
from dle_training.settings import proposals, yaml_text

Say = Callable[[str], None]
Work = Callable[[RunFolder, Prepared, Listeners], RunResult]


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a run: a page in one file, which a notebook shows."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40rem; border: 0"></iframe>'


class Run:
    """A finished run in its folder, made by `train`, by dle-train or, for a study, by dle-tune."""

    @in_python()
    def __init__(self, path: str | Path) -> None:
        """Open the run, or the selected run of a study. Raises InputError if there is none, or it is not finished."""
        self._folder = run_folder.found(Path(path))
        training.refuse_unfinished(self._folder)

    def __repr__(self) -> str:
        outputs = self.schema.outputs
        return f"<run {self.path}: {outputs.target}, {outputs.task}>"

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self._folder.path

    @property
    def config(self) -> RunConfig:
        """The value in use of every setting."""
        return self._folder.read_config()

    @property
    def schema(self) -> Schema:
        """The inputs and the outputs of the model."""
        return self._model.schema

    @property
    def dropped(self) -> dict[str, str]:
        """The columns that are not inputs, each with the reason."""
        return run_folder.read_facts(self._folder).dropped

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on how the data was read."""
        return run_folder.read_facts(self._folder).notes

    @property
    def validation(self) -> Scores:
        """The scores on the validation part, by metric."""
        scores: Scores = run_folder.read_metrics(self._folder)["validation"]
        return scores

    @property
    def baselines(self) -> dict[str, BaselineScores]:
        """The scores of boosted trees and a linear model on the same rows, by name; empty without `baseline`."""
        return baselines.read(self._folder)

    @property
    def report(self) -> Report:
        """The report on the test part. If the run has not been evaluated, `evaluate` is called first."""
        if not self._folder.report.is_file():
            self.evaluate()
        return Report(self._folder.report)

    @in_python()
    def evaluate(
        self, source: str | Path | Sequence[str | Path] | Rows | None = None, *, sheet: str | None = None
    ) -> Evaluation:
        """Score the model on the test part, and write the report; or on all rows of another table or source.

        `sheet` is that of a workbook, if not the one that training read. Warns if rows of `source` were trained on.
        Raises InputError if the run keeps no test rows, or if `source` does not fit the schema.
        """
        place = _named(source)
        if sheet is not None and place is None:
            raise InputError(f"sheet={sheet!r} needs a source: the workbook that has this sheet")
        if source is None:
            return evaluate.evaluate(self._folder)
        found = memory.read(cast(Rows, source)) if place is None else place
        scored = evaluate.evaluate_source(self._folder, found, sheet=sheet)
        if scored.warning:
            warnings.warn(f"{scored.warning}; evaluate() without a table scores only the test part", stacklevel=2)
        return scored.evaluation

    @in_python()
    def predict(self, rows: Rows) -> pa.Table:
        """Predict N rows: a DataFrame, an Arrow table or a list of dicts.

        Returns the same Arrow table as `dle_serving.load(bundle).predict(rows)`. Raises InputError if `rows` is no
        table, and RowFaults with every fault of every row; rows count from 0.
        """
        outputs = self.schema.outputs
        groups, series = in_memory.read(rows, self.schema)
        found = self._model.predict(groups)
        if outputs.classes is None:
            predicted = prediction_columns.of_values(outputs, found)
        else:
            predicted = prediction_columns.of_classes(outputs, found.argmax(axis=1), found)
        return prediction_columns.table(predicted, series, self.schema)

    @in_python()
    def export(self, path: str | Path, version: int = 1) -> Path:
        """Write the bundle into the new folder `path`, whose name becomes the model's name, and return the folder.

        Raises InputError if the folder exists or its name is no model name, WorkError if the graph does not answer as
        PyTorch does.
        """
        bundle.export_run(self._folder, Path(path), version)
        return Path(path)

    @cached_property
    def _model(self) -> TrainedModel:
        return training.open_model(self._folder)


@in_python()
def train(
    source: str | Path | Sequence[str | Path] | Rows,
    target: str | int | None = None,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    resume: bool = False,
    baseline: bool | None = None,
    progress: bool = True,
    minutes: float | None = None,
    **settings: Any,
) -> Run:
    """Train a model on a DataFrame, an Arrow table, a list of dicts, or a source that dle-train reads.

    Such a source is a path, a pattern, `"-"`, `"sklearn:NAME"`, or a list of paths. `target` is the column to predict.
    The run is written into the folder `out`, by default `runs/<name of the source>`. `settings` are those of dle-train,
    as sections or dotted keys: `seed=1, training={"epochs": 5}` or `**{"training.epochs": 5}`; they overrule the YAML
    file `config`. With `resume`, an interrupted run in `out` continues with its own settings. `baseline` says whether
    boosted trees and a linear model are trained beside the model, as the setting `training.baseline` does. With
    `minutes`, training is planned to end after so many minutes. `progress` writes what was understood, and a line about
    each epoch.

    Raises InputError for any fault of source or settings, and Interrupted after Ctrl-C, with the state saved.
    """
    begun = time.monotonic()
    target = _column(target)
    named = _named(source)
    held = memory.read(cast(Rows, source)) if named is None else named
    place = held.place if isinstance(held, Source) else held
    folder = Path(out) if out is not None else Path("runs") / sources.default_name(place)
    if resume:
        given = {"target": target, "config": config, "baseline": baseline, "minutes": minutes, **settings}
        if changed := [name for name, value in given.items() if value is not None]:
            raise InputError(f"resume=True continues with the settings of {folder}: leave out {', '.join(changed)}")
        run = RunFolder(folder)
        if run_folder.is_finished(run):
            return Run(folder)
        prepared = prepare.reopen(run, source=_read(held, run.read_config()))
    else:
        flags = {**dict(dotted(settings)), "data.source": place}
        if baseline is not None:
            flags["training.baseline"] = baseline
        asked = run_config.load(
            None if config is None else Path(config),
            None,
            flags if target is None else {**flags, "data.target": target},
        )
        table = held if isinstance(held, Source) else None
        run, prepared = begin(asked, folder, source=table, minutes=minutes, begun=begun)
    if progress:
        notes = (f"Warning: {text}" for text in prepared.dataset.warnings)
        plan = [] if prepared.plan is None else [str(prepared.plan)]
        sys.stdout.write("\n".join((*notes, *summary.lines(prepared.dataset), *plan, "")))
    try:
        if progress:
            complete(run, prepared, lambda what: [ProgressLines(what)], say=lambda line: print(line))  # noqa: T201
        else:
            complete(run, prepared, lambda what: [])
    except Interrupted as interrupted:
        raise Interrupted(f"{interrupted}\nContinue with: {proposals.resuming(folder)}") from None
    if slow := model_choices.warning(run):
        warnings.warn(slow, stacklevel=2)
    return Run(folder)


def begin(
    config: RunConfig,
    folder: Path,
    progress: ImageProgress | None = None,
    source: Source | None = None,
    *,
    device: str | None = None,
    minutes: float | None = None,
    begun: float | None = None,
    check: Callable[[RunConfig], None] = lambda config: None,
) -> tuple[RunFolder, Prepared]:
    """Read the data, check all that can be checked before training, and create the run in `folder`.

    A `source` that has been read already is not read again; `device` replaces the resolved one in the configuration.
    With `minutes`, training is planned to end so long after `begun`, in seconds of `time.monotonic`; None means now.
    `check` raises InputError if it refuses the resolved configuration.
    """
    run_folder.refuse_existing(folder)
    opened = time.monotonic()
    prepared = prepare.prepare(config, progress, source)
    reading = time.monotonic() - opened
    facts = facts_of(config, prepared.dataset.schema, len(prepared.dataset.split.train))
    families = registry.choose(prepared.config.model.name, facts.kinds)
    registry.refuse_unread(config.model, {kind: [name] for kind, name in families.items()}, facts)
    check(prepared.config)
    if minutes is not None:
        prepared = budget.plan(config, prepared, minutes, opened if begun is None else begun, reading)
    if device is not None:
        prepared = prepare.on_device(prepared, device)
    cross_validation.make_folds(prepared)  # refuses too many folds before anything is trained
    dry_run.check(prepared.config, prepared.dataset.schema)
    return prepare.create(folder, prepared), prepared


def train_here(run: RunFolder, prepared: Prepared, listeners: Listeners) -> RunResult:
    """Train the run in this process, and measure exported graphs if their latency is limited."""
    return training.train(run, prepared, listeners, latency.single_row)


def complete(
    run: RunFolder, prepared: Prepared, listeners: Listeners, work: Work = train_here, say: Say = lambda line: None
) -> None:
    """Train the run, then its baselines and folds if the configuration asks for them; or continue where it stopped.

    `say` takes a line about what begins. A run that fails before its first checkpoint is removed.
    """
    try:
        work(run, prepared, listeners)
        if prepared.config.training.baseline:
            _train_baselines(run, prepared, say)
        if prepared.config.split.folds is not None:
            cross_validation.validate(run, prepared, listeners)
    except Interrupted:
        raise
    except DleError:
        prepare.discard_untrained(run)
        raise


def _train_baselines(run: RunFolder, prepared: Prepared, say: Say) -> None:
    say(f"Baselines: {', '.join(BASELINES)}")
    try:
        baselines.train(run, prepared)
    except KeyboardInterrupt:  # scikit-learn keeps no state
        raise Interrupted("Interrupted while the baselines were trained; the model is finished") from None


def _read(source: Place | Source, config: RunConfig) -> Source:
    return source if isinstance(source, Source) else sources.read(source, config.data.text_format)


def _named(source: Any) -> Place | None:
    """The source if it consists of names, not of rows."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, list | tuple) and source and all(isinstance(each, str | Path) for each in source):
        return tuple(map(str, source))
    return None


def _column(target: Any) -> str | None:
    """The name of the target. Tables of numpy arrays have columns with numbers for names."""
    if target is None or isinstance(target, str):
        return target
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        return str(target)
    raise InputError(
        f"target: expected the name of a column, found {in_memory.described(target)}: make the values a column of the "
        "table, and name it"
    )


def dotted(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings by their dotted keys, with values as YAML has them."""
    for name, value in settings.items():
        key = f"{above}{name}"
        kinds = yaml_text.types_at(RunConfig, key)
        if isinstance(value, Mapping) and any(yaml_text.is_struct(kind) for kind in kinds):
            yield from dotted(value, f"{key}.")
        else:
            yield key, msgspec.to_builtins(value, str_keys=True, enc_hook=_plain)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
