"""The output of every command: tables and progress for people, one JSON document for programs, errors as text.

Tables and the next command go to standard output, progress and errors to standard error. `--json` prints one document
instead. `--quiet` prints errors only.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperOption

from dle_bundle.errors import DleError, InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]

MOST_ROWS, _FEW_MORE = 20, 2
"""Rows of a table that are printed; as few more as a line about them would replace are printed too."""
MOST_LINES = 10
"""Warnings or notes of one kind that are printed."""


@dataclass(frozen=True, slots=True)
class Console:
    """The output of one command, made from its `--json` and `--quiet`."""

    json: bool
    quiet: bool

    @property
    def silent(self) -> bool:
        """Whether tables, progress and notes are left out."""
        return self.json or self.quiet

    def say(self, line: str = "") -> None:
        """Print a line for people."""
        if not self.silent:
            typer.echo(line)

    def begin(self, line: str) -> None:
        """Print a line about work that begins, on standard error."""
        if not self.silent:
            typer.echo(line, err=True)

    def warn(self, line: str) -> None:
        """Print a warning on standard error, unless `--quiet` is set."""
        if not self.quiet:
            typer.secho("Warning: ", fg=typer.colors.YELLOW, bold=True, err=True, nl=False)
            typer.echo(line, err=True)

    def table(
        self,
        title: str,
        rows: Iterable[Iterable[object]],
        columns: Iterable[str] = (),
        rest: str = "--json prints all",
        most: int = MOST_ROWS,
    ) -> None:
        """Print a table. Without `columns` it has no header. The first column is bold. Text is printed literally.

        A table of many rows ends after the first `most` of them, with a line that counts the others; `rest` says where
        they are.
        """
        if self.silent:
            return
        from rich import box
        from rich.console import Console as Terminal
        from rich.table import Table
        from rich.text import Text

        headers = list(columns)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=bool(headers))
        body = [[str(cell) for cell in row] for row in rows]
        for index in range(len(headers) or max((len(row) for row in body), default=0)):
            header = Text(headers[index] if headers else "")
            table.add_column(header, overflow="fold", style="bold" if not index else None)
        more = len(body) - most if len(body) > most + _FEW_MORE else 0
        for row in body[: len(body) - more]:
            table.add_row(*(Text(cell) for cell in row))
        # a pipe or a file has no width of its own
        terminal = Terminal(width=None if sys.stdout.isatty() else 120, soft_wrap=False)
        with terminal.capture() as captured:
            terminal.print(Text(title, style="bold"), soft_wrap=True)
            terminal.print(table)
        for line in captured.get().split("\n")[:-1]:
            typer.echo(line.rstrip())
        if more:
            typer.echo(f"… and {more:,} more: {rest}\n")

    def lines(self, lines: Sequence[str], say: Callable[[str], None], rest: str) -> None:
        """Print `lines` by `say`; of many, the first ones and how many more there are. `rest` says where they are."""
        for line in lines[:MOST_LINES]:
            say(line)
        if len(lines) > MOST_LINES:
            say(f"… and {len(lines) - MOST_LINES:,} more: {rest}")

    def document(self, content: Mapping[str, Any]) -> None:
        """Print the JSON document of `--json`."""
        if self.json:
            typer.echo(json.dumps(content, indent=2, allow_nan=False))

    def next(self, *commands: str) -> None:
        """Print the commands to type next."""
        for index, command in enumerate(commands):
            self.say(f"{'Next:' if not index else '     '} {command}")


_SPINS = "20000"
"""How often a thread of PyTorch looks for work before it sleeps. By default it looks 15 times as often, and where other
programs use the same cores, its waits then take nearly all the time: a training of 5 s took minutes."""


def run(app: typer.Typer) -> None:
    """Run a command; a `DleError` becomes its message and exit code. Wrong arguments exit with 2."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    try:
        app()
    except DleError as error:
        fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dle_"):
            raise
        fail(
            f"{error.name} is not installed: this command needs an extra, such as "
            "pip install 'deep-learning-essentials[all]'",
            2,
        )
    except OSError as error:
        fail(str(error), 1)


def fail(message: str, code: int) -> NoReturn:
    """Print `message` on standard error and exit with `code`."""
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
    typer.echo(message, err=True)
    sys.exit(code)


def cell(score: float | None) -> str:
    """A score in a table: four digits, or a dash if it is undefined."""
    return "–" if score is None else f"{score:.4g}"


class _Command(TyperCommand):
    """A command that refuses an option with one value when it is given twice, instead of taking the last one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--help" not in args:
            given = Counter(self.make_parser(ctx).parse_args(list(args))[2])
            for option, times in given.items():
                if times > 1 and isinstance(option, TyperOption) and not (option.multiple or option.is_flag):
                    raise InputError(f"{option.opts[0]} is given {times} times, but takes one value: give it once")
        return super().parse_args(ctx, args)


class _Application(typer.Typer):
    def command(self, *args: Any, **settings: Any) -> Callable[[Any], Any]:
        return super().command(*args, cls=_Command, **settings)


def application(help_text: str) -> typer.Typer:
    """The one-command application that each module of this package defines."""
    return _Application(
        help=help_text,
        add_completion=False,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
