"""`dle-export`: from a run to a bundle that serves without PyTorch."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dle_cli import console
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_training.export.bundle import Exported

app = console.application("Export a trained model.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or study directory.")],
    to: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Folder to make; its name becomes the model's name.")
    ] = None,
    bentoml: Annotated[
        bool,
        typer.Option("--bentoml", help="Put the bundle into BentoML's model store; without --to, only there."),
    ] = False,
    version: Annotated[int, typer.Option(metavar="N", min=1, help="Version of the model.")] = 1,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Export a run as one ONNX graph with its preprocessing inside, proven equal to PyTorch."""
    from dle_bundle.errors import InputError
    from dle_training.export.bundle import export_run
    from dle_training.runs.folder import found
    from dle_training.settings import proposals

    speaker = Console(as_json, quiet)
    if to is None and not bentoml:
        raise InputError("expected --to BUNDLE for a folder, or --bentoml for BentoML's model store")
    with tempfile.TemporaryDirectory() as temporary:
        folder = to or Path(temporary) / run.resolve().name
        tag = _free_tag(folder, version) if bentoml else None
        exported = export_run(found(run), folder, version)
        if tag is not None:
            _store(tag, folder)
    _show(speaker, exported, to, tag)
    commands = [] if to is None else [f"dle-serve {to} --port 3000", proposals.predicting(to, exported.schema)]
    if tag is not None:
        commands.append(f"DLE_BENTO_MODELS={tag} bentoml serve dle_serving.service:Service --host 127.0.0.1")
    speaker.next(*commands)


def _free_tag(folder: Path, version: int) -> str:
    from dle_serving.models.model_store import free_tag

    return free_tag(folder.resolve().name, version)


def _store(tag: str, folder: Path) -> None:
    from dle_serving.models.model_store import store

    store(tag, folder)


def _show(speaker: Console, exported: "Exported", to: Path | None, tag: str | None) -> None:
    manifest, parity = exported.manifest, exported.parity
    speaker.table(
        "Exported",
        [
            ("model", f"{manifest.name}, version {manifest.version}"),
            ("task", manifest.task),
            ("inputs", len(exported.schema.inputs)),
            ("graph", f"{exported.graph_bytes / 1024:,.0f} KiB, opset {exported.opset}"),
            ("parity", f"{parity.rows:,} rows, differs by {parity.largest_difference:.1e} at most"),
            *([] if tag is None else [("BentoML model", tag)]),
            *((f"test {name}", f"{score:.4g}") for name, score in exported.test.items() if score is not None),
        ],
    )
    speaker.document(
        {
            "bundle": None if to is None else str(to),
            "bentoml": tag,
            "model": manifest.name,
            "version": manifest.version,
            "task": manifest.task,
            "bytes": exported.graph_bytes,
            "parity": {"rows": parity.rows, "largest_difference": parity.largest_difference, "bound": parity.bound},
            "test": exported.test,
        }
    )


def main() -> None:
    """Entry point of `dle-export`."""
    console.run(app)
