"""`dle-train`: from a source to a run directory."""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from dle_bundle.errors import InputError, Interrupted, nearest
from dle_cli import console, options, shown
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_training.config.run_config import RunConfig
    from dle_training.data.sources import Place
    from dle_training.fitting.listeners import Listeners
    from dle_training.runs.folder import RunFolder
    from dle_training.runs.prepare import Plan, Prepared
    from dle_training.runs.train import RunResult
    from dle_training.scoring.cross_validation import CrossValidation
    from dle_training.scoring.model_choices import ModelChoices
    from dle_training.scoring.table_baselines import BaselineScores

    Check = Callable[[RunConfig], None]
    Work = Callable[[RunFolder, Prepared, Listeners], RunResult]

_KINDS = ("models", "losses", "optimizers", "schedules", "metrics")

app = console.application("Train a model.")


@app.command()
def train(
    sources: options.SourceArgument = None,
    target: options.TargetOption = None,
    split: options.SplitOption = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Also cross-validate on K folds of training and validation rows.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET",
            help="Model of a table of columns: fast (mlp), default (pack: an ensemble of small networks) or best (a "
            "larger pack).  [default: default]",
        ),
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="Most milliseconds for a single row on one core: of a pack fewer networks are kept, or one is "
            "distilled from them.",
        ),
    ] = None,
    config: options.ConfigOption = None,
    assignments: options.SetOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help=f"Run directory.  [default: runs/NAME; {options.NAME}]")
    ] = None,
    seed: options.SeedOption = None,
    device: options.DeviceOption = None,
    baseline: Annotated[
        bool | None,
        typer.Option(
            "--baseline/--no-baseline",
            help="Also train boosted trees and a linear model on a table, and compare the scores.  [default: if the "
            "trees take less than about a minute]",
        ),
    ] = None,
    engine: options.EngineOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="With Ray: workers that share each batch.  [default: as many as fit in the cluster]",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            min=0,
            help="End within M minutes: the number of epochs, members and folds is chosen by a measurement.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run where it stopped.")] = False,
    listed: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="KIND",
            help="List the models, losses, optimizers, schedules or metrics, one per line.",
        ),
    ] = None,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Train a model on a table, images, series or text, and keep the run in a folder.

    Kinds of columns, task and split are inferred and printed; options, --set and --config overrule them.
    """
    begun = time.monotonic()
    speaker, source = Console(as_json, quiet), options.place(sources)
    if listed is not None:
        _list(speaker, listed)
        return
    given = {
        "--target": target, "--split": split, "--folds": folds, "--preset": preset, "--max-latency": max_latency,
        "--seed": seed, "--device": device, "--baseline": baseline,
    }  # fmt: skip
    if resume:
        changed = {name: value for name, value in given.items() if name != "--device"}
        options.refuse_with_resume(
            {**changed, "--minutes": minutes, "--config": config, "--set": assignments},
            "the run's config.yaml",
            "train a new run",
        )
    given["--baseline"] = _with_baseline(baseline, engine)
    options.warn_of_overridden(speaker, given, assignments or [])
    check, work = _engine(engine, jobs)
    if minutes is not None and engine == "ray":
        raise InputError("--minutes plans a training on this machine: leave it out, or --engine ray")
    if resume and (done := _finished(out or options.default_folder(source), source)) is not None:
        speaker.say(f"{done.path} is finished, so nothing was trained; another --out begins another run")
        _show_result(speaker, done)
        return
    try:
        if resume:
            run, prepared = _reopened(speaker, out or options.default_folder(source), device, check)
        else:
            from dle_training import api
            from dle_training.config import run_config

            asked = run_config.load(config, assignments, options.to_settings({"SOURCE": source, **given}))
            check(asked)
            folder = out or options.default_folder(asked.data.source)
            own = asked.device if engine == "ray" else None  # each worker finds its own device
            with shown.reading(speaker) as progress:
                run, prepared = api.begin(
                    asked, folder, progress, device=own, minutes=minutes, begun=begun, check=check
                )
    except KeyboardInterrupt:
        raise Interrupted("Interrupted while the data was read; nothing was trained") from None
    shown.show_data(speaker, prepared, run.path)
    _train(speaker, run, prepared, work)
    _show_result(speaker, run, prepared.plan)


def _with_baseline(asked: bool | None, engine: str | None) -> bool | None:
    """Whether baselines are trained; never on a cluster, whose machines share the training of one network."""
    if engine != "ray":
        return asked
    if asked:
        raise InputError("--baseline: expected without --engine ray, which trains one network and no baselines")
    return False


def _engine(name: str | None, jobs: int | None) -> "tuple[Check, Work]":
    """A check that refuses configurations this engine cannot train, and the function that trains.

    Raises InputError for an unknown engine, and when Ray is not installed.
    """
    from dle_training.search.settings import StudyConfig
    from dle_training.settings import yaml_text

    if name is not None and (faults := [*yaml_text.misfits({"engine": name}, StudyConfig)]):  # the engines of dle-tune
        raise InputError(f"--{faults[0]}")
    if name == "ray":
        from dle_training.distributed import cluster

        cluster.check("ray.train")
        from dle_training.distributed import ray_train

        return ray_train.check, lambda run, prepared, listeners: ray_train.train(run, prepared, jobs, listeners(""))
    if jobs is not None:
        raise InputError("--jobs: expected only with --engine ray, as the number of workers")
    from dle_training.api import train_here

    return lambda config: None, train_here


def _list(speaker: Console, kind: str) -> None:
    if kind not in _KINDS:
        raise InputError(f"--list: expected one of {', '.join(_KINDS)}, found {kind!r}{nearest(kind, _KINDS)}")
    from dle_training.models.families import FAMILIES
    from dle_training.optimization import losses, optimizers, schedules
    from dle_training.scoring import metrics

    known: dict[str, list[tuple[str | float | None, ...]]] = {
        "models": [(entry.name, ", ".join(entry.reads), entry.description) for entry in FAMILIES.values()],
        "losses": [(entry.name, entry.description) for entry in losses.LOSSES.values()],
        "optimizers": [(entry.name, entry.lr, entry.description) for entry in optimizers.OPTIMIZERS.values()],
        "schedules": [(entry.name, entry.gamma, entry.description) for entry in schedules.SCHEDULES.values()],
        "metrics": [(entry.name, entry.description) for entry in metrics.METRICS.values()],
    }
    second = {"models": ("reads",), "optimizers": ("lr",), "schedules": ("gamma",)}
    headers = ("name", *second.get(kind, ()), "description")
    none = "the model's own" if kind == "optimizers" else "–"
    cells = [tuple(none if cell is None else f"{cell}" for cell in row) for row in known[kind]]
    speaker.table(kind.capitalize(), cells, headers)
    speaker.document({kind: [dict(zip(headers, row, strict=True)) for row in known[kind]]})


def _finished(folder: Path, source: "Place | None") -> "RunFolder | None":
    """The run in `folder` if it is finished, else None. Its source is not read.

    Raises InputError if there is no run, or if it is a run of another source.
    """
    from dle_training.data.sources import file_names, said
    from dle_training.runs.folder import RunFolder, is_finished

    run = RunFolder(folder)
    known = run.read_config().data.source
    if source is not None and known is not None and file_names(source) != file_names(known):
        raise InputError(f"{folder} is a run of {said(known)}, not of {said(source)}: leave SOURCE out")
    return run if is_finished(run) else None


def _reopened(speaker: Console, folder: Path, device: str | None, check: "Check") -> "tuple[RunFolder, Prepared]":
    from dle_training.runs import prepare
    from dle_training.runs.folder import RunFolder

    run = RunFolder(folder)
    check(run.read_config())
    with shown.reading(speaker) as progress:
        prepared = prepare.reopen(run, progress, device=device)
    return run, prepare.on_device(prepared, run.read_config().device)


def _train(speaker: Console, run: "RunFolder", prepared: "Prepared", work: "Work") -> None:
    from dle_training import api
    from dle_training.data.sources import sent
    from dle_training.settings import proposals

    further = f"Continue with: {proposals.resuming(run.path)}{sent(prepared.config.data.source)}"
    try:
        api.complete(run, prepared, shown.training(speaker), work, speaker.begin)
    except Interrupted as interrupted:
        raise Interrupted(f"{interrupted}\n{further}") from None
    except KeyboardInterrupt:  # before the first step or after the last
        raise Interrupted(f"Interrupted; the finished work is in {run.path}\n{further}") from None


def _show_result(speaker: Console, run: "RunFolder", plan: "Plan | None" = None) -> None:
    """Show a finished run, from its files, and the plan that this command made for it."""
    from statistics import median

    from dle_bundle import documents, schema
    from dle_training.data.sources import typed
    from dle_training.models import registry
    from dle_training.preprocessing.pipeline import PreprocessingState
    from dle_training.runs import baselines, cross_validation, model_choices
    from dle_training.runs.folder import read_facts
    from dle_training.runs.train import outcome
    from dle_training.settings import proposals

    config, facts, outputs = run.read_config(), read_facts(run), schema.load(run.schema).outputs
    finished, validated, kept = outcome(run), cross_validation.read(run), facts.kept
    choices = model_choices.read(run)
    texts = documents.read(run.preprocessing, PreprocessingState).tokens
    cut = [] if texts is None else [("text", _cut(texts.truncated, texts.max_tokens))]
    seconds = sum(record.seconds for record in finished.history)
    rate = median(record.rows_per_second for record in finished.history)
    scores = {name: score for name, score in finished.validation.items() if score is not None}
    beside = baselines.read(run)
    outside = registry.folds(config.model) > 1
    kind = "out-of-fold" if outside else "validation"
    speaker.table(
        "Trained",
        [
            ("model", f"{config.model.name}, {finished.parameters:,} parameters"),
            ("epochs", f"{len(finished.history)}, best {finished.best_epoch}"),
            ("time", f"{seconds:.1f} s; {rate:,.0f} rows/s in the median epoch"),
            *cut,
            ("rows kept", _kept(kept)),
            *([] if beside else [(f"{kind} {name}", console.cell(score)) for name, score in scores.items()]),
        ],
    )
    if beside:
        _show_beside(speaker, "Validation, out of fold" if outside else "Validation", scores, seconds, beside)
    if choices is not None:
        _show_choices(speaker, choices)
    if slow := model_choices.warning(run):
        speaker.warn(slow)
    if validated is not None:
        _show_cross_validation(speaker, validated)
    measured = {
        "baselines": {name: own.validation for name, own in beside.items()},
        "baseline_seconds": {name: own.seconds for name, own in beside.items()},
    }
    speaker.document(
        {
            "run": str(run.path),
            "task": outputs.task,
            "target": outputs.target,
            "rows": facts.rows,
            "kept": kept,
            "epochs": len(finished.history),
            "best_epoch": finished.best_epoch,
            "parameters": finished.parameters,
            "seconds": seconds,
            "validation": finished.validation,
            **({} if plan is None else {"plan": plan.document()}),
            **(measured if beside else {}),
            **({} if validated is None else {"cross_validation": msgspec.to_builtins(validated)}),
            **({} if choices is None else {"choices": msgspec.to_builtins(choices)}),
            **({} if texts is None else {"truncated_texts": texts.truncated}),
        }
    )
    source = "" if kept["test"] or config.data.source is None else f" {typed(config.data.source, '--data')}"
    speaker.next(f"{proposals.evaluating(run.path)}{source}")


def _show_beside(
    speaker: Console,
    title: str,
    scores: Mapping[str, float],
    seconds: float,
    beside: "Mapping[str, BaselineScores]",
) -> None:
    """Show the scores and the seconds of the model and of its baselines."""
    rows = [
        (name, console.cell(score), *(console.cell(own.validation[name]) for own in beside.values()))
        for name, score in scores.items()
    ]
    times = ("seconds", f"{seconds:.2f}", *(f"{own.seconds:.2f}" for own in beside.values()))
    speaker.table(title, [*rows, times], ("metric", "model", *beside))


def _show_cross_validation(speaker: Console, found: "CrossValidation") -> None:
    """Show the mean and the standard deviation of each score over the folds."""
    speaker.table(
        f"Cross-validation: {found.folds} folds",
        [
            (name, f"{mean:.4g}", "–" if (sd := found.sd[name]) is None else f"{sd:.2g}")
            for name, mean in found.mean.items()
            if mean is not None
        ],
        ("metric", "mean", "standard deviation"),
    )


def _show_choices(speaker: Console, found: "ModelChoices") -> None:
    """Show the models that the run could have kept."""
    limit = "" if found.max_latency is None else f", at most {found.max_latency:g} ms"
    speaker.table(
        f"Choices for a single row{limit}",
        [
            (found.name(each), f"{each.score:.4g}", f"{each.milliseconds:.3g}", "kept" if each.taken else "")
            for each in found.choices
        ],
        ("model", found.scored, "ms", ""),
    )
    if found.distance is not None:
        speaker.say(found.distance)


def _kept(rows: dict[str, int]) -> str:
    """The rows that the run folder keeps, in words."""
    listed = ", ".join(f"{count:,} {part}" for part, count in rows.items() if count) or "none"
    left_out = " and ".join(part for part, count in rows.items() if not count)
    return f"{listed} (data.keep_rows has no room for {left_out})" if left_out else listed


def _cut(truncated: float, most: int) -> str:
    """How many training texts are longer than the model reads, in words."""
    if not truncated:
        return f"none longer than {most:,} tokens"
    share = "less than 0.1%" if truncated < 0.001 else f"{truncated:.1%}"
    return f"{share} of the texts are longer than {most:,} tokens; their end is cut off"


def main() -> None:
    """Entry point of `dle-train`."""
    if sys.argv[1:] == ["--list"]:  # else Click says that a value is missing, but not which ones there are
        console.fail(f"--list: expected one of {', '.join(_KINDS)}", 2)
    console.run(app)
