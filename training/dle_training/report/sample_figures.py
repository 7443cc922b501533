"""The figures of examples: sheets of images, panels of series, lengths of texts, forecasts.

Each function takes plain values and returns PNG bytes. Sheets are drawn in inches on one pair of axes that fills the
figure: one pair for each image would take seconds to lay out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from dle_bundle.errors import counted
from dle_bundle.schema import Outputs
from dle_training.report.canvas import (
    BLUE,
    COLOURS,
    FULL,
    GRID,
    GUIDE,
    INK,
    MUTED,
    ORANGE,
    legend,
    png,
    rows_axis,
    sheet,
    short,
    value_axis,
)

_PITCH, _GAP, _MARGIN = 1.27, 0.07, 0.06
"""Inches from one image of a sheet to the next, the gap within that distance, and the margin."""
_TALLEST = 1.7
_LINE, _NAME = 0.17, 0.36
_BINS = 40
_Floats = npt.NDArray[np.floating]
_ACROSS = 3


@dataclass(frozen=True, slots=True, eq=False)
class ImageRow:
    """Images (M, H, W, 1 or 3), uint8, side by side, with a common caption and optional titles."""

    name: str
    images: npt.NDArray[np.uint8]
    titles: Sequence[str] = ()


def images(title: str, rows: Sequence[ImageRow], across: int) -> bytes:
    """A sheet of images with room for `across` images in a row."""
    height, width = rows[0].images.shape[1:3]
    tall = min((_PITCH - _GAP) * height / width, _TALLEST)
    wide = tall * width / height
    lines = [max((text.count("\n") + 1 for text in row.titles), default=0) for row in rows]
    heights = [tall + _GAP + _LINE * count + (0.04 if count else 0) for count in lines]
    left, top = _MARGIN + (_NAME if any(row.name for row in rows) else 0), 0.42
    step = (FULL - left - _MARGIN + _GAP) / across
    with sheet((FULL, top + sum(heights) + _MARGIN)) as figure:
        axes = _inches(figure)
        axes.text(_MARGIN, 0.1, title, fontsize=10.5, fontweight="bold", va="top")
        for row, high, count in zip(rows, heights, lines, strict=True):
            start = top + high - tall - _GAP
            if row.name:
                axes.text(
                    _MARGIN + 0.06, start + tall / 2, row.name, rotation=90, va="center", fontsize=8.5, color=MUTED
                )
            for place, image in enumerate(row.images):
                x = left + place * step
                _image(axes, image, x, start, wide, tall)
                if count:
                    axes.text(
                        x, start - 0.07, row.titles[place], fontsize=8, va="baseline", linespacing=1.25, color=INK
                    )
            top += high
        return png(figure)


def series(plain: _Floats, varied: _Floats | None, titles: Sequence[str], channels: Sequence[str]) -> bytes:
    """Draw series (M, T, C), one panel each, with their variations (V, M, T, C) faint behind them. NaN is a gap."""
    down = -(-len(plain) // _ACROSS)
    with sheet((FULL, 1.0 + 1.75 * down)) as figure:
        figure.suptitle("Training series", x=0.006, ha="left", fontsize=10.5, fontweight="bold")
        panels = np.ravel(figure.subplots(down, min(len(plain), _ACROSS), sharey=True, squeeze=False))
        drawn, steps = {}, np.arange(plain.shape[1])
        for index, (panel, one) in enumerate(zip(panels, plain, strict=False)):
            for channel, name in enumerate(channels):
                colour = COLOURS[channel]
                for version in () if varied is None else varied[:, index, :, channel]:
                    _line(panel, steps, version, color=colour, alpha=0.35, linewidth=0.9)
                drawn[short(name)] = _line(panel, steps, one[:, channel], color=colour, linewidth=1.5)
            end = np.flatnonzero(~np.isnan(one).all(axis=1))
            panel.set_xlim(-0.5, float(max(end.max(initial=0), 1)) + 0.5)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.set_title(short(titles[index], 40), fontsize=9)
            if index >= len(plain) - _ACROSS:
                panel.set_xlabel("step")
            if index % _ACROSS == 0:
                panel.set_ylabel("standardised")
        for panel in panels[len(plain) :]:
            panel.set_visible(False)
        if len(channels) > 1:
            legend(panels[0], drawn, "best")
        return png(figure)


def text_lengths(tokens: npt.NDArray[np.int64], most: int) -> bytes:
    """Draw a histogram of the tokens per text (N,), and the length at which texts are cut."""
    with sheet() as figure:
        axes = figure.subplots()
        # a few very long texts would squeeze all others together
        end = max(1.0, min(float(tokens.max()), 2.5 * float(np.percentile(tokens, 99)))) if len(tokens) else 1.0
        end = max(end, 1.05 * most) if end > 0.4 * most else end
        size = max(1, round(end / _BINS))
        edges = np.arange((most + 0.5) % size - size, end + size, size).tolist()  # one bin edge is at the limit
        axes.hist(tokens[tokens <= most], bins=edges, color=BLUE, alpha=0.85, edgecolor="white", linewidth=0.4)
        axes.hist(tokens[tokens > most], bins=edges, color=ORANGE, alpha=0.85, edgecolor="white", linewidth=0.4)
        axes.set_xlim(0, edges[-1])
        if most <= edges[-1]:
            axes.axvline(most + 0.5, **GUIDE)
            axes.annotate(
                f"cut here: {most:,}", (most + 0.5, 0.985), xycoords=("data", "axes fraction"), xytext=(-4, 0),
                textcoords="offset points", ha="right", va="top", rotation=90, fontsize=8, color=MUTED,
            )  # fmt: skip
        axes.grid(visible=False, axis="x")
        axes.set_title("Length of texts")
        axes.set_xlabel("tokens")
        axes.set_ylabel("training texts")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        rows_axis(axes.yaxis, 6)
        if beyond := int((tokens > edges[-1]).sum()):
            text = f"{counted(beyond, 'longer one')} outside the axes"
            axes.set_title(text, loc="right", fontsize=8, fontweight="normal", color=MUTED)
        return png(figure)


def forecasts(outputs: Outputs, seen: _Floats, actual: _Floats, predicted: _Floats) -> bytes:
    """Draw windows (M, T) of the past, one panel each, with the actual and the predicted values (M, horizon)."""
    horizon = actual.shape[1]
    shown = min(seen.shape[1], max(4 * horizon, 24))
    past, future = np.arange(1 - shown, 1), np.arange(1, horizon + 1)
    with sheet() as figure:
        panels = np.ravel(figure.subplots(len(seen), sharex=True, sharey=True, squeeze=False))
        for panel, before, after, said in zip(panels, seen[:, -shown:], actual, predicted, strict=True):
            panel.axvline(0, **GUIDE)
            _line(panel, np.append(past, future), np.append(before, after), color=MUTED, linewidth=1.2)
            lines = {
                "actual": panel.plot(future, after, color=INK, marker="o", markersize=3, linewidth=1.4)[0],
                "predicted": panel.plot(future, said, color=ORANGE, marker="o", markersize=3, linewidth=1.4)[0],
            }
            value_axis(panel.yaxis, *panel.get_ylim())
            panel.yaxis.set_major_locator(MaxNLocator(3))
        panels[0].set_title("Forecasts")
        legend(panels[0], lines, "lower left")
        panels[len(panels) // 2].set_ylabel(short(outputs.target, 32) + (f" ({outputs.unit})" if outputs.unit else ""))
        panels[-1].set_xlabel("steps after the last input step")
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        return png(figure)


def error_by_step(outputs: Outputs, errors: _Floats, last_value: _Floats | None) -> bytes:
    """Draw the mean absolute error of each forecast step (horizon,), and the error of repeating the last value."""
    steps = np.arange(1, len(errors) + 1)
    marker = "o" if len(errors) <= 30 else ""
    with sheet() as figure:
        axes = figure.subplots()
        lines = {"model": axes.plot(steps, errors, color=BLUE, marker=marker, markersize=4.5)[0]}
        if last_value is not None:
            lines["repeating the last value"] = axes.plot(
                steps, last_value, color=MUTED, marker=marker, markersize=3.5, linewidth=1.2
            )[0]
            legend(axes, lines, "best")
        axes.set_ylim(0, 1.1 * max(float(np.nanmax(line.get_ydata())) for line in lines.values()) or 1)
        value_axis(axes.yaxis, *axes.get_ylim())
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_title("Error by forecast step")
        axes.set_xlabel("forecast step")
        axes.set_ylabel(f"mean absolute error{f' ({outputs.unit})' if outputs.unit else ''}")
        return png(figure)


def _inches(figure: Figure) -> Axes:
    """Return empty axes that fill the figure, in inches from its upper left corner."""
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    width, height = figure.get_size_inches()
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return axes


def _image(axes: Axes, image: npt.NDArray[np.uint8], x: float, y: float, wide: float, tall: float) -> None:
    grey = image.shape[2] == 1
    axes.imshow(
        image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=255, extent=(x, x + wide, y + tall, y),
        aspect="auto", zorder=2,
    )  # fmt: skip
    axes.add_patch(Rectangle((x, y), wide, tall, fill=False, edgecolor=GRID, linewidth=0.8, zorder=3))


def _line(
    axes: Axes, places: npt.NDArray[np.integer], values: _Floats, *, color: str, linewidth: float, alpha: float = 1.0
) -> Line2D:
    """Draw a line through the known values, and return it. A known value between two missing ones is a dot."""
    known = np.pad(~np.isnan(values), 1)
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    (line,) = axes.plot(places, values, color=color, linewidth=linewidth, alpha=alpha)
    axes.plot(places[alone], values[alone], linestyle="", marker=".", color=color, alpha=alpha)
    return line
