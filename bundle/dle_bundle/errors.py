"""The errors that users see: a sentence, further details, and the exit code of the command.

Every deliberate error derives from `DleError`; any other exception is a defect and may show a traceback.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

_ROW_NAME: ContextVar[Callable[[int], str]] = ContextVar("row_name", default="row {:,}".format)


class DleError(Exception):
    """Base class of all deliberate errors. Each of `details` is one fault, shown on its own line."""

    exit_code = 1

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n".join((self.message, *(f"  - {line}" for line in self.details)))


class WorkError(DleError, RuntimeError):
    """The work failed although its input was valid: parity, disk, port, a loss that is not finite."""


class InputError(DleError, ValueError):
    """The arguments, the configuration or the data are wrong; the user must change them."""

    exit_code = 2


class BundleError(InputError):
    """A bundle is incomplete or altered, or has a format that this version cannot read."""


class Interrupted(DleError):
    """Ctrl-C or SIGTERM stopped the command; training progress was saved."""

    exit_code = 130


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault of a request or a table.

    `row` counts from 0 in a request and from 1 (without the header) in a file; None means the whole request or file.
    `field` is an input's name; None means the whole row. `code` is one of `type`, `non_finite`, `missing`, `unknown`,
    `image`, `sequence`, `json`. `file` is the file of the row, if the table consists of several.
    """

    row: int | None
    field: str | None
    code: str
    message: str
    file: str | None = None

    def __str__(self) -> str:
        where = [self.file] if self.file is not None else []
        where += [f"row {self.row}"] if self.row is not None else []
        where += [f"{self.field!r}"] if self.field is not None else []
        return f"{', '.join(where)}: {self.message}" if where else self.message


class RowFaults(InputError):
    """A table or a request does not match the schema.

    `faults` lists every fault of every row; `more` means that it was cut off. `columns` says that each fault is a
    required column that the table lacks.
    """

    def __init__(self, faults: Iterable[Fault], *, more: bool = False, columns: bool = False, shown: int = 20) -> None:
        self.faults = tuple(faults)
        self.more = more
        single = len(self.faults) == 1 and not more
        lines = [str(fault) for fault in self.faults[:shown]]
        if len(self.faults) > shown:
            lines.append(f"and {len(self.faults) - shown:,} more")
        if columns and single:
            message, lines = lines[0], []
        elif columns:
            message = f"{counted(len(self.faults), 'required column')} are missing"
        else:
            found = counted(len(self.faults), "value")
            message = f"{'more than ' if more else ''}{found} {'does' if single else 'do'} not match the schema"
        if [fault.code for fault in self.faults] == ["json"]:
            message = "the body is not JSON"
        super().__init__(message, lines)


def combined(message: str, faults: Iterable[str | InputError]) -> InputError:
    """Return one error for all `faults`: the only one itself, or `message` with each of them and their details."""
    errors = [InputError(fault) if isinstance(fault, str) else fault for fault in faults]
    if len(errors) == 1:
        return errors[0]
    return InputError(message, [line for error in errors for line in (error.message, *error.details)])


def row_name(row: int) -> str:
    """Return how messages call a row of the table, from 1: `row 1,234`, or as `naming_rows` says, `row 34 of b.csv`."""
    return _ROW_NAME.get()(row)


@contextmanager
def naming_rows(name: Callable[[int], str]) -> Iterator[None]:
    """Let `row_name` return `name(row)`."""
    token = _ROW_NAME.set(name)
    try:
        yield
    finally:
        _ROW_NAME.reset(token)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `3,096 rows`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def few(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def nearest(name: str, known: Iterable[str], part: Callable[[str], str] = str, likeness: float = 0.6) -> str:
    """The text ` (did you mean 'a' or 'b'?)` for known names close to `name`, else an empty string.

    `part` returns the part of a name that counts. `likeness` is the least share of it that two names have in common.
    """
    import difflib

    by_folded = {part(candidate).casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(part(name).casefold(), by_folded, n=3, cutoff=likeness)
    return f" (did you mean {' or '.join(repr(by_folded[match]) for match in close)}?)" if close else ""
