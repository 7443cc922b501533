"""What two replicas expose, as series for promtool: every function makes one subject's, healthy unless told otherwise.

Amounts are per minute and replica, so an hour has 120 times as much.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.unit.k8s.promtool import Labels, Series

TARGET = {"namespace": "dle", "job": "dle"}
REPLICAS = ("p1", "p2")
UNIFORM = (0.25, 0.25, 0.25, 0.25)
EVEN = (5.0, 5.0, 5.0, 5.0)
SKEWED = (2.0, 4.0, 6.0, 8.0)
"""Over EVEN's reference: a population stability index of 0.23."""
SLIGHT = (4.5, 5.0, 5.0, 5.5)
MODEL = {"model": "income", "version": "1"}


def each(name: str, labels: Labels, **values: Any) -> Iterator[Series]:
    """The same series of both replicas."""
    for replica in REPLICAS:
        yield Series(name, {**TARGET, "instance": f"{replica}:3000", "pod": replica, **labels}, **values)


def bins(
    subject: str,
    counts: Sequence[float] = EVEN,
    reference: Sequence[float] = UNIFORM,
    *,
    critical: float = 16.27,
    rows: float = 10_000,
    labels: Labels = MODEL,
    feature: str | None = None,
    names: Sequence[str] = ("below", "[0, 1)", "[1, 2]", "above"),
    **times: int,
) -> Iterator[Series]:
    """Counts of `dle_feature_…` or `dle_prediction_…` and their reference; an empty reference leaves it out."""
    own = {**labels, **({} if feature is None else {"feature": feature})}
    for name, count in zip(names, counts, strict=True):
        yield from each(f"dle_{subject}_bin_total", {**own, "bin": name}, step=count, **times)
    for name, fraction in zip(names, reference, strict=False):
        yield from each(f"dle_{subject}_reference_fraction", {**own, "bin": name}, start=fraction)
    yield from each(f"dle_{subject}_drift_critical_value", own, start=critical)
    yield from each(f"dle_{subject}_reference_rows", labels, start=rows)


def feature(*arguments: Any, **options: Any) -> Iterator[Series]:
    """One input's bins."""
    return bins("feature", *arguments, feature="age", **options)


def prediction(*arguments: Any, **options: Any) -> Iterator[Series]:
    """The answers' bins."""
    return bins("prediction", *arguments, **options)


def score(metric: str, value: float, labels: Labels = MODEL) -> Iterator[Series]:
    """What the model reached on the test part."""
    return each("dle_reference_score", {**labels, "metric": metric}, start=value)


def feedback(right: float, wrong: float, labels: Labels = MODEL, **times: int) -> Iterator[Series]:
    """Labels that came back, of a classifier."""
    for correct, step in (("true", right), ("false", wrong)):
        yield from each("dle_feedback_total", {**labels, "correct": correct}, step=step, **times)


def errors(rows: float, mean: float, deviation: float, labels: Labels = MODEL, **times: int) -> Iterator[Series]:
    """True values that came back, of a regression: rows, their mean absolute error and its standard deviation."""
    yield from each("dle_feedback_total", labels, step=rows, **times)
    yield from each("dle_absolute_error_total", labels, step=rows * mean, **times)
    yield from each("dle_squared_error_total", labels, step=rows * (mean**2 + deviation**2), **times)


def confidence(sure: float, variance: float, counts: Sequence[float] = EVEN, **times: int) -> Iterator[Series]:
    """Rows answered with a mean confidence of `sure`, each adding `variance` to the estimate's."""
    rows = sum(counts)
    yield from prediction(counts, [count / rows for count in counts], **times)
    yield from each("dle_expected_correct_total", MODEL, step=sure * rows, **times)
    yield from each("dle_expected_correct_variance_total", MODEL, step=variance * rows, **times)


def requests(route: str = "/predict", codes: Mapping[int, float] | None = None, **times: int) -> Iterator[Series]:
    """Requests by status code."""
    for code, step in (codes or {200: 100.0, 400: 0.0, 503: 0.0}).items():
        yield from each("dle_requests_total", {"route": route, "code": str(code)}, step=step, **times)


def durations(
    route: str = "/predict", fast: float = 100.0, slow: float = 0.0, stuck: float = 0.0, **times: int
) -> Iterator[Series]:
    """Requests within 0.1 s, within 1 s, and beyond."""
    for bound, step in (("0.1", fast), ("0.5", fast), ("1", fast + slow), ("+Inf", fast + slow + stuck)):
        labels = {"route": route, "le": bound}
        yield from each("dle_request_duration_seconds_bucket", labels, step=step, **times)


def targets(
    *, up: float = 1.0, loaded: bool = True, job: str = "dle", down: int | None = None, gone: int | None = None
) -> Iterator[Series]:
    """The first replica is well; the second is as told, from the minute `down` on cannot be scraped, or is `gone`."""
    for replica in REPLICAS:
        second = replica == REPLICAS[1]
        labels = {"namespace": "dle", "job": job, "instance": f"{replica}:3000", "pod": replica}
        if second and down is not None:
            yield Series("up", labels, 1.0, -1.0, since=down - 1, until=down)
        else:
            yield Series("up", labels, up if second else 1.0, gone=gone if second else None)
        if loaded or not second:
            info = labels | MODEL | {"task": "binary", "provider": "cpu"}
            yield Series("dle_model_info", info, 1.0, gone=(down or gone) if second else None)


def healthy() -> list[Series]:
    """A classifier that does as it should."""
    return [
        *feature(),
        *confidence(0.9, 0.05),
        *feedback(9, 1),
        *score("accuracy", 0.9),
        *requests(),
        *durations(),
        *targets(),
    ]
