"""Options that `dle-train` and `dle-tune` share: their help, the settings behind them, and the checks on them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dle_bundle.errors import InputError
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_training.data.sources import Place

SOURCES = (
    "A table (.csv[.gz], .tsv, .txt, .json, .jsonl, .xlsx, .parquet, .npy, .npz, or a .zip of one), a folder of "
    "images, or - for standard input. Several files, or a pattern such as 'data/*.csv', are read as one table."
)
SourceArgument = Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help=f"{SOURCES} Or sklearn:NAME.")]
NAME = "that of the first file, of the folder of a pattern or of images, or stdin"
"""The default name of a run or study, in words."""
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
SheetOption = Annotated[
    str | None,
    typer.Option(
        "--sheet", metavar="NAME", help="Sheet of a workbook.  [default: that of training, or else the first]"
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="WHERE", help="local, or ray: the cluster that RAY_ADDRESS names.  [default: local]"
    ),
]


def to_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the `options` that were given: {dotted key: value}."""
    from dle_training.settings.proposals import SETTINGS

    return {SETTINGS[name]: value for name, value in options.items() if value is not None}


def warn_of_overridden(speaker: Console, options: Mapping[str, Any], assignments: Iterable[str]) -> None:
    """Warn about each `--set` of a setting that an option sets to another value, for the option wins."""
    from dle_training.settings.proposals import SETTINGS, switch

    given = {SETTINGS[name]: (name, value) for name, value in options.items() if value is not None}
    for text in assignments:
        key, _, written = text.partition("=")
        if key not in given:
            continue
        name, value = given[key]
        is_switch = isinstance(value, bool)
        if written.strip() != (str(value).lower() if is_switch else str(value)):
            typed = switch(name, on=value) if is_switch else f"{name} {value}"
            speaker.warn(f"{typed} overrides --set {text}: give only one of them")


def refuse_with_resume(options: Mapping[str, Any], kept_in: str, hint: str) -> None:
    """Raise InputError when any of these `options` is given beside --resume; `hint` says what to do instead."""
    if given := [name for name, value in options.items() if value is not None]:
        raise InputError(f"--resume continues with the settings in {kept_in}: leave out {', '.join(given)}, or {hint}")


def place(sources: Sequence[str] | None) -> "Place | None":
    """The SOURCE of a command: one place, several files, or None."""
    return None if not sources else sources[0] if len(sources) == 1 else tuple(sources)


def default_folder(source: "Place | None", suffix: str = "") -> Path:
    """The folder for a run or study of `source` when --out is not given. Raises InputError without a source."""
    if source is None:
        raise InputError(
            "no SOURCE: expected table files, a folder of images or sklearn:NAME (with --resume, --out is enough)"
        )
    from dle_training.data.sources import default_name

    return Path("runs") / f"{default_name(source)}{suffix}"
