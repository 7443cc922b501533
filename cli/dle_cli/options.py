"""Options that `dle-train` and `dle-tune` share: their help, the settings behind them, and the checks on them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dle_bundle.errors import InputError
from dle_cli.console import Console

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="A table (.csv[.gz], .tsv, .txt, .parquet, .npy, .npz), a folder of images, or sklearn:NAME.",
    ),
]
TargetOption = Annotated[str | None, typer.Option("--target", metavar="COLUMN", help="Column to predict.")]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="BY",
        help="stratified, random, column:NAME with the values train, validation, test, group:NAME (equal values "
        "together) or time:NAME (the latest rows test).",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings, and of spaces for dle-tune.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as optimizer.lr=0.01; repeatable."),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Seed of every random choice: split, search, training.  [default: 0]"),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu or cuda.  [default: auto]")
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="WHERE", help="local, or ray: the cluster that RAY_ADDRESS names.  [default: local]"
    ),
]

SETTINGS = {
    "SOURCE": "data.source", "--target": "data.target", "--split": "split.by", "--folds": "split.folds",
    "--seed": "seed", "--device": "device", "--search": "study.search", "--trials": "study.trials",
    "--jobs": "study.jobs", "--engine": "study.engine", "--timeout": "study.timeout",
}  # fmt: skip
"""The setting that each option stands for, by its dotted key."""


def to_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the `options` that were given: {dotted key: value}."""
    return {SETTINGS[name]: value for name, value in options.items() if value is not None}


def warn_of_overridden(speaker: Console, options: Mapping[str, Any], assignments: Iterable[str]) -> None:
    """Warn about each `--set` of a setting that an option sets to another value, for the option wins."""
    by_key = {SETTINGS[name]: (name, value) for name, value in options.items() if value is not None}
    for text in assignments:
        key, _, value = text.partition("=")
        if key in by_key and value.strip() != str(by_key[key][1]):
            name, chosen = by_key[key]
            speaker.warn(f"{name} {chosen} overrides --set {text}: give only one of them")


def refuse_with_resume(options: Mapping[str, Any], kept_in: str, hint: str) -> None:
    """Raise InputError when any of these `options` is given beside --resume; `hint` says what to do instead."""
    if given := [name for name, value in options.items() if value is not None]:
        raise InputError(f"--resume continues with the settings in {kept_in}: leave out {', '.join(given)}, or {hint}")


def default_folder(source: str | None, suffix: str = "") -> Path:
    """The folder for a run or study of `source` when --out is not given. Raises InputError without a source."""
    if source is None:
        raise InputError(
            "no SOURCE: expected a table file, a folder of images or sklearn:NAME (with --resume, --out is enough)"
        )
    from dle_training.data.sources import default_name

    return Path("runs") / f"{default_name(source)}{suffix}"
