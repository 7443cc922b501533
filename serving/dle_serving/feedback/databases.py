"""The databases for feedback behind one interface: SQLite for one server, PostgreSQL for several.

Statements use `?` as the placeholder for values. Error messages never contain the URL, which may hold a password.
"""

import logging
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from dle_bundle import locks
from dle_bundle.errors import InputError, WorkError

log = logging.getLogger(__name__)
_WAIT_SECONDS = 5
"""Timeout for a lock, a connection and a statement."""
_LOCK = 0x646C65
"""Number of the PostgreSQL advisory lock that is held while tables are created."""


class StoreError(WorkError):
    """The store cannot be reached, or a statement failed."""


class ConnectionLost(StoreError):
    """The connection broke before the work was done; it may succeed on a new connection."""


class Database(Protocol):
    """One connection to a database. `Store` is its only user.

    Threads
    -------
    One thread at a time, except `abandon`, which any thread may call meanwhile.

    Failures
    --------
    Every method raises StoreError; ConnectionLost means that the same work may succeed on a new connection. After an
    error, call `close`, then `open`.
    """

    name: str

    def open(self) -> bool:
        """Connect unless connected; returns whether a new connection was made."""

    def close(self) -> None:
        """Close the connection."""

    def abandon(self) -> None:
        """Break the connection, so that the thread that waits for the database gets ConnectionLost."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run a statement and return its rows as tuples. Outside a transaction it commits by itself."""

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement once for each of these values and return all rows, in order."""

    def transaction(self, *, alone: bool = False) -> AbstractContextManager[None]:
        """Run the block as one transaction; with `alone`, wait until no other such block runs."""

    def has_table(self, name: str) -> bool: ...


class Sqlite:
    """A SQLite file. A commit returns when the data is on disk: the write-ahead log is synced at each commit."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file = 0

    def open(self) -> bool:
        """Connect; the file is created if it is missing, also when it disappears later."""
        if self._connection is not None:
            if self._is_there():
                return False
            log.error("%s was removed or replaced: its feedback is lost; continuing with the current file", self.name)
            self.close()
        with self._translated_errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            with locks.alone_in(self._path.parent):  # the switch to WAL fails instead of waiting
                self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._file = self._path.stat().st_ino
        return True

    def _is_there(self) -> bool:
        try:
            return self._path.stat().st_ino == self._file
        except OSError:
            return False

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Do nothing: waiting for a lock ends with the timeout, and waiting for the disk cannot be interrupted."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        assert self._connection is not None
        with self._translated_errors():
            return self._connection.execute(statement, values).fetchall()

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Any]:
        assert self._connection is not None
        with self._translated_errors():
            return [row for of_one in values for row in self._connection.execute(statement, of_one)]

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        """SQLite allows one writer at a time anyway, so `alone` makes no difference."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._connection is not None and self._connection.in_transaction:
                self.execute("ROLLBACK")
            raise

    def has_table(self, name: str) -> bool:
        return bool(self.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.name}: {error}") from error


class Postgres:
    """A PostgreSQL database."""

    def __init__(self, url: str) -> None:
        """Parse the URL; raises InputError when PostgreSQL's library cannot."""
        import psycopg  # imported here: servers with SQLite do not need it
        from psycopg.conninfo import conninfo_to_dict

        wrong = InputError(
            "DLE_FEEDBACK_STORE: expected a URL such as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special "
            "characters in the password percent-encoded"
        )
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:  # its message may contain the password
            raise wrong from None
        host = str(given.get("host", "localhost"))
        if "@" in host or not str(given.get("port", "0")).replace(",", "").isdigit():  # parts of a password
            raise wrong
        alive = {"keepalives_idle": _WAIT_SECONDS, "keepalives_interval": 1, "keepalives_count": _WAIT_SECONDS}
        own = {"connect_timeout": _WAIT_SECONDS, "tcp_user_timeout": _WAIT_SECONDS * 1000, **alive}
        self._arguments: dict[str, Any] = {"application_name": "dle", **own, **given, "client_encoding": "utf8"}
        self.name = f"PostgreSQL database {given.get('dbname', '')} on {host}"
        self._connection: psycopg.Connection[Any] | None = None
        self._socket: socket.socket | None = None
        """Duplicates the connection's descriptor; `abandon` cannot hit a later connection."""

    def open(self) -> bool:
        import psycopg

        if self._connection is not None:
            return False
        try:
            self._connection = psycopg.connect(**self._arguments, autocommit=True)
            self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
            self.execute(f"SET statement_timeout = '{_WAIT_SECONDS}s'")
        except psycopg.Error as error:
            raise StoreError(f"{self.name}: {error}") from error
        return True

    def close(self) -> None:
        connection, self._connection = self._connection, None
        own, self._socket = self._socket, None
        if own is not None:
            own.close()
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Shut down the socket: a server that accepts connections but does not respond would block for ever."""
        own = self._socket
        if own is not None:
            with suppress(OSError):  # already closed by either side
                own.shutdown(socket.SHUT_RDWR)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        assert self._connection is not None
        with self._translated_errors():
            cursor = self._connection.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Any]:
        """All statements are sent before the first result is read."""
        assert self._connection is not None
        rows: list[Any] = []
        if values:
            with self._translated_errors(), self._connection.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s").encode(), values, returning=True)
                more: bool | None = True
                while more:
                    rows += cursor.fetchall() if cursor.description else []
                    more = cursor.nextset()
        return rows

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        assert self._connection is not None
        with self._translated_errors(), self._connection.transaction():
            if alone:
                self.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield

    def has_table(self, name: str) -> bool:
        # to_regclass could use a snapshot from before the wait for the lock
        found = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = ?"
        return bool(self.execute(found, (name,)))

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.OperationalError as error:  # connection lost, server shutdown, deadlock or timeout
            raise ConnectionLost(f"{self.name}: {error}") from error
        except psycopg.Error as error:
            raise StoreError(f"{self.name}: {error}") from error


def database(url: str | None, home: Path) -> Database:
    """The database at `url`, or a SQLite file in `home` for None; raises InputError for an invalid URL."""
    return Sqlite(home / "feedback.sqlite3") if url is None else Postgres(url)
