import io
from typing import Any

import msgspec
import pytest
from rich.console import Console as Terminal

from dle_cli import progress
from dle_cli.progress import ReadingProgress, TrainingBars, TrainingProgress
from dle_training.fitting.listeners import EpochRecord, TrainingPlan
from dle_training.fitting.progress import duration_text, rate_text, scores_text
from dle_training.scoring.metrics import METRICS

RECORD = EpochRecord(
    epoch=12, train_loss=0.3581, validation_loss=0.3021, metric=0.3021, lr=1e-3, seconds=1.0, rows_per_second=31234.0
)


@pytest.mark.parametrize("width", [80, 90, 100])
@pytest.mark.parametrize("metric", ["log_loss", "loss", "roc_auc"])
def test_nothing_but_the_bar_yields_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, metric: str
) -> None:
    written = io.StringIO()

    def terminal(**_: Any) -> Terminal:
        return Terminal(file=written, width=width, force_terminal=True, color_system=None)

    monkeypatch.setattr(progress, "Terminal", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bars = TrainingBars()
    shown = TrainingProgress(bars)
    shown.on_start(TrainingPlan(epochs=300, steps=10, rows=1000, metric=METRICS[metric], history=()))
    shown.on_step(12, 10)
    shown.on_epoch([RECORD], 9)
    bars._bars.refresh()
    shown.on_end()
    printed = written.getvalue()
    for text in ("epoch 12/300", "4%", "loss 0.358 · val 0.302", "31k rows/s", "left ≤ "):
        assert text in printed
    assert ("roc_auc 0.302" in printed) == (metric == "roc_auc")
    assert ("best 9" in printed) == (metric != "roc_auc" or width == 100)
    assert "log_loss" not in printed
    assert "…" not in printed


def test_trainings_at_once_and_one_after_another_have_a_bar_each(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()

    def terminal(**_: Any) -> Terminal:
        return Terminal(file=written, width=120, force_terminal=True, color_system=None)

    monkeypatch.setattr(progress, "Terminal", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bars = TrainingBars()
    first, second, third = (TrainingProgress(bars, f"fold {number} of 3") for number in (1, 2, 3))
    plan = TrainingPlan(epochs=300, steps=10, rows=1000, metric=METRICS["log_loss"], history=())
    for each in (first, second):
        each.on_start(plan)
    second.on_epoch([RECORD], 9)
    bars._bars.refresh()
    together = written.getvalue()
    assert "fold 1 of 3: epoch 1/300" in together
    assert "fold 2 of 3: epoch 1/300" in together
    assert "fold 3" not in together
    for each in (first, second):
        each.on_end()
    written.truncate(0)
    third.on_start(plan)
    bars._bars.refresh()
    third.on_end()
    assert "fold 3 of 3" in written.getvalue()
    assert "fold 1" not in written.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_reading_tells_count_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    written = io.StringIO()

    def terminal(**_: Any) -> Terminal:
        return Terminal(file=written, width=width, force_terminal=True, color_system=None)

    seconds = iter([100.0, 110.0])
    monkeypatch.setattr(progress, "Terminal", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with ReadingProgress() as shown:
        monkeypatch.setattr("dle_cli.progress.time.monotonic", lambda: next(seconds))
        shown(1_000, 6_000)
        shown(2_500, 6_000)
        shown._bar.refresh()
    assert "reading images" in written.getvalue()
    assert "2,500 of 6,000 · 150 images/s · left 23 s" in written.getvalue()


def test_reading_into_a_file_is_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([100.0, 109.0, 110.0, 111.0])
    with ReadingProgress() as shown:
        monkeypatch.setattr("dle_cli.progress.time.monotonic", lambda: next(seconds))
        for done in (1_000, 2_000, 2_500, 6_000):
            shown(done, 6_000)
    assert capsys.readouterr().err == "reading images: 2,500 of 6,000 · 150 images/s · left 23 s\n"


def test_log_loss_is_shown_throughout_or_never() -> None:
    clipped = msgspec.structs.replace(RECORD, metric=0.2)
    assert scores_text([RECORD, clipped], "log_loss", 1, wide=False) == "loss 0.358 · val 0.302 · best 1"
    assert scores_text([clipped, RECORD], "log_loss", 1, wide=False) == "loss 0.358 · val 0.302 · log_loss 0.302"


def test_rates_and_durations_are_short() -> None:
    assert [rate_text(rows) for rows in (950, 31234, 1.23e6)] == ["950 rows/s", "31k rows/s", "1.2M rows/s"]
    assert [duration_text(seconds) for seconds in (27.2, 245, 3723)] == ["27 s", "4:05", "1:02:03"]
