import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import bundles
from tests.inprocess import InProcess

from dle_serving.settings import ServerSettings

SERIES = {
    "dle_requests_total",
    "dle_request_duration_seconds",
    "dle_stage_duration_seconds",
    "dle_batch_rows",
    "dle_inflight_requests",
    "dle_queue_rows",
    "dle_connections",
    "dle_shed_total",
    "dle_workers",
    "dle_invalid_rows_total",
    "dle_model_info",
    "dle_model_load_timestamp_seconds",
    "dle_predictions_total",
    "dle_feature_bin_total",
    "dle_feature_reference_fraction",
    "dle_feature_reference_rows",
    "dle_feature_drift_critical_value",
    "dle_prediction_bin_total",
    "dle_prediction_reference_fraction",
    "dle_prediction_reference_rows",
    "dle_prediction_drift_critical_value",
    "dle_expected_correct_total",
    "dle_expected_correct_variance_total",
    "dle_reference_score",
    "dle_feedback_total",
    "dle_confusion_total",
    "dle_absolute_error_total",
    "dle_squared_error_total",
    "dle_accuracy_drift",
    "dle_feedback_delay_seconds",
    "dle_feedback_rejected_total",
}


def value(service: InProcess, series: str) -> float | None:
    """The value of one series, None when it is not there."""
    for line in service.get("/metrics").text.splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    return None


@pytest.fixture
def fresh(many: Path, tmp_path: Path) -> Iterator[InProcess]:
    running = InProcess(ServerSettings(bundles=(many / "a",), home=tmp_path))
    yield running
    running.close()


def test_every_series_is_there_at_zero_from_the_start(fresh: InProcess) -> None:
    text = fresh.get("/metrics").text
    described = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert described == SERIES
    assert "_created" not in text
    assert value(fresh, 'dle_requests_total{code="200",route="/predict"}') == 0
    assert value(fresh, 'dle_requests_total{code="413",route="/models/{model}/predict"}') == 0
    assert value(fresh, 'dle_requests_total{code="404",route="unknown"}') == 0
    assert value(fresh, 'dle_predictions_total{model="income",version="1"}') == 0
    assert value(fresh, 'dle_stage_duration_seconds_count{stage="encode"}') == 0
    for code in ("type", "non_finite", "missing", "unknown", "json"):
        assert value(fresh, f'dle_invalid_rows_total{{code="{code}"}}') == 0
    info = 'dle_model_info{model="income",provider="cpu",task="binary",version="1"}'
    assert value(fresh, info) == 1
    loaded = value(fresh, 'dle_model_load_timestamp_seconds{model="income",version="1"}')
    assert loaded is not None
    assert loaded > 1.7e9


def test_what_happens_is_counted(fresh: InProcess) -> None:
    fresh.post("/predict", json={"rows": [bundles.EXAMPLE] * 3})
    fresh.post("/predict", json={"rows": [{"age": "x", "other": 1, "more": 1}, {}]})
    assert value(fresh, 'dle_requests_total{code="200",route="/predict"}') == 1
    assert value(fresh, 'dle_requests_total{code="400",route="/predict"}') == 1
    assert value(fresh, 'dle_request_duration_seconds_count{route="/predict"}') == 2
    assert value(fresh, 'dle_predictions_total{model="income",version="1"}') == 3
    assert value(fresh, "dle_batch_rows_sum") == 3
    assert value(fresh, 'dle_stage_duration_seconds_count{stage="predict"}') == 1
    assert value(fresh, 'dle_invalid_rows_total{code="unknown"}') == 1
    assert value(fresh, 'dle_invalid_rows_total{code="missing"}') == 2
    assert value(fresh, "dle_inflight_requests") == 1  # the one that asks


def test_unknown_paths_make_no_series_of_their_own(fresh: InProcess) -> None:
    before = len(fresh.get("/metrics").text.splitlines())
    for index in range(300):
        fresh.get(f"/nope/{index}")
        fresh.post(f"/models/nope{index}/predict", json={"rows": []})
        fresh.request(f"BREW{index}", "/predict")
    assert len(fresh.get("/metrics").text.splitlines()) == before
    assert value(fresh, 'dle_requests_total{code="404",route="unknown"}') == 300


def test_promtool_has_nothing_to_say(fresh: InProcess) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT TESTED: promtool is not installed (Debian's package prometheus has it)")
    fresh.post("/predict", json={"rows": [bundles.EXAMPLE]})
    text = fresh.get("/metrics").text
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
