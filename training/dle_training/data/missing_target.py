"""Finds the setting with which a file has the target that it lacks as it is read.

Spaces may separate the columns, the table may be on another sheet, or the names of the columns in a later row.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import TextFormat
from dle_bundle.tables import source_files, table_files, text_files, workbooks
from dle_bundle.tables.source_files import STDIN
from dle_training.data.sources import MEMORY, SKLEARN, Source
from dle_training.settings.proposals import setting

_ROWS = 10
"""The names of the columns are sought in this many rows."""


def cure(source: Source, given: TextFormat, target: str) -> str:
    """Return the end of the message that `source`, read as `given`, has no column `target`; empty without a cure."""
    place = source.place
    if isinstance(place, str) and (place == STDIN or place.startswith((MEMORY, SKLEARN)) or Path(place).is_dir()):
        return ""
    with source_files.opened(place) as files:
        for written, said in _ways(files.files[0].path, given):
            try:
                names = next(files.stream(files.detect(written).format, rows=1)).table.column_names
            except InputError:
                continue
            if target in names:
                return f"; {said}"
    return ""


def _ways(path: Path, given: TextFormat) -> Iterator[tuple[TextFormat, str]]:
    """Other formats of the file, and what to set for each."""
    kind = table_files.suffix(path)
    if kind in text_files.TEXT_SUFFIXES and given.delimiter is None:
        yield replace(given, delimiter=" "), f"if spaces separate the columns, set {setting('data.delimiter', ' ')}"
    if kind == ".xlsx" and given.sheet is None:
        for name in workbooks.sheets(path)[1:]:
            cure = setting("data.sheet", name)
            yield replace(given, sheet=name), f"if the table is on the sheet {name!r}, set {cure}"
    if kind in (*text_files.TEXT_SUFFIXES, ".xlsx") and given.header != "none":
        for more in range(1, _ROWS + 1):
            rows = given.skip_rows + more
            yield (
                replace(given, skip_rows=rows),
                f"if the names are in a later row, set {setting('data.skip_rows', rows)}",
            )
