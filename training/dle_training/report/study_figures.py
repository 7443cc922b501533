"""The figures of a study: scores of the trials, importance of the settings, and score against latency.

Each function takes the trials, or plain values, and returns PNG bytes. Scores may be of any size, even infinite. An
axis shows the better scores, and scores beyond the axis are drawn at its edge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

from dle_bundle.values.numbers import differ, float32
from dle_training.report.canvas import (
    BLUE,
    FULL,
    INK,
    MUTED,
    ORANGE,
    RED,
    SHADES,
    png,
    sheet,
    short,
    with_margin,
)
from dle_training.report.trials import TrialRow
from dle_training.scoring.metrics import Metric
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Choice, Dimension, Space

MOST_SETTINGS = 12
"""Largest number of bars, or of axes side by side, that stays readable."""
_CHOICES_NAMED = 12
_FRONT_NAMED = 8
_UPRIGHT = 7
"""Largest number of axes side by side whose names fit on one line."""
_Floats = npt.NDArray[np.float64]


def history(rows: Sequence[TrialRow], curves: Mapping[int, Sequence[float]], metric: Metric, selected: int) -> bytes:
    """Draw the score of each trial by number, and the best score so far.

    Pruned trials are drawn at the score at which they were stopped, and failed trials as marks.
    """
    ended = sorted(complete(rows), key=lambda row: row.number)
    numbers, scores = _columns(ended)
    pruned = [row.number for row in rows if row.state == "pruned" and curves.get(row.number)]
    last = np.array([curves[number][-1] for number in pruned], dtype=np.float64)
    failed = [row.number for row in rows if row.state == "fail"]
    with sheet() as figure:
        axes = figure.subplots()
        low, high = limits(np.concatenate([scores, last]), metric)
        edge: dict[str, Any] = {"clip_on": False, "zorder": 3}
        marks = {}
        if pruned:
            (marks["pruned"],) = axes.plot(
                pruned, _within(last, low, high), "o", color=MUTED, mfc="white", alpha=0.7, markersize=4, **edge
            )
        (marks["complete"],) = axes.plot(numbers, _within(scores, low, high), "o", color=BLUE, markersize=4.5, **edge)
        if failed:
            worst = low if metric.higher_is_better else high
            (marks["failed"],) = axes.plot(failed, [worst] * len(failed), "x", color=RED, markersize=6, **edge)
        best = (np.maximum if metric.higher_is_better else np.minimum).accumulate(scores)
        (marks["best so far"],) = axes.plot(
            [*numbers, max(row.number for row in rows)], _within(np.append(best, best[-1]), low, high),
            drawstyle="steps-post", color=INK, linewidth=1.2, zorder=2,
        )  # fmt: skip
        chosen = numbers == selected
        (marks["selected"],) = axes.plot(
            numbers[chosen], _within(scores[chosen], low, high), "o", color=ORANGE, markersize=8, mfc="none",
            markeredgewidth=2, clip_on=False, zorder=4,
        )  # fmt: skip
        axes.set(ylim=(low, high), xlabel="trial", ylabel=f"validation {metric.name}")
        axes.margins(x=0.04)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_title("Trials")
        _say_beyond(axes, np.concatenate([scores, last]), low, high)
        _legend_below(axes, marks)
        return png(figure)


def learning_curves(
    rows: Sequence[TrialRow], curves: Mapping[int, Sequence[float]], metric: Metric, selected: int
) -> bytes:
    """Draw the metric over the epochs of every trial. The selected trial stands out, and pruned trials are faint."""
    states = {row.number: row.state for row in rows}
    known = {number: np.array(curve, dtype=np.float64) for number, curve in curves.items() if len(curve)}
    kinds = {
        "complete": {"color": BLUE, "alpha": 0.6, "linewidth": 1.0, "zorder": 2.5},
        "pruned": {"color": MUTED, "alpha": 0.45, "linewidth": 0.8, "zorder": 2},
    }
    # all trials begin with bad scores, and showing those would squeeze the last epochs together
    low, high = limits(np.concatenate([values[len(values) // 2 :] for values in known.values()]), metric)
    room = 3 * (high - low)  # values further off are not drawn
    with sheet() as figure:
        axes = figure.subplots()
        lines = {}
        for number, values in known.items():
            values = _within(values, low - room, high + room)
            if number != selected and states.get(number) in kinds:
                (lines[states[number]],) = _curve(axes, values, **kinds[states[number]])
            elif number == selected:
                (lines["selected"],) = _curve(axes, values, color=ORANGE, linewidth=2.2, zorder=4)
        axes.set(ylim=(low, high), xlabel="epoch", ylabel=f"validation {metric.name}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_title("Learning curves")
        _legend_below(axes, {name: lines[name] for name in ("complete", "pruned", "selected") if name in lines})
        return png(figure)


def parallel_coordinates(rows: Sequence[TrialRow], space: Space, metric: Metric, selected: int) -> bytes:
    """Draw a line for each complete trial through its settings to its score. Better scores are higher."""
    ended = sorted(complete(rows), key=lambda row: row.score or 0.0, reverse=not metric.higher_is_better)
    numbers, scores = _columns(ended)
    dimensions = dict(list(varied(space).items())[:MOST_SETTINGS])
    low, high = limits(scores, metric)
    places = [[_place(dimension, row.point[key]) for key, dimension in dimensions.items()] for row in ended]
    heights = np.column_stack([np.array(places).reshape(len(ended), -1), _height(scores, low, high, metric)])
    at = np.arange(heights.shape[1])
    slanted = len(at) > _UPRIGHT
    with sheet((FULL, 5.2 if slanted else 4.6)) as figure:
        axes = figure.subplots()
        lines = np.stack([np.broadcast_to(at, heights.shape), heights], axis=-1)
        axes.add_collection(
            LineCollection(
                list(lines), colors=SHADES(0.4 + 0.55 * heights[:, -1] ** 2), linewidths=1.3, alpha=0.85, zorder=2
            )
        )
        for line in lines[numbers == selected]:
            axes.plot(*line.T, color=ORANGE, linewidth=2.6, zorder=3)
        for place, (key, dimension) in enumerate(dimensions.items()):
            _axis(axes, place, [(_place(dimension, value), text) for value, text in _ticks(dimension)])
            _head(axes, place, key, slanted=slanted)
        ticks = [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
        _axis(axes, len(at) - 1, [(_height(np.array(tick), low, high, metric), f"{tick:.6g}") for tick in ticks])
        _head(axes, len(at) - 1, f"validation.{metric.name}", slanted=slanted, fontweight="bold")
        axes.set(xlim=(-0.15, len(at) - 1 + 0.35), ylim=(-0.03, 1.03))
        axes.set_axis_off()
        axes.set_title("Settings and score", pad=95 if slanted else 42)
        return png(figure)


def importance(shares: Mapping[str, float]) -> bytes:
    """Draw the share of the variance of scores that each setting explains, as bars, the largest on top."""
    largest = sorted(shares.items(), key=lambda item: -item[1])[:MOST_SETTINGS]
    with sheet() as figure:
        axes = figure.subplots()
        places = np.arange(len(largest))[::-1]
        values = np.array([share for _, share in largest])
        axes.barh(places, values, height=0.62, color=BLUE, alpha=0.85, linewidth=0)
        for place, share in zip(places, values, strict=True):
            axes.annotate(
                f"{share:.0%}", (share, place), (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK
            )
        axes.set_yticks(places, [short(name, 30) for name, _ in largest])
        axes.set(xlim=(0, 1.12 * max(values.max(), 0.01)), ylim=(-0.6, len(largest) - 0.4))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(visible=False, axis="y")
        axes.set_title("Importance of settings")
        axes.set_xlabel("share of the variance of scores")
        return png(figure)


def pareto_front(rows: Sequence[TrialRow], metric: Metric, selected: int) -> bytes:
    """Draw score against single-row latency. Trials on the Pareto front are joined by a line and numbered."""
    timed = [row for row in complete(rows) if row.latency is not None]
    numbers, scores = _columns(timed)
    times = np.array([row.latency for row in timed], dtype=np.float64)
    front = np.array([row.on_front for row in timed], dtype=np.bool_)
    order = np.flatnonzero(front)[np.argsort(times[front], kind="stable")]
    with sheet() as figure:
        axes = figure.subplots()
        low, high = limits(scores, metric)
        shown = _within(scores, low, high)
        lines = {}
        (lines["trial"],) = axes.plot(
            times[~front], shown[~front], "o", color=MUTED, alpha=0.5, markersize=4.5, zorder=2, clip_on=False
        )
        (lines["Pareto front"],) = axes.plot(
            times[order], shown[order], "o-", drawstyle="steps-post", color=BLUE, linewidth=1.2, markersize=5.5,
            zorder=3, clip_on=False,
        )  # fmt: skip
        chosen = numbers == selected
        (lines["selected"],) = axes.plot(
            times[chosen], shown[chosen], "o", color=ORANGE, mfc="none", markersize=10, markeredgewidth=2, zorder=4,
            clip_on=False,
        )  # fmt: skip
        if len(order) <= _FRONT_NAMED:
            above = metric.higher_is_better
            for index in order:
                axes.annotate(
                    str(numbers[index]), (times[index], shown[index]), (0, 12 if above else -12), ha="center",
                    textcoords="offset points", va="bottom" if above else "top", fontsize=8, zorder=5,
                )  # fmt: skip
        room = 0.15 * (high - low)
        axes.set(ylim=(low, high + room) if metric.higher_is_better else (low - room, high))
        if times.min() > 0 and times.max() / times.min() > 20:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        else:
            axes.margins(x=0.08)
            axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_title("Score and latency")
        axes.set(xlabel="milliseconds a row", ylabel=f"validation {metric.name}")
        _say_beyond(axes, scores, low, high)
        _legend_below(axes, lines)
        return png(figure)


def complete(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the complete trials, which have a score."""
    return [row for row in rows if row.state == "complete" and row.score is not None]


def varied(space: Space) -> dict[str, Dimension]:
    """Return the settings with more than one value."""
    return {
        key: dimension
        for key, dimension in space.dimensions.items()
        if not isinstance(dimension, Choice) or len(dimension.values) > 1
    }


def limits(scores: _Floats, metric: Metric) -> tuple[float, float]:
    """Return the lower and upper limit of an axis of scores. Bad scores that would squeeze the others are outside."""
    sign = -1.0 if metric.higher_is_better else 1.0
    signed = np.sort(sign * scores[np.isfinite(scores)])
    if not len(signed):
        return 0.0, 1.0
    best, quartile, worst = signed[0], signed[int(0.75 * (len(signed) - 1))], signed[-1]
    far = best + 4 * (quartile - best)
    if worst > far > best:
        worst = signed[signed <= far][-1]
    low, high = sorted((float(sign * best), float(sign * worst)))
    if not differ(*float32(np.array([low, high]))):  # networks compute in float32, so the scores are equal
        high = low
    return with_margin(low, high, share=0.05, least=1e-3)


def _columns(rows: Sequence[TrialRow]) -> tuple[npt.NDArray[np.int64], _Floats]:
    numbers, scores = [row.number for row in rows], [row.score for row in rows]
    return np.array(numbers, dtype=np.int64), np.array(scores, dtype=np.float64)


def _within(values: _Floats, low: float, high: float) -> _Floats:
    return np.clip(np.nan_to_num(values, nan=high, posinf=high, neginf=low), low, high)


def _height(scores: _Floats, low: float, high: float, metric: Metric) -> _Floats:
    """Return the scores as heights from 0 to 1. Better scores are higher."""
    share = (_within(scores, low, high) - low) / (high - low)
    return share if metric.higher_is_better else 1 - share


def _curve(axes: Axes, values: _Floats, **style: Any) -> list[Line2D]:
    marker = "o" if len(values) == 1 else ""
    return axes.plot(np.arange(1, len(values) + 1), values, marker=marker, markersize=3.5, **style)


def _place(dimension: Dimension, value: Any) -> float:
    """Return the place of a value on the axis of its setting, from 0 to 1."""
    if isinstance(dimension, Choice):
        return dimension.values.index(value) / (len(dimension.values) - 1)
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return float((value - low) / (high - low))


def _ticks(dimension: Dimension) -> list[tuple[Any, str]]:
    """Return some values of a setting to mark on its axis, with their texts."""
    if isinstance(dimension, Choice):
        step = -(-len(dimension.values) // _CHOICES_NAMED)
        return [(value, short(yaml_text.brief(value), 18)) for value in dimension.values[::step]]
    low, high = dimension.low, dimension.high
    if dimension.log:
        locator: Locator = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=6)
    else:
        locator = MaxNLocator(5, integer=isinstance(low, int))
    inner = [tick for tick in locator.tick_values(low, high) if low < tick < high]
    far = [tick for tick in inner if 0.07 < _place(dimension, tick) < 0.93]
    return [(tick, f"{tick:.4g}") for tick in (low, *far, high)]


def _head(axes: Axes, at: float, key: str, *, slanted: bool, **style: Any) -> None:
    """Write the name of an axis above it: section and setting in two lines, or in one slanted line if room is short."""
    if slanted:
        axes.text(
            at, 1.04, short(key, 30), ha="left", va="bottom", rotation=28, rotation_mode="anchor", fontsize=8, **style
        )
    else:
        section, _, name = key.rpartition(".")
        axes.text(at, 1.06, f"{short(section)}\n{short(name)}", ha="center", va="bottom", fontsize=8.5, **style)


def _axis(axes: Axes, at: float, ticks: Sequence[tuple[Any, str]]) -> None:
    axes.plot([at, at], [0, 1], color=MUTED, linewidth=1, zorder=4)
    for height, text in ticks:
        axes.plot([at, at + 0.015], [height, height], color=MUTED, linewidth=1, zorder=4)
        axes.text(
            at + 0.03, height, text, va="center", ha="left", fontsize=7.5, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )  # fmt: skip


def _say_beyond(axes: Axes, scores: _Floats, low: float, high: float) -> None:
    count = int((~((scores >= low) & (scores <= high))).sum())
    if count:
        text = f"{count:,} beyond the axis"
        axes.set_title(text, loc="right", fontsize=8, fontweight="normal", color=MUTED)


def _legend_below(axes: Axes, lines: Mapping[str, Line2D]) -> None:
    """Add a legend outside the axes, where it hides no trial."""
    axes.legend(
        list(lines.values()), list(lines), loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(lines),
        handlelength=1.4, columnspacing=1.2, frameon=False,
    )  # fmt: skip
