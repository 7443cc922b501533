"""The search space of a user: read from the configuration and the command line, and every fault of it told at once.

Any setting may be a dimension in place of a value, {log: [1e-4, 1e-2]}, but for those that would make the trials of one
study incomparable.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from dle_bundle.errors import InputError, nearest
from dle_training.config.run_config import RunConfig
from dle_training.search import points
from dle_training.settings import dimensions, yaml_text
from dle_training.settings.dimensions import Choice, Dimension, Float, Space
from dle_training.settings.yaml_text import Tree

CONSTANT = {
    "data": "trials learn from the same data",
    "split": "trials are compared on the same validation rows",
    "seed": "trials are compared with the same split and the same chance",
    "device": "where a trial runs is not what it learns",
    "objective.task": "trials of one study have one task",
    "preprocessing.image_size": "the images are decoded once for all trials",
    "preprocessing.max_categories": "the columns are read once for all trials",
    "training.metric": "trials are compared by one metric",
    "training.refit": "it belongs to the selected model: study.refit",
    "training.checkpoint_seconds": "how often a trial is saved is not what it learns",
}
"""Sections and settings that are no dimensions, and why."""

WEIGHTS = "objective.class_weights"
_ATTEMPTS = 1_000
_SPACE_EXAMPLE, GRID_EXAMPLE = '"optimizer.lr={log: [1e-4, 1e-2]}"', "optimizer.lr=1e-3,3e-3,1e-2"


def read(tree: Tree, spaces: Sequence[str] = (), grids: Sequence[str] = ()) -> tuple[Tree, Space, list[str]]:
    """The settings of `tree` that are fixed, the space of its other settings and of the flags, and the faults so far.

    `spaces` are `KEY={kind: values}` (--space), `grids` are `KEY=a,b,c` (--grid). The faults go to `check`, after --set
    has been applied to the fixed settings.
    """
    given: list[tuple[str, str, Any]] = []
    fixed = _without_dimensions(tree, "", given)
    faults = []
    for flag, texts, example in (("--space", spaces, _SPACE_EXAMPLE), ("--grid", grids, GRID_EXAMPLE)):
        for text in texts:
            try:
                key, value = yaml_text.assignment(flag, text, example, listed=flag == "--grid")
            except ValueError as fault:
                faults.append(str(fault))
            else:
                given.append((flag, key, {"choice": value} if flag == "--grid" else value))
    sources: dict[str, str] = {}
    written: dict[str, Any] = {}
    for source, key, value in given:
        if key in written:
            faults.append(f"{key}: expected one space, found two: by {sources[key]} and by {source}")
        else:
            sources[key], written[key] = source, value
    return fixed, _space(written, faults), faults


def check(space: Space, fixed: Tree, faults: Iterable[str] = ()) -> None:
    """Raise InputError with the faults so far, and all of this space and of the `fixed` settings beside it.

    Combinations that exclude each other are no fault as long as there are others: see `points.apply`.
    """
    faults = [*faults, *yaml_text.misfits(fixed, RunConfig)]
    for key, dimension in space.dimensions.items():
        faults += _faults(key, dimension, fixed)
    training = fixed.get("training")
    if WEIGHTS in space.dimensions and isinstance(training, dict) and training.get("metric") == "loss":
        faults.append(f"training.metric: trials with different {WEIGHTS} are not compared by loss; set log_loss")
    if not faults:
        faults += _exclusion(space, fixed)
    if faults:
        raise InputError("The search must change", faults)


def without_spaces(fixed: Tree) -> tuple[Tree, list[str]]:
    """The settings less those that `--set` gave a space, and a fault for each of these."""
    found: list[tuple[str, str, Any]] = []
    rest = _without_dimensions(fixed, "", found)
    return rest, [f"--set {key}: expected a value, found a space: give it with --space" for _, key, _ in found]


def to_tree(space: Space) -> Tree:
    """The space as study.yaml has it: {dotted key: {kind: values}}."""
    return {key: dimensions.write(dimension) for key, dimension in space.dimensions.items()}


def from_tree(tree: Tree) -> Space:
    """The space that `to_tree` wrote. Raises InputError with every key that is no dimension."""
    faults: list[str] = []
    space = _space(tree, faults)
    if faults:
        raise InputError("The search space is not readable", faults)
    return space


def _space(written: Mapping[str, Any], faults: list[str]) -> Space:
    """The dimensions by key, each as it is written; those that are none are added to the `faults`."""
    found: dict[str, Dimension] = {}
    for key, value in written.items():
        try:
            found[key] = _dimension(key, value)
        except ValueError as fault:
            faults.append(f"{key}: {fault}")
    return Space(found)


def _without_dimensions(tree: Tree, below: str, found: list[tuple[str, str, Any]]) -> Tree:
    """The tree without its dimensions, which are added to `found` with their keys."""
    rest: Tree = {}
    for name, value in tree.items():
        key = f"{below}{name}"
        mapping = yaml_text.takes_mapping(yaml_text.types_at(RunConfig, key))
        # a column or a class may be called choice too, but then has no list
        listed = isinstance(value, dict) and any(isinstance(item, list) for item in value.values())
        if _is_meant(key, value) or (dimensions.is_written(value) and listed):
            found.append(("--config", key, value))
        elif isinstance(value, dict) and not mapping:
            kept = _without_dimensions(value, f"{key}.", found)
            if kept or not value:
                rest[name] = kept
        else:
            rest[name] = value
    return rest


def _is_meant(key: str, value: object) -> bool:
    """Whether a dimension is meant, well or badly written: a mapping where the setting takes none."""
    types = yaml_text.types_at(RunConfig, key)
    if not isinstance(value, dict) or yaml_text.takes_mapping(types):
        return False
    return dimensions.is_written(value) or (
        len(value) == 1 and bool(types) and not any(yaml_text.is_struct(kind) for kind in types)
    )


def _dimension(key: str, written: object) -> Dimension:
    """The dimension as it is written for the setting `key`. Raises ValueError with what is expected and found."""
    if not isinstance(written, dict) or not dimensions.is_written(written):
        kinds = ", ".join(dimensions.KINDS)
        found = yaml_text.found(written)
        if isinstance(written, dict) and len(written) == 1:
            (kind,) = written
            found = f"{kind}{nearest(kind, dimensions.KINDS)}"
        raise ValueError(f"expected one of {kinds}, as in {{log: [1e-4, 1e-2]}}, found {found}")
    types = yaml_text.types_at(RunConfig, key)
    return dimensions.parse(written, whole=int in types and float not in types)


def _faults(key: str, dimension: Dimension, fixed: Tree) -> Iterator[str]:
    """Every reason why the setting `key` cannot have this dimension."""
    types = yaml_text.types_at(RunConfig, key)
    if not types:
        yield from _unknown(key)
    elif any(yaml_text.is_struct(kind) for kind in types):
        yield f"{key}: expected a setting, found a section: give a space for the settings in it"
    elif reason := next((reason for name, reason in CONSTANT.items() if f"{key}.".startswith(f"{name}.")), None):
        yield f"{key}: cannot vary, for {reason}"
    else:
        if yaml_text.has(fixed, key):
            yield f"{key}: expected a value or a space, found both"
        yield from _values_that_do_not_fit(key, dimension, types)


def _unknown(key: str) -> Iterator[str]:
    """The fault of a key that is no setting."""
    owner = key.rpartition(".")[0]
    owners = yaml_text.types_at(RunConfig, owner)
    if owners and not any(yaml_text.is_struct(kind) for kind in owners):
        yield f"{key}: expected a setting, found a part of {owner}"
    else:
        yield from yaml_text.misfits(_tree(key, None), RunConfig)


def _values_that_do_not_fit(key: str, dimension: Dimension, types: list[Any]) -> Iterator[str]:
    if isinstance(dimension, Choice):
        values: Sequence[Any] = dimension.values
    elif not {int, float} & set(types):
        yield f"{key}: expected a choice, found a range, but this setting takes no numbers"
        return
    else:  # what fits a setting is an interval, so that its ends stand for all numbers between
        kind = float if isinstance(dimension, Float) else int
        values = (kind(dimension.low), kind(dimension.high))
    for value in values:
        yield from yaml_text.misfits(_tree(key, value), RunConfig)


def _exclusion(space: Space, fixed: Tree) -> Iterator[str]:
    """The fault that no combination is valid; for spaces of more than `_ATTEMPTS`, that none of so many drawn is."""
    tried, reason = 0, ""
    for values in islice(points.some(space, _ATTEMPTS), _ATTEMPTS):
        try:
            points.apply(fixed, values)
        except InputError as error:
            tried, reason = tried + 1, reason or error.details[0]
        else:
            return
    yield f"none of {tried:,} combinations tried is valid; the first: {reason}"


def _tree(key: str, value: object) -> Tree:
    tree: Tree = {}
    yaml_text.assign(tree, key, value)
    return tree
