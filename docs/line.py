"""Draws docs/line.svg, the picture in README of the line from a file to an alert.

`scripts/docs` runs it; with `--check` it changes nothing, and fails when the picture is not what it would draw.
"""

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("line.svg")
WIDTH, HEIGHT = 1000, 276
BOX, GAP, MARGIN, TOP, TALL = 140, 65, 20, 48, 96
# An opaque panel carries its own background, so that the text is readable on any page in either mode.
STYLE = """\
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle; }
  .panel { fill: #ffffff; } .box { fill: #eef4ff; stroke: #3b6fd4; stroke-width: 1.5; }
  .side { fill: #f6f8fa; stroke: #8c959f; } .alert { fill: #fff1e5; stroke: #bc4c00; stroke-width: 1.5; }
  .title { font-weight: 600; font-size: 16px; fill: #1f2328; } .words { fill: #424a53; }
  .command { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #0a53be; }
  .after { text-anchor: start; }
  .arrow { stroke: #57606a; stroke-width: 1.5; fill: none; } .head { fill: #57606a; }
  @media (prefers-color-scheme: dark) {
    .panel { fill: #0d1117; } .box { fill: #12233f; stroke: #6ea0ff; }
    .side { fill: #161b22; stroke: #6e7681; } .alert { fill: #341a08; stroke: #f0883e; }
    .title { fill: #f0f6fc; } .words { fill: #c9d1d9; } .command { fill: #9ec3ff; }
    .arrow { stroke: #9198a1; } .head { fill: #9198a1; }
  }"""


@dataclass(frozen=True)
class Station:
    """A box of the line, the command that leads to the next one, and what stands below it."""

    title: str
    words: tuple[str, ...]
    command: tuple[str, ...] = ()
    below_command: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    upwards: bool = False
    kind: str = "box"


LINE = (
    Station("File", ("table, images,", "series or text"), ("dle-train", "dle-tune")),
    Station(
        "Run",
        ("weights, settings,", "validation and", "test rows"),
        ("dle-export",),
        ("dle-evaluate",),
        ("report.html",),
    ),
    Station(
        "Bundle",
        ("one ONNX graph,", "schema, reference", "statistics"),
        ("dle-serve",),
        ("dle-predict",),
        ("predictions.csv",),
    ),
    Station(
        "Service",
        ("answers over HTTP,", "counts inputs,", "answers and errors"),
        ("/metrics",),
        ("/predict", "/feedback"),
        ("applications",),
        upwards=True,
    ),
    Station("Alert", ("Prometheus: inputs,", "answers, accuracy", "have drifted"), kind="alert"),
)


def draw() -> str:
    """The picture as SVG, the same bytes every time."""
    parts = [f'<rect class="panel" width="{WIDTH}" height="{HEIGHT}" rx="8"/>']
    for index, station in enumerate(LINE):
        left = MARGIN + index * (BOX + GAP)
        parts += _box(left, TOP, TALL, station.kind, station.title, station.words)
        if station.command:
            parts += _right(left + BOX, station.command)
        if station.below:
            parts += _below(left, station)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="From a file to an alert">\n<style>\n{STYLE}\n</style>\n{body}\n</svg>\n'
    )


def _box(left: int, top: int, height: int, kind: str, title: str, words: tuple[str, ...]) -> list[str]:
    """A box with a title and lines below it."""
    middle = left + BOX // 2
    parts = [f'<rect class="{kind}" x="{left}" y="{top}" width="{BOX}" height="{height}" rx="6"/>']
    parts.append(_text(middle, top + 26, "title", title))
    parts += [_text(middle, top + 48 + 17 * row, "words", line) for row, line in enumerate(words)]
    return parts


def _right(start: int, command: tuple[str, ...]) -> list[str]:
    """An arrow to the next box, with the command above it."""
    level = TOP + TALL // 2
    words = [_text(start + GAP // 2, TOP - 22 + 15 * row, "command", line) for row, line in enumerate(command)]
    end = start + GAP - 4
    return [
        *words,
        f'<path class="arrow" d="M{start + 4} {level}H{end - 6}"/>',
        f'<path class="head" d="M{end} {level}l-9 -5v10z"/>',
    ]


def _below(left: int, station: Station) -> list[str]:
    """An arrow down to what a command makes of the box, or up from what calls it."""
    middle, start, end = left + BOX // 2, TOP + TALL + 4, TOP + TALL + 72
    tip = f"M{middle} {start}l-5 9h10z" if station.upwards else f"M{middle} {end}l-5 -9h10z"
    return [
        f'<path class="arrow" d="M{middle} {start + 6}V{end - 6}"/>',
        f'<path class="head" d="{tip}"/>',
        *(
            _text(middle + 10, start + 30 + 15 * row, "command after", line)
            for row, line in enumerate(station.below_command)
        ),
        f'<rect class="side" x="{left}" y="{end + 4}" width="{BOX}" height="36" rx="6"/>',
        *(_text(middle, end + 27, "words", line) for line in station.below),
    ]


def _text(x: int, y: int, kind: str, words: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def main(arguments: list[str]) -> int:
    """Draw the picture, or check it; the exit code."""
    drawn = draw()
    stale = not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != drawn
    if stale and "--check" in arguments:
        sys.stderr.write("docs/line.svg is not what docs/line.py draws: run scripts/docs\n")
        return 1
    if stale:
        PICTURE.write_text(drawn, encoding="utf-8")
        sys.stdout.write("wrote docs/line.svg\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
