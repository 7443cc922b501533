"""The errors that a person sees: a sentence, the details beneath it, and the exit code of the command line.

Every error that is raised on purpose derives from `DleError`; anything else is a defect and may show a traceback.
"""

from collections.abc import Iterable

import msgspec


class DleError(Exception):
    """Base of all deliberate errors. `details` are further lines, one fault each."""

    exit_code = 1

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n".join((self.message, *(f"  - {line}" for line in self.details)))


class WorkError(DleError, RuntimeError):
    """The work failed although its input was fine: parity, disk, port, a loss that is not finite."""


class InputError(DleError, ValueError):
    """Arguments, configuration or data must change before the command can work."""

    exit_code = 2


class BundleError(InputError):
    """A bundle that is incomplete, altered, or of a format that this version does not read."""


class Interrupted(DleError):
    """Stopped by Ctrl-C or SIGTERM; what had been trained was saved."""

    exit_code = 130


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with one value of a request or a table.

    `row` counts from 0 in a request, as its JSON does, and from 1 in a file, without its header (None: the whole of
    either). `field` is an input's name (None: the whole row), `code` is one of `type`, `non_finite`, `missing`,
    `unknown`, `image`, `sequence`, `json`.
    """

    row: int | None
    field: str | None
    code: str
    message: str

    def __str__(self) -> str:
        where = [f"row {self.row}"] if self.row is not None else []
        where += [f"{self.field!r}"] if self.field is not None else []
        return f"{', '.join(where)}: {self.message}" if where else self.message


class RowFaults(InputError):
    """Rows that do not fit the schema, with every fault of every row; `more`: there were too many to list."""

    def __init__(self, faults: Iterable[Fault], *, more: bool = False, shown: int = 20) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in self.faults[:shown]]
        if len(self.faults) > shown:
            lines.append(f"and {len(self.faults) - shown:,} more")
        message = f"{'more than ' if more else ''}{len(self.faults):,} value(s) do not fit the schema"
        if [fault.code for fault in self.faults] == ["json"]:
            message = "the body is not JSON"
        super().__init__(message, lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'a' or 'b'?)` for names close to `name`, else an empty string."""
    import difflib

    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(by_folded[match]) for match in close)}?)" if close else ""
