"""The figures of training and of regression; `class_figures` has the figures of classification.

Each function takes plain values and returns PNG bytes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from dle_bundle.schema import Outputs
from dle_training.fitting.listeners import EpochRecord
from dle_training.report.canvas import (
    BLUE,
    GRID,
    GUIDE,
    HALF,
    INK,
    MUTED,
    ORANGE,
    RED,
    SHADES,
    legend,
    png,
    rows_axis,
    sheet,
    short,
    signed,
    value_axis,
    with_margin,
)
from dle_training.scoring.importance import Importances
from dle_training.scoring.model_choices import ModelChoice, ModelChoices

DENSE = 2_000
"""With more rows than this, points would overlap, so their density is drawn instead."""
_Floats = npt.NDArray[np.floating]


def learning_curves(history: Sequence[EpochRecord], metric: str, best_epoch: int) -> bytes:
    """Draw the loss, the metric that chose the best epoch, and the learning rate, over epochs (from 1).

    If the metric is the validation loss, it is drawn only once.
    """
    epochs = [record.epoch for record in history]
    validation = np.array([record.validation_loss for record in history])
    scores = np.array([record.metric for record in history])
    drawn_twice = np.allclose(scores, validation, rtol=1e-4, equal_nan=True)
    marker = "o" if len(history) <= 15 else ""
    with sheet() as figure:
        ratios = [5, 1.2] if drawn_twice else [4, 3, 1.2]
        panels = figure.subplots(len(ratios), sharex=True, height_ratios=ratios)
        lines = {
            name: panels[0].plot(epochs, values, color=color, marker=marker, markersize=3.5)[0]
            for name, values, color in (
                ("training", np.array([record.train_loss for record in history]), MUTED),
                ("validation", validation, BLUE),
            )
        }
        panels[0].set_title("Learning curves")
        panels[0].set_ylabel("loss")
        if not drawn_twice:
            panels[1].plot(epochs, scores, color=BLUE, marker=marker, markersize=3.5)
            panels[1].set_ylabel(f"validation\n{metric}")
        rates = [record.lr for record in history]
        panels[-1].plot(epochs, rates, color=INK, linewidth=1.2, marker=marker, markersize=2)
        panels[-1].set_ylabel("learning\nrate")
        panels[-1].set(ylim=(0, 1.15 * max(rates) or 1), yticks=[0, max(rates)], yticklabels=["0", f"{max(rates):.2g}"])
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for panel in panels[:-1]:
            _spread_out(panel)
        for panel in panels:
            best = panel.axvline(best_epoch, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.2, zorder=1.5)
        legend(panels[0], {**lines, f"best epoch: {best_epoch}": best}, "best")
        figure.align_ylabels()
        return png(figure)


def importances(measured: Importances, most: int) -> bytes:
    """Draw the `most` important inputs as bars, from the top, with lines for ±2 standard errors."""
    shown = measured.inputs[:most]
    places = np.arange(len(shown))
    with sheet((HALF[0], max(HALF[1], 0.9 + 0.24 * len(shown)))) as figure:
        axes = figure.subplots()
        axes.barh(
            places,
            [each.increase for each in shown],
            xerr=[2 * each.error for each in shown],
            color=BLUE,
            ecolor=MUTED,
            height=0.7,
            error_kw={"elinewidth": 1.0},
        )
        axes.set_yticks(places, [short(each.name, 24) for each in shown])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_title("Importance of the inputs")
        axes.set_xlabel(f"increase of {measured.measure} when shuffled")
        return png(figure)


def model_choices(found: ModelChoices) -> bytes:
    """Draw the score of each model against its latency, the limit as a line, and a circle around the model kept."""
    with sheet() as figure:
        axes = figure.subplots()

        def drawn(choices: Sequence[ModelChoice], marker: str, color: str) -> Line2D:
            times, scores = [each.milliseconds for each in choices], [each.score for each in choices]
            (line,) = axes.plot(times, scores, marker, color=color, markersize=6, linewidth=1.2, clip_on=False)
            return line

        members = [each for each in found.choices if not each.distilled]
        lines = {"networks": drawn(members, "o-", BLUE)}
        for each in members:
            axes.annotate(
                str(each.members), (each.milliseconds, each.score), (0, 9), ha="center", textcoords="offset points",
                fontsize=8,
            )  # fmt: skip
        if distilled := [each for each in found.choices if each.distilled]:
            lines["distilled network"] = drawn(distilled, "D", RED)
        kept = found.taken
        (lines["kept"],) = axes.plot(
            [kept.milliseconds], [kept.score], "o", color=ORANGE, mfc="none", markersize=12, markeredgewidth=2,
            clip_on=False,
        )  # fmt: skip
        if found.max_latency is not None:
            lines["limit"] = axes.axvline(found.max_latency, **GUIDE)
        ends = [each.score for each in found.choices]
        axes.set_ylim(*with_margin(min(ends), max(ends), share=0.2, least=0.1))
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title("Score and latency", pad=28)
        axes.set(xlabel="milliseconds a row", ylabel=found.scored)
        legend(axes, lines, "above")
        return png(figure)


def predicted_against_actual(outputs: Outputs, actual: _Floats, predicted: _Floats) -> bytes:
    """Draw each value (N,) as a point, or the density of many points, and the line of exact predictions."""
    with sheet() as figure:
        axes = figure.subplots()
        low, high = _limits(np.concatenate([actual, predicted]))
        axes.axline((low, low), slope=1, **GUIDE)
        if len(actual) > DENSE:
            shown = axes.hexbin(
                actual, predicted, gridsize=45, mincnt=1, bins="log", cmap=SHADES, zorder=2,
                extent=(low, high, low, high),
            )  # fmt: skip
            # within the axes' own box, whose height an equal aspect decides
            place = axes.inset_axes((1.04, 0.08, 0.035, 0.84))
            bar = figure.colorbar(shown, cax=place, label=_counted(outputs), format="{x:,.0f}")
            bar.minorticks_off()
            bar.outline.set_visible(False)
        else:
            axes.scatter(actual, predicted, s=14, color=BLUE, alpha=0.45, linewidths=0, zorder=2)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6))
            value_axis(axis, low, high)
        axes.set_title("Predicted against actual")
        axes.set_xlabel(f"actual {_target(outputs)}")
        axes.set_ylabel(f"predicted {_target(outputs)}")
        _say_outside(axes, int((_outside(actual, low, high) | _outside(predicted, low, high)).sum()), outputs)
        return png(figure)


def residuals(outputs: Outputs, actual: _Floats, predicted: _Floats) -> bytes:
    """Draw a histogram of the errors of predictions (N,), with their sign."""
    errors = predicted.astype(np.float64) - actual
    with sheet() as figure:
        axes = figure.subplots()
        low, high = _limits(errors)
        sns.histplot(
            errors, bins=40, binrange=(low, high), color=BLUE, alpha=0.85, edgecolor="white", linewidth=0.4, ax=axes
        )
        axes.axvline(0, color=INK, linewidth=1)
        fifth, ninety_fifth = np.percentile(errors, [5, 95])
        axes.axvspan(fifth, ninety_fifth, color=GRID, alpha=0.6, zorder=0, linewidth=0)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        value_axis(axes.xaxis, low, high)
        axes.grid(visible=False, axis="x")
        axes.set_title("Residuals")
        axes.set_xlabel(f"predicted − actual {_target(outputs)}")
        axes.set_ylabel(_counted(outputs))
        rows_axis(axes.yaxis, 6)
        axes.annotate(
            f"mean {signed(errors.mean())}\n90% within\n{signed(fifth)} … {signed(ninety_fifth)}",
            (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=8, linespacing=1.4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 2},
        )  # fmt: skip
        _say_outside(axes, int(_outside(errors, low, high).sum()), outputs)
        return png(figure)


def _spread_out(panel: Axes) -> None:
    """Use a logarithmic axis if the first epochs are so far off that the others would lie on one line."""
    drawn = np.concatenate([np.asarray(line.get_ydata()) for line in panel.lines])
    if drawn.min() > 0 and drawn.max() / drawn.min() > 30:
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())


def _target(outputs: Outputs) -> str:
    return short(outputs.target, 32) + (f" ({outputs.unit})" if outputs.unit else "")


def _counted(outputs: Outputs) -> str:
    """Return what a point stands for: a row, or a forecast step of a row."""
    return "rows" if outputs.horizon == 1 else "values"


def _limits(values: _Floats) -> tuple[float, float]:
    """Return the limits of an axis: the extremes, unless a few of them would squeeze all other values together."""
    low, first, last, high = (float(end) for end in np.percentile(values, [0, 1, 99, 100]))
    inner = last - first
    if high - low > 8 * inner > 0:
        near = values[(values >= first - inner) & (values <= last + inner)]
        low, high = float(near.min()), float(near.max())
    return with_margin(low, high, share=0.04, least=0.5)


def _outside(values: _Floats, low: float, high: float) -> npt.NDArray[np.bool_]:
    return (values < low) | (values > high)


def _say_outside(axes: Axes, count: int, outputs: Outputs) -> None:
    if count:
        text = f"{count:,} {_counted(outputs)[: None if count > 1 else -1]} outside the axes"
        axes.set_title(text, loc="right", fontsize=8, fontweight="normal", color=MUTED)
