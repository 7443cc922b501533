"""Statistics against their textbook forms and SciPy, verdicts at their bounds, and how often chance alone alarms."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from dle_bundle.drift import verdict as drift
from dle_bundle.drift.counting import BinCounts
from dle_bundle.drift.reference import Bins, Reference, number_bins, smoothed

RNG = np.random.default_rng(0)


def bins_of(*fractions: float) -> Bins:
    names = tuple(f"b{index}" for index in range(len(fractions)))
    return Bins(names=names, fractions=fractions, categories=names)


def compare(counts: list[int], bins: Bins, rows: int = 10_000, comparisons: int = 1) -> drift.Shift:
    return drift.compare(np.array(counts, dtype=np.float64), bins, reference_rows=rows, comparisons=comparisons)


def test_the_numbers_are_those_of_the_textbook() -> None:
    found = compare([300, 500, 200], bins_of(0.5, 0.25, 0.25), rows=10**12)
    current = np.array([300.5, 500.5, 200.5]) / 1001.5
    reference = np.array([0.5, 0.25, 0.25])
    assert found.psi == pytest.approx(stats.entropy(current, reference) + stats.entropy(reference, current))
    assert found.jensen_shannon == pytest.approx(distance.jensenshannon(current, reference, base=2))
    assert found.chi2 == pytest.approx(stats.chisquare([300, 500, 200], 1000 * reference).statistic)
    assert (found.n, found.verdict) == (1000, "drift")


def test_a_small_reference_is_a_sample_too() -> None:
    whole = compare([300, 500, 200], bins_of(0.5, 0.25, 0.25), rows=10**12).chi2
    half = compare([300, 500, 200], bins_of(0.5, 0.25, 0.25), rows=1000).chi2
    assert whole is not None
    assert half == pytest.approx(whole / 2)


def test_a_single_unseen_value_is_no_sensation() -> None:
    found = compare([500, 499, 1], bins_of(0.5, 0.499999, 0.000001))
    assert found.chi2 is not None
    assert found.chi2 < 2
    assert found.verdict == "ok"


@pytest.mark.parametrize("bins", [2, 3, 5, 13, 32])
@pytest.mark.parametrize("comparisons", [1, 14, 200])
def test_critical_values_are_scipys(bins: int, comparisons: int) -> None:
    exact = stats.chi2.ppf(1 - drift.SIGNIFICANCE / comparisons, bins - 1)
    assert drift.critical_value(bins, comparisons) == pytest.approx(exact, rel=1e-6)


def test_verdicts_need_effect_significance_and_rows() -> None:
    even = bins_of(0.5, 0.5)
    assert compare([150, 49], even).verdict == "insufficient"
    assert compare([150, 50], even).verdict == "drift"
    slight = compare([5_500, 4_500], even)  # significant, no effect
    assert slight.chi2 is not None
    assert slight.chi2 > slight.critical_value
    assert slight.verdict == "ok"
    many = bins_of(*[1 / 100] * 100)
    chance = compare(np.bincount(RNG.integers(0, 100, 210), minlength=100).tolist(), many)  # effect, by chance
    assert chance.psi is not None
    assert chance.psi > drift.PSI_LIMIT
    assert chance.verdict == "ok"


def test_without_rows_there_are_no_numbers() -> None:
    found = compare([0, 0], bins_of(0.5, 0.5))
    assert (found.verdict, found.n, found.psi, found.chi2, found.jensen_shannon) == (
        "insufficient",
        0,
        None,
        None,
        None,
    )


def test_chance_alone_does_not_alarm_and_half_a_deviation_does() -> None:
    bins = number_bins(RNG.normal(size=20_000).astype(np.float32))

    def alarms(values: np.ndarray) -> bool:
        counts = np.bincount(bins.assign_numbers(values.astype(np.float32)), minlength=len(bins.names))
        return drift.compare(counts, bins, reference_rows=20_000, comparisons=14).verdict == "drift"

    assert not any(alarms(RNG.normal(size=200)) for _ in range(500))
    shifted = [RNG.normal(0.5, 1, size=500) for _ in range(200)]
    assert sum(any(alarms(values[:rows]) for rows in range(200, 501, 50)) for values in shifted) >= 195


def test_the_worst_comes_first() -> None:
    bins = bins_of(0.5, 0.5)
    features = {"quiet": bins, "moved": bins, "few": bins, "wild": bins}
    reference = Reference(
        rows=1000, features=features, prediction_rows=1000, prediction=bins, calibration={}, metrics={}
    )
    counts = {"quiet": [500, 500], "moved": [800, 200], "few": [10, 0], "wild": [1000, 0]}
    tally = BinCounts({name: np.array(values, float) for name, values in counts.items()}, np.zeros(2), 0, 0)
    assert [shift.feature for shift in drift.feature_shifts(tally, reference)] == ["wild", "moved", "quiet", "few"]
    assert drift.prediction_shift(tally, reference).verdict == "insufficient"
    assert drift.worst(["ok", "insufficient", "drift"]) == "drift"
    assert drift.worst(["insufficient", "ok"]) == "ok"
    assert drift.worst([]) == "insufficient"


@pytest.mark.parametrize(
    ("n", "correct", "verdict"),
    [(199, 0, "insufficient"), (200, 160, "ok"), (10_000, 7_501, "ok"), (10_000, 7_400, "drift"), (200, 149, "ok")],
)
def test_accuracy_is_judged_by_fall_and_error(n: int, correct: int, verdict: str) -> None:
    found = drift.accuracy(n, correct, 0.8)
    assert found.verdict == verdict
    assert found.score == correct / n
    assert found.difference == pytest.approx(correct / n - 0.8)
    assert found.standard_error == pytest.approx(math.sqrt(correct / n * (1 - correct / n) / n))


def test_a_score_without_reference_is_not_judged() -> None:
    assert drift.accuracy(1000, 10, None).verdict == "insufficient"
    assert drift.accuracy(0, 0, 0.9).score is None


def test_estimated_accuracy_is_the_mean_confidence() -> None:
    confidence = RNG.uniform(0.5, 1, 5_000)
    tally = BinCounts({}, np.array([5_000.0]), confidence.sum(), (confidence * (1 - confidence)).sum())
    found = drift.estimated_accuracy(tally, 0.9)
    assert found.score == pytest.approx(confidence.mean())
    drawn = [(RNG.random(5_000) < confidence).mean() for _ in range(400)]
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.15)
    assert found.verdict == "drift"


def test_mean_absolute_error_is_judged_by_growth_and_error() -> None:
    errors = RNG.normal(size=1_000)
    sums = float(np.abs(errors).sum()), float((errors**2).sum())
    found = drift.mean_absolute_error(1_000, *sums, reference=0.6)
    assert found.score == pytest.approx(np.abs(errors).mean())
    assert found.standard_error == pytest.approx(np.abs(errors).std() / math.sqrt(1_000))
    assert found.verdict == "drift"
    assert drift.mean_absolute_error(1_000, *sums, reference=0.7).verdict == "ok"
    assert drift.mean_absolute_error(100, *sums, reference=0.1).verdict == "insufficient"


def test_shares_stand_beside_their_reference() -> None:
    bins = bins_of(*smoothed(np.array([1, 3])))
    shares = drift.shares(np.array([30.0, 10.0]), bins)
    assert [(share.bin, share.count, share.fraction) for share in shares] == [("b0", 30, 0.75), ("b1", 10, 0.25)]
    assert shares[0].reference == bins.fractions[0]
    assert drift.shares(np.zeros(2), bins)[0].fraction is None
