"""Options that `dle-train` and `dle-tune` have in common."""

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="A table (.csv[.gz], .tsv, .txt, .parquet, .npy, .npz), a folder of images, or sklearn:NAME.",
    ),
]
Target = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column to predict.")]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="BY",
        help="stratified, random, column:NAME with the values train, validation, test, group:NAME (equal values "
        "together) or time:NAME (the latest test).",
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file of settings, and of spaces for dle-tune.")]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu or cuda.  [default: auto]")]
Engine = Annotated[
    str | None,
    typer.Option(metavar="WHERE", help="local, or ray: the cluster that RAY_ADDRESS names.  [default: local]"),
]
