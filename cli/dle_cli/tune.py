"""`dle-tune`: search for better settings on a source, and select a model."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from dle_bundle.errors import Interrupted, counted
from dle_cli import console, options, shown
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_training.data.dataset import Dataset
    from dle_training.data.sources import Place
    from dle_training.search.leaderboard import TrialRow
    from dle_training.search.selection import Selected
    from dle_training.search.study import Study, StudyPlan, StudyRequest
    from dle_training.search.trial import Watcher

app = console.application("Tune the settings of a model.")

_LISTED = 10


@app.command()
def tune(
    sources: options.SourceArgument = None,
    target: options.TargetOption = None,
    search: Annotated[str | None, typer.Option(metavar="HOW", help="grid, random or tpe.  [default: random]")] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trials in all; may grow with --resume.  [default: 20; a grid: all combinations]"
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="K", help="Cross-validate each trial on K folds instead of one validation part."),
    ] = None,
    spaces: Annotated[
        list[str] | None,
        typer.Option("--space", metavar="KEY=SPACE", help='As in "optimizer.lr={log: [1e-4, 1e-2]}"; repeatable.'),
    ] = None,
    grids: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=A,B", help='As in "optimizer.lr=1e-3,3e-3"; repeatable.'),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Trials at a time, at most one per core.  [default: 1; with Ray: as many as fit in the cluster]",
        ),
    ] = None,
    engine: options.EngineOption = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Start no further trial after this time.")
    ] = None,
    split: options.SplitOption = None,
    config: options.ConfigOption = None,
    assignments: options.SetOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="STUDY", help=f"Study directory.  [default: runs/NAME-study; {options.NAME}]")
    ] = None,
    seed: options.SeedOption = None,
    device: options.DeviceOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study, or help others with it.")] = False,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Search for better settings, keep every trial in a folder, and end in a selected model.

    --config, --space and --grid give the search space. Without them, the model's own space is searched.
    """
    speaker, source = Console(as_json, quiet), options.place(sources)
    fixed = {"--split": split, "--folds": folds, "--seed": seed, "--device": device, "--search": search}
    given = {
        "SOURCE": source, "--target": target, **fixed, "--trials": trials, "--jobs": jobs, "--engine": engine,
        "--timeout": timeout,
    }  # fmt: skip
    if resume:
        options.refuse_with_resume(
            {"--config": config, "--set": assignments, "--space": spaces, "--grid": grids, **fixed},
            "the study's study.yaml",
            "begin a new study (only --jobs, --engine and --timeout may change, and --trials may grow)",
        )
    options.warn_of_overridden(speaker, given, assignments or [])
    try:
        if resume:
            study, dataset = _reopened(speaker, out or _default_folder(source), source, target)
        else:
            asked = _asked(config, assignments or [], options.to_settings(given), spaces or [], grids or [])
            study, dataset = _begun(speaker, asked, out)
    except KeyboardInterrupt:
        then = "type the same command to continue" if resume else "no trial has begun"
        raise Interrupted(f"Interrupted while the data was read; {then}") from None
    changes = {"engine": engine, "jobs": jobs, "timeout": timeout}
    with _resumable(study):
        study, selected, rows = _worked(speaker, study, dataset, changes, trials if resume else None)
    _show_result(speaker, study, selected, rows)


def _default_folder(source: "Place | None") -> Path:
    return options.default_folder(source, "-study")


def _asked(
    config: Path | None, assignments: list[str], settings: dict[str, Any], spaces: list[str], grids: list[str]
) -> "StudyRequest":
    """The request that the file and the command line make.

    Raises InputError with all faults of both, and when the engine is not installed.
    """
    from dle_training.config import run_config
    from dle_training.search import study as studies

    tree = {} if config is None else run_config.read_tree(config)
    asked = studies.request(tree, assignments, settings, spaces, grids)
    _engine(asked.settings.engine)  # a missing engine is reported before anything is read
    return asked


def _begun(speaker: Console, asked: "StudyRequest", out: Path | None) -> "tuple[Study, Dataset]":
    from dle_training.runs import folder as run_folder
    from dle_training.search import storage
    from dle_training.search import study as studies
    from dle_training.search.study import StudyFolder

    folder = StudyFolder(out or _default_folder(studies.source(asked.fixed)))
    run_folder.refuse_existing(folder.path)
    storage.check(asked.settings.storage)
    with shown.reading(speaker) as progress:
        plan = studies.plan(asked, progress)
    shown.show_data(speaker, plan.prepared, folder.path / "selected")
    _show_plan(speaker, plan)
    return studies.create(folder, plan), plan.prepared.dataset


def _reopened(speaker: Console, path: Path, source: "Place | None", target: str | None) -> "tuple[Study, Dataset]":
    from dle_training.search import study as studies
    from dle_training.search.study import StudyFolder

    study = studies.open_study(StudyFolder(path))
    with shown.reading(speaker) as progress:
        dataset = studies.read_again(study, {"data.source": source, "data.target": target}, progress)
    return study, dataset


def _show_plan(speaker: Console, plan: "StudyPlan") -> None:
    from dle_training.search import points, space
    from dle_training.settings import yaml_text

    asked, config = plan.request, plan.prepared.config
    speaker.table(
        "Space",
        [(key, yaml_text.inline(tree)) for key, tree in space.to_tree(asked.space).items()],
        rest="all are in study.yaml",
    )
    networks = len(plan.splits)
    rows = len(plan.splits[0].train)
    folds = f" × {networks} folds" if networks > 1 else ""
    if plan.grid is not None:
        left_out = points.size(asked.space) - len(plan.grid)
        without = f", without {counted(left_out, 'invalid combination')}" if left_out else ""
        speaker.say(f"Grid: {counted(len(plan.grid), 'combination')}{without}")
    speaker.say(
        f"Search: {asked.settings.search}, {counted(plan.trials, 'trial')}{folds} of at most "
        f"{counted(config.training.epochs or 0, 'epoch')} over {counted(rows, 'row')}, chosen by "
        f"{config.training.metric}"
    )


def _engine(name: str) -> "Callable[[Study, int | None, Callable[[], Dataset], Watcher, float | None], None]":
    """The function that runs the trials. Raises InputError when Ray is needed and not installed."""
    if name == "ray":
        from dle_training.distributed import cluster

        cluster.check()
        from dle_training.search import ray_engine

        return ray_engine.run
    from dle_training.search import workers

    return workers.run


@contextmanager
def _resumable(study: "Study") -> Iterator[None]:
    """Turn Ctrl-C inside the block into a message that says how to continue."""
    from dle_training.data.sources import sent
    from dle_training.settings import proposals

    path = study.folder.path
    further = f"Continue with: {proposals.resuming_study(path)}{sent(study.request.fixed['data']['source'])}"
    try:
        yield
    except Interrupted as interrupted:
        raise Interrupted(f"{interrupted}\n{further}") from None
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted; the finished work is in {path}\n{further}") from None


def _worked(
    speaker: Console, study: "Study", dataset: "Dataset", changes: dict[str, Any], trials: int | None
) -> "tuple[Study, Selected, list[TrialRow]]":
    from dle_cli.tuning_progress import LatencyProgress, TuningProgress
    from dle_training.search import leaderboard, report, selection, settings, shared_data, trial_locks
    from dle_training.search import study as studies
    from dle_training.search.trial import Watcher

    asked = settings.changed(study.request.settings, changes)
    studies.refuse_several_readers(study.request.fixed, asked)
    run = _engine(asked.engine)
    if trials is not None:
        study = trial_locks.grown(study, trials)
    with closing(Watcher() if speaker.silent else TuningProgress(study, asked.timeout)) as watcher:
        run(study, asked.jobs, lambda: dataset, watcher, asked.timeout)
    with selection.concluding(study):
        selected = selection.select(study, lambda: dataset, shown.training(speaker))
        with LatencyProgress(silent=speaker.silent) as progress:
            latencies = leaderboard.measure_latencies(study, lambda: dataset, progress)
        rows = leaderboard.make(study, latencies)
        leaderboard.write_csv(rows, study.folder.path / leaderboard.TABLE)
        report.write(study, selected, rows)
        shared_data.discard(study)
    return study, selected, rows


def _show_result(speaker: Console, study: "Study", selected: "Selected", rows: "list[TrialRow]") -> None:
    from dle_training.search import leaderboard
    from dle_training.settings import proposals, yaml_text

    outcomes = [row.outcome for row in rows]
    said = ", ".join(f"{outcomes.count(outcome):,} {outcome}" for outcome in dict.fromkeys(outcomes))
    left = max(0, study.count - len(rows))
    of = f"{len(rows):,} of " if left else ""
    shown.leaderboard(speaker, f"{of}{counted(len(rows) + left, 'trial')}: {said}", study, rows[:_LISTED])
    if len(rows) > _LISTED:
        speaker.say(f"{len(rows) - _LISTED:,} more are in {study.folder.path / leaderboard.TABLE}")
    different = len({msgspec.json.encode(row.point) for row in rows})
    if different < len(rows):
        tried = counted(different, "different combination")
        speaker.say(f"{tried}: some of the {len(rows):,} trials repeat the settings of another")
    if left:
        speaker.say(f"{_undone(study, left)}; continue with {proposals.resuming_study(study.folder.path)}")
    _show_finalists(speaker, study, selected, outcomes.count("complete"))
    speaker.table(
        f"Selected: trial {selected.selection.number}",
        [
            *((key, yaml_text.brief(value)) for key, value in selected.point.items()),
            *((f"test {name}", f"{score:.4g}") for name, score in selected.test.test.items() if score is not None),
        ],
    )
    speaker.say(f"Report: {study.folder.report}")
    speaker.document(
        {
            "study": str(study.folder.path),
            "metric": study.metric.name,
            "best": {
                "number": selected.selection.number,
                "value": next(row.score for row in rows if row.number == selected.selection.number),
                "params": selected.point,
                "test": selected.test.test,
            },
            "trials": [
                {"number": row.number, "state": row.state, "value": row.score, "params": row.point}
                for row in sorted(rows, key=lambda row: row.number)
            ],
        }
    )
    path = study.folder.path
    speaker.next(f"dle-export {path} --to bundles/{path.resolve().name}")


def _undone(study: "Study", left: int) -> str:
    """How many of the `left` trials were not started, and how many have not ended, in words."""
    from dle_training.search import storage

    with storage.errors_translated("read"):
        unstarted = min(left, max(0, study.count - len(study.trials.all())))
    begun = left - unstarted
    said = [f"{unstarted:,} {'was' if unstarted == 1 else 'were'} not started"] if unstarted else []
    said += [f"{begun:,} {'has' if begun == 1 else 'have'} not ended"] if begun else []
    return ", ".join(said)


def _show_finalists(speaker: Console, study: "Study", selected: "Selected", complete: int) -> None:
    """Print the finalists' scores by seed, and why there are fewer finalists than requested."""
    settings, finalists = study.request.settings, selected.selection.finalists
    if settings.seeds == 1:
        return
    speaker.table(
        f"Finalists, {counted(settings.seeds - 1, 'new seed')} each",
        [
            (
                each.number,
                f"{each.score:.4g}" if each.sd is None else f"{each.score:.4g} ± {each.sd:.2g}",
                " · ".join(f"{score:.4g}" for score in each.scores),
            )
            for each in finalists
        ],
        ("trial", f"mean {study.metric.name}", "by seed"),
    )
    if len(finalists) < settings.finalists:
        few = f"There are {len(finalists)} finalists, not {settings.finalists} (study.finalists)"
        if complete >= settings.finalists:
            speaker.say(f"{few}: the others failed with another seed")
        else:
            hint = "" if settings.pruner == "none" else "; --set study.pruner=none completes every trial"
            speaker.say(f"{few}: only {counted(complete, 'trial')} completed{hint}")


def main() -> None:
    """Entry point of `dle-tune`."""
    console.run(app)
