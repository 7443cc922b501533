"""The figures of examples: sheets of images, panels of series, lengths of texts, forecasts.

Each function takes plain values and returns PNG bytes. Sheets are drawn in inches on one pair of axes that fills the
figure: one pair for each image would take seconds to lay out.
"""

from collections.abc import Iterable, Sequence
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
_FLAT = 0.15
"""A panel looks flat if its values take up less than this share of the axis."""
_MARKED = 30
"""Up to so many values have a mark each."""


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


def series(
    plain: _Floats,
    varied: _Floats | None,
    titles: Sequence[str],
    channels: Sequence[str],
    ahead: _Floats | None = None,
) -> bytes:
    """Draw series (M, T, C), a panel for each channel of each, with their variations (V, M, T, C) faint behind them.

    `ahead` (M, horizon) are the values after the window of a forecast, in the first channel. NaN is a gap.
    """
    across, count = min(len(plain), _ACROSS), len(channels)
    down = -(-len(plain) // across)
    steps = np.arange(plain.shape[1]) if ahead is None else np.arange(1 - plain.shape[1], 1)
    title, what = ("Training series", "step") if ahead is None else ("Training windows", "steps after the window")
    with sheet((FULL, 0.9 + down * (1.65 + 0.85 * (count - 1)))) as figure:
        figure.suptitle(title, x=0.006, ha="left", fontsize=10.5, fontweight="bold")
        grid = figure.subplots(down * count, across, squeeze=False, height_ratios=[2.0, *[1.0] * (count - 1)] * down)
        drawn = grid.reshape(down, count, across).swapaxes(1, 2).reshape(-1, count)  # (places, channels)
        for place, (panels, one) in enumerate(zip(drawn, plain, strict=False)):
            panels[0].set_title(short(titles[place], 40), fontsize=9)
            for channel, panel in enumerate(panels):
                for version in () if varied is None else varied[:, place, :, channel]:
                    _line(panel, steps, version, color=COLOURS[channel], alpha=0.35, linewidth=0.9)
                _line(panel, steps, one[:, channel], color=COLOURS[channel], linewidth=1.5)
                if ahead is None:
                    end = np.flatnonzero(~np.isnan(one).all(axis=1))
                    panel.set_xlim(-0.5, float(max(end.max(initial=0), 1)) + 0.5)
                else:
                    panel.axvline(0.5, **GUIDE)
                    if not channel:
                        _line(panel, np.arange(1, ahead.shape[1] + 1), ahead[place], color=INK, linewidth=1.5)
                    panel.set_xlim(steps[0] - 0.5, ahead.shape[1] + 0.5)
                panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
                panel.xaxis.set_tick_params(labelbottom=channel == count - 1)
                panel.yaxis.set_major_locator(MaxNLocator(3))
                if not place % across:
                    panel.set_ylabel(short(channels[channel], 16))
            if place >= len(plain) - across:
                panels[-1].set_xlabel(what)
        for channel in range(count):
            _share(drawn[: len(plain), channel])
        for panel in drawn[len(plain) :].flat:
            panel.set_visible(False)
        figure.align_ylabels()
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


def forecasts(outputs: Outputs, seen: _Floats, actual: _Floats, predicted: _Floats, names: Sequence[str] = ()) -> bytes:
    """Draw windows (M, T) of the past, one panel each, with the actual and the predicted values (M, horizon).

    `names` are those of the series, if there are several, whose levels may differ.
    """
    horizon = actual.shape[1]
    shown = min(seen.shape[1], max(4 * horizon, 24))
    past, future = np.arange(1 - shown, 1), np.arange(1, horizon + 1)
    with sheet() as figure:
        panels = np.ravel(figure.subplots(len(seen), sharex=True, squeeze=False))
        for panel, name in zip(panels, names, strict=False):
            panel.set_title(short(name, 32), loc="right", fontsize=8, fontweight="normal", color=MUTED, pad=3)
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
        legend(panels[0], lines, "above")
        panels[len(panels) // 2].set_ylabel(short(outputs.target, 32) + (f" ({outputs.unit})" if outputs.unit else ""))
        panels[-1].set_xlabel("steps after the last input step")
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        return png(figure)


def error_by_step(outputs: Outputs, errors: _Floats, last_value: _Floats | None) -> bytes:
    """Draw the mean absolute error of each forecast step (horizon,), and the error of repeating the last value."""
    steps = np.arange(1, len(errors) + 1)
    marker = "o" if len(errors) <= _MARKED else ""
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


def _share(panels: Iterable[Axes]) -> None:
    """Give panels the same axis of values, unless one of them would look flat on it, or is empty or flat anyway."""
    drawn = [panel for panel in panels if 0 < panel.dataLim.height < np.inf]
    if drawn:
        limits = np.array([panel.get_ylim() for panel in drawn])
        if min(panel.dataLim.height for panel in drawn) >= _FLAT * (limits.max() - limits.min()):
            for panel in drawn:
                panel.set_ylim(limits.min(), limits.max())
    for panel in drawn:
        value_axis(panel.yaxis, *panel.get_ylim())


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
