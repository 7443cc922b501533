"""`dle-export`: from a run to a bundle that serves without PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from dle_cli import console
from dle_cli.console import Console

app = console.application("Export a trained model.")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or study directory.")],
    to: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder to make; its name becomes the model's name.")],
    version: Annotated[int, typer.Option(metavar="N", min=1, help="Version of the model.")] = 1,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Export a run as one ONNX graph with its preprocessing inside, proven equal to PyTorch."""
    from dle_training.export.bundle import export_run
    from dle_training.runs.folder import found
    from dle_training.settings import proposals

    speaker = Console(as_json, quiet)
    exported = export_run(found(run), to, version)
    manifest, parity = exported.manifest, exported.parity
    speaker.table(
        "Exported",
        [
            ("model", f"{manifest.name}, version {manifest.version}"),
            ("task", manifest.task),
            ("inputs", len(exported.schema.inputs)),
            ("graph", f"{exported.graph_bytes / 1024:,.0f} KiB, opset {exported.opset}"),
            ("parity", f"{parity.rows:,} rows, differs by {parity.largest_difference:.1e} at most"),
            *((f"test {name}", f"{score:.4g}") for name, score in exported.test.items() if score is not None),
        ],
    )
    speaker.document(
        {
            "bundle": str(to),
            "model": manifest.name,
            "version": manifest.version,
            "task": manifest.task,
            "bytes": exported.graph_bytes,
            "parity": {"rows": parity.rows, "largest_difference": parity.largest_difference, "bound": parity.bound},
            "test": exported.test,
        }
    )
    speaker.next(f"dle-serve {to} --port 3000", proposals.predicting(to, exported.schema))


def main() -> None:
    """Entry point of `dle-export`."""
    console.run(app)
