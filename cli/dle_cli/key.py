"""`dle-key`: make an API key for a service."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dle_cli import console
from dle_cli.console import Console

app = console.application("Make an API key.")


@app.command()
def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use the key, as logs and FILE show it.")],
    file: Annotated[Path, typer.Option(metavar="FILE", help="File of hashed keys; created if absent.")],
    scopes: Annotated[
        str, typer.Option(metavar="SCOPE,…", help="What the key may do: predict, feedback, metrics; admin: everything.")
    ] = "predict,feedback",
    as_json: console.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the key.")] = False,
) -> None:
    """Make a random API key and print it once.

    FILE keeps only its SHA-256. A running service follows changes of FILE.
    """
    from dle_serving import auth

    speaker = Console(as_json, quiet)
    chosen = [scope.strip() for scope in scopes.split(",")]
    made = auth.add(file, name, chosen)
    speaker.table(
        "New key, shown only this once", [("name", name), ("scopes", ", ".join(chosen)), ("file", file), ("key", made)]
    )
    speaker.document({"name": name, "scopes": chosen, "file": str(file), "key": made})
    if quiet and not as_json:
        typer.echo(made)
    path = "metrics" if chosen == ["metrics"] else "schema"
    speaker.next(
        f"DLE_API_KEYS_FILE={shlex.quote(str(file))} dle-serve BUNDLE",
        f"curl -s localhost:3000/{path} -H 'authorization: Bearer {made}'",
    )


def main() -> None:
    """Entry point of `dle-key`."""
    console.run(app)
