"""The metrics of drift and quality, read from the shared counts and the feedback store at each scrape.

All workers share these sources, so every worker exports the same values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from dle_bundle.drift import verdict
from dle_bundle.drift.counting import BinCounts
from dle_serving.feedback.store import tally_cells
from dle_serving.monitoring.monitored_model import MODEL_LABELS, ListModels, MonitoredModel
from dle_serving.monitoring.quality import FeedbackCells, Quality, correct, rolling


class DriftSeries(Collector):
    """Exports the counts from which PromQL computes the statistics of `dle_bundle.drift.verdict`."""

    def __init__(self, models: ListModels, quality: Quality) -> None:
        self._models = models
        self._quality = quality

    def collect(self) -> Iterator[Metric]:
        """The metric families, over all monitored models."""
        models = self._models()
        yield _scores(models)
        read = [(model, model.observations.total()) for model in models if model.observations is not None]
        yield from _features(read)
        yield from _prediction(read)
        yield from _expected(read)
        known = self._quality.read()
        yield from _quality([(model, known[model.fingerprint]) for model in models if model.fingerprint in known])


class WorkersSeries(Collector):
    """Exports how many workers answer, as `answering` counts them."""

    def __init__(self, answering: Callable[[], int]) -> None:
        self._answering = answering

    def collect(self) -> Iterator[Metric]:
        """The one metric family."""
        yield GaugeMetricFamily("dle_workers", "Workers that answer.", value=self._answering())


_Known = Sequence[tuple[MonitoredModel, FeedbackCells]]
_Read = Sequence[tuple[MonitoredModel, BinCounts]]


def _features(read: _Read) -> Iterable[Metric]:
    by_bin = (*MODEL_LABELS, "feature", "bin")
    counts = CounterMetricFamily("dle_feature_bin", "Rows by feature and bin.", labels=by_bin)
    fractions = GaugeMetricFamily(
        "dle_feature_reference_fraction", "Smoothed fraction of the training rows in the bin.", labels=by_bin
    )
    critical = GaugeMetricFamily(
        "dle_feature_drift_critical_value",
        "Critical value of chi-squared: larger values are significant.",
        labels=(*MODEL_LABELS, "feature"),
    )
    rows = GaugeMetricFamily(
        "dle_feature_reference_rows", "Number of training rows behind the reference fractions.", labels=MODEL_LABELS
    )
    for model, counted in read:
        reference = model.reference
        rows.add_metric(model.labels, reference.rows)
        for name, bins in reference.features.items():
            value = verdict.critical_value(len(bins.names), len(reference.features))
            critical.add_metric((*model.labels, name), value)
            for bin_, count, fraction in zip(bins.names, counted.features[name].tolist(), bins.fractions, strict=True):
                counts.add_metric((*model.labels, name, bin_), count)
                fractions.add_metric((*model.labels, name, bin_), fraction)
    return counts, fractions, critical, rows


def _prediction(read: _Read) -> Iterable[Metric]:
    by_bin = (*MODEL_LABELS, "bin")
    counts = CounterMetricFamily("dle_prediction_bin", "Predictions by bin.", labels=by_bin)
    fractions = GaugeMetricFamily(
        "dle_prediction_reference_fraction",
        "Smoothed fraction of the predictions on validation rows in the bin.",
        labels=by_bin,
    )
    critical = GaugeMetricFamily(
        "dle_prediction_drift_critical_value",
        "Critical value of chi-squared: larger values are significant.",
        labels=MODEL_LABELS,
    )
    rows = GaugeMetricFamily(
        "dle_prediction_reference_rows",
        "Number of validation rows behind the reference fractions.",
        labels=MODEL_LABELS,
    )
    for model, counted in read:
        bins = model.reference.prediction
        rows.add_metric(model.labels, model.reference.prediction_rows)
        critical.add_metric(model.labels, verdict.critical_value(len(bins.names), 1))
        for bin_, count, fraction in zip(bins.names, counted.prediction.tolist(), bins.fractions, strict=True):
            counts.add_metric((*model.labels, bin_), count)
            fractions.add_metric((*model.labels, bin_), fraction)
    return counts, fractions, critical, rows


def _expected(read: _Read) -> Iterable[Metric]:
    correct = CounterMetricFamily(
        "dle_expected_correct", "Sum of confidences: the expected number of correct predictions.", labels=MODEL_LABELS
    )
    variance = CounterMetricFamily(
        "dle_expected_correct_variance",
        "Sum of p(1 - p) over confidences p: the variance of the number of correct predictions.",
        labels=MODEL_LABELS,
    )
    for model, counted in read:
        if model.class_names:
            correct.add_metric(model.labels, counted.expected_correct)
            variance.add_metric(model.labels, counted.expected_variance)
    return correct, variance


def _scores(models: Iterable[MonitoredModel]) -> Metric:
    scores = GaugeMetricFamily(
        "dle_reference_score", "The model's score on its test part.", labels=(*MODEL_LABELS, "metric")
    )
    for model in models:
        for metric, score in model.reference.test_scores.items():
            scores.add_metric((*model.labels, metric), score)
    return scores


def _quality(known: _Known) -> Iterable[Metric]:
    right = CounterMetricFamily(
        "dle_feedback", "Feedback accepted, by whether the prediction was correct.", labels=(*MODEL_LABELS, "correct")
    )
    confusion = CounterMetricFamily(
        "dle_confusion",
        "Feedback accepted, by actual and predicted class.",
        labels=(*MODEL_LABELS, "actual", "predicted"),
    )
    absolute = CounterMetricFamily("dle_absolute_error", "Sum of |actual - predicted value|.", labels=MODEL_LABELS)
    squared = CounterMetricFamily(
        "dle_squared_error", "Sum of (actual - predicted value) squared.", labels=MODEL_LABELS
    )
    moved = GaugeMetricFamily(
        "dle_accuracy_drift",
        "Accuracy (regression: mean absolute error) in the window minus its value on the test part.",
        labels=MODEL_LABELS,
    )
    for model, feedback in known:
        cells = feedback.total
        count = sum(cell.count for cell in cells)
        moved.add_metric(model.labels, rolling(feedback.window, model).difference or 0.0)
        if model.class_names:
            right.add_metric((*model.labels, "true"), correct(cells))
            right.add_metric((*model.labels, "false"), count - correct(cells))
            counted = {(cell.actual, cell.predicted): cell.count for cell in cells}
            for pair in tally_cells(model.class_names):
                confusion.add_metric((*model.labels, *pair), counted.get(pair, 0))
        else:
            right.add_metric((*model.labels, ""), count)
            absolute.add_metric(model.labels, sum(cell.absolute for cell in cells))
            squared.add_metric(model.labels, sum(cell.squared for cell in cells))
    return right, confusion, absolute, squared, moved
