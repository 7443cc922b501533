"""Shared by both pages: embedded figures, templates, and numbers formatted for people.

A page is one file that needs nothing else. Figures are inside as data URIs, there is no script, and the page's content
policy forbids loading anything. Names and labels come from the data, so markup in them is escaped and shown as text.
"""

import base64
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dle_bundle.files import write_atomic

PAGE = "report.html"
FIGURES = "figures"
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its file name, and a sentence on how to read it.

    `pictures` says that the figure shows images, whose colours must not change in dark mode.
    """

    name: str
    png: bytes
    caption: str
    wide: bool = False
    pictures: bool = False

    @property
    def uri(self) -> str:
        """The figure as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, from the PNG's header. A CSS pixel is two image pixels wide."""
        return int.from_bytes(self.png[16:20]) // 2, int.from_bytes(self.png[20:24]) // 2


def write(
    folder: Path,
    template: str,
    figures: Iterable[Figure],
    filters: Iterable[Callable[..., str]],
    /,
    **context: Any,
) -> Path:
    """Write `report.html` and `figures/*.png` into `folder`, and return the path of the page.

    `template` is a file of this package. It can use `filters`, and the filters of this module, by their names.
    """
    for figure in figures:
        write_atomic(folder / FIGURES / f"{figure.name}.png", figure.png)
    environment = Environment(
        loader=PackageLoader("dle_training", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known = (number, score, duration, share, excerpt, *filters)
    environment.filters |= {one.__name__: one for one in known}
    path = folder / PAGE
    write_atomic(path, environment.get_template(template).render(**context))
    return path


def number(value: float | None) -> str:
    """Return a number with four significant digits, or `–` for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or isinstance(value, int) or 1e4 <= abs(value) < 1e12:
        return f"{value:,.0f}"
    if not 1e-3 <= abs(value) < 1e4:
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}"


def score(value: float | None) -> str:
    """Return a metric with four decimals, so that columns line up. Small values get significant digits instead."""
    return f"{value:.4f}" if value is not None and 1e-3 <= abs(value) < 10 else number(value)


def duration(seconds: float) -> str:
    """Seconds in words: `42 s`, `3 min 5 s`, `2 h 4 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def share(value: float) -> str:
    """Return a fraction in percent with one decimal. Only exactly 0 and 1 become 0% and 100%."""
    if 0 < value < 0.0005:
        return "less than 0.1%"
    return f"{value:.1%}" if value in (0, 1) or value < 0.9995 else "more than 99.9%"


def excerpt(text: str) -> str:
    """Return a text in one line. A long text is cut at its end."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"
