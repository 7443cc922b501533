"""Every recording rule against numbers computed here, from the samples of two replicas, one restarted on the way."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from tests.unit.k8s import replicas
from tests.unit.k8s.promtool import MINUTES, NOW, Expected, Series, assert_recorded, rules
from tests.unit.k8s.replicas import TARGET

from dle_bundle.drift.reference import Bins
from dle_bundle.drift.verdict import compare

ODD = 'sägen "{x="1"}" \\ .*'
NAMES = ("below", "[0, 1)", 'say "hi", {b}', "missing", "ungesehen ✓")
COUNTS = (3.0, 1.0, 5.0, 0.0, 2.0)
REFERENCE = (0.3, 0.25, 0.2, 0.2499, 0.0001)
HOUR, RECENT = 60, 5
INCOME, PRICE = {"model": "income", "version": "3"}, {"model": "price", "version": "1"}


def restarted(series: Sequence[Series]) -> list[Series]:
    """The second replica's counters begin again 30 minutes before the end; its gauges do not change."""
    return [
        Series(one.name, one.labels, one.start, one.step, restart=90 if one.labels["pod"] == "p2" else None)
        for one in series
    ]


def increase(series: Sequence[Series], name: str, minutes: int = HOUR, **labels: str) -> float:
    """How much the counters of both replicas grew, resets allowed for."""
    total = 0.0
    for one in series:
        if one.name == name and labels.items() <= one.labels.items():
            samples = one.samples()[MINUTES - minutes - 1 :]
            total += sum(b - a if b >= a else b for a, b in pairwise(samples))
    return total


def drift(subject: str, counts: Sequence[float], labels: dict[str, str], reference_rows: float) -> list[Expected]:
    """What the rules should say, from the formulas of the statistics."""
    n, size = sum(counts), len(counts)
    found = []
    psi = chi2 = divergence = 0.0
    for name, count, reference in zip(NAMES, counts, REFERENCE, strict=True):
        current, expected = (count + 0.5) / (n + size / 2), n * reference
        psi += (current - reference) * math.log(current / reference)
        middle = (current + reference) / 2
        divergence += (current * math.log2(current / middle) + reference * math.log2(reference / middle)) / 2
        chi2 += (count - expected) ** 2 / max(expected, 1.0)
        one = {**labels, "bin": name}
        found += [
            Expected(f"dle:{subject}_bin:increase1h", one, count),
            Expected(f"dle:{subject}_reference:fraction", one, reference),
            Expected(f"dle:{subject}_fraction:1h", one, current),
            Expected(f"dle:{subject}_expected:1h", one, expected),
        ]
    return [
        *found,
        Expected(f"dle:{subject}_rows:increase1h", labels, n),
        Expected(f"dle:{subject}_psi:1h", labels, psi),
        Expected(f"dle:{subject}_jensen_shannon:1h", labels, math.sqrt(divergence)),
        Expected(f"dle:{subject}_chi2:1h", labels, chi2 * reference_rows / (reference_rows + n), tolerance=0.005),
    ]


def binned() -> tuple[list[Series], list[Expected]]:
    series = restarted(
        [
            *replicas.bins("feature", COUNTS, REFERENCE, rows=500, feature=ODD, names=NAMES, labels=INCOME),
            *replicas.bins("prediction", COUNTS, REFERENCE, rows=300, names=NAMES, labels=INCOME),
        ]
    )
    labels = {**TARGET, **INCOME}
    expected = []
    for subject, own, rows in (("feature", {**labels, "feature": ODD}, 500), ("prediction", labels, 300)):
        counts = [increase(series, f"dle_{subject}_bin_total", bin=name) for name in NAMES]
        assert counts[0] == 3 * 119  # the minute in which it was restarted is lost
        expected += drift(subject, counts, own, rows)
    return series, expected


def judged() -> tuple[list[Series], list[Expected]]:
    """A classifier and a regression, and what the rules should say of their quality."""
    series = restarted(
        [
            *replicas.feedback(8, 2, INCOME),
            *replicas.score("accuracy", 0.93, INCOME),
            *replicas.errors(4, 1.5, 0.7, PRICE),
            *replicas.score("mae", 1.1, PRICE),
        ]
    )
    income, price = {**TARGET, **INCOME}, {**TARGET, **PRICE}
    right, wrong = (increase(series, "dle_feedback_total", correct=correct) for correct in ("true", "false"))
    accuracy = right / (right + wrong)
    n = increase(series, "dle_feedback_total", model="price")
    mae = increase(series, "dle_absolute_error_total") / n
    variance = increase(series, "dle_squared_error_total") / n - mae**2
    return series, [
        Expected("dle:feedback_rows:increase1h", income, right + wrong),
        Expected("dle:feedback_rows:increase1h", price, n),
        Expected("dle:accuracy:1h", income, accuracy),
        Expected("dle:accuracy_drop:1h", income, 0.93 - accuracy, tolerance=0.005),
        Expected("dle:accuracy_standard_error:1h", income, math.sqrt(accuracy * (1 - accuracy) / (right + wrong))),
        Expected("dle:mae:1h", price, mae),
        Expected("dle:mae_growth:1h", price, mae - 1.1, tolerance=0.005),
        Expected("dle:mae_standard_error:1h", price, math.sqrt(variance / n)),
    ]


def estimated() -> tuple[list[Series], list[Expected]]:
    series = restarted([*replicas.confidence(0.8, 0.1), *replicas.score("accuracy", 0.93)])
    labels = {**TARGET, **replicas.MODEL}
    n = increase(series, "dle_prediction_bin_total")
    accuracy = increase(series, "dle_expected_correct_total") / n
    band = math.sqrt(increase(series, "dle_expected_correct_variance_total")) / n
    return series, [
        Expected("dle:estimated_accuracy:1h", labels, accuracy),
        Expected("dle:estimated_accuracy_drop:1h", labels, 0.93 - accuracy, tolerance=0.005),
        Expected("dle:estimated_accuracy_standard_error:1h", labels, band),
    ]


def asked() -> tuple[list[Series], list[Expected]]:
    codes = {200: 90.0, 400: 7.0, 500: 1.0, 503: 2.0}
    series = [
        *replicas.requests("/predict", codes),
        *replicas.durations("/predict", fast=98, slow=2),
        *replicas.requests("/feedback", {200: 0.0, 503: 0.0}),
        *replicas.durations("/feedback", fast=0),
    ]
    labels = {**TARGET, "route": "/predict"}
    total = increase(series, "dle_requests_total", RECENT)
    failed = sum(increase(series, "dle_requests_total", RECENT, code=code) for code in ("500", "503"))
    refused = increase(series, "dle_requests_total", RECENT, code="400")
    return series, [
        Expected("dle:requests:rate5m", labels, total / (RECENT * 60)),
        Expected("dle:requests:rate5m", {**labels, "route": "/feedback"}, 0),
        Expected("dle:request_errors:ratio5m", labels, failed / total),
        Expected("dle:request_refusals:ratio5m", labels, refused / total),
        # the 99th of a hundred is the middle one of the two between 0.5 and 1 s
        Expected("dle:request_duration_seconds:p99_5m", labels, 0.75),
    ]


def test_the_service_computes_the_same() -> None:
    _, expected = binned()
    for subject, rows in (("feature", 500), ("prediction", 300)):
        counts = [one.value for one in expected if one.rule == f"dle:{subject}_bin:increase1h"]
        found = compare(
            np.array(counts), Bins(names=NAMES, fractions=REFERENCE), reference_rows=rows, comparisons=1, feature=ODD
        )
        (psi,) = [one.value for one in expected if one.rule == f"dle:{subject}_psi:1h"]
        (distance,) = [one.value for one in expected if one.rule == f"dle:{subject}_jensen_shannon:1h"]
        (chi2,) = [one.value for one in expected if one.rule == f"dle:{subject}_chi2:1h"]
        assert (found.psi, found.jensen_shannon, found.chi2) == pytest.approx((psi, distance, chi2))


def test_drift_of_inputs_and_answers() -> None:
    assert_recorded(*binned())


def test_accuracy_and_error_with_labels() -> None:
    assert_recorded(*judged())


def test_accuracy_without_labels() -> None:
    assert_recorded(*estimated())


def test_requests() -> None:
    assert_recorded(*asked())


def test_every_recording_rule_is_tested() -> None:
    tested = {one.rule for make in (binned, judged, estimated, asked) for one in make()[1]}
    assert tested == {rule["record"] for rule in rules("record")}
    assert NOW > 90 + RECENT
