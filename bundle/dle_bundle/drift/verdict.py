"""Makes the drift verdicts: whether inputs, predictions and scores have shifted from the reference.

A verdict of drift needs a large effect (population stability index), significance (χ², with Bonferroni's correction for
the number of features) and enough rows: the index alone gives false alarms on small windows, χ² alone on large ones.
The recording rules in `k8s/monitoring` compute the same statistics from the same counts.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle.drift.counting import BinCounts
from dle_bundle.drift.reference import SMOOTHING, Bins, Reference

LEAST_ROWS = 200
PSI_LIMIT = 0.2
SIGNIFICANCE = 0.001
SCORE_FALL = 0.05
"""The fall of the accuracy from which on it counts as drift."""
ERROR_GROWTH = 1.2
"""The factor of the mean absolute error from which on it counts as drift."""
STANDARD_ERRORS = 3.0

Verdict = Literal["drift", "ok", "insufficient"]
VERDICTS: tuple[Verdict, ...] = ("drift", "ok", "insufficient")
"""By priority: the first one that occurs is the overall verdict."""


class BinShare(msgspec.Struct, frozen=True):
    """One bin: its count, the fraction of all rows, and the fraction in the reference."""

    bin: str
    count: int
    fraction: float | None
    reference: float


class Shift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the distribution of `n` rows is from its reference; the statistics are null without rows.

    `psi`: population stability index, at least 0. `jensen_shannon`: Jensen-Shannon distance to base 2, from 0 to 1.
    `chi2`: significant above `critical_value`.
    """

    feature: str | msgspec.UnsetType = msgspec.UNSET
    verdict: Verdict
    n: int
    psi: float | None
    jensen_shannon: float | None
    chi2: float | None
    critical_value: float
    bins: Sequence[BinShare] | msgspec.UnsetType = msgspec.UNSET


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A score over `n` rows and the model's score on its test part; `difference` is score − reference."""

    metric: str
    verdict: Verdict
    n: int
    score: float | None
    reference: float | None
    difference: float | None
    standard_error: float | None


def compare(
    counts: npt.NDArray[Any], bins: Bins, *, reference_rows: int, comparisons: int, feature: str | None = None
) -> Shift:
    """Compare counts (B,) with the fractions of `bins`, which come from `reference_rows` rows.

    PSI is Σ (c − r)·ln(c/r) over smoothed fractions. χ² is Pearson's with two changes. Expected counts below one are
    raised to one, since a single unseen value would otherwise outweigh everything else. It is scaled by N/(N + n),
    since the reference of N rows is a sample too. `comparisons` is the number of tests for Bonferroni's correction.
    """
    n = int(counts.sum())
    critical = critical_value(len(bins.names), comparisons)
    name = msgspec.UNSET if feature is None else feature
    if not n:
        return Shift(
            feature=name, verdict="insufficient", n=0, psi=None, jensen_shannon=None, chi2=None, critical_value=critical
        )
    reference = np.asarray(bins.fractions)
    current = (counts + SMOOTHING) / (n + SMOOTHING * len(counts))
    psi = float(((current - reference) * np.log(current / reference)).sum())
    expected = n * reference
    chi2 = float(((counts - expected) ** 2 / np.maximum(expected, 1)).sum()) * reference_rows / (reference_rows + n)
    return Shift(
        feature=name,
        verdict=_verdict(n, psi > PSI_LIMIT and chi2 > critical),
        n=n,
        psi=psi,
        jensen_shannon=_jensen_shannon(current, reference),
        chi2=chi2,
        critical_value=critical,
    )


def shares(counts: npt.NDArray[Any], bins: Bins) -> list[BinShare]:
    """The count, the fraction and the reference fraction of each bin, in order."""
    n = int(counts.sum())
    return [
        BinShare(name, int(count), float(count) / n if n else None, fraction)
        for name, count, fraction in zip(bins.names, counts, bins.fractions, strict=True)
    ]


def feature_shifts(counted: BinCounts, reference: Reference) -> list[Shift]:
    """The shift of every monitored feature: drifted features first, then by falling PSI."""
    found = [
        compare(
            counts,
            reference.features[name],
            reference_rows=reference.rows,
            comparisons=len(reference.features),
            feature=name,
        )
        for name, counts in counted.features.items()
    ]
    return sorted(found, key=lambda shift: (VERDICTS.index(shift.verdict), -(shift.psi or 0.0)))


def prediction_shift(counted: BinCounts, reference: Reference) -> Shift:
    """The shift of the predictions from those on validation rows."""
    return compare(counted.prediction, reference.prediction, reference_rows=reference.prediction_rows, comparisons=1)


def accuracy(n: int, correct: int, reference: float | None) -> Score:
    """The accuracy of `n` rows with feedback."""
    score = correct / n if n else None
    error = None if score is None else math.sqrt(score * (1 - score) / n)
    return _fallen("accuracy", n, score, reference, error)


def estimated_accuracy(counted: BinCounts, reference: float | None) -> Score:
    """The accuracy estimated from the calibrated confidences p, without labels; standard error √Σp(1 − p)/n.

    This is the simplest form of confidence-based performance estimation (NannyML's CBPE). It is correct as long as the
    model is calibrated: it shows the effect of covariate shift, but not of a changed relation between inputs and
    target.
    """
    n = counted.rows
    score = counted.expected_correct / n if n else None
    error = math.sqrt(counted.expected_variance) / n if n else None
    return _fallen("accuracy", n, score, reference, error)


def mean_absolute_error(n: int, absolute: float, squared: float, reference: float | None) -> Score:
    """The mean absolute error of `n` rows with feedback, from the sums of |e| and e²."""
    score = absolute / n if n else None
    error = None if score is None else math.sqrt(max(squared / n - score**2, 0.0) / n)
    grown = (
        score is not None
        and reference is not None
        and error is not None
        and score > ERROR_GROWTH * reference
        and score - reference > STANDARD_ERRORS * error
    )
    return _score("mae", n, score, reference, error, grown)


@lru_cache(maxsize=1024)
def critical_value(bins: int, comparisons: int) -> float:
    """The critical value of χ² with `bins` − 1 degrees of freedom, at 0.1 % for all `comparisons` together."""
    degrees, chance = max(bins - 1, 1), SIGNIFICANCE / max(comparisons, 1)
    low, high = 0.0, 1.0
    while _exceeded(high, degrees) > chance:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _exceeded(middle, degrees) > chance else (low, middle)
    return high


def _exceeded(value: float, degrees: int) -> float:
    """The probability that χ² exceeds `value`, by the recurrence of the incomplete gamma function (DLMF 8.8.2)."""
    half = value / 2
    first, total = (0.5, math.erfc(math.sqrt(half))) if degrees % 2 else (0.0, 0.0)
    powers = (first + step for step in range(degrees // 2))
    return total + sum(math.exp(power * math.log(half) - half - math.lgamma(power + 1)) for power in powers)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """`drift` if any verdict is drift, else `ok` if any is ok, else `insufficient`."""
    return min(verdicts, key=VERDICTS.index, default="insufficient")


def _fallen(metric: str, n: int, score: float | None, reference: float | None, error: float | None) -> Score:
    fallen = (
        score is not None
        and reference is not None
        and error is not None
        and reference - score > SCORE_FALL
        and reference - score > STANDARD_ERRORS * error
    )
    return _score(metric, n, score, reference, error, fallen)


def _score(
    metric: str, n: int, score: float | None, reference: float | None, error: float | None, moved: bool
) -> Score:
    difference = None if score is None or reference is None else score - reference
    return Score(
        metric=metric,
        verdict="insufficient" if reference is None else _verdict(n, moved),
        n=n,
        score=score,
        reference=reference,
        difference=difference,
        standard_error=error,
    )


def _verdict(n: int, moved: bool) -> Verdict:
    if n < LEAST_ROWS:
        return "insufficient"
    return "drift" if moved else "ok"


def _jensen_shannon(current: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    middle = (current + reference) / 2
    divergence = (current * np.log2(current / middle) + reference * np.log2(reference / middle)).sum() / 2
    return math.sqrt(max(float(divergence), 0.0))
