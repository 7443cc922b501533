"""GET /drift and the series beside it: what was answered is counted, compared and told."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests import bundles
from tests.inprocess import InProcess, assert_is_error

from dle_bundle import bundle
from dle_bundle.schema import Schema
from dle_serving.feedback.store import Outcome, Store
from dle_serving.feedback.verification import FeedbackItem
from dle_serving.settings import ServerSettings

DEADLINE = 20.0


@pytest.fixture
def fresh(many: Path, tmp_path: Path) -> Iterator[InProcess]:
    running = InProcess(ServerSettings(bundles=(many,), home=tmp_path, batch_rows=8))
    yield running
    running.close()


def send(service: InProcess, path: str, schema: Schema, count: int, **how: Any) -> list[dict[str, Any]]:
    answer = service.post(f"{path}/predict", json={"rows": bundles.rows(schema, count, **how)})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def accuracy(folder: Path) -> float:
    return bundle.load(folder).reference.metrics["test"]["accuracy"]


def report(service: InProcess, path: str = "") -> dict[str, Any]:
    answer = service.get(f"{path}/drift")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def series(service: InProcess, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Samples of one name that have these labels, by their other labels' values in order of the names."""
    found = {}
    for family in text_string_to_metric_families(service.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                rest = sorted(sample.labels.items() - labels.items())
                found[tuple(value for _, value in rest)] = sample.value
    return found


def test_before_any_row_nothing_can_be_said(fresh: InProcess, many: Path) -> None:
    found = report(fresh)
    assert (found["model"], found["version"], found["verdict"], found["rows"]) == ("income", 1, "insufficient", 0)
    assert [shift["n"] for shift in found["features"]] == [0] * 6
    assert {shift["psi"] for shift in found["features"]} == {None}
    assert found["prediction"]["verdict"] == "insufficient"
    assert found["accuracy"] == {
        "metric": "accuracy",
        "verdict": "insufficient",
        "n": 0,
        "score": None,
        "reference": accuracy(many / "a"),
        "difference": None,
        "standard_error": None,
    }
    assert found["estimated_accuracy"]["n"] == 0
    assert found["window"]["seconds"] == 3600


def test_rows_like_those_of_training_are_ok_and_shifted_ones_drift(fresh: InProcess) -> None:
    send(fresh, "", bundles.INCOME, 600, seed=3)
    calm = report(fresh)
    assert calm["verdict"] == "ok"
    assert calm["rows"] == 600
    assert {shift["verdict"] for shift in calm["features"]} == {"ok"}
    send(fresh, "", bundles.INCOME, 1_200, seed=4, shift=1.0)
    moved = report(fresh)
    assert moved["verdict"] == "drift"
    assert {shift["feature"] for shift in moved["features"] if shift["verdict"] == "drift"} == {
        "age",
        "hours-per-week",
        "married",
    }
    sizes = [shift["psi"] for shift in moved["features"]]
    assert sizes == sorted(sizes, reverse=True)


def test_bins_are_told_when_asked_for(fresh: InProcess) -> None:
    send(fresh, "", bundles.INCOME, 300)
    assert "bins" not in report(fresh)["prediction"]
    found = fresh.get("/drift?bins=true").json()
    for shift in (*found["features"], found["prediction"]):
        assert sum(share["count"] for share in shift["bins"]) == 300
        assert sum(share["fraction"] for share in shift["bins"]) == pytest.approx(1)
    assert [share["bin"] for share in found["prediction"]["bins"]] == ["<=50K", ">50K"]
    assert_is_error(fresh.get("/drift?bin=true"), 400)


def test_every_model_and_version_has_its_own(fresh: InProcess) -> None:
    send(fresh, "/models/digit/versions/9", bundles.DIGIT, 3)
    assert report(fresh, "/models/digit/versions/9")["rows"] == 3
    assert report(fresh, "/models/digit")["rows"] == 0
    assert report(fresh, "/models/digit")["version"] == 10
    assert_is_error(fresh.get("/models/nope/drift"), 404)


def test_a_regression_has_no_estimate_and_is_scored_by_its_error(fresh: InProcess) -> None:
    predictions = send(fresh, "/models/price", bundles.PRICE, 250)
    items = [{"id": each["id"], "actual": each["value"] + 2.0} for each in predictions]
    assert fresh.post("/feedback", json={"items": items}).json()["accepted"] == 250
    found = report(fresh, "/models/price")
    assert found["estimated_accuracy"] is None
    assert found["accuracy"]["metric"] == "mae"
    assert found["accuracy"]["score"] == pytest.approx(2, abs=1e-3)
    assert found["accuracy"]["reference"] == 0.5
    assert found["accuracy"]["verdict"] == "drift"
    assert series(fresh, "dle_absolute_error_total", model="price", version="1") == {(): pytest.approx(500, rel=1e-3)}
    assert series(fresh, "dle_squared_error_total", model="price", version="1") == {(): pytest.approx(1000, rel=1e-3)}
    assert series(fresh, "dle_feedback_total", model="price", correct="") == {("1",): 250}
    assert series(fresh, "dle_accuracy_drift", model="price") == {("1",): pytest.approx(1.5, abs=1e-3)}


def test_feedback_makes_accuracy(fresh: InProcess, many: Path) -> None:
    predictions = send(fresh, "/models/digit", bundles.DIGIT, 400)
    tested = accuracy(many / "c")
    items = [
        {"id": each["id"], "actual": each["label"] if index % 5 == 0 else (each["label"] + 1) % 3}
        for index, each in enumerate(predictions)
    ]
    assert fresh.post("/feedback", json={"items": items}).json()["accepted"] == 400
    found = report(fresh, "/models/digit")
    assert found["accuracy"]["n"] == 400
    assert found["accuracy"]["score"] == 0.2
    assert found["accuracy"]["difference"] == pytest.approx(0.2 - tested)
    assert found["accuracy"]["verdict"] == found["verdict"] == "drift"
    assert series(fresh, "dle_feedback_total", model="digit", version="10") == {("true",): 80, ("false",): 320}
    confusion = series(fresh, "dle_confusion_total", model="digit", version="10")
    assert len(confusion) == 9
    assert sum(confusion.values()) == 400
    assert sum(count for (actual, predicted), count in confusion.items() if actual == predicted) == 80
    assert series(fresh, "dle_accuracy_drift", model="digit", version="10") == {(): pytest.approx(0.2 - tested)}
    assert series(fresh, "dle_accuracy_drift", model="digit", version="9") == {(): 0}


def test_series_hold_the_bundles_reference_and_what_was_counted(fresh: InProcess, many: Path) -> None:
    predictions = send(fresh, "", bundles.INCOME, 300)
    reference = bundle.load(many / "a").reference
    own = {"model": "income", "version": "1"}
    fractions = series(fresh, "dle_feature_reference_fraction", **own)
    counts = series(fresh, "dle_feature_bin_total", **own)
    assert fractions.keys() == counts.keys()
    for name, bins in reference.features.items():
        assert {bin_: fractions[bin_, name] for bin_ in bins.names} == dict(
            zip(bins.names, bins.fractions, strict=True)
        )
        assert sum(counts[bin_, name] for bin_ in bins.names) == 300
    assert sum(series(fresh, "dle_prediction_bin_total", **own).values()) == 300
    assert series(fresh, "dle_feature_reference_rows", **own) == {(): 2_000}
    assert series(fresh, "dle_reference_score", **own) == {("accuracy",): accuracy(many / "a")}
    confidences = np.array([each["probability"] for each in predictions])
    assert series(fresh, "dle_expected_correct_total", **own)[()] == pytest.approx(confidences.sum())
    variance = series(fresh, "dle_expected_correct_variance_total", **own)[()]
    assert variance == pytest.approx((confidences * (1 - confidences)).sum(), rel=1e-5)


def test_large_requests_are_counted_whole(fresh: InProcess) -> None:
    send(fresh, "", bundles.INCOME, 3_000)
    assert report(fresh)["rows"] == 3_000
    assert {shift["n"] for shift in report(fresh)["features"]} == {3_000}


def test_counts_outlive_the_process(many: Path, tmp_path: Path) -> None:
    settings = ServerSettings(bundles=(many / "a",), home=tmp_path)
    first = InProcess(settings)
    send(first, "", bundles.INCOME, 5)
    first.close()  # counts what it has not counted yet
    second = InProcess(settings)
    assert report(second)["rows"] == 5
    second.close()


def test_without_monitoring_nothing_is_counted(many: Path, tmp_path: Path) -> None:
    service = InProcess(ServerSettings(bundles=(many / "a",), home=tmp_path, monitoring=False))
    send(service, "", bundles.INCOME, 5)
    assert "DLE_MONITORING" in assert_is_error(service.get("/drift"), 404)["error"]
    assert not series(service, "dle_feature_bin_total")
    assert series(service, "dle_reference_score", model="income"), "feedback is compared with it"
    service.close()


def test_accuracy_is_read_beside_a_long_transaction(fresh: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    given, waiting = send(fresh, "/models/price", bundles.PRICE, 2)
    items = [{"id": given["id"], "actual": 1.0}]
    assert fresh.post("/feedback", json={"items": items}).json()["accepted"] == 1
    inside, go_on, count = threading.Event(), threading.Event(), Store._count

    def slowly(*arguments: Any) -> None:
        inside.set()
        assert go_on.wait(DEADLINE)
        count(*arguments)

    monkeypatch.setattr(Store, "_count", slowly)
    served = fresh.app.repository.find("price")
    prediction = served.signing_keys.verify(waiting["id"], int(time.time()), 60)
    item = served.verifier.record(FeedbackItem(waiting["id"], 1.0), prediction, suggest=False)
    with ThreadPoolExecutor(1) as thread:
        adding = thread.submit(fresh.app.store.add, [item], time.time())
        assert inside.wait(DEADLINE)
        try:
            assert report(fresh, "/models/price")["accuracy"]["n"] == 1
            assert series(fresh, "dle_feedback_total", model="price", correct="") == {("1",): 1}
        finally:
            go_on.set()
        assert adding.result() == [Outcome.ACCEPTED]
    assert report(fresh, "/models/price")["accuracy"]["n"] == 2


def test_metrics_go_on_when_the_feedback_store_is_away(many: Path, tmp_path: Path) -> None:
    away = "postgresql://nobody@127.0.0.1:1/none"
    service = InProcess(ServerSettings(bundles=(many / "a",), home=tmp_path, feedback_store=away))
    send(service, "", bundles.INCOME, 5)
    assert sum(series(service, "dle_prediction_bin_total").values()) == 5
    assert not series(service, "dle_feedback_total")
    assert report(service)["accuracy"] is None
    service.close()
