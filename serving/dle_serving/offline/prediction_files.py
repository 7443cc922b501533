"""Writes predictions as delimited text or Parquet, and faults as CSV."""

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

import pyarrow as pa
import pyarrow.parquet

from dle_bundle.errors import Fault
from dle_bundle.files import atomic_path

PREDICTION_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet")


class TableWriter(Protocol):
    """Writes tables with the same columns, one after another."""

    def write(self, table: pa.Table) -> None: ...


@contextmanager
def fault_report(path: Path, *, named: bool) -> Iterator[Callable[[Iterable[Fault]], None]]:
    """A writer of faults to a CSV file, which appears when the block ends without an error.

    The columns are row, field, code and message, after the file if `named`.
    """
    columns = (*(("file",) if named else ()), "row", "field", "code", "message")
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield lambda faults: writer.writerows([getattr(fault, name) for name in columns] for fault in faults)


@contextmanager
def writer(path: Path, suffix: str) -> Iterator[TableWriter]:
    """A writer of tables to `path`, which appears when the block ends without an error.

    `suffix` is one of `PREDICTION_SUFFIXES`.
    """
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            parquet = _Parquet(temporary)
            try:
                yield parquet
            finally:
                parquet.close()
            return
        with temporary.open("wb") as raw, ExitStack() as stack:
            # without a time stamp or name inside, so that equal predictions give equal files
            binary = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0)) if suffix == ".csv.gz" else raw
            text = stack.enter_context(io.TextIOWrapper(cast(Any, binary), encoding="utf-8", newline=""))
            yield _Text(text, "\t" if suffix == ".tsv" else ",")


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Text:
    def __init__(self, file: TextIO, delimiter: str) -> None:
        self._writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._headed = False

    def write(self, table: pa.Table) -> None:
        if not self._headed:
            self._writer.writerow(table.column_names)
            self._headed = True
        # Arrow formats numbers as the shortest text that reads back to the same value
        texts = [column.cast(pa.large_string()).to_pylist() for column in table.columns]
        self._writer.writerows(zip(*texts, strict=True))
