"""The files of a SOURCE: one, several, a pattern, a .zip of one file, or standard input. They are read as one table.

Image files are a table of their paths, as a folder of images is.

`table_files` reads each file. Several files must have the same columns, in any order. Standard input and the content of
a .zip file are copied into a temporary file, and messages call them by their own names.
"""

import glob
import hashlib
import re
import shutil
import sys
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from dle_bundle import integrity
from dle_bundle.errors import Fault, InputError, RowFaults, combined, counted, few, naming_rows, nearest
from dle_bundle.images.formats import IMAGE_SUFFIXES
from dle_bundle.proposals import flag
from dle_bundle.schema import TextFormat
from dle_bundle.tables import columns, folders, table_files
from dle_bundle.tables.text_files import Detected

STDIN = "-"
"""The SOURCE that stands for standard input."""
STDIN_NAME = "standard input"
"""How messages call standard input."""
_LISTED = 20
_NAMED = 3
_ARRAY = re.compile(rb"\s*\[\s*[{\]]")
"""How an array of JSON objects begins; `[` alone may begin the name of a column."""
_ENCODING = re.compile(rb"\A(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)|\0")
"""The byte-order mark, and the zero bytes of UTF-16."""
_PATTERN = frozenset("*?[")

Place = str | Path | Sequence[str | Path]
"""A SOURCE of files: a path, a pattern or `-`, or several paths and patterns."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file, or a folder of images. `path`: where its content is. `name`: what messages call it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a source, in order. `first_row` is the number of the first one, from 1, in the file `file`.

    `file` is None if the source is a single file.
    """

    table: pa.Table
    first_row: int
    file: str | None = None


@dataclass(frozen=True, slots=True)
class FileRows:
    """Which rows of a table come from which of several files: the names of the files, and how many rows each has.

    Both are empty for a single file.
    """

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, parts: Iterable[Part]) -> "FileRows":
        """Return the rows of the files that `parts` were read from."""
        rows: dict[str, int] = {}
        for part in parts:
            if part.file is not None:
                rows[part.file] = rows.get(part.file, 0) + len(part.table)
        return cls(tuple(rows), tuple(rows.values()))

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Let errors about rows of the table name the file, and the number of the row in this file."""
        if not self.names:
            yield
            return
        try:
            with naming_rows(self._name):
                yield
        except RowFaults as error:
            if all(fault.row is None for fault in error.faults):
                raise
            raise RowFaults(map(self.placed, error.faults)) from None

    def placed(self, fault: Fault) -> Fault:
        """The fault of a row of the table as one of this row in its file."""
        if fault.row is None or not self.names:
            return fault
        file, row = self._place(fault.row)
        return replace(fault, file=file, row=row)

    def _name(self, row: int) -> str:
        file, own = self._place(row)
        return f"row {own:,} of {file}"

    def _place(self, row: int) -> tuple[str, int]:
        """The file of a row of the table, and the number of this row in the file; rows count from 1."""
        starts = [0, *accumulate(self.counts)]
        index = min(bisect_right(starts, row - 1), len(self.names)) - 1
        return self.names[index], row - starts[index]


ONE_FILE = FileRows()


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of a source, ready to be read. Paths of images in the table are relative to `folder`."""

    files: tuple[SourceFile, ...]
    folder: Path

    @property
    def are_images(self) -> bool:
        """Whether the source is a folder of images, or image files."""
        return self.is_folder or self.are_image_files

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder of images."""
        return self.files[0].path.is_dir()

    @property
    def are_image_files(self) -> bool:
        """Whether the source is one or several image files."""
        return _are_image_files([file.path for file in self.files])

    def check_sheet(self, name: str | None) -> None:
        """Raise InputError if a sheet is named, but no file is a workbook."""
        if name is not None and not any(file.path.name.lower().endswith(".xlsx") for file in self.files):
            raise InputError(f"{flag('sheet', name)}: the source has no workbook (.xlsx)")

    def detect(self, given: TextFormat, *, proposing: bool = True) -> Detected:
        """Complete the format of the files, and say what was found, as `table_files.detect` does for each file.

        If the files differ, the format stays as `given`, and each file is read in its own way.
        """
        if self.are_images:
            return Detected(given)
        found = self._of_each(lambda path: table_files.detect(path, given, proposing=proposing))
        formats = {each.format for each in found}
        said: dict[str, list[str]] = {}
        for file, each in zip(self.files, found, strict=True):
            for note in each.notes:
                said.setdefault(note, []).append(file.name)
        notes = (
            note if len(names) == len(self.files) else f"{few(names, _NAMED)}: {note}" for note, names in said.items()
        )
        return Detected(formats.pop() if len(formats) == 1 else given, tuple(notes))

    def stream(self, written: TextFormat, *, rows: int = 65_536, proposing: bool = True) -> Iterator[Part]:
        """Read the files in parts of at most `rows` rows, in order, at least one part.

        Raises InputError as `table_files.stream` does, if several files differ in their columns, or if a column has
        types that cannot be brought together. Types that differ become text, as in a .csv file.
        """
        if self.are_image_files:
            for start in range(0, len(self.files), rows):
                names = [file.name for file in self.files[start : start + rows]]
                yield Part(pa.table({folders.IMAGE: pa.array(names, pa.large_string())}), start + 1)
            return
        several = len(self.files) > 1
        schema = None
        if several:
            first_parts = self._of_each(lambda path: _first(path, written, rows, proposing))
            self._check_columns([part.column_names for part in first_parts])
            schema = self._common([part.schema for part in first_parts])
        for file in self.files:
            first_row = 1
            with _called(file):
                for table in table_files.stream(file.path, written, rows=rows, proposing=proposing):
                    whole = table if schema is None else _in_types(table, schema, file)
                    yield Part(whole, first_row, file.name if several else None)
                    first_row += len(table)

    def digest(self) -> str:
        """The SHA-256 of the content of one file, or of the digests of several files in their order."""
        digests = [integrity.digest(file.path) for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def _of_each(self, work: Callable[[Path], _T]) -> list[_T]:
        """Do `work` with each file; the errors of all files become one."""
        found, errors = [], []
        for file in self.files:
            try:
                with _called(file):
                    found.append(work(file.path))
            except InputError as error:
                errors.append(error)
        if errors:
            raise combined(f"{len(errors)} of {counted(len(self.files), 'file')} cannot be read", errors)
        return found

    def _check_columns(self, names: list[list[str]]) -> None:
        expected, faults = names[0], []
        for file, found in zip(self.files[1:], names[1:], strict=True):
            lacks = [f"{name!r}{nearest(name, set(found) - set(expected))}" for name in expected if name not in found]
            more = [repr(name) for name in found if name not in expected]
            said = [f"lacks {few(lacks, _LISTED)}"] if lacks else []
            said += [f"has also {few(more, _LISTED)}"] if more else []
            faults += [f"{file.name}: {', '.join(said)}"] if said else []
        if faults:
            shown = few([repr(name) for name in expected], _LISTED)
            raise InputError(f"The files differ in their columns. {self.files[0].name} has {shown}", faults)

    def _common(self, schemas: list[pa.Schema]) -> pa.Schema:
        fields, faults = [], []
        for name in schemas[0].names:
            types = [schema.field(name).type for schema in schemas]
            kind = _common_type(types)
            fields.append((name, types[0] if kind is None else kind))
            if kind is None:
                each = (f"{file.name} {kind}" for file, kind in zip(self.files, types, strict=True))
                faults.append(f"{name!r}: {few(list(each), _LISTED)}")
        if faults:
            raise InputError("The files differ in the types of their columns", faults)
        return pa.schema(fields)


@contextmanager
def opened(source: Place) -> Iterator[SourceFiles]:
    """Yield the files of `source`. Temporary copies are removed at the end. Raises InputError as `listed` does."""
    paths = listed(source)
    with ExitStack() as stack:
        files = tuple(_file(path, stack) for path in paths)
        if _are_image_files(paths):
            folder = Path()
        else:
            folder = files[0].path if files[0].path.is_dir() else paths[0].absolute().parent
        yield SourceFiles(files, folder.absolute())


def listed(source: Place) -> list[Path]:
    """Return the files of `source`, sorted where a pattern names them. Standard input is `Path("-")`.

    Raises InputError with all faults: files that are missing or named twice, patterns that match nothing, and, among
    several files, folders and standard input.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    found: list[Path] = []
    faults: list[str] = []
    for each in given:
        path = Path(each).expanduser()
        if is_pattern(each):
            # unlike that of Path, it leaves hidden files out, as a shell does
            matching = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
            matching = [each for each in matching if each.is_file()]
            faults += [] if matching else [f"{each}: no file has such a name"]
            found += matching
        elif str(each) == STDIN:
            found.append(path)
        else:
            try:
                table_files.check_exists(path)
                found.append(path)
            except InputError as error:
                faults.append(error.message)
    if len(found) > 1:
        faults += [f"{path}: a folder, which can only be read alone" for path in found if path.is_dir()]
        faults += [f"{STDIN}: standard input, which can only be read alone"] if Path(STDIN) in found else []
        places = [path.resolve() for path in found]
        twice = dict.fromkeys(path for path in found if places.count(path.resolve()) > 1)
        faults += [f"{path}: named twice, so its rows would count twice" for path in twice]
    if faults:
        raise combined("The source cannot be read", faults)
    return found


def is_pattern(source: str | Path) -> bool:
    """Whether the text is a pattern such as `data/*.csv`, and not the name of a file that exists."""
    return not _PATTERN.isdisjoint(str(source)) and not Path(source).expanduser().exists()


def _are_image_files(paths: Sequence[Path]) -> bool:
    return all(path.name.lower().endswith(IMAGE_SUFFIXES) and not path.is_dir() for path in paths)


def _file(path: Path, stack: ExitStack) -> SourceFile:
    if str(path) == STDIN:
        return _standard_input(stack)
    if path.name.lower().endswith(".zip") and not path.is_dir():
        return _unpacked(SourceFile(path, str(path)), stack)
    return SourceFile(path, str(path))


def _standard_input(stack: ExitStack) -> SourceFile:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(f"{STDIN_NAME}: no data; send a table to the command, as in: COMMAND - < rows.csv")
    copy = Path(stack.enter_context(TemporaryDirectory(prefix="dle-"))) / "stdin"
    with copy.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    kind = _kind(copy)
    file_in = SourceFile(copy.rename(f"{copy}{kind}"), STDIN_NAME)
    return _unpacked(file_in, stack) if kind == ".zip" else file_in


def _kind(path: Path) -> str:
    """The suffix for the content of a file; text is taken for .csv, whose delimiter is detected."""
    with path.open("rb") as file:
        head = file.read(1024)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "xl/workbook.xml" in names:
            return ".xlsx"
        return ".npz" if all(name.endswith(".npy") for name in names) else ".zip"
    known = {b"PAR1": ".parquet", b"\x93NUMPY": ".npy", b"\x1f\x8b": ".csv.gz"}
    if kind := next((kind for mark, kind in known.items() if head.startswith(mark)), None):
        return kind
    text = _ENCODING.sub(b"", head)
    if _ARRAY.match(text):
        return ".json"
    return ".jsonl" if text.lstrip().startswith(b"{") else ".csv"


def _unpacked(file: SourceFile, stack: ExitStack) -> SourceFile:
    """The one file in a .zip file, as a copy. Raises InputError if there are several, or none."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir() and not _hidden(each.filename)]
            names = [each.filename for each in members]
            if len(members) != 1:
                more = [f"and {len(names) - _LISTED:,} more"] if len(names) > _LISTED else []
                raise InputError(
                    f"{file.name}: expected one file in it, found {len(names)}"
                    + ("; unpack it, and name the files" if names else ""),
                    [*names[:_LISTED], *more],
                )
            if members[0].flag_bits & 1:
                raise InputError(f"{file.name}: encrypted; unpack it, and name the file in it")
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="dle-")))
            copy = folder / PurePosixPath(names[0]).name
            with archive.open(members[0]) as content, copy.open("wb") as target:
                shutil.copyfileobj(content, target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise InputError(f"{file.name}: not readable as .zip: {error}") from error
    return SourceFile(copy, f"{names[0]} in {file.name}")


def _hidden(name: str) -> bool:
    """Whether a file in a .zip is one that macOS or Windows adds."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts) or name.endswith("Thumbs.db")


@contextmanager
def _called(file: SourceFile) -> Iterator[None]:
    """Let errors name the file as the user knows it, not its copy."""
    try:
        yield
    except InputError as error:
        place = str(file.path)
        if place == file.name:
            raise
        details = [line.replace(place, file.name) for line in error.details]
        raise InputError(error.message.replace(place, file.name), details) from None


def _first(path: Path, written: TextFormat, rows: int, proposing: bool) -> pa.Table:
    return next(table_files.stream(path, written, rows=rows, proposing=proposing))


def _common_type(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """The type that holds the values of all `types`: text if nothing else does, None for lists and the like."""
    distinct = list(dict.fromkeys(kind for kind in types if not pa.types.is_null(kind)))
    if len(distinct) <= 1:
        return distinct[0] if distinct else pa.null()
    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in distinct]
    try:
        return pa.unify_schemas([pa.schema([("values", kind)]) for kind in plain], promote_options="permissive").types[
            0
        ]
    except pa.ArrowException:
        empty = (pa.array([], kind) for kind in plain)
        scalar = all(columns.is_text(each) or columns.is_number(each) or columns.is_date(each) for each in empty)
        return pa.large_string() if scalar else None


def _in_types(table: pa.Table, schema: pa.Schema, file: SourceFile) -> pa.Table:
    cast = {}
    for field in schema:
        column = table.column(field.name)
        try:
            cast[field.name] = _cast(column, field.type)
        except pa.ArrowException as error:
            raise InputError(
                f"{file.name}: {field.name!r} holds {column.type}, which does not fit {field.type}, the type of this "
                f"column in the other files: {str(error).splitlines()[0]}"
            ) from error
    return pa.table(cast)


def _cast(column: Any, kind: pa.DataType) -> Any:
    if column.type == kind:
        return column
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_floating(plain.type) and columns.is_text(pa.array([], kind)):
        plain = pc.if_else(pc.is_nan(plain), None, plain)
    return plain.cast(kind)
