"""The choices that all trials of a study share, made when the study is created.

`study.yaml` holds them, so a later version of the code with other defaults continues the same study. Choices that
depend on a trial's point are made when the trial begins, and are kept in the trial's config.yaml.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import Schema
from dle_training.config.resolve import resolve
from dle_training.config.run_config import RunConfig
from dle_training.runs.prepare import Prepared
from dle_training.search import points
from dle_training.search.space import WEIGHTS
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Space
from dle_training.settings.yaml_text import Tree

_COMPARED, _TRIED = 100, 1_000


def shared(fixed: Tree, space: Space, prepared: Prepared, rows: int) -> tuple[Tree, RunConfig]:
    """Return the `fixed` settings with every choice that does not depend on the point, and one trial's configuration.

    `rows` is the number of training rows. Up to 100 points are compared. The device stays as it was requested, because
    each process chooses its own. Raises InputError if no point is valid.
    """
    read = {name: msgspec.to_builtins(getattr(prepared.config, name)) for name in ("data", "split")}
    found = list(islice(_resolved({**fixed, **read}, space, prepared.dataset.schema, rows), _COMPARED))
    trees = [msgspec.to_builtins(config) for config in found]
    return _merged(_common(trees, space.dimensions), fixed), replace(found[0], device=prepared.config.device)


def _resolved(fixed: Tree, space: Space, schema: Schema, rows: int) -> Iterator[RunConfig]:
    fault: InputError | None = None
    valid = 0
    for point in points.some(space, _TRIED):
        try:
            config = points.apply(fixed, point)
            if WEIGHTS in space.dimensions:  # losses with different class weights are not comparable
                config = replace(config, objective=replace(config.objective, class_weights=None))
            resolved = resolve(config, schema, rows)
        except InputError as error:
            fault = error
        else:
            valid += 1
            yield replace(resolved, device=config.device)
    if not valid and fault is not None:
        raise fault


def _common(trees: Sequence[Tree], varied: Mapping[str, Any], below: str = "") -> Tree:
    """Return the settings that are equal in all trees and not `varied`, by dotted key."""
    kept: Tree = {}
    for name, value in trees[0].items():
        key, values = f"{below}{name}", [tree[name] for tree in trees]
        if any(yaml_text.is_struct(kind) for kind in yaml_text.types_at(RunConfig, key)):
            kept[name] = _common(values, varied, f"{key}.")
        elif key not in varied and all(each == value for each in values):
            kept[name] = value
    return kept


def _merged(tree: Tree, other: Tree) -> Tree:
    """Return `tree` with the keys of `other` that it lacks."""
    merged = dict(tree)
    for name, value in other.items():
        if name not in merged:
            merged[name] = value
        elif isinstance(value, dict) and isinstance(merged[name], dict):
            merged[name] = _merged(merged[name], value)
    return merged
