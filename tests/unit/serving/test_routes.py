import json
import logging
import math
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import bundles
from tests.inprocess import InProcess, assert_is_error

from dle_bundle import documents
from dle_bundle.errors import RowFaults
from dle_bundle.rows.faults import FaultFinder
from dle_serving.errors import BadRequest
from dle_serving.feedback.ids import load_signing_keys
from dle_serving.routes import feedback
from dle_serving.server.roster import Roster
from dle_serving.settings import ServerSettings

ROW = dict(bundles.EXAMPLE)
DAY = 86_400


def predict(service: InProcess, *rows: Any, path: str = "/predict") -> httpx.Response:
    return service.post(path, json={"rows": list(rows)})


def test_a_prediction_is_as_the_contract_says(service: InProcess) -> None:
    response = predict(service, ROW, {"age": 20, "married": True})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"model", "version", "predictions"}
    assert (body["model"], body["version"]) == ("income", 1)
    assert len(body["predictions"]) == 2
    for prediction in body["predictions"]:
        assert list(prediction) == ["id", "label", "probability", "probabilities"]
        assert set(prediction["probabilities"]) == {"<=50K", ">50K"}
        assert prediction["probability"] == prediction["probabilities"][prediction["label"]]
        assert math.isclose(sum(prediction["probabilities"].values()), 1, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("model", "row", "labels", "names"),
    [
        ("digit", {f"x{index}": 1 for index in range(4)}, {0, 1, 2}, ["0", "1", "2"]),
        ("spam", {}, {False, True}, ["false", "true"]),
    ],
)
def test_labels_have_the_type_of_the_target(
    service: InProcess, model: str, row: Any, labels: set[Any], names: list[str]
) -> None:
    (prediction,) = predict(service, row, path=f"/models/{model}/predict").json()["predictions"]
    assert type(prediction["label"]) is type(next(iter(labels)))
    assert prediction["label"] in labels
    assert list(prediction["probabilities"]) == names


def test_a_regression_gives_a_value(service: InProcess) -> None:
    body = predict(service, {"rooms": 3}, path="/models/price/predict").json()
    (prediction,) = body["predictions"]
    assert list(prediction) == ["id", "value"]
    assert isinstance(prediction["value"], float)


def test_ids_are_genuine_and_left_out_on_demand(service: InProcess) -> None:
    (prediction,) = predict(service, ROW).json()["predictions"]
    served = service.app.repository.find()
    found = served.signing_keys.verify(prediction["id"], 1 << 31, 1 << 31)
    assert found.fingerprint == served.fingerprint
    assert served.labels[found.class_index or 0] == prediction["label"]
    assert found.answer == prediction["probability"]
    bare = service.post("/predict?ids=false", json={"rows": [ROW]}).json()["predictions"][0]
    assert bare == {name: value for name, value in prediction.items() if name != "id"}
    assert "id" in service.post("/predict?ids=true", json={"rows": [ROW]}).json()["predictions"][0]


def test_no_rows_are_no_fault(service: InProcess) -> None:
    assert predict(service).json()["predictions"] == []


def test_a_model_is_named_with_and_without_version(service: InProcess) -> None:
    row = {f"x{index}": 1 for index in range(4)}
    for path, version in (
        ("/models/digit/predict", 10),
        ("/models/digit/versions/10/predict", 10),
        ("/models/digit/versions/9/predict", 9),
    ):
        body = predict(service, row, path=path).json()
        assert (body["model"], body["version"]) == ("digit", version)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/predict/",
        "/models",
        "/models//predict",
        "/models/nope/predict",
        "/models/digit/versions/11/predict",
        "/models/digit/versions/x/predict",
        "/models/digit/versions/١/predict",
        "/models/digit/nope",
        # BentoML's own, which are not ours
        "/docs.json",
        "/static_content/index.css",
        "/docs/../x",
        "/docs/nope.js",
    ],
)
def test_what_is_not_there_is_404(service: InProcess, path: str) -> None:
    method = "POST" if path.endswith("/predict") else "GET"
    assert_is_error(service.request(method, path), 404)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/predict", "GET", "POST"),
        ("/predict", "HEAD", "POST"),
        ("/predict", "OPTIONS", "POST"),
        ("/models/digit/predict", "PUT", "POST"),
        ("/schema", "POST", "GET, HEAD"),
        ("/metrics", "DELETE", "GET, HEAD"),
        ("/livez", "POST", "GET, HEAD"),
        ("/docs", "BREW", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_and_the_right_ones_are_told(
    service: InProcess, path: str, method: str, allowed: str
) -> None:
    response = service.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    if method != "HEAD":
        assert_is_error(response, 405)


@pytest.mark.parametrize("path", ["/schema", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_head_works_where_get_does(service: InProcess, path: str) -> None:
    response = service.request("HEAD", path)
    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    "query", ["ids=maybe", "ids=", "ids=1", "id=false", "ids=true&explain=true", "%ff=1", "ids=true&ids=x"]
)
def test_a_query_that_is_not_understood_is_400(service: InProcess, query: str) -> None:
    body = assert_is_error(service.post(f"/predict?{query}", json={"rows": []}), 400)
    assert body["details"]


def test_a_query_is_refused_where_there_is_none(service: InProcess) -> None:
    for path in ("/schema", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/swagger-ui.css"):
        assert_is_error(service.get(f"{path}?x=1"), 400)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        (None, 200),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/vnd.bentoml+pickle", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_only_json_is_taken(service: InProcess, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = service.post("/predict", content=b'{"rows": []}', headers=headers)
    assert response.status_code == status
    if status != 200:
        assert_is_error(response, status)


def test_a_compressed_body_is_not_taken(service: InProcess) -> None:
    assert_is_error(service.post("/predict", content=b"x", headers={"content-encoding": "gzip"}), 415)


def test_too_many_bytes_or_rows_are_413(service: InProcess) -> None:
    assert_is_error(service.post("/predict", content=b" " * 100_001), 413)

    async def chunks() -> Any:
        for _ in range(101):
            yield b" " * 1_000

    assert_is_error(service.post("/predict", content=chunks()), 413)
    assert_is_error(predict(service, *[{"no such input": 1}] * 2_001, path="/models/spam/predict"), 413)
    assert_is_error(predict(service, *[{"no such input": 1}] * 2_000, path="/models/spam/predict"), 400)
    body = assert_is_error(predict(service, *[{}] * 2_001, path="/models/spam/predict"), 413)
    assert "at most 2,000 rows" in body["error"]
    assert predict(service, *[{}] * 2_000, path="/models/spam/predict").status_code == 200


def test_every_fault_of_every_row_is_told(service: InProcess) -> None:
    rows = [{**ROW, "age": "old", "agee": 1}, ROW, 7, {"age": None, "married": 1}]
    body = assert_is_error(predict(service, *rows), 400)
    assert [(detail["row"], detail["field"], detail["code"]) for detail in body["details"]] == [
        (0, "agee", "unknown"),
        (0, "age", "type"),
        (2, None, "type"),
        (3, "age", "missing"),
        (3, "married", "type"),
    ]
    assert "did you mean 'age'" in body["details"][0]["message"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "json"),
        (b"{", "json"),
        (b'{"rows": [{"age": NaN, "married": true}]}', "non_finite"),
        (b'{"rows": [{"age": 1e999, "married": true}]}', "non_finite"),
        (b'{"rows": [{"age": %s, "married": true}]}' % (b"9" * 400), "non_finite"),
        (b'{"rows": null}', "missing"),
        (b"[]", "type"),
        (b"\xff\xfe", "json"),
        (b'{"rows": [{"age": 1, "married": true, "\\ud800": 1}]}', "unknown"),
        (b"[" * 50_000, "json"),
    ],
)
def test_bodies_that_are_no_rows_are_400(service: InProcess, content: bytes, code: str) -> None:
    body = assert_is_error(service.post("/predict", content=content), 400)
    assert body["details"][0]["code"] == code


def test_a_hostile_body_has_a_bounded_answer(service: InProcess) -> None:
    content = json.dumps({"rows": [{f"unknown{index}": 0 for index in range(4_000)}]}).encode()
    body = assert_is_error(service.post("/predict", content=content), 400)
    assert [detail["field"] for detail in body["details"]] == [f"unknown{index}" for index in range(100)]
    assert body["error"] == (
        "4,002 values do not match the schema; the first 100 faults are listed, and there are 3,902 more"
    )
    content = json.dumps({"rows": [dict.fromkeys("uvwxyz", 0)] * 2_000}, separators=(",", ":")).encode()
    body = assert_is_error(service.post("/predict", content=content), 400)
    assert len(body["details"]) == 100
    assert body["error"] == (
        "more than 10,000 values do not match the schema; the first 100 faults are listed, "
        "and there are over 9,900 more"
    )


@pytest.mark.parametrize(
    ("count", "more"), [(100, ""), (101, "; the first 100 faults are listed, and there are 1 more")]
)
def test_up_to_a_hundred_faults_are_listed(service: InProcess, count: int, more: str) -> None:
    content = json.dumps({"rows": [0] * count})
    body = assert_is_error(service.post("/predict", content=content), 400)
    assert body["error"] == f"{count} values do not match the schema{more}"
    assert [detail["row"] for detail in body["details"]] == list(range(100))
    body = assert_is_error(service.post("/feedback", content=json.dumps({"items": [0] * count})), 400)
    assert body["error"] == f"the body is not valid feedback{more}"
    assert len(body["details"]) == 100


def test_all_refused_rows_are_counted_also_those_that_are_not_listed(service: InProcess) -> None:
    def missing() -> float:
        (line,) = (
            line
            for line in service.get("/metrics").text.splitlines()
            if line.startswith('dle_invalid_rows_total{code="missing"}')
        )
        return float(line.rpartition(" ")[2])

    before = missing()
    assert_is_error(service.post("/predict", content=json.dumps({"rows": [{}] * 321})), 400)
    assert missing() - before == 321


@pytest.mark.parametrize("content", [b'{"rows": [{}]}', b'{"rows": [0]}', b"{"])
def test_faults_are_not_looked_for_in_the_event_loop(
    service: InProcess, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    find = FaultFinder.find

    def noting(finder: FaultFinder, body: bytes, otherwise: str) -> RowFaults:
        threads.append(threading.current_thread().name)
        return find(finder, body, otherwise)

    monkeypatch.setattr(FaultFinder, "find", noting)
    assert_is_error(service.post("/predict", content=content), 400)
    assert [name.partition("_")[0] for name in threads] == ["decoding"]


def test_faults_of_feedback_are_not_looked_for_in_the_event_loop(
    service: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    refusal = feedback._refusal

    def noting(body: bytes, otherwise: str) -> BadRequest:
        threads.append(threading.current_thread())
        return refusal(body, otherwise)

    monkeypatch.setattr(feedback, "_refusal", noting)
    body = assert_is_error(service.post("/feedback", content=b'{"items": [{}]}'), 400)
    assert [detail["field"] for detail in body["details"]] == ["id", "actual"]
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_values_beyond_what_was_seen_are_served(service: InProcess) -> None:
    row = {"age": -1e300, "workclass": "Astronaut", "hours-per-week": 1e38, "married": True, "zone": "elsewhere"}
    response = predict(service, row)
    assert response.status_code == 200
    assert "NaN" not in response.text


def test_requests_that_come_together_share_runs_and_faults_stay_their_own(service: InProcess) -> None:
    good: dict[str, Any] = {"json": {"rows": [ROW]}}
    bad: dict[str, Any] = {"json": {"rows": [{}]}}
    responses = service.together(
        *[("/predict", good), ("/predict", bad)] * 20, ("/predict", {"json": {"rows": [ROW] * 50}})
    )
    assert [response.status_code for response in responses] == [200, 400] * 20 + [200]
    alone = predict(service, ROW).json()["predictions"][0]
    for response in responses:
        for prediction in response.json().get("predictions", []):
            assert prediction["label"] == alone["label"]
            assert prediction["probability"] == pytest.approx(alone["probability"], abs=1e-6)


def test_a_large_body_is_answered_as_a_small_one(service: InProcess) -> None:
    rows = [{**ROW, "age": index} for index in range(600)]
    large = service.post("/predict?ids=false", json={"rows": rows}).json()["predictions"]
    small = [
        prediction
        for start in range(0, 600, 100)
        for prediction in service.post("/predict?ids=false", json={"rows": rows[start : start + 100]}).json()[
            "predictions"
        ]
    ]
    assert [answer["label"] for answer in large] == [answer["label"] for answer in small]
    for one, other in zip(large, small, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


def test_the_schema_is_the_bundles_own(service: InProcess) -> None:
    assert service.get("/schema").content == documents.encode(bundles.INCOME)
    assert service.get("/models/price/schema").content == documents.encode(bundles.PRICE)
    assert service.get("/models/digit/versions/9/schema").content == documents.encode(bundles.DIGIT)


def test_the_page_needs_nothing_from_elsewhere(service: InProcess) -> None:
    page = service.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-light-32x32.png"):
        assert f"docs/{name}" in page.text
        assert len(service.get(f"/docs/{name}").content) > 100


def test_a_server_that_loads_says_so(many: Path, tmp_path: Path) -> None:
    service = InProcess(ServerSettings(bundles=(many,), home=tmp_path), load=False)
    assert service.get("/livez").status_code == 200
    for method, path in (("GET", "/readyz"), ("POST", "/predict"), ("GET", "/schema"), ("GET", "/openapi.json")):
        response = service.request(method, path)
        assert assert_is_error(response, 503)["details"][0]["code"] == "loading"
        assert response.headers["retry-after"] == "1"
    assert service.get("/metrics").status_code == 200
    service.load()
    body = service.get("/readyz").json()
    assert body["status"] == "ready"
    assert [(model["model"], model["version"]) for model in body["models"]] == [
        ("income", 1),
        ("digit", 9),
        ("digit", 10),
        ("price", 1),
        ("spam", 1),
    ]
    assert {model["provider"] for model in body["models"]} == {"cpu"}
    assert body["workers"] == 1
    assert "\ndle_workers 1.0\n" in service.get("/metrics").text
    service.app.roster.stop()
    assert assert_is_error(service.get("/readyz"), 503)["error"] == "the server is stopping"
    assert predict(service, ROW).status_code == 200
    service.close()


def test_a_worker_that_cannot_sign_has_failed(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(roster: Roster) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Roster, "sign", full)
    service = InProcess(ServerSettings(bundles=(many / "d",), home=tmp_path))
    body = assert_is_error(service.get("/readyz"), 503)
    assert body["details"][0]["code"] == "failed"
    assert "No space left on device" in body["error"]
    service.close()


def test_a_disk_that_is_full_while_models_load_is_said_in_words(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "/disk/file")

    monkeypatch.setattr("dle_serving.models.repository.ServedModel", full)
    with caplog.at_level(logging.ERROR):
        service = InProcess(ServerSettings(bundles=(many / "d",), home=tmp_path))
    assert "No space left on device: '/disk/file'" in assert_is_error(service.get("/readyz"), 503)["error"]
    assert "Traceback" not in caplog.text
    service.close()


def test_a_server_that_could_not_load_says_why(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"altered")
    service = InProcess(ServerSettings(bundles=(folder,), home=tmp_path, device="cpu"))
    response = service.get("/readyz")
    body = assert_is_error(response, 503)
    assert body["details"][0]["code"] == "failed"
    assert "model.onnx: expected SHA-256" in body["error"]
    assert int(response.headers["retry-after"]) > 1
    assert_is_error(service.post("/predict", json={"rows": []}), 503)
    assert service.get("/livez").status_code == 200
    service.close()


def test_a_defect_is_logged_and_its_answer_tells_nothing(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.app.repository.find().decoder, "groups", broken)
    with caplog.at_level(logging.ERROR):
        response = predict(service, ROW)
    assert assert_is_error(response, 500)["error"] == "internal error"
    assert "secret detail" in caplog.text


def test_keys_of_the_server_are_in_its_home(many: Path, tmp_path: Path) -> None:
    service = InProcess(ServerSettings(bundles=(many / "d",), home=tmp_path / "home"))
    (prediction,) = predict(service, {"rooms": 1}).json()["predictions"]
    keys = load_signing_keys(tmp_path / "home" / "token.keys", create=False)
    assert keys.verify(prediction["id"], 1 << 31, 1 << 31).class_index is None
    service.close()
