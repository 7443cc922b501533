"""`dle-serve`: bundles as an HTTP service."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dle_cli import console
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_serving.launcher import Ready

app = console.application("Serve exported models.")


@app.command()
def serve(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE…", help="Bundles, or folders that hold bundles; the first is the default."),
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.")] = 3000,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Worker processes.")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the graph runs.")] = "auto",
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Answer HTTP requests with one or more bundles, until Ctrl-C."""
    from dle_serving import launcher

    speaker = Console(as_json, quiet)
    launcher.serve(
        bundles,
        host=host,
        port=port,
        workers=workers,
        device=device,
        on_ready=lambda ready: _show(speaker, ready, bundles),
    )


def _show(speaker: Console, ready: "Ready", bundles: list[Path]) -> None:
    speaker.table(
        "Serving",
        [(model.model, f"version {model.version}", model.task, f"on {model.provider}") for model in ready.models]
        + [("url", ready.url), ("docs", f"{ready.url}/docs"), ("workers", ready.workers), ("state", ready.home)],
    )
    speaker.document(
        {
            "url": ready.url,
            "workers": ready.workers,
            "home": str(ready.home),
            "models": [
                {"model": model.model, "version": model.version, "task": model.task, "provider": model.provider}
                for model in ready.models
            ],
        }
    )
    speaker.next(f"curl -s {ready.url}/predict -H 'content-type: application/json' -d '{_example(bundles[0])}'")


def _example(bundle: Path) -> str:
    """A short request body in the words of the bundle's schema: its first inputs."""
    schema = json.loads((bundle / "schema.json").read_bytes()) if (bundle / "schema.json").is_file() else {"inputs": []}
    shown = [f"{json.dumps(field['name'])}:{json.dumps(field.get('example'))}" for field in schema["inputs"][:2]]
    return f'{{"rows":[{{{",".join(shown)}{", …" if len(schema["inputs"]) > 2 else ""}}}]}}'


def main() -> None:
    """Entry point of `dle-serve`."""
    console.run(app)
