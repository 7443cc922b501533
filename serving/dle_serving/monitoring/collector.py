"""The series of drift and quality, made from the shared sums and the feedback store whenever Prometheus asks.

The sums stand in files that all workers share already, so there is nothing to merge and nothing to keep twice; any
worker gives the same answer.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from dle_bundle import drift
from dle_bundle.counting import Tally
from dle_serving.monitoring.quality import Feedback, Quality, correct, rolling
from dle_serving.monitoring.store import tally_cells
from dle_serving.repository import Repository, Served

_MODEL = ("model", "version")


class DriftSeries(Collector):
    """Bin counts with all that PromQL needs to make the statistics of `dle_bundle.drift` from them."""

    def __init__(self, repository: Repository, quality: Quality) -> None:
        self._repository = repository
        self._quality = quality

    def collect(self) -> Iterator[Metric]:
        """The families, over all monitored models."""
        read = [
            ((served.name, str(served.version)), served, served.monitor.ever())
            for served in self._repository.loaded
            if served.monitor is not None
        ]
        yield from _features(read)
        yield from _prediction(read)
        yield from _expected(read)
        known = [
            ((served.name, str(served.version)), served, feedback)
            for served in self._repository.loaded
            if (feedback := self._quality.feedback(served)) is not None
        ]
        yield from _quality(known)


_Known = Sequence[tuple[tuple[str, str], Served, Feedback]]
_Read = Sequence[tuple[tuple[str, str], Served, Tally]]


def _features(read: _Read) -> Iterable[Metric]:
    by_bin = (*_MODEL, "feature", "bin")
    counts = CounterMetricFamily("dle_feature_bin", "Rows by the bin that a feature's value fell in.", labels=by_bin)
    fractions = GaugeMetricFamily(
        "dle_feature_reference_fraction", "Smoothed fraction of training rows in the bin.", labels=by_bin
    )
    critical = GaugeMetricFamily(
        "dle_feature_drift_critical_value",
        "Above it chi-squared is no chance.",
        labels=(*_MODEL, "feature"),
    )
    rows = GaugeMetricFamily(
        "dle_feature_reference_rows", "Training rows behind the reference fractions.", labels=_MODEL
    )
    for model, served, tally in read:
        reference = served.reference
        rows.add_metric(model, reference.rows)
        for name, bins in reference.features.items():
            value = drift.critical_value(len(bins.names), len(reference.features))
            critical.add_metric((*model, name), value)
            for bin_, count, fraction in zip(bins.names, tally.features[name].tolist(), bins.fractions, strict=True):
                counts.add_metric((*model, name, bin_), count)
                fractions.add_metric((*model, name, bin_), fraction)
    return counts, fractions, critical, rows


def _prediction(read: _Read) -> Iterable[Metric]:
    by_bin = (*_MODEL, "bin")
    counts = CounterMetricFamily("dle_prediction_bin", "Answers by the bin that they fell in.", labels=by_bin)
    fractions = GaugeMetricFamily(
        "dle_prediction_reference_fraction",
        "Smoothed fraction of validation answers in the bin.",
        labels=by_bin,
    )
    critical = GaugeMetricFamily(
        "dle_prediction_drift_critical_value", "Above it chi-squared is no chance.", labels=_MODEL
    )
    rows = GaugeMetricFamily(
        "dle_prediction_reference_rows", "Validation rows behind the reference fractions.", labels=_MODEL
    )
    for model, served, tally in read:
        bins = served.reference.prediction
        rows.add_metric(model, served.reference.prediction_rows)
        critical.add_metric(model, drift.critical_value(len(bins.names), 1))
        for bin_, count, fraction in zip(bins.names, tally.prediction.tolist(), bins.fractions, strict=True):
            counts.add_metric((*model, bin_), count)
            fractions.add_metric((*model, bin_), fraction)
    return counts, fractions, critical, rows


def _expected(read: _Read) -> Iterable[Metric]:
    correct = CounterMetricFamily(
        "dle_expected_correct", "Sum of confidences: how many answers are expected to be right.", labels=_MODEL
    )
    variance = CounterMetricFamily(
        "dle_expected_correct_variance", "Sum of p(1 - p) over confidences p: the variance of that sum.", labels=_MODEL
    )
    scores = GaugeMetricFamily(
        "dle_reference_score", "The bundle's score on its test part.", labels=(*_MODEL, "metric")
    )
    for model, served, tally in read:
        if served.class_names:
            correct.add_metric(model, tally.expected_correct)
            variance.add_metric(model, tally.expected_variance)
        for metric, score in served.reference.metrics.get("test", {}).items():
            scores.add_metric((*model, metric), score)
    return correct, variance, scores


def _quality(known: _Known) -> Iterable[Metric]:
    right = CounterMetricFamily(
        "dle_feedback", "Feedback accepted, by whether the answer was right.", labels=(*_MODEL, "correct")
    )
    confusion = CounterMetricFamily(
        "dle_confusion", "Feedback accepted, by actual and predicted class.", labels=(*_MODEL, "actual", "predicted")
    )
    absolute = CounterMetricFamily("dle_absolute_error", "Sum of |actual - predicted value|.", labels=_MODEL)
    squared = CounterMetricFamily("dle_squared_error", "Sum of (actual - predicted value) squared.", labels=_MODEL)
    moved = GaugeMetricFamily(
        "dle_accuracy_drift",
        "Accuracy (of a regression: mean absolute error) in the window, less that on the test part.",
        labels=_MODEL,
    )
    for model, served, feedback in known:
        cells = feedback.ever
        count = sum(cell.count for cell in cells)
        moved.add_metric(model, rolling(feedback.window, served).difference or 0.0)
        if served.class_names:
            right.add_metric((*model, "true"), correct(cells))
            right.add_metric((*model, "false"), count - correct(cells))
            counted = {(cell.actual, cell.predicted): cell.count for cell in cells}
            for pair in tally_cells(served.class_names):
                confusion.add_metric((*model, *pair), counted.get(pair, 0))
        else:
            right.add_metric((*model, ""), count)
            absolute.add_metric(model, sum(cell.absolute for cell in cells))
            squared.add_metric(model, sum(cell.squared for cell in cells))
    return right, confusion, absolute, squared, moved
