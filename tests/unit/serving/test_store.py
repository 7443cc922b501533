"""The stores of feedback: one suite that both databases go through, and what is each one's own."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import bundles, postgres
from tests.inprocess import InProcess, assert_is_error
from tests.postgres import PASSWORD, Postgres

from dle_bundle.errors import InputError
from dle_serving.feedback import databases, group_commit
from dle_serving.feedback.databases import Database, Sqlite, StoreError
from dle_serving.feedback.store import (
    Cell,
    FeedbackRecord,
    NewerStore,
    Outcome,
    Store,
    counted_as,
    open_store,
    tally_cells,
)
from dle_serving.settings import ServerSettings

ACCEPTED, DUPLICATE, CONFLICT = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.CONFLICT
NOW = 1_800_000_000
MINUTE = NOW // 60
PRINT = "0a0b0c0d"
Opened = Callable[..., Store]
DEADLINE = 20.0


def given_back(id_: str, actual: str = "a", predicted: str = "a", *, print_: str = PRINT) -> FeedbackRecord:
    return FeedbackRecord(id_, "income", 1, print_, predicted, actual, 0.75, None, NOW - 60, predicted)


def measured(id_: str, error: float) -> FeedbackRecord:
    return FeedbackRecord(id_, "price", 2, PRINT, "", repr(1.5 + error), 1.5, error, NOW - 60, "", error)


def rows(database: Database, statement: str) -> list[Any]:
    database.open()
    try:
        return database.execute(statement)
    finally:
        database.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def url(server: Postgres) -> str:
    return server.create()


class TestStore:
    """What every store does."""

    @pytest.fixture(params=["sqlite", "postgresql"])
    def database(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Database]:
        """Another connection to one place."""
        chosen = None if request.param == "sqlite" else request.getfixturevalue("url")
        return lambda: databases.database(chosen, tmp_path)

    @pytest.fixture
    def opened(self, database: Callable[[], Database]) -> Iterator[Opened]:
        """Stores at one place, of one server or another."""
        stores: list[Store] = []

        def open_(server: str = "s") -> Store:
            stores.append(Store(database(), server))
            return stores[-1]

        yield open_
        for store in stores:
            store.close()

    def test_the_first_wins(self, opened: Opened, database: Callable[[], Database]) -> None:
        store = opened()
        assert store.add([given_back("1"), given_back("2", "b")], NOW) == [ACCEPTED, ACCEPTED]
        again = [given_back("2", "b"), given_back("3"), given_back("1", "b"), given_back("1")]
        assert opened().add(again, NOW + 1) == [DUPLICATE, ACCEPTED, CONFLICT, DUPLICATE]
        kept = rows(database(), "SELECT id, actual, received_at FROM feedback ORDER BY id")
        assert kept == [("1", "a", NOW), ("2", "b", NOW), ("3", "a", NOW + 1)]
        assert store.tally(PRINT, None) == [Cell("a", "a", 2, 0, 0), Cell("b", "a", 1, 0, 0)]

    def test_the_first_wins_within_one_batch(self, opened: Opened) -> None:
        batch = [given_back("1", "b"), given_back("1"), given_back("0"), given_back("1", "b"), given_back("0")]
        store = opened()
        assert store.add(batch, NOW) == [ACCEPTED, CONFLICT, ACCEPTED, DUPLICATE, DUPLICATE]
        assert store.tally(PRINT, None) == [Cell("a", "a", 1, 0, 0), Cell("b", "a", 1, 0, 0)]
        assert store.add([], NOW) == []

    def test_everything_of_an_item_is_kept(self, opened: Opened, database: Callable[[], Database]) -> None:
        opened("host").add([given_back("x", "a'\"; --%s ?", "ü"), measured("y", -0.5)], NOW + 0.9)
        assert rows(database(), "SELECT * FROM feedback ORDER BY id") == [
            ("x", "host", "income", 1, PRINT, "ü", "a'\"; --%s ?", 0.75, None, NOW - 60, NOW),
            ("y", "host", "price", 2, PRINT, "", "1.0", 1.5, -0.5, NOW - 60, NOW),
        ]

    def test_errors_of_a_regression_are_summed(self, opened: Opened) -> None:
        store = opened()
        store.add([measured("1", -2.0), measured("2", 0.5)], NOW)
        store.add([replace(measured("3", 1e38), counted_error=4.0), measured("1", -2.0)], NOW)
        (cell,) = store.tally(PRINT, None)
        assert (cell.actual, cell.predicted, cell.count) == ("", "", 3)
        assert cell.absolute == pytest.approx(6.5)
        assert cell.squared == pytest.approx(20.25)

    def test_minutes_are_told_apart_for_a_day_and_the_whole_for_ever(self, opened: Opened) -> None:
        store = opened()
        store.add([given_back("1")], NOW)
        store.add([given_back("2")], NOW + 60)
        store.add([given_back("3", "b")], NOW + 120)
        assert store.tally(PRINT, MINUTE + 1) == [Cell("a", "a", 1, 0, 0), Cell("b", "a", 1, 0, 0)]
        assert store.tally(PRINT, MINUTE + 3) == []
        assert store.tally("ffffffff", None) == []
        opened("other").add([given_back("4")], NOW + 86_400 + 60)
        assert store.tally(PRINT, 1) == [Cell("a", "a", 1, 0, 0), Cell("b", "a", 1, 0, 0)]  # the first has gone
        assert store.tally(PRINT, None) == [Cell("a", "a", 2, 0, 0), Cell("b", "a", 1, 0, 0)]

    def test_sums_of_a_server_that_is_gone_go_after_90_days(
        self, opened: Opened, database: Callable[[], Database]
    ) -> None:
        gone, silent, here, day = opened("gone"), opened("silent"), opened("here"), 86_400
        gone.add([given_back("1")], NOW)
        silent.add([given_back("2")], NOW)
        silent.add([given_back("3")], NOW + 5 * day)
        for number, after in enumerate((0, 50, 90, 91)):
            assert len(gone.tally(PRINT, None)) == 1
            here.add([given_back(f"4{number}")], NOW + after * day)
        assert gone.tally(PRINT, None) == []
        assert silent.tally(PRINT, None) == [Cell("a", "a", 2, 0, 0)]
        assert here.tally(PRINT, None) == [Cell("a", "a", 4, 0, 0)]
        assert rows(database(), "SELECT id FROM server ORDER BY id") == [("here",), ("silent",)]
        assert rows(database(), "SELECT COUNT(*) FROM feedback") == [(7,)]
        assert gone.add([given_back("5"), given_back("1")], NOW + 91 * day) == [ACCEPTED, DUPLICATE]
        assert gone.tally(PRINT, None) == [Cell("a", "a", 1, 0, 0)]

    def test_a_sweep_that_failed_is_made_again(self, opened: Opened, database: Callable[[], Database]) -> None:
        store, wrong = opened(), replace(given_back("2"), model=None)  # type: ignore[arg-type]
        with pytest.raises(StoreError):
            store.add([wrong], NOW)
        store.add([given_back("1")], NOW)
        assert rows(database(), "SELECT id, seen FROM server") == [("s", NOW)]

    def test_servers_count_apart_and_share_what_they_know(self, opened: Opened) -> None:
        first, second = opened("one"), opened("two")
        assert first.add([given_back("1"), given_back("2")], NOW) == [ACCEPTED, ACCEPTED]
        assert second.add([given_back("2"), given_back("3"), given_back("1", "b")], NOW) == [
            DUPLICATE,
            ACCEPTED,
            CONFLICT,
        ]
        assert first.tally(PRINT, None) == [Cell("a", "a", 2, 0, 0)]
        assert second.tally(PRINT, None) == [Cell("a", "a", 1, 0, 0)]

    def test_a_large_batch(self, opened: Opened) -> None:
        batch = [given_back(f"{index:05}", "ab"[index % 2], print_=PRINT) for index in range(2_345)]
        store = opened()
        assert set(store.add(batch, NOW)) == {ACCEPTED}
        assert set(store.add(batch[::-1], NOW)) == {DUPLICATE}
        assert [cell.count for cell in store.tally(PRINT, None)] == [1_173, 1_172]

    def test_many_at_once_neither_wait_for_each_other_for_ever_nor_count_twice(self, opened: Opened) -> None:
        stores = [opened("one"), opened("one"), opened("two"), opened("two")]
        rng = np.random.default_rng(0)
        batches = [[str(number) for number in rng.permutation(300)[:200]] for _ in range(40)]

        def add(index: int) -> int:
            outcomes = stores[index % 4].add([given_back(id_) for id_ in batches[index]], NOW)
            return outcomes.count(ACCEPTED)

        with ThreadPoolExecutor(8) as threads:
            accepted = sum(threads.map(add, range(40)))
        different = len({id_ for batch in batches for id_ in batch})
        counted = [sum(cell.count for cell in store.tally(PRINT, None)) for store in stores]
        assert accepted == different == counted[0] + counted[2]
        assert counted[0::2] == counted[1::2]

    def test_several_may_make_it_at_once(self, opened: Opened) -> None:
        stores = [opened() for _ in range(6)]
        together = threading.Barrier(len(stores))

        def add(store: Store) -> list[Outcome]:
            together.wait()
            return store.add([given_back("1")], NOW)

        with ThreadPoolExecutor(len(stores)) as threads:
            outcomes = [outcome for found in threads.map(add, stores) for outcome in found]
        assert sorted(outcomes, key=lambda outcome: outcome.value) == [ACCEPTED] + [DUPLICATE] * 5

    def test_all_or_nothing(self, opened: Opened) -> None:
        store = opened()
        wrong = FeedbackRecord("2", None, 1, PRINT, "a", "a", 1.0, None, NOW, "a")  # type: ignore[arg-type]
        with pytest.raises(StoreError, match=r"null|NULL"):
            store.add([given_back("1"), wrong], NOW)
        assert store.tally(PRINT, None) == []
        assert store.add([given_back("1")], NOW) == [ACCEPTED]

    def test_it_connects_again_after_it_was_closed(self, opened: Opened) -> None:
        store = opened()
        store.add([given_back("1")], NOW)
        store.close()
        store.close()
        assert store.add([given_back("1")], NOW) == [DUPLICATE]

    def test_one_of_a_newer_release_is_refused_by_name(self, opened: Opened, database: Callable[[], Database]) -> None:
        opened().check()
        rows(database(), "UPDATE feedback_store SET version = 7 RETURNING version")
        with pytest.raises(NewerStore, match=r"version 7.*newer release.*version 1") as caught:
            opened().check()
        assert caught.value.exit_code == 2
        with pytest.raises(StoreError, match="newer"):
            opened().add([given_back("1")], NOW)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("123456"), st.sampled_from("ab"), st.sampled_from("ab")), max_size=8),
        max_size=6,
    )
)
def test_any_history_is_as_if_one_kept_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[tuple[str, str, str]]]
) -> None:
    store = Store(Sqlite(tmp_path_factory.mktemp("store") / "feedback.sqlite3"), "s")
    known: dict[str, tuple[str, str]] = {}
    for batch in history:
        expected = []
        for id_, actual, predicted in batch:
            outcome = ACCEPTED if id_ not in known else DUPLICATE if known[id_][0] == actual else CONFLICT
            known.setdefault(id_, (actual, predicted))
            expected.append(outcome)
        assert store.add([given_back(*item) for item in batch], NOW) == expected
    pairs = sorted(set(known.values()))
    counts = [Cell(*pair, sum(kept == pair for kept in known.values()), 0, 0) for pair in pairs]
    assert store.tally(PRINT, None) == store.tally(PRINT, MINUTE) == counts
    store.close()


def test_the_file_is_private_and_its_log_reaches_the_disk(tmp_path: Path) -> None:
    store = open_store(None, tmp_path)
    store.add([given_back("1")], NOW)
    assert (tmp_path / "feedback.sqlite3").stat().st_mode & 0o777 == 0o600
    database = Sqlite(tmp_path / "feedback.sqlite3")
    assert rows(database, "PRAGMA journal_mode") == [("wal",)]
    assert rows(database, "PRAGMA synchronous") == [(2,)]
    store.close()


def test_a_server_keeps_its_name(tmp_path: Path) -> None:
    for _ in range(2):
        store = open_store(None, tmp_path)
        store.add([given_back("1")], NOW)
        assert store.tally(PRINT, None) == [Cell("a", "a", 1, 0, 0)]
        store.close()


def test_a_locked_file_is_an_error_and_later_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_WAIT_SECONDS", 0.1)
    store = open_store(None, tmp_path)
    store.check()
    other = sqlite3.connect(tmp_path / "feedback.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        store.add([given_back("1")], NOW)
    other.close()
    assert store.add([given_back("1")], NOW) == [ACCEPTED]
    store.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "feedback.sqlite3").write_text("name,age\n" * 200)
    store = open_store(None, tmp_path)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            store.check()


def test_postgresql_may_be_restarted_or_be_away(url: str, tmp_path: Path, server: Postgres) -> None:
    store = open_store(url, tmp_path)
    assert store.add([given_back("1")], NOW) == [ACCEPTED]
    server.stop()
    server.start()
    assert store.add([given_back("1"), given_back("2")], NOW) == [DUPLICATE, ACCEPTED]
    server.stop()
    try:
        with pytest.raises(StoreError) as caught:
            store.add([given_back("3")], NOW)
        assert "on 127.0.0.1" in str(caught.value)
        assert PASSWORD not in str(caught.value)
    finally:
        server.start()
    assert store.add([given_back("3")], NOW) == [ACCEPTED]
    store.close()


def test_postgresql_that_says_nothing_is_given_up(
    url: str, tmp_path: Path, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_WAIT_SECONDS", 2)  # the least that PostgreSQL's own client takes
    store = open_store(url, tmp_path)
    assert store.add([given_back("1")], NOW) == [ACCEPTED]
    asked, transaction = threading.Event(), databases.Postgres.transaction

    def asking(database: databases.Postgres, **options: bool) -> AbstractContextManager[None]:
        asked.set()
        return transaction(database, **options)

    monkeypatch.setattr(databases.Postgres, "transaction", asking)
    with server.silent(), ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(store.add, [given_back("2")], NOW)
        assert asked.wait(DEADLINE)
        assert not waiting.done()
        store.close()  # waits for nobody
        with pytest.raises(StoreError, match=r"on 127\.0\.0\.1"):
            waiting.result(DEADLINE)
    assert store.add([given_back(id_) for id_ in "12"], NOW) == [DUPLICATE, ACCEPTED]
    assert sum(cell.count for cell in store.tally(PRINT, None)) == 2
    store.close()


def test_a_service_whose_database_is_silent_refuses_feedback_and_goes_on(
    url: str, tmp_path: Path, server: Postgres, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_WAIT_SECONDS", 2)
    service = InProcess(ServerSettings(bundles=(many / "a",), home=tmp_path, feedback_store=url))
    row = dict(bundles.EXAMPLE)
    ids = [each["id"] for each in service.post("/predict", json={"rows": [row] * 4}).json()["predictions"]]
    gifts: list[tuple[str, dict[str, Any]]] = [
        ("/feedback", {"json": {"items": [{"id": id_, "actual": ">50K"}]}}) for id_ in ids
    ]
    assert service.together(gifts[0])[0].json()["accepted"] == 1
    with server.silent(), monkeypatch.context() as patched:
        patched.setattr(group_commit, "DEADLINE_SECONDS", 0.2)
        for refused in service.together(*gifts):
            assert_is_error(refused, 503)
            assert int(refused.headers["retry-after"]) > 0
        assert service.post("/predict", json={"rows": [row]}).status_code == 200
    answers = [response.json() for response in service.together(*gifts)]
    assert [answer["accepted"] + answer["duplicates"] for answer in answers] == [1] * len(ids)
    service.close()


def test_a_database_that_cannot_be_reached_is_told_without_its_password(url: str, tmp_path: Path) -> None:
    for wrong in (url.replace(PASSWORD, "wrong-word"), url + "_absent", "postgresql://dle:wrong-word@127.0.0.1:1/x"):
        store = open_store(wrong, tmp_path)
        with pytest.raises(StoreError) as caught:
            store.check()
        assert "wrong-word" not in str(caught.value)


def test_a_transaction_ended_by_the_database_is_tried_once_more(url: str, tmp_path: Path) -> None:
    store = open_store(url, tmp_path)
    store.check()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dle'")
    assert store.add([given_back("1")], NOW) == [ACCEPTED]
    store.close()


@pytest.mark.parametrize(
    "text", [f"postgresql://{rest}" for rest in ("u:hidden@[/x", "u:hidden/x@h/x", "u:x@hidden@h/x", "h/x?hidden=1")]
)
def test_a_url_that_is_none_is_refused_without_being_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="DLE_FEEDBACK_STORE") as caught:
        open_store(text, tmp_path).check()
    assert "hidden" not in str(caught.value)


def test_many_classes_are_counted_by_the_actual_one() -> None:
    few, many = [str(index) for index in range(20)], [*map(str, range(20)), "other"]
    assert counted_as("1", "2", few) == "2"
    assert len(tally_cells(few)) == 400
    assert counted_as("1", "1", many) == "1"
    assert counted_as("1", "2", many) == "other class"  # a class is named other
    assert counted_as("other", "2", many) != "other"
    assert set(tally_cells(many)) == {(name, counted_as(name, other, many)) for name in many for other in many}


def test_a_file_that_is_gone_takes_no_feedback_with_it_unseen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(None, tmp_path)
    assert store.add([given_back("a")], NOW) == [ACCEPTED]
    (tmp_path / "feedback.sqlite3").unlink()
    with caplog.at_level("ERROR", "dle_serving"):
        assert store.add([given_back("b")], NOW) == [ACCEPTED]
    assert "was removed or replaced" in caplog.text
    store.close()
    assert rows(Sqlite(tmp_path / "feedback.sqlite3"), "SELECT id FROM feedback") == [("b",)]
