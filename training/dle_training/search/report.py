"""Writes `report.html` of a study from the files in the study folder."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from dle_bundle import documents
from dle_training.fitting import loop
from dle_training.fitting.listeners import read_history
from dle_training.report import study_figures, study_page
from dle_training.report.trials import Finalist, TrialRow
from dle_training.runs import cross_validation
from dle_training.runs.folder import DataFacts, RunFolder
from dle_training.search import leaderboard, selection, storage
from dle_training.search.selection import Selected
from dle_training.search.storage import Trials
from dle_training.search.study import Study
from dle_training.settings.base import chosen
from dle_training.settings.dimensions import Space


def write(study: Study, selected: Selected, rows: Sequence[TrialRow]) -> Path:
    """Write the report of a study with the leaderboard `rows`. Returns the path of the page."""
    facts = documents.read(study.folder.data, DataFacts)
    settings = study.request.settings
    content = study_page.StudyContent(
        study=study.folder.path.resolve().name,
        created=datetime.now(UTC),
        schema=study.schema,
        rows=facts.rows,
        metric=study.metric,
        folds=study.folds,
        search=settings.search,
        pruner=chosen(settings.pruner),
        space=study.request.space,
        trials=rows,
        curves={row.number: curve for row in rows if (curve := _curve(study, row.number))},
        importances=importances(study.trials, study.request.space),
        selected=selected.selection.number,
        rule=selected.selection.rule,
        refit=settings.refit,
        finalists=[Finalist(each.number, each.scores, each.score, each.sd) for each in selected.selection.finalists],
        test=selected.test.test,
        seconds=_seconds(study, rows),
        config=storage.without_password(study.folder.study.read_text(encoding="utf-8")),
    )
    return study_page.write(study.folder.path, content)


def importances(trials: Trials, space: Space) -> dict[str, float]:
    """Return the share of score variance that each setting explains, by functional ANOVA (Hutter et al., 2014).

    The result is empty if fewer than two settings vary, if there are too few complete trials, or if all scores are
    equal.
    """
    with storage.errors_translated("read"):
        scores = [each.value for each in trials.all() if each.state == TrialState.COMPLETE]
        finite = [score for score in scores if score is not None and np.isfinite(score)]
        if len(study_figures.varied(space)) < 2 or len(finite) < study_page.LEAST_TRIALS or len(set(finite)) == 1:
            return {}
        try:
            return get_param_importances(trials.study, evaluator=FanovaImportanceEvaluator(seed=0))
        except RuntimeError:  # no tree of the forest found a difference
            return {}


def _seconds(study: Study, rows: Sequence[TrialRow]) -> float:
    """Return the total training time in seconds: trials, finalists with further seeds, and the selected model."""
    selected, refit = study.folder.selected, study.request.settings.refit
    seconds = sum(row.seconds for row in rows) + leaderboard.spent(study.folder.path / selection.FINALISTS)
    if refit or study.folds > 1:  # otherwise the selected model is a copy of the trial
        seconds += sum(record.seconds for record in read_history(selected.history))
    if refit:
        seconds += sum(record.seconds for record in loop.read_ended(selected.refitted).history)
    return seconds


def _curve(study: Study, number: int) -> list[float]:
    """Return the metric of each epoch, in the first fold if there are folds. Empty if no epoch has ended."""
    folder = study.folder.trial(number)
    run = folder if study.folds == 1 else RunFolder(folder.path / cross_validation.FOLDS / "1")
    return [record.metric for record in read_history(run.history)] if run.history.is_file() else []
