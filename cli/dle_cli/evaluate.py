"""`dle-evaluate`: scores of a run on rows that training never saw."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dle_bundle.errors import counted
from dle_cli import console
from dle_cli.console import Console

app = console.application("Evaluate a trained model.")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or study directory.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Score all rows of another source, or the test part of this source if the run keeps no test rows.",
        ),
    ] = None,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Score a run on its test part, and write metrics.json, report.html and figures into it."""
    from dle_training.runs import evaluate as evaluating
    from dle_training.runs.folder import found

    speaker = Console(as_json, quiet)
    folder = found(run)
    evaluation, on_test = (
        (evaluating.evaluate(folder), True) if data is None else evaluating.evaluate_source(folder, data)
    )
    speaker.document(msgspec.to_builtins(evaluation))
    speaker.table(
        f"{'Test part' if on_test else data}: {counted(evaluation.rows, 'row')}",
        [(name, "–" if score is None else f"{score:.4g}") for name, score in evaluation.test.items()],
    )
    if evaluation.confusion_matrix is not None:
        labels = [str(label) for label in evaluation.confusion_matrix.labels]
        if len(labels) <= 12:
            rows = zip(labels, evaluation.confusion_matrix.counts, strict=True)
            speaker.table("Confusion", [(label, *counts) for label, counts in rows], ("actual \\ predicted", *labels))
    if on_test:
        speaker.say(f"Report: {folder.report}")
    speaker.next(f"dle-export {run} --to bundles/{run.resolve().name}")


def main() -> None:
    """Entry point of `dle-evaluate`."""
    console.run(app)
