import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from tests import bundles
from tests.inprocess import InProcess, assert_is_error

from dle_bundle.schema import Outputs, Schema
from dle_serving.feedback import databases, verification
from dle_serving.feedback.ids import SigningKeys, load_signing_keys
from dle_serving.feedback.store import Cell
from dle_serving.settings import ServerSettings

DAY = 86_400
LETTERS = Schema(
    inputs=bundles.DIGIT.inputs,
    outputs=Outputs(target="letter", task="multiclass", classes=tuple(f"letter {index}" for index in range(25))),
)
ROWS: dict[str, Any] = {
    "income": dict(bundles.EXAMPLE),
    "digit": {f"x{index}": 1 for index in range(4)},
    "price": {"rooms": 3},
    "spam": {},
    "letters": {f"x{index}": 1 for index in range(4)},
}


@pytest.fixture(scope="session")
def folder(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("letters") / "letters", LETTERS, name="letters")


@pytest.fixture
def service(many: Path, folder: Path, tmp_path: Path) -> Iterator[InProcess]:
    running = InProcess(ServerSettings(bundles=(many, folder), home=tmp_path, max_body_bytes=100_000, max_rows=500))
    yield running
    running.close()


@pytest.fixture
def keys(service: InProcess, tmp_path: Path) -> SigningKeys:
    return load_signing_keys(tmp_path / "token.keys", create=False)


def predicted(service: InProcess, model: str = "income", count: int = 1) -> list[dict[str, Any]]:
    body = service.post(f"/models/{model}/predict", json={"rows": [ROWS[model]] * count}).json()
    found: list[dict[str, Any]] = body["predictions"]
    return found


def give(service: InProcess, *items: tuple[str, Any]) -> dict[str, Any]:
    response = service.post("/feedback", json={"items": [{"id": id_, "actual": actual} for id_, actual in items]})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert list(body) == ["accepted", "duplicates", "rejected"]
    assert all(list(item) == ["item", "code", "message"] for item in body["rejected"])
    return body


def codes(body: dict[str, Any]) -> list[tuple[int, str]]:
    return [(item["item"], item["code"]) for item in body["rejected"]]


def tally(service: InProcess, model: str) -> list[Cell]:
    return service.app.store.tally(service.app.repository.find(model).fingerprint.hex(), None)


def series(service: InProcess) -> dict[str, float]:
    lines = [line for line in service.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_every_item_has_its_own_answer(service: InProcess) -> None:
    first, second = predicted(service, count=2)
    body = give(
        service,
        (first["id"], ">50K"),
        (second["id"], ">50k"),
        (first["id"], ">50K"),
        ("forged", ">50K"),
        (first["id"], "<=50K"),
    )
    assert (body["accepted"], body["duplicates"]) == (1, 1)
    assert codes(body) == [(1, "label"), (3, "signature"), (4, "conflict")]
    assert body["rejected"][0]["message"].startswith(
        'expected one of "<=50K", ">50K", got ">50k" (did you mean \'>50K\''
    )
    assert give(service, (first["id"], "<=50K"), (second["id"], "<=50K"))["accepted"] == 1
    assert give(service) == {"accepted": 0, "duplicates": 0, "rejected": []}
    assert sorted((cell.actual, cell.count) for cell in tally(service, "income")) == [("<=50K", 1), (">50K", 1)]


@pytest.mark.parametrize(
    ("model", "right", "wrong"),
    [
        ("digit", [0, 2, 1.0], ["0", 1.5, 3, True, 10**30, 10**400, "x" * 5_000]),
        ("spam", [True, False], ["true", 1, 0.0]),
        ("income", ["<=50K"], [" <=50K", 0, "0"]),
        ("price", [3, -2.5, 0, 10**30], ["3", True, 10**400, 1e300]),
    ],
)
def test_labels_have_the_type_of_the_target(service: InProcess, model: str, right: list[Any], wrong: list[Any]) -> None:
    good = [prediction["id"] for prediction in predicted(service, model, len(right))]
    assert give(service, *zip(good, right, strict=True))["accepted"] == len(right)
    bad = [prediction["id"] for prediction in predicted(service, model, len(wrong))]
    body = give(service, *zip(bad, wrong, strict=True))
    assert codes(body) == [(place, "label") for place in range(len(wrong))]
    assert all(item["message"].startswith("expected ") and len(item["message"]) < 300 for item in body["rejected"])


def test_what_a_prediction_was_is_kept_with_it(service: InProcess, tmp_path: Path) -> None:
    (price,), (spam,) = predicted(service, "price"), predicted(service, "spam")
    give(service, (price["id"], 2), (spam["id"], True))
    with sqlite3.connect(tmp_path / "feedback.sqlite3") as connection:
        names = "model, version, predicted, actual, answer, error"
        kept = {row[0]: row[1:] for row in connection.execute(f"SELECT id, {names} FROM feedback")}
    connection.close()
    assert kept[price["id"]] == (
        "price",
        1,
        "",
        "2.0",
        pytest.approx(price["value"]),
        pytest.approx(2 - price["value"]),
    )
    assert kept[spam["id"]] == ("spam", 1, "false", "true", pytest.approx(spam["probability"]), None)
    (cell,) = tally(service, "price")
    assert cell.squared == pytest.approx((2 - price["value"]) ** 2)
    assert tally(service, "spam") == [Cell("true", "false", 1, 0, 0)]


def test_an_absurd_value_does_not_end_the_sums_of_errors(service: InProcess, tmp_path: Path) -> None:
    absurd, usual = predicted(service, "price", 2)
    reference = service.app.repository.find("price").monitored.reference
    edges = reference.prediction.edges
    assert edges is not None
    most = 1_000 * max(edges[-1] - edges[0], reference.test_scores["mae"])
    give(service, (absurd["id"], -1e20))
    (before,) = tally(service, "price")
    assert before.absolute == pytest.approx(most)
    assert before.squared == pytest.approx(most**2)
    give(service, (usual["id"], usual["value"] + 1))
    (after,) = tally(service, "price")
    assert after.absolute - before.absolute == pytest.approx(1, rel=1e-3)
    assert after.squared - before.squared == pytest.approx(1, rel=1e-3)
    with closing(sqlite3.connect(tmp_path / "feedback.sqlite3")) as connection:
        assert connection.execute("SELECT MIN(error) FROM feedback").fetchone() == (pytest.approx(-1e20),)


def test_of_many_classes_only_right_and_wrong_are_counted(service: InProcess) -> None:
    predictions = predicted(service, "letters", 3)
    label = predictions[0]["label"]
    wrong = [name for name in ("letter 1", "letter 2", "letter 3") if name != label][:2]
    actuals = [label, *wrong]
    give(service, *[(prediction["id"], name) for prediction, name in zip(predictions, actuals, strict=True)])
    pairs = {(label, label), *((name, "other") for name in wrong)}
    assert {(cell.actual, cell.predicted) for cell in tally(service, "letters")} == pairs
    body = give(service, (predicted(service, "letters")[0]["id"], "letter 99"))
    assert "and 5 more" in body["rejected"][0]["message"]


def test_the_nearest_class_is_looked_up_for_few_items_and_among_few_classes(
    service: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = Mock(return_value="")
    monkeypatch.setattr(verification, "nearest", nearest)
    give(service, *((prediction["id"], "x") for prediction in predicted(service, count=50)))
    assert nearest.call_count == 3
    monkeypatch.setattr(verification, "_MOST_COMPARED", 24)
    give(service, *((prediction["id"], "x") for prediction in predicted(service, "letters", 3)))
    assert nearest.call_count == 3


def test_old_ids_and_those_of_other_models_say_so(service: InProcess, keys: SigningKeys) -> None:
    served = service.app.repository.find("income")
    now = int(time.time())
    (old,) = keys.sign(now - 91 * DAY, served.fingerprint, [0], [0.5])
    (young,) = keys.sign(now - 89 * DAY, served.fingerprint, [0], [0.5])
    (gone,) = keys.sign(now, b"gone", [0], [0.5])
    body = give(service, (old, ">50K"), (young, ">50K"), (gone, ">50K"))
    assert body["accepted"] == 1
    assert codes(body) == [(0, "expired"), (2, "expired")]
    messages = [item["message"] for item in body["rejected"]]
    assert "91 days" in messages[0]
    assert "90 days" in messages[0]
    assert "no longer served" in messages[1]


def test_another_servers_ids_are_not_taken(service: InProcess) -> None:
    served = service.app.repository.find("income")
    (foreign,) = SigningKeys([b"x" * 32]).sign(int(time.time()), served.fingerprint, [0], [0.5])
    (own,) = predicted(service)
    tampered = own["id"][:-1] + ("A" if own["id"][-1] != "A" else "B")
    assert codes(give(service, (foreign, ">50K"), (tampered, ">50K"), ("", ">50K"), ("ü" * 48, ">50K"))) == [
        (place, "signature") for place in range(4)
    ]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        (b"nope", [(None, None, "json")]),
        (b'{"items":[{"id":"x","actual":NaN}]}', [(0, "actual", "non_finite")]),
        (b'{"items":[{"id":"x","actual":1e999}]}', [(0, "actual", "non_finite")]),
        (b'{"items":[{"id":"\\ud800","actual":1}]}', [(None, None, "json")]),
        (b"[" * 100_000, [(None, None, "json")]),
        (b"[]", [(None, None, "type")]),
        (b"{}", [(None, "items", "missing")]),
        (b'{"items":{}}', [(None, "items", "type")]),
        (
            b'{"item":1,"items":[{"id":3,"actual":"a","row":1},{},7,{"id":"x","actual":{"a":1}}]}',
            [
                (None, "item", "unknown"),
                (0, "row", "unknown"),
                (0, "id", "type"),
                (1, "id", "missing"),
                (1, "actual", "missing"),
                (2, None, "type"),
                (3, "actual", "type"),
            ],
        ),
    ],
    ids=lambda value: value[:20].decode() if isinstance(value, bytes) else None,
)
def test_a_body_that_does_not_fit_is_told_all_its_faults(service: InProcess, body: bytes, faults: list[Any]) -> None:
    details = assert_is_error(service.post("/feedback", content=body), 400)["details"]
    assert [(fault["row"], fault["field"], fault["code"]) for fault in details] == faults


def test_too_much_and_other_content_is_refused(service: InProcess) -> None:
    items = [{"id": "x", "actual": 1}] * 501
    assert "at most 500 items" in assert_is_error(service.post("/feedback", json={"items": items}), 413)["error"]
    assert_is_error(service.post("/feedback", content=b" " * 100_001), 413)
    assert_is_error(service.post("/feedback", content=b"x", headers={"content-type": "text/csv"}), 415)
    assert_is_error(service.post("/feedback?ids=false", json={"items": []}), 400)
    assert_is_error(service.get("/feedback"), 405)


def test_a_long_request_is_as_a_short_one(service: InProcess) -> None:
    ids = [prediction["id"] for prediction in predicted(service, count=500)]
    items = [(id_, ">50K") for id_ in ids]
    assert give(service, *items)["accepted"] == 500
    body = give(service, *items[:250], *((id_, "<=50K") for id_ in ids[250:]))
    assert body["duplicates"] == 250
    assert codes(body) == [(place, "conflict") for place in range(250, 500)]


def test_requests_at_once_are_answered_each_for_itself(service: InProcess) -> None:
    ids = [prediction["id"] for prediction in predicted(service, count=30)]
    bodies = [{"items": [{"id": id_, "actual": ">50K"}, {"id": ids[0], "actual": ">50K"}]} for id_ in ids]
    answers = [response.json() for response in service.together(*(("/feedback", {"json": body}) for body in bodies))]
    assert sum(answer["accepted"] for answer in answers) == 30
    assert sum(answer["duplicates"] for answer in answers) == 30
    assert sum(cell.count for cell in tally(service, "income")) == 30


def test_nothing_is_taken_before_the_models_are_loaded(many: Path, tmp_path: Path) -> None:
    service = InProcess(ServerSettings(bundles=(many / "a",), home=tmp_path), load=False)
    response = service.post("/feedback", json={"items": []})
    assert assert_is_error(response, 503)["details"][0]["code"] == "loading"
    service.close()


def test_a_store_that_is_away_is_a_503_and_predictions_go_on(
    service: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_WAIT_SECONDS", 0.1)
    service.app.store.check()
    other = sqlite3.connect(tmp_path / "feedback.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    service.app.store.close()  # connected again with the short wait
    items = {"items": [{"id": predicted(service)[0]["id"], "actual": ">50K"}]}
    response = service.post("/feedback", json=items)
    body = assert_is_error(response, 503)
    assert body["error"] == "the feedback store cannot be reached"
    assert [detail["code"] for detail in body["details"]] == ["store"]
    assert str(tmp_path) not in response.text
    assert int(response.headers["retry-after"]) > 0
    assert predicted(service)
    other.close()
    assert service.post("/feedback", json=items).json()["accepted"] == 1


def test_what_is_given_is_counted(service: InProcess) -> None:
    before = series(service)
    assert before['dle_feedback_delay_seconds_count{model="digit",version="9"}'] == 0
    assert {before[f'dle_feedback_rejected_total{{code="{code}"}}'] for code in ("signature", "expired")} == {0}
    first, second = predicted(service, count=2)
    give(service, (first["id"], ">50K"), (second["id"], "x"), ("x", 1), ("y", 1), (first["id"], ">50K"))
    after = series(service)
    assert after['dle_feedback_delay_seconds_count{model="income",version="1"}'] == 1
    assert after['dle_feedback_delay_seconds_bucket{le="600.0",model="income",version="1"}'] == 1
    assert after['dle_feedback_rejected_total{code="signature"}'] == 2
    assert after['dle_feedback_rejected_total{code="label"}'] == 1
    assert after['dle_requests_total{code="200",route="/feedback"}'] == 1
    assert after['dle_feedback_total{correct="false",model="income",version="1"}'] == 1


def test_the_contract_has_it(service: InProcess) -> None:
    document = service.get("/openapi.json").json()
    operation = document["paths"]["/feedback"]["post"]
    assert set(operation["responses"]) == {"200", "400", "405", "413", "415", "500", "503"}
    schemas = document["components"]["schemas"]
    assert schemas["FeedbackRequest"]["additionalProperties"] is False
    assert schemas["FeedbackItem"]["required"] == ["id", "actual"]
    (example,) = schemas["FeedbackRequest"]["examples"]
    assert codes(service.post("/feedback", content=msgspec.json.encode(example)).json()) == [(0, "signature")]
