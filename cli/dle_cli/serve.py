"""`dle-serve`: serve bundles over HTTP."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dle_cli import console
from dle_cli.console import Console

if TYPE_CHECKING:
    from dle_bundle.schema import Field
    from dle_serving.server.launcher import RunningServer
    from dle_serving.server.readiness import LoadedModel

SHOWN_CHARACTERS = 300
"""An example request longer than this is written to a file."""

app = console.application("Serve exported models.")


@app.command()
def serve(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE…", help="Bundles, or folders of bundles; the first bundle is the default."),
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.")] = 3000,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Worker processes; else DLE_WORKERS, else 1.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where the graph runs; else DLE_DEVICE, else auto.", show_default=False),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without API keys (see dle-key).")
    ] = False,
    as_json: console.Json = False,
    quiet: console.Quiet = False,
) -> None:
    """Answer HTTP requests with one or more bundles, until Ctrl-C."""
    from dle_serving.server import launcher

    speaker = Console(as_json, quiet)
    launcher.serve(
        bundles,
        host=host,
        port=port,
        workers=workers,
        device=device,
        insecure=insecure,
        on_ready=lambda ready: _show(speaker, ready, bundles),
    )


def _show(speaker: Console, ready: "RunningServer", bundles: list[Path]) -> None:
    speaker.table(
        "Serving",
        [("url", ready.url), ("docs", f"{ready.url}/docs"), ("workers", ready.workers), ("state", ready.home)]
        + [(model.model, f"version {model.version}", model.task, f"on {model.provider}") for model in ready.models],
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
    if not speaker.silent:
        speaker.next(_request(ready, bundles))


def _request(ready: "RunningServer", bundles: list[Path]) -> str:
    """A curl command that predicts the first model's example row; it works as printed."""
    from dle_bundle.files import write_atomic
    from dle_bundle.values.base64_text import decode_base64

    inputs = _inputs(bundles, ready.models[0])
    url = shlex.quote(f"{ready.url}/predict")
    asked = f"curl -s {url}{' -H {}'.format(shlex.quote('authorization: Bearer KEY')) if ready.keys else ''}"
    if [field.kind for field in inputs] == ["image"] and isinstance(inputs[0].example, str):
        picture = ready.home / "example.png"
        write_atomic(picture, decode_base64(inputs[0].example))
        return f"{asked} -H 'content-type: image/png' --data-binary {shlex.quote(f'@{picture}')}"
    row = {field.name: field.example for field in inputs}
    body = json.dumps({"rows": [row]}, ensure_ascii=False)
    if len(body) > SHOWN_CHARACTERS:
        file = ready.home / "example.json"
        write_atomic(file, body + "\n")
        body = f"@{file}"
    return f"{asked} -H 'content-type: application/json' -d {shlex.quote(body)}"


def _inputs(places: list[Path], model: "LoadedModel") -> "tuple[Field, ...]":
    """The inputs of `model`. Its bundle is one of `places`, or directly inside one of them."""
    from dle_bundle import bundle, manifest, schema

    for place in places:
        for path in (place / bundle.MANIFEST, *sorted(place.glob(f"*/{bundle.MANIFEST}"))):
            if not path.is_file() or path.parent.name.startswith("."):
                continue
            described = manifest.load(path)
            if (described.name, described.version) == (model.model, model.version):
                return schema.load(path.parent / bundle.SCHEMA).inputs
    return ()


def main() -> None:
    """Entry point of `dle-serve`."""
    console.run(app)
