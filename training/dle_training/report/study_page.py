"""`report.html` of a study: the search space, the trials, and the selected trial."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dle_bundle.schema import Schema
from dle_training.report import markup, study_figures
from dle_training.report.markup import Figure
from dle_training.report.trials import Finalist, TrialRow
from dle_training.scoring import metrics
from dle_training.scoring.metrics import Metric, Scores
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Space

MOST_ROWS = 200
"""Largest number of trials in the table. leaderboard.csv has all trials."""

LEAST_TRIALS = 20
"""Number of complete trials needed to estimate the importance of settings; of fewer, the shares are mostly chance."""


@dataclass(frozen=True, slots=True)
class StudyContent:
    """The content of the report.

    `rows` counts the rows of each part. `folds` is 1 for a hold-out. `trials` are in the order of the leaderboard.
    `curves` holds the metric of each epoch (in the first fold), by trial number. `importances` holds the share of each
    setting, and is empty if the shares are unknown. `finalists` begin with the best. `test` holds the scores of the
    selected model. `seconds` is the time of all trainings together. `config` is the text of study.yaml.
    """

    study: str
    created: datetime
    schema: Schema
    rows: Mapping[str, int]
    metric: Metric
    folds: int
    search: str
    pruner: str
    space: Space
    trials: Sequence[TrialRow]
    curves: Mapping[int, Sequence[float]]
    importances: Mapping[str, float]
    selected: int
    rule: str
    refit: bool
    finalists: Sequence[Finalist]
    test: Scores
    seconds: float
    config: str

    @property
    def chosen(self) -> TrialRow:
        """The selected trial."""
        return next(row for row in self.trials if row.number == self.selected)


def write(folder: Path, content: StudyContent) -> Path:
    """Write `report.html` and its figures (`figures/*.png`) into `folder`, and return the path of the page."""
    figures = list(_figures(content))
    outcomes = [row.outcome for row in content.trials]
    return markup.write(
        folder,
        "study_page.html.jinja",
        figures,
        (yaml_text.brief,),
        content=content,
        chosen=content.chosen,
        finalist=next((each for each in content.finalists if each.number == content.selected), None),
        outputs=content.schema.outputs,
        figures=figures,
        metrics=metrics.METRICS,
        states={outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
        settings=_headers(content.space),
        shown=content.trials[:MOST_ROWS],
        least_trials=LEAST_TRIALS,
    )


def _headers(space: Space) -> dict[str, str]:
    """Return a header for each key: its last part if that is unique, else the whole key."""
    lasts = [key.rpartition(".")[2] for key in space.dimensions]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(space.dimensions, lasts, strict=True)}


def _figures(content: StudyContent) -> Iterator[Figure]:
    rows, metric, selected = content.trials, content.metric, content.selected
    of = f", the mean over {content.folds} folds" if content.folds > 1 else ""
    yield Figure(
        "history",
        study_figures.history(rows, content.curves, metric, selected),
        f"The validation {metric.name} of each trial{of}; {_better(metric)} is better. A pruned trial is drawn at the "
        "score at which it was stopped, a failed trial at the edge.",
    )
    if content.curves:
        fold = " The curves are those of the first fold." if content.folds > 1 else ""
        yield Figure(
            "learning_curves",
            study_figures.learning_curves(rows, content.curves, metric, selected),
            f"The validation {metric.name} of each trial, epoch by epoch.{fold}",
        )
    settings = len(study_figures.varied(content.space))
    only = f" The figure shows the first {study_figures.MOST_SETTINGS} of {settings} settings."
    yield Figure(
        "parallel_coordinates",
        study_figures.parallel_coordinates(rows, content.space, metric, selected),
        "Each line is a complete trial. It goes through the trial's settings to its score at the right. Better trials "
        "are higher and darker, and the selected trial is orange. Where dark lines meet at a setting, good "
        f"trials have the same value.{only if settings > study_figures.MOST_SETTINGS else ''}",
        wide=True,
    )
    if content.importances:
        yield Figure(
            "importance",
            study_figures.importance(content.importances),
            "How much of the difference between scores each setting explains in this space (functional ANOVA).",
        )
    if any(row.latency is not None for row in study_figures.complete(rows)):
        yield Figure(
            "pareto_front",
            study_figures.pareto_front(rows, metric, selected),
            "Median time of the exported model for one row, on one thread of this machine. For a trial on the "
            "front, no other trial is both better and faster.",
        )


def _better(metric: Metric) -> str:
    return "higher" if metric.higher_is_better else "lower"
