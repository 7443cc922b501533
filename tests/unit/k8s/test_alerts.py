"""Every alert in a case where it fires, alone, and in cases that come close to it and stay silent."""

import re
from collections.abc import Callable, Iterable

import pytest
from tests.unit.k8s import replicas
from tests.unit.k8s.promtool import NOW, Series, assert_alerts, rules, run_test
from tests.unit.k8s.replicas import (
    EVEN,
    SKEWED,
    SLIGHT,
    UNIFORM,
    confidence,
    durations,
    errors,
    feature,
    feedback,
    healthy,
    prediction,
    requests,
    score,
    targets,
)

from dle_bundle.drift import verdict

FEW = tuple(count / 13 for count in SKEWED)
"""185 rows an hour."""
JUST = tuple(count / 11 for count in SKEWED)
"""218 rows an hour."""
MANY = tuple(100 * count for count in SKEWED)
LATELY = NOW - 5
WELL = list(targets())

FIRES: dict[str, dict[str, Callable[[], Iterable[Series]]]] = {
    "DleFeatureDrift": {
        "shifted": lambda: feature(SKEWED),
        "just enough rows": lambda: feature(JUST),
        "one of two": lambda: [*feature(SKEWED), *replicas.bins("feature", EVEN, feature="other")],
        "one replica restarted": lambda: [
            Series(one.name, one.labels, one.start, one.step, restart=80 if one.labels["pod"] == "p1" else None)
            for one in feature(SKEWED)
        ],
        "the new version only": lambda: [
            *feature(labels={"model": "income", "version": "1"}),
            *feature(SKEWED, labels={"model": "income", "version": "2"}),
        ],
    },
    "DlePredictionDrift": {
        "shifted": lambda: prediction(SKEWED),
        "a regression": lambda: [*prediction(SKEWED), *errors(5, 1.0, 0.5), *score("mae", 1.0)],
    },
    "DleAccuracyDrop": {
        "three in ten are wrong": lambda: [*feedback(7, 3), *score("accuracy", 0.9)],
        "all are wrong": lambda: [*feedback(0, 3), *score("accuracy", 0.9)],
    },
    "DleErrorGrowth": {
        "half as much again": lambda: [*errors(5, 1.5, 0.5), *score("mae", 1.0)],
        "the same error each time": lambda: [*errors(5, 1.5, 0.0), *score("mae", 1.0)],
    },
    "DleEstimatedAccuracyDrop": {
        "unsure": lambda: [*confidence(0.7, 0.2), *score("accuracy", 0.9)],
    },
    "DleErrors": {
        "predictions": lambda: requests(codes={200: 95.0, 503: 5.0}),
        "feedback, beside many predictions": lambda: [
            *requests(codes={200: 10_000.0, 503: 0.0}),
            *requests("/feedback", {200: 0.0, 503: 2.0}),
        ],
    },
    "DleSlow": {
        "two in a hundred": lambda: durations(fast=98, slow=2),
        "beyond the last bucket": lambda: durations("/models/{model}/predict", fast=90, stuck=10),
    },
    "DleInvalidRows": {
        "one in ten": lambda: requests("/models/{model}/predict", {200: 90.0, 400: 10.0}),
    },
    "DleDown": {
        "one cannot be scraped": lambda: targets(up=0.0, loaded=False),
        "one has no model": lambda: targets(loaded=False),
        "there is none": lambda: targets(job="another"),
    },
}
SILENT: dict[str, dict[str, Callable[[], Iterable[Series]]]] = {
    "DleFeatureDrift": {
        "fewer than 200 rows": lambda: feature(FEW),
        "a shift that is sure but small": lambda: feature([100 * count for count in SLIGHT]),
        "a small reference, so it may be chance": lambda: feature(JUST, rows=40),
        "no reference": lambda: feature(SKEWED, reference=()),
        "more than an hour ago": lambda: feature(SKEWED, until=50),
        "for five minutes": lambda: feature(MANY, since=LATELY),
    },
    "DlePredictionDrift": {
        "fewer than 200 rows": lambda: prediction(FEW),
        "a shift that is sure but small": lambda: prediction([100 * count for count in SLIGHT]),
        "a small reference, so it may be chance": lambda: prediction(JUST, rows=40),
        "no reference": lambda: prediction(SKEWED, reference=()),
        "no rows": lambda: prediction([0.0] * 4),
        "for five minutes": lambda: prediction(MANY, since=LATELY),
    },
    "DleAccuracyDrop": {
        "fewer than 200 labels": lambda: [*feedback(0.8, 0.8), *score("accuracy", 0.9)],
        "a drop that is sure but small": lambda: [*feedback(860, 140), *score("accuracy", 0.9)],
        "a drop that may be chance": lambda: [*feedback(1.4, 0.36), *score("accuracy", 0.87)],
        "better than the reference": lambda: [*feedback(10, 0), *score("accuracy", 0.9)],
        "no reference": lambda: feedback(5, 5),
        "no feedback": lambda: [*feedback(0, 0), *score("accuracy", 0.9)],
        "a regression": lambda: [*errors(5, 1.0, 0.5), *score("mae", 1.0)],
        "more than an hour ago": lambda: [*feedback(5, 5, until=50), *score("accuracy", 0.9)],
        "for five minutes": lambda: [*feedback(200, 200, since=LATELY), *score("accuracy", 0.9)],
    },
    "DleErrorGrowth": {
        "fewer than 200 values": lambda: [*errors(1.5, 3.0, 0.5), *score("mae", 1.0)],
        "a growth that is sure but small": lambda: [*errors(500, 1.15, 0.5), *score("mae", 1.0)],
        "a growth that may be chance": lambda: [*errors(2, 1.5, 4.0), *score("mae", 1.0)],
        "no reference": lambda: errors(5, 2.0, 0.5),
        "no feedback": lambda: [*errors(0, 2.0, 0.5), *score("mae", 1.0)],
        "a classifier": lambda: [*feedback(9, 1), *score("accuracy", 0.9), *score("mae", 0.1)],
        "for five minutes": lambda: [*errors(200, 2.0, 0.5, since=LATELY), *score("mae", 1.0)],
    },
    "DleEstimatedAccuracyDrop": {
        "fewer than 200 rows": lambda: [*confidence(0.7, 0.2, (0.5, 0.5, 0.3, 0.3)), *score("accuracy", 0.9)],
        "a drop that is sure but small": lambda: [
            *confidence(0.86, 0.1, [100 * count for count in EVEN]),
            *score("accuracy", 0.9),
        ],
        "a drop that may be chance": lambda: [*confidence(0.8, 0.25, (0.5,) * 4), *score("accuracy", 0.87)],
        "no reference": lambda: confidence(0.5, 0.25),
        "no rows": lambda: [*prediction([0.0] * 4), *each_at_zero(), *score("accuracy", 0.9)],
        "a regression": lambda: [*prediction(), *score("mae", 1.0)],
        "for five minutes": lambda: [*confidence(0.7, 0.2, MANY, since=LATELY), *score("accuracy", 0.9)],
    },
    "DleErrors": {
        "one in two hundred": lambda: requests(codes={200: 995.0, 503: 5.0}),
        "not ready yet": lambda: requests("/readyz", {200: 0.0, 503: 30.0}),
        "nobody asks": lambda: requests(codes={200: 0.0, 503: 0.0}),
        "the client left": lambda: requests(codes={200: 50.0, 499: 50.0}),
        "until it was mended": lambda: requests(codes={503: 50.0}, until=NOW - 20),
        "once, hardly asked": lambda: requests("/drift", {200: 0.0, 500: 1.0}, since=LATELY, until=LATELY + 1),
    },
    "DleSlow": {
        "one in two hundred": lambda: durations(fast=199, slow=1),
        "another route": lambda: durations("/metrics", fast=0, slow=10),
        "for five minutes": lambda: durations(fast=0, slow=10, since=LATELY),
        "nobody asks": lambda: durations(fast=0),
    },
    "DleInvalidRows": {
        "one in fifty": lambda: requests(codes={200: 98.0, 400: 2.0}),
        "another route": lambda: requests("/feedback", {200: 50.0, 400: 50.0}),
        "for five minutes": lambda: requests(codes={200: 50.0, 400: 50.0}, since=LATELY),
        "another fault": lambda: requests(codes={200: 80.0, 413: 20.0}),
        "nobody asks": lambda: requests(codes={200: 0.0, 400: 0.0}),
    },
    "DleDown": {
        "one was removed": lambda: targets(gone=60),
        "for three minutes": lambda: targets(down=NOW - 3),
        "another job is down": lambda: [*targets(), *targets_of_another_job()],
    },
}


def each_at_zero() -> Iterable[Series]:
    """The series of the estimate before anything was answered."""
    yield from replicas.each("dle_expected_correct_total", replicas.MODEL)
    yield from replicas.each("dle_expected_correct_variance_total", replicas.MODEL)


def targets_of_another_job() -> Iterable[Series]:
    yield Series("up", {"job": "postgres", "instance": "p9:5432"})


def cases(table: dict[str, dict[str, Callable[[], Iterable[Series]]]]) -> list[object]:
    return [
        pytest.param(alert, make, id=f"{alert}-{name}")
        for alert, named in table.items()
        for name, make in named.items()
    ]


@pytest.mark.parametrize(("alert", "make"), cases(FIRES))
def test_it_fires_alone(alert: str, make: Callable[[], Iterable[Series]]) -> None:
    assert_alerts([*make(), *(WELL if alert != "DleDown" else [])], [alert])


@pytest.mark.parametrize(("alert", "make"), cases(SILENT))
def test_it_stays_silent(alert: str, make: Callable[[], Iterable[Series]]) -> None:
    assert_alerts([*make(), *(WELL if alert != "DleDown" else [])], [])


def test_a_healthy_service_is_silent() -> None:
    assert_alerts(healthy(), [])


def test_every_alert_is_tested_both_ways() -> None:
    alerts = {rule["alert"] for rule in rules("alert")}
    assert set(FIRES) == alerts
    assert set(SILENT) == alerts


def test_every_alert_says_how_grave_it_is_and_what_to_look_at() -> None:
    for rule in rules("alert"):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+m", rule["for"])
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.search(r"GET /|dle_stage_duration_seconds", rule["annotations"]["description"]), rule["alert"]


def test_limits_are_those_of_the_service() -> None:
    conditions = {rule["alert"]: rule["expr"] for rule in rules("alert")}
    for alert in ("DleFeatureDrift", "DlePredictionDrift"):
        assert f"psi:1h > {verdict.PSI_LIMIT}\n" in conditions[alert]
    for alert in ("DleAccuracyDrop", "DleEstimatedAccuracyDrop"):
        assert f"drop:1h > {verdict.SCORE_FALL}\n" in conditions[alert]
    assert f"dle:mae:1h > {verdict.ERROR_GROWTH} * max" in conditions["DleErrorGrowth"]
    for alert in ("DleAccuracyDrop", "DleEstimatedAccuracyDrop", "DleErrorGrowth"):
        assert f"> {verdict.STANDARD_ERRORS:g} * dle:" in conditions[alert]
    enough = [alert for alert, condition in conditions.items() if f":increase1h >= {verdict.LEAST_ROWS}" in condition]
    assert len(enough) == 5


def test_an_alert_names_its_feature_and_model() -> None:
    summary = "Input age of income is not distributed as in training"
    description = (
        "The population stability index of age over the last hour is 0.23 (model income, version 1), above 0.2 and "
        "beyond chance. GET /drift?bins=true shows which values became more or less frequent; look for a changed "
        "source, unit or spelling first. If the world has changed, train again."
    )
    labels = {**replicas.TARGET, **replicas.MODEL, "feature": "age", "severity": "warning"}
    told = {"exp_labels": labels, "exp_annotations": {"summary": summary, "description": description}}
    run_test(
        {
            "interval": "1m",
            "input_series": [one.written() for one in [*feature(SKEWED, UNIFORM), *WELL]],
            "alert_rule_test": [{"eval_time": f"{NOW}m", "alertname": "DleFeatureDrift", "exp_alerts": [told]}],
        }
    )
