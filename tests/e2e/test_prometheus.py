"""The shipped rules in a real Prometheus over two real replicas, one of them killed on the way.

One story: rows as in training, during which no alert may fire; then everything that can go wrong, one after another,
each seen to fire the alert that is meant for it. The first is that a replica dies while rows are sent to both, and one
with a home of its own takes its place, so that its counters begin again; what the rules record is compared with the
statistics of all the rows that were answered.
"""

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from tests import bundles
from tests.e2e.prometheus import Prometheus, prometheus
from tests.e2e.servers import DEADLINE, Server, eventually, serving
from tests.unit.k8s import promtool

from dle_bundle import bundle, documents, integrity, manifest
from dle_bundle.drift import reference
from dle_bundle.drift.features import monitored_features
from dle_bundle.drift.reference import Bins, Reference
from dle_bundle.groups import Groups, concatenate
from dle_bundle.schema import Schema
from dle_serving import auth

pytestmark = [pytest.mark.e2e, pytest.mark.full]
SCHEMAS = {"income": bundles.INCOME, "price": bundles.PRICE}
SCORES = {"income": {"accuracy": 0.9}, "price": {"mae": 0.5}}
MODELS = tuple(SCHEMAS)
ROWS_A_REQUEST = 100
UNSHARED = httpx.Limits(max_keepalive_connections=0)
"""A connection of its own for each request, so that no answer depends on one that a replica has given up."""
UNDER_LOAD, PAUSE = 10, 0.1
"""Rows of a request, and seconds between requests, while a replica may die.

What it answers between the last scrape and its end is lost to Prometheus: here 50 rows of each model at most.
"""


def write_bundles(folder: Path) -> dict[str, Path]:
    """Both models, with scores that their answers to rows as in training keep to."""
    found = {}
    for model, schema in SCHEMAS.items():
        path = found[model] = bundles.write(folder / model, schema, name=model)
        known = msgspec.structs.replace(read_reference(path, schema), metrics={"test": SCORES[model]})
        (path / bundle.REFERENCE).write_bytes(documents.encode(known))
        described = msgspec.json.decode((path / bundle.MANIFEST).read_bytes(), type=manifest.Manifest)
        files = {**described.files, bundle.REFERENCE: integrity.digest(path / bundle.REFERENCE)}
        (path / bundle.MANIFEST).write_bytes(documents.encode(msgspec.structs.replace(described, files=files)))
    return found


def read_reference(path: Path, schema: Schema) -> Reference:
    return reference.load(path / bundle.REFERENCE, schema)


@dataclass
class Callers:
    """Who sends rows and feedback, and remembers what was sent and answered."""

    client: httpx.Client
    sent: dict[str, list[Groups]] = field(default_factory=lambda: {model: [] for model in MODELS})
    answered: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {model: [] for model in MODELS})
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)  # answered, by replica's address and model

    def post(self, server: Server, path: str, body: object) -> httpx.Response:
        return self.client.post(f"{server.url}{path}", json=body)

    def predict(self, server: Server, model: str, count: int, seed: int, shift: float = 0.0) -> list[dict[str, Any]]:
        """Send rows, moved by `shift` standard deviations; the predictions."""
        schema = SCHEMAS[model]
        rows = bundles.rows(schema, count, seed, shift)
        found: list[dict[str, Any]] = []
        for start in range(0, count, ROWS_A_REQUEST):
            body = {"rows": rows[start : start + ROWS_A_REQUEST]}
            answer = self.post(server, f"/models/{model}/predict", body).raise_for_status()
            found += answer.json()["predictions"]
        self.sent[model].append(bundles.groups(schema, count, seed, shift))
        self.answered[model] += found
        self.rows[server.url, model] += count
        return found

    def keep_on(self, server: Server, seed: int, shift: float, enough: Event) -> None:
        """Send rows of each model until there is `enough`; raises httpx.TransportError when the server dies."""
        while not enough.wait(PAUSE):
            seed += 1
            for model in MODELS:
                self.predict(server, model, UNDER_LOAD, seed, shift)

    def verify(self, server: Server, predictions: list[dict[str, Any]], wrong: float, error: float) -> None:
        """Send feedback: this share of labels is another one, values differ by `error`."""
        items = []
        for number, prediction in enumerate(predictions):
            if "value" in prediction:
                actual: object = prediction["value"] + error * (1 if number % 2 else -1)
            elif number % 100 < 100 * wrong:
                (actual,) = prediction["probabilities"].keys() - {prediction["label"]}
            else:
                actual = prediction["label"]
            items.append({"id": prediction["id"], "actual": actual})
        answer = self.post(server, "/feedback", {"items": items}).raise_for_status().json()
        assert answer == {"accepted": len(items), "duplicates": 0, "rejected": []}


def psi(counts: npt.NDArray[Any], bins: Bins) -> float:
    """The population stability index of counts (B,), from its formula."""
    current = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    expected = np.array(bins.fractions)
    return float(((current - expected) * np.log(current / expected)).sum())


def feature_psi(sent: list[Groups], schema: Schema, known: Reference) -> dict[str, float]:
    """That of every input, over all rows that were sent."""
    found = {}
    for feature in monitored_features(concatenate(sent), schema):
        bins, values = known.features[feature.name], feature.values
        places = bins.assign_categories(values) if feature.is_category else bins.assign_numbers(values)
        found[feature.name] = psi(np.bincount(places, minlength=len(bins.names)), bins)
    return found


def prediction_psi(answered: list[dict[str, Any]], known: Reference) -> float:
    """That of the answers that came back."""
    bins = known.prediction
    if "value" in answered[0]:
        places = bins.assign_numbers(np.array([answer["value"] for answer in answered]))
    else:
        places = bins.assign_categories(np.array([answer["label"] for answer in answered], dtype=object))
    return psi(np.bincount(places, minlength=len(bins.names)), bins)


def wait_until_counted(watcher: Prometheus, callers: Callers, replicas: dict[str, Server]) -> None:
    """Until Prometheus has scraped the last row of each replica and model and evaluated the rules on it."""
    for model, answered in callers.answered.items():
        for pod, server in replicas.items():
            scraped = f'sum(dle_prediction_bin_total{{model="{model}",pod="{pod}"}})'
            watcher.wait_for_value(scraped, callers.rows[server.url, model])
        # increase() guesses what happened between samples and the window's ends, less and less as series last
        recorded = f'sum(dle:prediction_rows:increase1h{{model="{model}"}})'
        watcher.wait_for_value(recorded, len(answered), tolerance=0.03)
    for subject in ("feature", "prediction"):
        watcher.wait_for_rule(f"dle:{subject}_psi:1h")


def urls(replicas: dict[str, Server]) -> dict[str, str]:
    """Their addresses."""
    return {pod: server.url for pod, server in replicas.items()}


def wait_for_rows(watcher: Prometheus, count: int) -> None:
    """Until Prometheus has seen so many rows of a model by each replica."""
    rows = "min(sum by (model, pod) (dle_prediction_bin_total))"
    eventually(lambda: watcher.value(rows) >= count)


def test_every_alert_fires_for_its_reason_and_psi_is_that_of_all_rows(tmp_path: Path) -> None:
    paths = write_bundles(tmp_path)
    known = {model: read_reference(paths[model], SCHEMAS[model]) for model in MODELS}
    (tmp_path / "token-keys").write_text("ab" * 32)
    callers_key, callers_entry = auth.make("callers", ["predict", "feedback"])
    key, entry = auth.make("prometheus", ["metrics"])
    (tmp_path / "api-keys").write_text(callers_entry.line() + entry.line())
    headers = {"authorization": f"Bearer {callers_key}"}

    def replica(name: str) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        return serving(
            folder,
            *paths.values(),
            DLE_HOME=str(folder / "home"),
            DLE_API_KEYS_FILE=str(tmp_path / "api-keys"),
            DLE_TOKEN_KEYS_FILE=str(tmp_path / "token-keys"),
            DLE_MAX_WAIT="1m",  # the requests that are slow on purpose are not refused
            DLE_MAX_WAITING_ROWS="1000000",
        )

    with ExitStack() as stack:
        callers = Callers(stack.enter_context(httpx.Client(headers=headers, timeout=DEADLINE, limits=UNSHARED)))
        first = stack.enter_context(replica("first"))
        with replica("second") as second:
            replicas = {"first": first, "second": second}
            watcher = stack.enter_context(prometheus(tmp_path / "prometheus", key, urls(replicas)))
            for seed, server in enumerate(replicas.values()):
                for model in MODELS:
                    predictions = callers.predict(server, model, 800, seed)
                    callers.verify(server, predictions, wrong=0.1, error=0.5)
            wait_until_counted(watcher, callers, replicas)
            assert watcher.value('dle:accuracy:1h{model="income"}') == pytest.approx(0.9, abs=0.01)
            assert watcher.value('dle:mae:1h{model="price"}') == pytest.approx(0.5, abs=0.01)
            assert watcher.fired() == set()

            pool, enough = stack.enter_context(ThreadPoolExecutor()), Event()
            stack.callback(enough.set)
            uninterrupted = pool.submit(callers.keep_on, first, 1_000, 0.0, enough)
            interrupted = pool.submit(callers.keep_on, second, 2_000, 0.0, enough)
            wait_for_rows(watcher, 900)
            for process in reversed(second.processes()):  # the launcher last, or its children would be gone by then
                process.kill()
            assert isinstance(interrupted.exception(DEADLINE), httpx.TransportError)
        watcher.wait_for_alert("DleDown")
        enough.set()
        uninterrupted.result()

        replicas["second"] = second = stack.enter_context(replica("in place of the second"))
        watcher.scrape(urls(replicas))
        enough = Event()
        stack.callback(enough.set)
        going_on = [
            pool.submit(callers.keep_on, server, seed, -1.0, enough)
            for seed, server in zip((3_000, 4_000), replicas.values(), strict=True)
        ]
        wait_for_rows(watcher, 500)
        enough.set()
        for one in going_on:
            one.result()
        wait_until_counted(watcher, callers, replicas)
        for model, schema in SCHEMAS.items():
            assert sum(map(len, callers.sent[model])) == len(callers.answered[model]) >= 2_000
            features = feature_psi(callers.sent[model], schema, known[model])
            recorded = watcher.query(f'dle:feature_psi:1h{{model="{model}"}}')
            assert {labels["feature"]: value for labels, value in recorded} == pytest.approx(features, abs=0.01)
            answers = prediction_psi(callers.answered[model], known[model])
            assert watcher.value(f'dle:prediction_psi:1h{{model="{model}"}}') == pytest.approx(answers, abs=0.01)

        shifted = [
            (server, callers.predict(server, model, 2_000, seed, shift=-3.0))
            for seed, server in enumerate(replicas.values(), 10)
            for model in MODELS
        ]
        watcher.wait_for_alert("DleFeatureDrift")
        watcher.wait_for_alert("DlePredictionDrift")
        watcher.wait_for_alert("DleEstimatedAccuracyDrop")
        told = [one["annotations"] for one in watcher.alerts()]
        assert all("<" not in text for annotations in told for text in annotations.values()), told
        assert watcher.fired() == {"DleDown", "DleFeatureDrift", "DlePredictionDrift", "DleEstimatedAccuracyDrop"}

        for server, predictions in shifted:
            callers.verify(server, predictions, wrong=0.5, error=2.0)
        watcher.wait_for_alert("DleAccuracyDrop")
        watcher.wait_for_alert("DleErrorGrowth")

        assert not {"DleInvalidRows", "DleErrors", "DleSlow"} & watcher.fired()

        def wrongly() -> None:
            assert callers.post(first, "/predict", {"rows": [{"age": "old"}]}).status_code == 400

        watcher.wait_for_alert("DleInvalidRows", wrongly)

        (prediction,) = callers.predict(first, "income", 1, 20)
        feedback = {"items": [{"id": prediction["id"], "actual": prediction["label"]}]}

        def in_vain() -> None:
            assert callers.post(first, "/feedback", feedback).status_code == 503

        other = stack.enter_context(closing(sqlite3.connect(first.home / "feedback.sqlite3", isolation_level=None)))
        other.execute("BEGIN IMMEDIATE")
        watcher.wait_for_alert("DleErrors", in_vain)
        other.execute("ROLLBACK")
        assert callers.post(first, "/feedback", feedback).json()["accepted"] == 1

        assert "DleSlow" not in watcher.fired()
        rows = {"rows": bundles.rows(bundles.INCOME, 20_000)}

        def slowly() -> None:
            with ThreadPoolExecutor(6) as pool:
                answers = pool.map(lambda _: callers.post(first, "/predict?ids=false", rows), range(6))
            assert {answer.status_code for answer in answers} == {200}

        watcher.wait_for_alert("DleSlow", slowly)
        assert watcher.fired() == {rule["alert"] for rule in promtool.rules("alert")}
