"""The databases that feedback is kept in, behind one small face: SQLite beside the server, PostgreSQL for several.

Statements are written with `?` for values. Errors never hold a URL, for URLs hold passwords.
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
"""So long one waits for a lock that another holds, for a connection, and for a statement."""
_LOCK = 0x646C65
"""PostgreSQL's advisory lock of whoever makes the tables."""


class StoreError(WorkError):
    """The store cannot be reached, or does not do what is asked."""


class ConnectionLost(StoreError):
    """What was begun did not end; on a new connection it may."""


class Database(Protocol):
    """One connection, for one thread at a time. All methods raise StoreError; `close` and `open` go on from there."""

    name: str

    def open(self) -> bool:
        """Connect, unless connected; whether it did."""

    def close(self) -> None:
        """Give the connection up."""

    def abandon(self) -> None:
        """Break the connection, from any thread, so that whoever waits for an answer gets ConnectionLost."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a statement gives, as tuples. Outside of a transaction it is one of its own."""

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Any]:
        """The rows that a statement gives for each of these values in turn."""

    def transaction(self, *, alone: bool = False) -> AbstractContextManager[None]:
        """All of the block or nothing; with `alone`, no other such block runs meanwhile."""

    def has_table(self, name: str) -> bool: ...


class Sqlite:
    """A file. What is committed has reached the disk: the write-ahead log is synchronised at every commit."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file = 0

    def open(self) -> bool:
        """Connect, and make the file where there is none, which may be a later one."""
        if self._connection is not None:
            if self._is_there():
                return False
            log.error(
                "%s is gone or was replaced, and with it the feedback in it; going on with what is there", self.name
            )
            self.close()
        with self._told():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            with locks.alone_in(self._path.parent):  # the first change to WAL waits for nobody, it fails
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
        """Nothing: whoever waits here waits for a lock, which has an end, or for the disk, which nobody can break."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        assert self._connection is not None
        with self._told():
            return self._connection.execute(statement, values).fetchall()

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Any]:
        assert self._connection is not None
        with self._told():
            return [row for of_one in values for row in self._connection.execute(statement, of_one)]

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        """Writers take turns in any case, so `alone` changes nothing."""
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
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.name}: {error}") from error


class Postgres:
    """A database of PostgreSQL, by URL."""

    def __init__(self, url: str) -> None:
        """Raises InputError for a URL that PostgreSQL's library does not read."""
        import psycopg  # where it is used: servers with SQLite need none of it
        from psycopg.conninfo import conninfo_to_dict

        wrong = InputError(
            "DLE_FEEDBACK_STORE: expected a URL as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with the signs of a "
            "password that mean something in a URL written as % and their code"
        )
        try:
            said = conninfo_to_dict(url)
        except psycopg.Error:  # its text may quote the password
            raise wrong from None
        host = str(said.get("host", "localhost"))
        if "@" in host or not str(said.get("port", "0")).replace(",", "").isdigit():  # pieces of a password
            raise wrong
        alive = {"keepalives_idle": _WAIT_SECONDS, "keepalives_interval": 1, "keepalives_count": _WAIT_SECONDS}
        own = {"connect_timeout": _WAIT_SECONDS, "tcp_user_timeout": _WAIT_SECONDS * 1000, **alive}
        self._arguments: dict[str, Any] = {"application_name": "dle", **own, **said, "client_encoding": "utf8"}
        self.name = f"PostgreSQL database {said.get('dbname', '')} on {host}"
        self._connection: psycopg.Connection[Any] | None = None
        self._socket: socket.socket | None = None
        """The connection's, by a number of its own, so that breaking it can never hit another that came after."""

    def open(self) -> bool:
        """Connect, unless connected."""
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
        """Shut the socket down: a server that is there but silent is waited for without end otherwise."""
        own = self._socket
        if own is not None:
            with suppress(OSError):  # closed meanwhile, by either side
                own.shutdown(socket.SHUT_RDWR)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        assert self._connection is not None
        with self._told():
            cursor = self._connection.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else []

    def execute_many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Any]:
        """All are sent before the first answer is waited for."""
        assert self._connection is not None
        rows: list[Any] = []
        if values:
            with self._told(), self._connection.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s").encode(), values, returning=True)
                more: bool | None = True
                while more:
                    rows += cursor.fetchall() if cursor.description else []
                    more = cursor.nextset()
        return rows

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        """All of the block or nothing."""
        assert self._connection is not None
        with self._told(), self._connection.transaction():
            if alone:
                self.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield

    def has_table(self, name: str) -> bool:
        # not to_regclass, which may answer from before one waited for the lock
        found = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = ?"
        return bool(self.execute(found, (name,)))

    @contextmanager
    def _told(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.OperationalError as error:  # lost, ended by the server, in a deadlock, too slow
            raise ConnectionLost(f"{self.name}: {error}") from error
        except psycopg.Error as error:
            raise StoreError(f"{self.name}: {error}") from error


def database(url: str | None, home: Path) -> Database:
    """The one that `url` names; None: a file in `home`. Raises InputError for a URL that names none."""
    return Sqlite(home / "feedback.sqlite3") if url is None else Postgres(url)
