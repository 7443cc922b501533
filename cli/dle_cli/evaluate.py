"""`dle-evaluate`: scores of a run on rows that training never saw."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from dle_bundle.errors import InputError, counted
from dle_cli import console, options
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_training.scoring.forecasts import ForecastScores

_SERIES = 20

app = console.application("Evaluate a trained model.")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or study directory.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Score all rows of another source, or the test part of this source if the run keeps no test rows; "
            "repeat it for several files.",
        ),
    ] = None,
    sheet: options.SheetOption = None,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Score a run on its test part, and write metrics.json, report.html and figures into it."""
    from dle_training.data import sources
    from dle_training.runs import evaluate as evaluating
    from dle_training.runs.folder import found

    speaker, source = Console(as_json, quiet), options.place(data)
    folder, name = found(run), "Test part"
    if source is None:
        if sheet is not None:
            raise InputError(f"--sheet {sheet} needs --data, the workbook that has this sheet")
        evaluation, on_test = evaluating.evaluate(folder), True
    else:
        scored = evaluating.evaluate_source(folder, source, sheet=sheet)
        evaluation, on_test = scored.evaluation, scored.on_test
        name = name if on_test else sources.said(source)
        if scored.warning:
            speaker.warn(f"{name}: {scored.warning}; without --data, only the test part is scored")
        for note in scored.notes:
            speaker.say(f"Note: {note}")
    speaker.document(msgspec.to_builtins(evaluation))
    beside = evaluation.baselines or {}
    speaker.table(
        f"{name}: {counted(evaluation.rows, 'row')}",
        [
            (metric, console.cell(score), *(console.cell(own[metric]) for own in beside.values()))
            for metric, score in evaluation.test.items()
        ],
        ("metric", "model", *beside) if beside else (),
    )
    if evaluation.comparison is not None:
        speaker.say(f"{evaluation.comparison}.\n")
    if evaluation.confusion_matrix is not None:
        labels = [str(label) for label in evaluation.confusion_matrix.labels]
        if len(labels) <= 12:
            rows = zip(labels, evaluation.confusion_matrix.counts, strict=True)
            speaker.table("Confusion", [(label, *counts) for label, counts in rows], ("actual \\ predicted", *labels))
    if evaluation.forecast is not None:
        _forecast(speaker, evaluation.forecast)
    if on_test:
        speaker.say(f"Report: {folder.report}")
    speaker.next(f"dle-export {run} --to bundles/{run.resolve().name}")


def _forecast(speaker: Console, scores: "ForecastScores") -> None:
    """Show the scores of a forecast beside the baselines, and for each series."""
    from dle_training.scoring import forecasts

    def cells(*values: float | None) -> list[str]:
        return [console.cell(value) for value in values]

    rows = [(name, *cells(*values)) for name, *values in forecasts.table(scores)]
    speaker.table("Beside simple forecasts", rows, ("forecast", "mae", "rmse", "mase"))
    if scores.per_series:
        ranked = sorted(scores.per_series.items(), key=lambda item: -(item[1].model.mase or 0))
        listed = [
            (name, f"{own.rows:,}", *cells(own.model.mae, own.model.mase, *(b.mae for b in own.baselines.values())))
            for name, own in ranked[:_SERIES]
        ]
        beside = (f"mae of the {forecasts.in_words(name)}" for name in scores.baselines)
        more = len(ranked) - len(listed)
        title = "Series" if not more else f"Series with the largest errors; {more:,} more are in metrics.json"
        speaker.table(title, listed, ("series", "rows", "mae", "mase", *beside))
        if unknown := sum(own.model.mase is None for own in scores.per_series.values()):
            missing = f"{unknown:,} of {len(ranked):,} series"
            speaker.say(f"MASE leaves out {missing}, whose values do not occur or do not change in training")
    if scores.warning is not None:
        speaker.warn(scores.warning)


def main() -> None:
    """Entry point of `dle-evaluate`."""
    console.run(app)
