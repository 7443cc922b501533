"""Output that several commands share: how the data was read, progress, the table of trials.

Its functions import heavy modules when they are called.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from dle_cli import console
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_bundle.schema import Field
    from dle_cli.progress import ReadingProgress
    from dle_training.data.dataset import Dataset
    from dle_training.fitting.listeners import Listeners
    from dle_training.runs.prepare import Prepared
    from dle_training.search.leaderboard import TrialRow
    from dle_training.search.study import Study


def reading(speaker: Console) -> "AbstractContextManager[ReadingProgress | None]":
    """Progress of reading images."""
    from dle_cli.progress import ReadingProgress

    return nullcontext() if speaker.silent else ReadingProgress()


def training(speaker: Console) -> "Listeners":
    """Progress of trainings, by the name of each."""
    from dle_cli.progress import TrainingBars, TrainingProgress

    bars = TrainingBars()
    return lambda what: [] if speaker.silent else [TrainingProgress(bars, what)]


def _range(low: float | str, high: float | str) -> str:
    """The ends of a range, with seven digits, or as many as show whole numbers and a hundredth of the range."""
    if isinstance(low, str) or isinstance(high, str):
        return f"{low} … {high}"
    largest = max(abs(low), abs(high), 1.0)
    digits = max(7, math.ceil(math.log10(largest + 1))) if largest < 1e15 else 7
    while digits < 17 and any(abs(float(f"{end:.{digits}g}") - end) > (high - low) / 100 for end in (low, high)):
        digits += 1
    return f"{low:.{digits}g} … {high:.{digits}g}"


def show_data(speaker: Console, prepared: "Prepared", folder: Path) -> None:
    """Columns, target, notes and rows. `folder` is that of the run, whose files hold what is too much to be printed."""
    from dle_training.data import summary

    dataset = prepared.dataset
    rows: list[tuple[str, str, str, str]] = []
    for field in dataset.schema.inputs:
        seen = field.form
        if field.observed_range:
            seen = _range(*field.observed_range)
        elif field.categories:
            shown = ", ".join(field.categories[:4])
            seen = f"{len(field.categories)}: {shown}{', …' if len(field.categories) > 4 else ''}"
        if field.unit:
            seen += f" {field.unit}; {_samples(dataset, field)}"
        rows.append((field.name, field.kind, "yes" if field.required else "no", seen))
    dropped = [(name, "dropped", "", reason) for name, reason in dataset.dropped.items()]
    headers, further = ("input", "kind", "required", "seen in training"), f"all are in {folder / 'data.json'}"
    if len(rows) > console.MOST_ROWS and dropped:  # so that a long table does not hide them
        speaker.table("Columns", rows, headers, f"all are in {folder / 'schema.json'}")
        reasons = [(name, reason) for name, _, _, reason in dropped]
        speaker.table("Dropped columns", reasons, ("column", "reason"), further, console.MOST_LINES)
    else:
        where = further if dropped else f"all are in {folder / 'schema.json'}"
        speaker.table("Columns", rows + dropped, headers, where)
    speaker.lines(dataset.warnings, speaker.warn, further)
    target, *notes, parts = summary.lines(dataset)
    speaker.say(target)
    speaker.lines(notes, speaker.say, further)
    speaker.say(parts)
    if prepared.plan is not None:
        speaker.say(str(prepared.plan))


def _samples(dataset: "Dataset", field: "Field") -> str:
    """Two values of a column with a unit, as they were understood."""
    values = dataset.groups.numeric[dataset.split.train, dataset.schema.numeric.index(field)]
    known = dict.fromkeys(repr(value).removesuffix(".0") for value in values[values == values][:100].tolist())
    return "such as " + ", ".join(f"{value} {field.unit}" for value in list(known)[:2])


def leaderboard(speaker: Console, title: str, study: "Study", rows: "Sequence[TrialRow]") -> None:
    """Print a table of trials: score, size, cost, and the settings that vary."""
    from dle_training.settings import yaml_text

    body = []
    for row in rows:
        score = row.outcome if row.score is None else f"{row.score:.4g}"
        if row.stopped is not None:
            score += f" at {row.stopped:.4g}"
        if row.sd is not None:
            score += f" ± {row.sd:.2g}"
        body.append(
            (
                f"{row.number}{' *' if row.on_front else ''}",
                score,
                "" if row.parameters is None else f"{row.parameters:,}",
                f"{row.seconds:.1f}",
                "" if row.latency is None else f"{row.latency:.3g}",
                ", ".join(f"{key.rpartition('.')[2]} {yaml_text.brief(value)}" for key, value in row.point.items()),
            )
        )
    speaker.table(title, body, ("trial", study.metric.name, "parameters", "seconds", "ms a row", "settings"))
    if any(row.on_front for row in rows):
        speaker.say("* no other trial is both better and faster; of equal trials only one is marked")
