"""Everything that decides a study beside the run configuration: the section `study` of its YAML."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dle_training.settings import yaml_text
from dle_training.settings.base import Count, Settings

_LEAST_HALVED = 20
LEAST_SCORES = 3
"""Scores of a trial that a standard error takes at least."""


class StudyConfig(Settings, frozen=True):
    """How a study searches, validates and selects."""

    search: Annotated[
        Literal["grid", "random", "tpe"],
        Meta(description="All combinations, random ones, or those that a tree-structured Parzen estimator suggests."),
    ] = "random"
    trials: Annotated[
        Count | None, Meta(description="Trials in all; null: 20, or as many as the grid has combinations.")
    ] = None
    timeout: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Seconds after which no further trial begins; those that run come to their end."),
    ] = None
    engine: Annotated[
        Literal["local", "ray"],
        Meta(description="Who runs the trials: this machine, or the Ray cluster that RAY_ADDRESS names."),
    ] = "local"
    jobs: Annotated[
        Count | None,
        Meta(
            description="Trials that run at a time, which share the threads of the machine (one each at least, and no "
            "more trials than that), or the CPUs and GPUs of the cluster; null: one, and with Ray as many as the "
            "cluster has CPUs for (GPUs, if it has any)."
        ),
    ] = None
    packing: Annotated[
        Literal["auto", "never"],
        Meta(description="Whether trials of one architecture are trained at once where that measures faster."),
    ] = "auto"
    pruner: Annotated[
        Literal["none", "halving", "hyperband"] | None,
        Meta(
            description="Who stops trials early, by their validation curve: nobody, asynchronous successive halving, "
            "or Hyperband, which runs several halvings side by side; null: halving from 20 trials on, and nobody where "
            "there are fewer to choose from."
        ),
    ] = None
    reduction: Annotated[
        int,
        Meta(
            ge=2,
            description="Halving and Hyperband go on with one trial in so many at each rung; none stands in the last "
            "such part of the epochs, where little is left to be spared.",
        ),
    ] = 3
    least_epochs: Annotated[
        Count | None,
        Meta(
            description="Epochs before the first rung of halving and Hyperband, those of all folds counted; null: 3, "
            "or so many that about two rungs are left."
        ),
    ] = None
    storage: Annotated[
        str | None,
        Meta(description="Optuna storage, such as postgresql://user@host/name; null: journal.log in the study."),
    ] = None
    finalists: Annotated[Count, Meta(description="Number of best trials to train again with other seeds.")] = 1
    seeds: Annotated[
        Count,
        Meta(
            description="Seeds of each finalist, its own included. Finalists are ranked by the mean score of the other "
            "seeds, because the trial's own score is the one that made it a finalist."
        ),
    ] = 1
    rule: Annotated[
        Literal["best", "one_standard_error"],
        Meta(
            description="Select the best score, or the fewest parameters within one standard error of the best score. "
            "The standard error takes at least 3 folds, or 4 seeds: 3 beside the trial's own."
        ),
    ] = "best"
    refit: Annotated[bool, Meta(description="Train the selected model again on training and validation rows.")] = False

    def __post_init__(self) -> None:
        if self.seeds == 1 and self.finalists > 1:
            raise ValueError("study.finalists: expected 1 with a single seed, found more: set study.seeds as well")


def standard_error_fault(seeds: int, folds: int | None) -> str | None:
    """Why rule one_standard_error has no standard error with so many seeds and folds; None if it has one."""
    if seeds > 1:
        found, mend = seeds - 1, f"--set study.seeds={LEAST_SCORES + 1}"
        what = "scores from new seeds (the trial's own score, which made it a finalist, does not count)"
    else:
        found, mend = folds or 1, f"--folds {LEAST_SCORES} or --set study.seeds={LEAST_SCORES + 1}"
        what = "scores of each trial"
    if found >= LEAST_SCORES:
        return None
    return f"study.rule: one_standard_error expects at least {LEAST_SCORES} {what}, found {found}: {mend}"


def changed(config: StudyConfig, changes: Mapping[str, Any]) -> StudyConfig:
    """The settings with `changes`, but those that are None. Raises InputError where one cannot be."""
    given = {key: value for key, value in changes.items() if value is not None}
    return yaml_text.to_struct({**msgspec.to_builtins(config), **given}, StudyConfig, "The study")


def with_pruner(config: StudyConfig, count: int) -> StudyConfig:
    """The settings with the pruner that suits so many trials, unless they name one."""
    return changed(config, {"pruner": config.pruner or ("halving" if count >= _LEAST_HALVED else "none")})


def trials(config: StudyConfig, combinations: int | None) -> int:
    """How many trials there will be; `combinations` are those of a grid."""
    if combinations is None:
        return 20 if config.trials is None else config.trials
    return combinations if config.trials is None else min(config.trials, combinations)
