"""The leaderboard of a study: score, spread, parameters, training time and single-row latency of every trial."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from optuna.trial import FrozenTrial, TrialState

from dle_bundle import documents
from dle_bundle.files import write_atomic
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.export import latency
from dle_training.fitting.listeners import HISTORY, read_history
from dle_training.report.trials import TrialRow as TrialRow
from dle_training.runs import cross_validation, train, training_sample
from dle_training.runs.folder import RunFolder
from dle_training.scoring.pareto import front
from dle_training.search import points, selection, storage, study
from dle_training.search.study import Study

LATENCIES, TABLE = "latencies.json", "leaderboard.csv"


def make(study: Study, latencies: dict[str, float]) -> list[TrialRow]:
    """Return a row for each ended trial: complete trials first, best first, then pruned and failed trials by number."""
    with storage.errors_translated("read"):
        trials = [each for each in study.trials.all() if each.state in storage.ENDED]
    rows = [
        _row(study, each, latencies) for each in trials if each.params.keys() == study.request.space.dimensions.keys()
    ]
    ended = sorted((row for row in rows if row.state == "complete"), key=lambda row: _order(study, row))
    front = pareto(ended, higher_is_better=study.metric.higher_is_better)
    ended = [msgspec.structs.replace(row, on_front=row.number in front) for row in ended]
    return ended + [row for row in rows if row.state != "complete"]


def _order(study: Study, row: TrialRow) -> float:
    assert row.score is not None
    return -row.score if study.metric.higher_is_better else row.score


def _row(study: Study, each: FrozenTrial, latencies: dict[str, float]) -> TrialRow:
    state = each.state.name.lower()
    point = points.from_storable(study.request.space, each.params)
    if each.state != TrialState.COMPLETE:
        reported = each.intermediate_values
        return TrialRow(
            number=each.number, state=state, point=point, seconds=spent(study.folder.trial(each.number).path),
            stopped=reported[max(reported)] if reported and each.state == TrialState.PRUNED else None,
            error=storage.error_of(each),
        )  # fmt: skip
    result = selection.result_of(each)
    return TrialRow(
        number=each.number, state=state, point=point, score=each.value, sd=result.sd, parameters=result.parameters,
        seconds=result.seconds, latency=latencies.get(architecture(study.config(each.number))),
    )  # fmt: skip


def spent(folder: Path) -> float:
    """Return the total training time in seconds of all histories in `folder`."""
    histories = [read_history(path) for path in folder.rglob(HISTORY)]
    return sum(record.seconds for history in histories for record in history)


def pareto(rows: Sequence[TrialRow], *, higher_is_better: bool) -> set[int]:
    """Return the trial numbers on the Pareto front of score and latency.

    No other trial has a better score at the same or lower latency, or a lower latency at the same or a better score.
    """
    sign = -1 if higher_is_better else 1
    known = [(row.number, row.score, row.latency) for row in rows]
    return front(
        {number: (sign * score, time) for number, score, time in known if score is not None and time is not None}
    )


def architecture(config: RunConfig) -> str:
    """A key of the settings that decide latency. Exported graphs with equal keys differ only in their weights."""
    model = msgspec.structs.replace(config.model, dropout=None)
    return study.key(model, config.preprocessing)


def measure_latencies(
    study: Study, dataset: Callable[[], Dataset], progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Measure the single-row latency in milliseconds of every complete trial, once for each architecture.

    Returns the latencies by architecture. The study keeps them in `latencies.json`. `progress(done, total)` is called
    for each architecture to measure.
    """
    path = study.folder.path / LATENCIES
    known = documents.read(path, dict[str, float]) if path.exists() else {}
    with storage.errors_translated("read"):
        trials = [each for each in study.trials.all() if each.state == TrialState.COMPLETE]
    configs = [(each, study.config(each.number)) for each in trials]
    missing = {architecture(config): (each, config) for each, config in configs if architecture(config) not in known}
    if not missing:
        return known
    training, target = dataset().part("train")
    sample = training.take(training_sample.choose(training, target, study.schema.outputs))
    if sample.image is not None:
        sample = replace(sample, image=np.asarray(sample.image))
    for done, (name, (each, config)) in enumerate(missing.items()):
        progress(done, len(missing))
        trained = study.folder.trial(each.number)
        fitted = trained if study.folds == 1 else RunFolder(trained.path / cross_validation.FOLDS / "1")
        known[name] = latency.single_row(train.open_fitted(fitted, config, study.schema), sample)
        write_atomic(path, documents.encode(known))
    progress(len(missing), len(missing))
    return known


def write_csv(rows: Sequence[TrialRow], path: Path) -> None:
    """Write the leaderboard as CSV: one line for each trial, and a column for each setting that varies."""
    keys = list(dict.fromkeys(key for row in rows for key in row.point))
    named = ("number", "state", "score", "stopped", "sd", "parameters", "seconds", "latency", "on_front", "error")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = {"stopped": "score_when_stopped", "latency": "latency_ms", "on_front": "pareto_front", "error": "failure"}
    writer.writerow([*(heads.get(name, name) for name in named), *keys])
    for row in rows:
        own: list[Any] = [getattr(row, name) for name in named]
        writer.writerow([_cell(value) for value in (*own, *(row.point.get(key) for key in keys))])
    write_atomic(path, text.getvalue())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
