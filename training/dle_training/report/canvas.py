"""Shared by all figures: sizes, fonts, colours, and rendering to PNG.

Figures are drawn on `Figure` objects and not through pyplot, so no figure stays open, no display is needed, and the
caller's matplotlib settings do not change. Column and class names come from the data, so they are drawn as plain text:
dollar signs do not begin mathematics, and a leading underscore does not hide a name.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dle_bundle.values.numbers import differ

HALF = (5.2, 4.2)
"""Size in inches of a figure that stands beside another one; it is readable on a phone."""
FULL = 10.6
"""Width in inches of a figure in a row of its own."""
DPI = 200

INK, MUTED, GRID = "#1f2933", "#66717e", "#e4e7eb"
COLOURS: tuple[str, ...] = (
    *sns.color_palette("colorblind", 5).as_hex(), "#ca9161", "#56b4e9", "#949494", "#9a8c00", "#5b3a8c",
)  # fmt: skip
"""Ten colours that are distinct for any colour vision and dark enough for a line on white."""
BLUE, ORANGE, RED = COLOURS[0], COLOURS[1], COLOURS[3]
GUIDE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (4, 2)), "linewidth": 1.2, "zorder": 1.5}
"""Style of the line that a perfect model, or random guessing, would follow."""
SHADES = sns.light_palette("#0a4f80", as_cmap=True)
"""Colours from nearly white to dark blue, for shares and densities."""

# DejaVu comes with matplotlib, so figures look alike everywhere; the others only fill in what it lacks
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei", "Noto Sans")
_STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "lines.linewidth": 1.8,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@contextmanager
def sheet(size: tuple[float, float] = HALF) -> Iterator[Figure]:
    """Yield an empty figure of `size` inches in the style of all reports. Draw and take its `png` within the block."""
    installed = set(fontManager.get_font_names())
    style = {**sns.axes_style("whitegrid"), **_STYLE, "font.family": [name for name in _FONTS if name in installed]}
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # a user's matplotlibrc does not change reports
        mpl.rcParams.update(style)
        # names may hold characters that no installed font has: they become boxes
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield Figure(figsize=size, dpi=DPI, layout="constrained")


def png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def short(name: str, width: int = 18) -> str:
    """Return a name in one line of at most `width` characters."""
    line = " ".join(name.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def legend(
    axes: Axes, lines: dict[str, Line2D], location: Literal["best", "lower left", "lower right", "above"]
) -> None:
    """Add a legend for these lines. Their names may start with any character."""
    names = [f" {name}" for name in lines]
    if location == "above":
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": len(lines)}
    else:
        place = {"loc": location}
    box = axes.legend(list(lines.values()), names, handlelength=1.8, **place)
    box.set_zorder(5)


def rows_axis(axis: Axis, ticks: int) -> None:
    """Label about this many ticks with whole numbers that have thousands separators."""
    axis.set_major_locator(MaxNLocator(ticks, integer=True))
    axis.set_major_formatter("{x:,.0f}")


def value_axis(axis: Axis, low: float, high: float) -> None:
    """Thousands separators; much larger or smaller values get matplotlib's common factor."""
    if 1e4 <= max(abs(low), abs(high)) < 1e8 and high - low >= 10:
        axis.set_major_formatter("{x:,.0f}")


def with_margin(low: float, high: float, *, share: float, least: float) -> tuple[float, float]:
    """Return the limits of an axis from `low` to `high` with a margin at both ends: this `share` of the range.

    If the two ends differ only by rounding errors, they count as equal, and the margin is 5 % of the value; around zero
    it is `least`.
    """
    spread = high - low if differ(*np.array([low, high])) else 0.0
    margin = share * spread or max(abs(low) * 0.05, least)
    return low - margin, high + margin


def signed(value: float) -> str:
    """A difference with three significant digits; whole from a thousand on."""
    return (f"{value:+,.0f}" if 1e3 <= abs(value) < 1e12 else f"{value:+.3g}").replace("-", "−")
