"""Reading and checking a user's search space, from the configuration file and the command line.

Any setting can have a dimension such as {log: [1e-4, 1e-2]} in place of a value, except the settings in `CONSTANT`: if
they varied, the trials of a study could not be compared. All errors in a space are reported together.
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

_AFTER_SEARCH = "trials keep whole ensembles; train the best settings with it by dle-train"
"""The reason against settings that make the final model smaller."""
CONSTANT = {
    "data": "trials learn from the same data",
    "split": "trials are compared on the same validation rows",
    "preset": "model.name decides which models are compared",
    "seed": "trials are compared with the same split and the same random numbers",
    "device": "the device decides where a trial runs and not what it learns",
    "objective.task": "all trials of a study have the same task",
    "preprocessing.image_size": "the images are decoded once for all trials",
    "preprocessing.image_fit": "the images are decoded once for all trials",
    "preprocessing.max_categories": "the columns are read once for all trials",
    "training.baseline": "trials have no baselines: dle-train has",
    "training.metric": "trials are compared by the same metric",
    "training.refit": "only the selected model is refitted: set study.refit",
    "training.max_latency": _AFTER_SEARCH,
    "training.distill": _AFTER_SEARCH,
    "training.checkpoint_seconds": "the setting decides how often a trial is saved and not what it learns",
}
"""Sections and settings that must not vary, and why."""

WEIGHTS = "objective.class_weights"
_WINDOW_SCALING = "preprocessing.window_scaling"
_ATTEMPTS = 1_000
_SPACE_EXAMPLE, GRID_EXAMPLE = '"optimizer.lr={log: [1e-4, 1e-2]}"', "optimizer.lr=1e-3,3e-3,1e-2"


def read(tree: Tree, spaces: Sequence[str] = (), grids: Sequence[str] = ()) -> tuple[Tree, Space, list[str]]:
    """Split `tree` into fixed settings and dimensions, and add the dimensions of the flags.

    `spaces` are `KEY={kind: values}` (--space), `grids` are `KEY=a,b,c` (--grid). Returns the fixed settings, the
    space, and the errors found so far. Pass the errors to `check` after applying --set to the fixed settings.
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
    """Raise InputError with `faults` and all errors in the space and the `fixed` settings together.

    Some combinations of a space may be invalid, as long as there are valid ones too: see `points.apply`.
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
    """Return the settings without those that `--set` gave a space, and an error for each of the latter."""
    found: list[tuple[str, str, Any]] = []
    rest = _without_dimensions(fixed, "", found)
    return rest, [f"--set {key}: expected a value, found a space: give it with --space" for _, key, _ in found]


def to_tree(space: Space) -> Tree:
    """Return the space in the form of study.yaml: {dotted key: {kind: values}}."""
    return {key: dimensions.write(dimension) for key, dimension in space.dimensions.items()}


def from_tree(tree: Tree) -> Space:
    """Return the space that `to_tree` wrote. Raises InputError, which lists every key that is not a dimension."""
    faults: list[str] = []
    space = _space(tree, faults)
    if faults:
        raise InputError("The search space is not readable", faults)
    return space


def _space(written: Mapping[str, Any], faults: list[str]) -> Space:
    """Parse the dimension of each key. An error is added to `faults` for each invalid one."""
    found: dict[str, Dimension] = {}
    for key, value in written.items():
        try:
            found[key] = _dimension(key, value)
        except ValueError as fault:
            faults.append(f"{key}: {fault}")
    return Space(found)


def _without_dimensions(tree: Tree, below: str, found: list[tuple[str, str, Any]]) -> Tree:
    """Return the tree without its dimensions. The dimensions and their keys are added to `found`."""
    rest: Tree = {}
    for name, value in tree.items():
        key = f"{below}{name}"
        mapping = yaml_text.takes_mapping(yaml_text.types_at(RunConfig, key))
        # a column or a class may also be called "choice", but its value is not a list
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
    """Whether `value` is meant as a dimension, valid or not: a mapping for a setting that accepts no mapping."""
    types = yaml_text.types_at(RunConfig, key)
    if not isinstance(value, dict) or yaml_text.takes_mapping(types):
        return False
    return dimensions.is_written(value) or (
        len(value) == 1 and bool(types) and not any(yaml_text.is_struct(kind) for kind in types)
    )


def _dimension(key: str, written: object) -> Dimension:
    """Parse the dimension of the setting `key`. Raises ValueError, which names what was expected and found."""
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
    """Yield every reason why the setting `key` cannot have this dimension."""
    types = yaml_text.types_at(RunConfig, key)
    if not types:
        yield from _unknown(key)
    elif any(yaml_text.is_struct(kind) for kind in types):
        yield f"{key}: expected a setting, found a section: give a space for the settings in it"
    elif reason := next((reason for name, reason in CONSTANT.items() if f"{key}.".startswith(f"{name}.")), None):
        yield f"{key}: cannot vary, because {reason}"
    elif key == _WINDOW_SCALING and isinstance(dimension, Choice) and "series" in dimension.values:
        yield (
            f"{key}: series cannot be one of several, because it makes the series an input; give window and none, or "
            f"set it for all trials: --set {_WINDOW_SCALING}=series"
        )
    else:
        if yaml_text.has(fixed, key):
            yield f"{key}: expected a value or a space, found both"
        yield from _values_that_do_not_fit(key, dimension, types)


def _unknown(key: str) -> Iterator[str]:
    """Yield the error of a key that is not a setting."""
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
    else:  # a setting accepts an interval, so checking both ends checks all numbers between
        kind = float if isinstance(dimension, Float) else int
        values = (kind(dimension.low), kind(dimension.high))
    for value in values:
        yield from yaml_text.misfits(_tree(key, value), RunConfig)


def _exclusion(space: Space, fixed: Tree) -> Iterator[str]:
    """Yield an error if no combination is valid. At most `_ATTEMPTS` combinations are tried, drawn at random."""
    tried, reason = 0, ""
    for values in islice(points.some(space, _ATTEMPTS), _ATTEMPTS):
        try:
            points.apply(fixed, values)
        except InputError as error:
            tried, reason = tried + 1, reason or error.details[0]
        else:
            return
    yield f"none of {tried:,} combinations tried is valid. The first fails because: {reason}"


def _tree(key: str, value: object) -> Tree:
    tree: Tree = {}
    yaml_text.assign(tree, key, value)
    return tree
