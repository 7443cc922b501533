"""`dle-predict`: predictions for the rows of a file, by the bundle's graph, without PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dle_bundle.errors import counted
from dle_cli import console, options
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_serving.offline.predict import Summary

app = console.application("Predict the rows of a file, or the images of a folder.")


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Exported model.")],
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help=f"{options.SOURCES} Or image files.")],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Predictions (.csv[.gz], .tsv or .parquet); an existing file is replaced."),
    ],
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Column of SOURCE to copy; repeatable.")
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Leave bad rows out, and write their faults to this CSV file. The predictions begin with their row.",
        ),
    ] = None,
    sheet: options.SheetOption = None,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Predict every row of a table, or every image of a folder, in order: label and probabilities, or the value."""
    from dle_bundle.tables import folders
    from dle_bundle.tables.source_files import STDIN, STDIN_NAME
    from dle_serving.offline import predict as offline
    from dle_serving.offline.unseen import MANY

    speaker = Console(as_json, quiet)
    summary = offline.predict(bundle, sources, out, keep=keep or (), errors=errors, sheet=sheet)
    rate = summary.rows / summary.seconds
    kind, found = "rows", f"{summary.rows:,}, {summary.predicted:,} predicted"
    if summary.steps is not None:
        kind, found = "series", f"{summary.rows:,}; {counted(summary.steps, 'step')} predicted"
    rows = [
        (kind, found),
        ("speed", f"{rate:,.0f} {kind}/s on {summary.provider}"),
        ("output", _place(out, summary)),
    ]
    if summary.ignored:
        rows.append(("ignored columns", _few(summary.ignored)))
    if summary.left_out:
        rows.append(("left out", folders.described(summary.left_out)))
    for each in summary.unseen:
        examples = ", ".join(repr(value) for value in each.examples)
        rows.append((f"unseen in {each.column}", f"{counted(each.rows, 'row')}, such as {examples}"))
    rows += [(f"out of range in {each.column}", each.in_words) for each in summary.out_of_range if each.rows]
    if errors is not None:
        bad = counted(summary.faulty, "row" if kind == "rows" else kind, kind)
        rows.append(("faults", f"{summary.faults:,} in {bad}, in {_place(errors, summary)}"))
    read = _few([STDIN_NAME if each == STDIN else each for each in sources])
    if summary.absent:
        speaker.warn(f"{_few(summary.absent)}: no column of {read}, so missing in all rows")
    many = [each.column for each in summary.unseen if each.rows >= MANY * each.of]
    if many:
        speaker.warn(
            f"{_few(many)}: many values did not occur in training, so the predictions may be wrong; check how "
            f"they are spelled in {read}"
        )
    unusual = [each.warning for each in summary.out_of_range if each.warning is not None]
    speaker.lines(unusual, speaker.warn, "--json names all")
    speaker.lines([f"Note: {note}" for note in summary.notes], speaker.say, "--json names all")
    speaker.table("Predicted", rows)
    speaker.document(_document(out, summary))
    speaker.next(f"dle-serve {bundle} --port 3000")


def _document(out: Path, summary: "Summary") -> dict[str, Any]:
    """The document that --json prints."""
    return {
        "output": str(out),
        "rows": summary.rows,
        "predicted": summary.predicted,
        "steps": summary.steps,
        "faulty": summary.faulty,
        "faults": summary.faults,
        "ignored": list(summary.ignored),
        "absent": list(summary.absent),
        "left_out": [str(path) for path in summary.left_out],
        "replaced": [str(path) for path in summary.replaced],
        "unseen": {each.column: {"rows": each.rows, "examples": list(each.examples)} for each in summary.unseen},
        "out_of_range": {
            each.column: {
                "rows": each.rows,
                "examples": list(each.examples),
                "range": list(each.seen),
                "warning": each.warning,
            }
            for each in summary.out_of_range
        },
        "notes": list(summary.notes),
        "provider": summary.provider,
        "seconds": summary.seconds,
    }


def _few(names: Sequence[str]) -> str:
    """Name the first columns, and count the others."""
    more = len(names) - console.MOST_LINES
    return ", ".join(names[: console.MOST_LINES]) + (f" and {more:,} more (--json names all)" if more > 0 else "")


def _place(path: Path, summary: "Summary") -> str:
    return f"{path} (replaced the earlier file)" if path in summary.replaced else str(path)


def main() -> None:
    """Entry point of `dle-predict`."""
    console.run(app)
