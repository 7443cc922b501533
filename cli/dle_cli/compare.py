"""`dle-compare`: a table of runs and studies, the best first."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from dle_cli import console
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_training.search.compare import Entry, Group

app = console.application("Compare trained models.")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run or study directories.")],
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Rank runs by validation score, beside test scores, size, training time and latency.

    Runs with different data, targets or tasks get separate tables. A study counts as the run that it selected. Test
    scores come from dle-evaluate or dle-tune; this command scores nothing.
    """
    from dle_cli.tuning_progress import LatencyProgress
    from dle_training.search.compare import compare as compared

    speaker = Console(as_json, quiet)
    with LatencyProgress(silent=speaker.silent) as progress:
        groups = compared(runs, progress)
    if len(groups) > 1:
        speaker.say(f"These runs differ in data, target or task, so they are ranked in {len(groups)} separate tables")
        speaker.say()
    for group in groups:
        _show(speaker, group)
    speaker.document({"groups": msgspec.to_builtins(groups)})
    best = [Path(group.runs[0].path) for group in groups if group.runs[0].finished]
    speaker.next(*(f"dle-export {path} --to bundles/{_name(path)}" for path in best))


def _show(speaker: Console, group: "Group") -> None:
    from dle_training.scoring.metrics import METRICS

    folds = any(entry.cross_validation is not None for entry in group.runs)
    better = "higher" if METRICS[group.metric].higher_is_better else "lower"
    speaker.table(
        f"{group.source}: {group.target}, by validation {group.metric}, {better} is better",
        [_row(entry, group.metric, folds) for entry in group.runs],
        (
            "run", "model", "validation", *(["over folds"] if folds else []), "test", "rows", "parameters", "seconds",
            "ms a row",
        ),
    )  # fmt: skip
    if any(entry.on_front for entry in group.runs):
        speaker.say("* no other run in the table is both better and faster")
    if not group.same_rows:
        speaker.say("Not all of these runs were validated on the same rows. That alone makes their scores differ")
    for entry in group.runs:
        if entry.note:
            speaker.say(f"{entry.path}: {entry.note}")
    speaker.say()


def _row(entry: "Entry", metric: str, folds: bool) -> tuple[str, ...]:
    crossed = entry.cross_validation
    spread = "" if crossed is None else f"{_number(crossed.mean[metric])} ± {_number(crossed.sd[metric], '.2g')}"
    return (
        f"{entry.path}{' (study)' if entry.study else ''}{' *' if entry.on_front else ''}",
        entry.model or "",
        _number(entry.validation[metric]) if entry.validation is not None else "unfinished",
        *([spread] if folds else []),
        _number(entry.test[metric]) if entry.test is not None else "",
        f"{entry.rows['train']:,}",
        _number(entry.parameters, ","),
        _number(entry.seconds, ".1f"),
        _number(entry.latency, ".3g"),
    )


def _number(value: Any, form: str = ".4g") -> str:
    return "–" if value is None else format(value, form)


def _name(run: Path) -> str:
    """The name for a bundle of the run; the selected run of a study gets the name of the study."""
    from dle_training.runs.folder import is_study

    path = run.resolve()
    return path.parent.name if is_study(path.parent) else path.name


def main() -> None:
    """Entry point of `dle-compare`."""
    console.run(app)
