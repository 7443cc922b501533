"""Stores feedback in a database and keeps a tally of it.

Table `feedback` has one row per item. Table `tally` sums items by server, model, minute, actual and predicted class;
minute 0 holds the totals. Each server tallies only the feedback that it accepted itself, so the tallies of servers that
share a database can be added up. Table `server` records the last minute in which each server accepted feedback.
"""

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from dle_bundle.errors import InputError
from dle_bundle.files import create_atomic
from dle_serving.feedback.databases import ConnectionLost, Database, StoreError, database

VERSION = 1
"""Version of the tables."""
CONFUSION_CLASSES = 20
"""Up to this many classes, the tally has a cell per pair of classes; with more, the cells would outnumber the items."""
DEADLINE_SECONDS = 10.0
"""Callers that have waited for this long call `Store.abandon`."""
_DAY_SECONDS = 24 * 3600
_SILENT_DAYS = 90
"""After this many days without feedback, the tally of a server is deleted: most such servers never return."""
_TABLES = (
    """CREATE TABLE feedback (
        id TEXT PRIMARY KEY, server TEXT NOT NULL, model TEXT NOT NULL, version BIGINT NOT NULL,
        fingerprint TEXT NOT NULL, predicted TEXT NOT NULL, actual TEXT NOT NULL, answer DOUBLE PRECISION NOT NULL,
        error DOUBLE PRECISION, predicted_at BIGINT NOT NULL, received_at BIGINT NOT NULL
    )""",
    """CREATE TABLE tally (
        server TEXT, fingerprint TEXT, minute BIGINT, actual TEXT, predicted TEXT,
        count BIGINT NOT NULL, absolute DOUBLE PRECISION NOT NULL, squared DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (server, fingerprint, minute, actual, predicted)
    )""",
    "CREATE TABLE server (id TEXT PRIMARY KEY, seen BIGINT NOT NULL)",
    "CREATE TABLE feedback_store (version BIGINT NOT NULL)",
    f"INSERT INTO feedback_store VALUES ({VERSION})",
)
_KEEP = f"INSERT INTO feedback VALUES ({', '.join('?' * 11)}) ON CONFLICT (id) DO NOTHING RETURNING id"
_KNOWN = "SELECT id, actual FROM feedback WHERE id = ?"
_ADD = (
    f"INSERT INTO tally VALUES ({', '.join('?' * 8)}) ON CONFLICT (server, fingerprint, minute, actual, predicted) "
    "DO UPDATE SET count = tally.count + excluded.count, absolute = tally.absolute + excluded.absolute, "
    "squared = tally.squared + excluded.squared"
)
_SEEN = "INSERT INTO server VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen"
Result = TypeVar("Result")


class NewerStore(StoreError):
    """The tables have a newer version than this release supports."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """One verified item, ready to be stored.

    `id`: the prediction id, 48 characters. `predicted`, `actual`: class names; for a regression `""` and the shortest
    text of the value. `answer`: confidence, or predicted value. `error`: for a regression, actual − predicted value.
    `counted_as`: the predicted class in the tally, which may stand for several classes. `counted_error`: the error in
    the tally, limited so that a single absurd value cannot drown all later ones.
    """

    id: str
    model: str
    version: int
    fingerprint: str
    predicted: str
    actual: str
    answer: float
    error: float | None
    predicted_at: int
    counted_as: str
    counted_error: float = 0.0


class Outcome(Enum):
    """The outcome of one item."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the tally: the count, Σ|error| and Σ error² of a pair of classes (`""` for a regression)."""

    actual: str
    predicted: str
    count: int
    absolute: float
    squared: float


def counted_as(actual: str, predicted: str, classes: Sequence[str]) -> str:
    """The predicted class in the tally: itself, or with many classes one name for all wrong predictions."""
    return predicted if actual == predicted or len(classes) <= CONFUSION_CLASSES else _rest(classes)


def tally_cells(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair (actual, predicted) that the tally of a classifier can contain."""
    if len(classes) <= CONFUSION_CLASSES:
        return [(actual, predicted) for actual in classes for predicted in classes]
    return [(actual, predicted) for actual in classes for predicted in (actual, _rest(classes))]


def _rest(classes: Sequence[str]) -> str:
    name = "other"
    while name in classes:
        name += " class"
    return name


class Store:
    """Stores and tallies feedback.

    Transactions
    ------------
    `add` stores all its items and their tally in one transaction, so a count exists if and only if its feedback is
    committed. When `add` returns, the transaction is committed and, with SQLite, on disk.

    Threads
    -------
    Every method is safe in any thread; calls wait for each other. `abandon` and `close` do not wait.

    Failures
    --------
    Every method raises StoreError, or NewerStore when a newer release created the tables. After a lost connection the
    same work is tried once more on a new connection; what had been committed is then found as a duplicate. After an
    error nothing is stored, or all of it, and the next call reconnects.
    """

    def __init__(self, database: Database, server: str) -> None:
        self._database = database
        self._server = server
        self._lock = threading.Lock()
        self._swept = 0

    def check(self) -> None:
        """Connect, and create the tables if they are missing."""
        self._run(lambda: None)

    def add(self, items: Sequence[FeedbackRecord], now: float) -> list[Outcome]:
        """Store the items and return the outcome of each; `now` is in seconds since 1970.

        An id that already has feedback is a duplicate, or a conflict when the actual value differs; the first feedback
        is kept.
        """
        return self._run(lambda: self._add(items, int(now))) if items else []

    def tally(self, fingerprint: str, since_minute: int | None) -> list[Cell]:
        """The cells of a model, for the feedback that this server has accepted.

        In total (None), or since a minute, which is counted from 1970 and at most a day ago.
        """
        chosen = "minute = 0" if since_minute is None else f"minute > 0 AND minute >= {since_minute:d}"
        statement = (
            "SELECT actual, predicted, CAST(SUM(count) AS BIGINT), SUM(absolute), SUM(squared) FROM tally "
            f"WHERE server = ? AND fingerprint = ? AND {chosen} GROUP BY actual, predicted ORDER BY actual, predicted"
        )
        rows = self._run(lambda: self._database.execute(statement, (self._server, fingerprint)))
        return [Cell(*row) for row in rows]

    def close(self) -> None:
        """Disconnect, or abandon the call in progress; the next call reconnects."""
        if self._lock.acquire(blocking=False):
            self._database.close()
            self._lock.release()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Break the connection of the call in progress, for a database that accepts connections but does not respond.

        The call is then tried once more on a new connection; abandon it again if that takes too long as well.
        """
        self._database.abandon()

    def _run(self, work: Callable[[], Result]) -> Result:
        with self._lock:
            try:
                return self._attempt(work)
            except ConnectionLost:  # for instance after a restart of the database
                return self._attempt(work)

    def _attempt(self, work: Callable[[], Result]) -> Result:
        try:
            if self._database.open():
                self._make_tables()
            return work()
        except BaseException:
            self._database.close()
            raise

    def _make_tables(self) -> None:
        database = self._database
        if not database.has_table("feedback_store"):
            with database.transaction(alone=True):
                if not database.has_table("feedback_store"):  # another server may have been faster
                    for statement in _TABLES:
                        database.execute(statement)
        ((version,),) = database.execute("SELECT version FROM feedback_store")
        if version > VERSION:
            raise NewerStore(
                f"{database.name}: the feedback tables have version {version}, made by a newer release; this release "
                f"supports version {VERSION}"
            )

    def _add(self, items: Sequence[FeedbackRecord], now: int) -> list[Outcome]:
        first: dict[str, FeedbackRecord] = {}
        for item in items:
            first.setdefault(item.id, item)
        # sorted, so that two transactions cannot deadlock
        ordered = [first[id_] for id_ in sorted(first)]
        minute = now // 60
        with self._database.transaction():
            if minute != self._swept:
                self._sweep(now)
            rows = [_row(item, self._server, now) for item in ordered]
            new = {id_ for (id_,) in self._database.execute_many(_KEEP, rows)}
            known = [(item.id,) for item in ordered if item.id not in new]
            actuals: dict[str, str] = dict(self._database.execute_many(_KNOWN, known))
            self._count([item for item in ordered if item.id in new], minute)
        self._swept = minute
        outcomes = []
        for item in items:
            if item.id in new:
                new.remove(item.id)
                actuals[item.id] = item.actual
                outcomes.append(Outcome.ACCEPTED)
            else:
                outcomes.append(Outcome.DUPLICATE if item.actual == actuals[item.id] else Outcome.CONFLICT)
        return outcomes

    def _count(self, items: Iterable[FeedbackRecord], minute: int) -> None:
        sums: dict[tuple[str, str, str], tuple[int, float, float]] = {}
        for item in items:
            cell = (item.fingerprint, *(("", "") if item.error is not None else (item.actual, item.counted_as)))
            count, absolute, squared = sums.get(cell, (0, 0.0, 0.0))
            error = item.counted_error
            sums[cell] = (count + 1, absolute + abs(error), squared + error * error)
        rows = [
            (self._server, fingerprint, when, actual, predicted, *sums[fingerprint, actual, predicted])
            for when in (0, minute)
            for fingerprint, actual, predicted in sorted(sums)
        ]
        self._database.execute_many(_ADD, rows)

    def _sweep(self, now: int) -> None:
        """Delete tallies that are no longer read, also those of servers that have not returned for long."""
        database = self._database
        # first, so that another server does not delete the tally of one that has just returned
        database.execute(_SEEN, (self._server, now))
        gone = database.execute("DELETE FROM server WHERE seen < ? RETURNING id", (now - _SILENT_DAYS * _DAY_SECONDS,))
        database.execute_many("DELETE FROM tally WHERE server = ?", gone)
        database.execute("DELETE FROM tally WHERE minute > 0 AND minute < ?", ((now - _DAY_SECONDS) // 60,))


def open_store(url: str | None, home: Path) -> Store:
    """The store at `url` (None: in `home`), not yet connected; raises InputError for an invalid URL or server id."""
    return Store(database(url, home), _server_id(home / "server.id"))


def _server_id(path: Path) -> str:
    """The id of the server that owns the directory, created at its first start; raises InputError if it is no id."""
    if not path.exists():
        create_atomic(path, secrets.token_hex(8) + "\n")
    found = path.read_text(errors="replace").strip()
    if not re.fullmatch("[0-9a-f]{16}", found):
        raise InputError(
            f"{path}: expected the server's id, 16 hexadecimal digits, found {found[:20]!r}: restore the file, or "
            "delete it, and the server continues as a new one beside its earlier feedback"
        )
    return found


def _row(item: FeedbackRecord, server: str, now: int) -> tuple[Any, ...]:
    described = (item.id, server, item.model, item.version, item.fingerprint)
    return (*described, item.predicted, item.actual, item.answer, item.error, item.predicted_at, now)
