"""Where feedback is kept, and counted in the same transaction: a count exists exactly when its feedback is committed.

Every item is a row of `feedback`. `tally` sums them by server, model, minute, class and predicted class; minute 0 is
ever. Each server counts what it has accepted itself, so that servers that share a database can be summed; `server`
tells when each of them last accepted something, to the minute.
"""

import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from dle_bundle.files import create_atomic
from dle_serving.feedback.databases import ConnectionLost, Database, StoreError, database

VERSION = 1
"""Of the tables."""
CONFUSION_CLASSES = 20
"""Up to so many classes are counted pair by pair: beyond, the pairs would outnumber the feedback."""
DEADLINE_SECONDS = 10.0
"""Whoever waits in vain for so long abandons the store."""
_DAY_SECONDS = 24 * 3600
_SILENT_DAYS = 90
"""The tally of a server that has accepted nothing for so long goes: most such servers never come back."""
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
    """The tables are of a later version than this one knows."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """One verified item, ready to be kept.

    `id`: the prediction's, 48 characters. `predicted`, `actual`: names of classes; of a regression `""` and the
    value's shortest text. `answer`: confidence, or predicted value. `error`: of a regression, actual − predicted value.
    `counted_as`: the predicted class in the tally, where it may be one name for many classes. `counted_error`: the
    error in the tally, where one beyond all measure would swallow all that are added later.
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
    """What became of one item."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Cell:
    """Feedback of one actual and one predicted class (both `""` for a regression): how many, Σ|error|, Σ error²."""

    actual: str
    predicted: str
    count: int
    absolute: float
    squared: float


def counted_as(actual: str, predicted: str, classes: Sequence[str]) -> str:
    """The predicted class in the tally: the class itself, or one name for all that are wrong where there are many."""
    return predicted if actual == predicted or len(classes) <= CONFUSION_CLASSES else _rest(classes)


def tally_cells(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Every (actual, predicted) that a classifier's tally can have."""
    if len(classes) <= CONFUSION_CLASSES:
        return [(actual, predicted) for actual in classes for predicted in classes]
    return [(actual, predicted) for actual in classes for predicted in (actual, _rest(classes))]


def _rest(classes: Sequence[str]) -> str:
    name = "other"
    while name in classes:
        name += " class"
    return name


class Store:
    """Keeps and counts feedback. Safe in any thread; one works at a time."""

    def __init__(self, database: Database, server: str) -> None:
        self._database = database
        self._server = server
        self._lock = threading.Lock()
        self._swept = 0

    def check(self) -> None:
        """Connect and make the tables; raises StoreError, and of these NewerStore."""
        self._run(lambda: None)

    def add(self, items: Sequence[FeedbackRecord], now: float) -> list[Outcome]:
        """Keep the items, all or none, in one transaction that is committed when this returns; raises StoreError.

        An id that is known already is a duplicate, or a conflict when its actual value is another: the first wins.
        """
        return self._run(lambda: self._add(items, int(now))) if items else []

    def tally(self, fingerprint: str, since_minute: int | None) -> list[Cell]:
        """What this server has accepted for a model, ever or since a minute since 1970 (at most a day ago).

        Raises StoreError.
        """
        chosen = "minute = 0" if since_minute is None else f"minute > 0 AND minute >= {since_minute:d}"
        statement = (
            "SELECT actual, predicted, CAST(SUM(count) AS BIGINT), SUM(absolute), SUM(squared) FROM tally "
            f"WHERE server = ? AND fingerprint = ? AND {chosen} GROUP BY actual, predicted ORDER BY actual, predicted"
        )
        rows = self._run(lambda: self._database.execute(statement, (self._server, fingerprint)))
        return [Cell(*row) for row in rows]

    def close(self) -> None:
        """Disconnect, or abandon what is under way; the next call connects again."""
        if self._lock.acquire(blocking=False):
            self._database.close()
            self._lock.release()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Break the connection under whoever works with it: a database that is there but silent would hold it for ever.

        What was begun is begun once more, on a new connection: abandon it again if that takes too long as well.
        """
        self._database.abandon()

    def _run(self, work: Callable[[], Result]) -> Result:
        with self._lock:
            try:
                return self._attempt(work)
            except ConnectionLost:  # as when the database was restarted; what was committed is found as a duplicate
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
                if not database.has_table("feedback_store"):  # another may have been first
                    for statement in _TABLES:
                        database.execute(statement)
        ((version,),) = database.execute("SELECT version FROM feedback_store")
        if version > VERSION:
            raise NewerStore(
                f"{database.name}: its tables are of version {version}, made by a newer release; this one knows "
                f"version {VERSION}"
            )

    def _add(self, items: Sequence[FeedbackRecord], now: int) -> list[Outcome]:
        first: dict[str, FeedbackRecord] = {}
        for item in items:
            first.setdefault(item.id, item)
        # in order, so that no two transactions wait for each other
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
        """Drop tallies that nobody reads any more, those of other servers too, for some never come back."""
        database = self._database
        # first of all, so that a server which does come back is not swept by another meanwhile
        database.execute(_SEEN, (self._server, now))
        gone = database.execute("DELETE FROM server WHERE seen < ? RETURNING id", (now - _SILENT_DAYS * _DAY_SECONDS,))
        database.execute_many("DELETE FROM tally WHERE server = ?", gone)
        database.execute("DELETE FROM tally WHERE minute > 0 AND minute < ?", ((now - _DAY_SECONDS) // 60,))


def open_store(url: str | None, home: Path) -> Store:
    """The store at `url`, or in the server's directory; nothing is connected yet. Raises InputError for a wrong URL."""
    return Store(database(url, home), _server_id(home / "server.id"))


def _server_id(path: Path) -> str:
    """The name of the server whose directory it is, made at its first start."""
    if not path.exists():
        create_atomic(path, secrets.token_hex(8) + "\n")
    return path.read_text().strip()


def _row(item: FeedbackRecord, server: str, now: int) -> tuple[Any, ...]:
    described = (item.id, server, item.model, item.version, item.fingerprint)
    return (*described, item.predicted, item.actual, item.answer, item.error, item.predicted_at, now)
