"""`dle-train`: from a source to a run directory."""

from pathlib import Path
from typing import Annotated

import typer

from dle_cli import console

app = console.application("Train a model.")


@app.command()
def train(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="Table file (.csv[.gz], .tsv, .txt, .parquet, .npy, .npz) or sklearn:NAME."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to predict.")] = None,
    split: Annotated[
        str | None, typer.Option(help="random, stratified or column:NAME (values train, validation, test).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as optimizer.lr=0.01. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory.  [default: runs/<name of the source>]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, weights, batches and dropout.  [default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.  [default: auto]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Train a model on a table and keep the run in a folder.

    Columns, task and split are inferred and printed; --set, --config and the options overrule them.
    """
    from dle_training import config as configuration
    from dle_training.run import training

    speaker = console.Console(as_json, quiet)
    flags = {
        "data.source": source,
        "data.target": target,
        "split.by": split,
        "seed": seed,
        "device": device,
    }
    given = {key: value for key, value in flags.items() if value is not None}
