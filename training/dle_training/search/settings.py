"""The settings of a study: the section `study` of the configuration, with its defaults and checks."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dle_training.settings import yaml_text
from dle_training.settings.base import Count, Settings

_LEAST_HALVED, _LEAST_EPOCHS = 20, 3
LEAST_SCORES = 3
"""Number of scores that a standard error needs at least."""


class StudyConfig(Settings, frozen=True):
    """How a study searches, validates and selects."""

    search: Annotated[
        Literal["grid", "random", "tpe"],
        Meta(
            description="Search method: all combinations, random points, or a tree-structured Parzen estimator (TPE)."
        ),
    ] = "random"
    trials: Annotated[
        Count | None, Meta(description="Total number of trials. Null means 20, or every combination of a grid.")
    ] = None
    timeout: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Seconds after which no new trial starts. Running trials are finished."),
    ] = None
    engine: Annotated[
        Literal["local", "ray"],
        Meta(description="Where trials run: on this machine, or on the Ray cluster at RAY_ADDRESS."),
    ] = "local"
    jobs: Annotated[
        Count | None,
        Meta(
            description="Number of trials that run at the same time. On one machine they share its threads, and there "
            "are never more trials than threads. On Ray they share the cluster's CPUs and GPUs. Null means one trial, "
            "or on Ray as many as the cluster has GPUs (CPUs if it has no GPU)."
        ),
    ] = None
    packing: Annotated[
        Literal["auto", "never"],
        Meta(description="Train trials of the same architecture together if a measurement shows that it is faster."),
    ] = "auto"
    pruner: Annotated[
        Literal["none", "halving", "hyperband"] | None,
        Meta(
            description="Method that stops trials early by their validation curve: none, asynchronous successive "
            "halving, or Hyperband, which runs several halvings in parallel. Null means halving for a study of 20 "
            "or more trials when it is created, and none for fewer."
        ),
    ] = None
    reduction: Annotated[
        int,
        Meta(
            ge=2,
            description="Halving and Hyperband continue one in this many trials at each rung. A value of 3 also means "
            "that no trial is stopped in the last third of its epochs, where stopping saves little.",
        ),
    ] = 3
    least_epochs: Annotated[
        Count | None,
        Meta(
            description="Epochs before the first rung of halving and Hyperband, counted over all folds. Null means 3, "
            "or more if that still leaves about two rungs."
        ),
    ] = None
    most_epochs: Annotated[
        Count | None,
        Meta(
            description="Epochs of a whole trial, counted over all folds, for which the pruner plans its rungs. Null "
            "means those of the first valid point of the space."
        ),
    ] = None
    storage: Annotated[
        str | None,
        Meta(
            description="URL of an Optuna storage, such as postgresql://user@host/name. Null means journal.log in "
            "the study."
        ),
    ] = None
    finalists: Annotated[Count, Meta(description="Number of best trials that are trained again with other seeds.")] = 1
    seeds: Annotated[
        Count,
        Meta(
            description="Number of seeds of each finalist, including its own. Finalists are ranked by "
            "the mean score of "
            "the other seeds, because a trial's own score is the one that made it a finalist."
        ),
    ] = 1
    rule: Annotated[
        Literal["best", "one_standard_error"],
        Meta(
            description="Select the best score, or the fewest parameters within one standard error of the best score. "
            "The standard error needs at least 3 folds, or 4 seeds (3 besides the trial's own)."
        ),
    ] = "best"
    refit: Annotated[bool, Meta(description="Train the selected model again on training and validation rows.")] = False

    def __post_init__(self) -> None:
        if self.seeds == 1 and self.finalists > 1:
            raise ValueError("study.finalists: expected 1 with a single seed, found more: set study.seeds as well")


def standard_error_fault(seeds: int, folds: int | None) -> str | None:
    """Return an error if rule one_standard_error has too few scores with these seeds and folds, otherwise None."""
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
    """Return the settings with `changes`. Changes that are None are ignored. Raises InputError for an invalid value."""
    given = {key: value for key, value in changes.items() if value is not None}
    return yaml_text.to_struct({**msgspec.to_builtins(config), **given}, StudyConfig, "The study")


def resolve(config: StudyConfig, combinations: int | None, epochs: int) -> StudyConfig:
    """Return the settings with every open choice about the search made, for study.yaml.

    `combinations` is the size of the grid, None for other searches. `epochs` is the number of epochs that a whole trial
    has in all its folds together. A null that is left means "none", or leaves a choice to each process: `jobs`.
    """
    count = trials(config, combinations)
    most = config.most_epochs or epochs
    least = config.least_epochs or max(_LEAST_EPOCHS, most // config.reduction**2)
    pruner = config.pruner or ("halving" if count >= _LEAST_HALVED else "none")
    return changed(config, {"trials": count, "pruner": pruner, "least_epochs": min(least, most), "most_epochs": most})


def trials(config: StudyConfig, combinations: int | None) -> int:
    """Return the number of trials. `combinations` is the size of the grid, None for other searches."""
    if combinations is None:
        return 20 if config.trials is None else config.trials
    return combinations if config.trials is None else min(config.trials, combinations)
