"""`reference.json`: the distribution of the training data and of the predictions, as fractions per bin.

Bins of numbers follow the quantiles of the training data, since one outlier would spoil bins of equal width; values
below and above the training range and missing values have bins of their own. The 29 most frequent categories have a
bin each, followed by `other`, `missing` and `unseen`. Fractions are smoothed and therefore never zero, since the
population stability index and χ² divide by them.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle import documents
from dle_bundle.drift.features import Feature, feature_names
from dle_bundle.errors import BundleError
from dle_bundle.schema import Schema
from dle_bundle.values.numbers import differ

QUANTILE_BINS = 10
CATEGORY_BINS = 29
MONITORED_FEATURES = 200
SMOOTHING = 0.5

Integers = npt.NDArray[np.int64]


class Bins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """The bins of one feature or of the predictions; `names` and `fractions` are in the order of the bins.

    With `edges` e0 < … < ek: `below` (under e0), k bins [e(i), e(i+1)), `above` (from ek on, the next number after the
    highest training value), `missing`.
    With `categories`: one bin each, then `other` (known categories that have no bin), `missing`, `unseen`.
    """

    names: tuple[str, ...]
    fractions: tuple[float, ...]
    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()

    def assign_numbers(self, values: npt.NDArray[Any]) -> Integers:
        """The bin (N,) of each number (N,), NaN = missing."""
        place = np.searchsorted(self._edges, values, side="right")
        place[np.isnan(values)] = len(self._edges) + 1
        return place

    def assign_categories(self, values: npt.NDArray[np.object_]) -> Integers:
        """The bin (N,) of each category (N,), `""` = missing."""
        bins = map(self._bin_of_category.get, values.tolist(), repeat(len(self.names) - 1))
        return np.fromiter(bins, dtype=np.int64, count=len(values))

    @cached_property
    def _edges(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.edges, dtype=np.float64)

    @cached_property
    def _bin_of_category(self) -> dict[str, int]:
        categories = self.categories or ()
        own = {value: index for index, value in enumerate(categories)}
        return own | dict.fromkeys(self.others, len(categories)) | {"": len(categories) + 1}


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `reference.json`.

    `features`: the bins of each monitored feature, from `rows` rows of the training part. `prediction`: the bins of the
    predictions (classes, or quantiles of the value), from `prediction_rows` rows of the validation part.
    `calibration`: temperature, and expected calibration error on the validation part. `metrics`: scores by part, then
    by metric.
    """

    rows: int
    features: dict[str, Bins]
    prediction_rows: int
    prediction: Bins
    calibration: dict[str, float]
    metrics: dict[str, dict[str, float]]

    @property
    def test_scores(self) -> dict[str, float]:
        """The scores on the test part, by metric."""
        return self.metrics.get("test", {})


def load(path: Path, schema: Schema) -> Reference:
    """Read `reference.json`; raises BundleError that lists every place where it is wrong or contradicts the schema."""
    reference = documents.read(path, Reference, BundleError)
    known = feature_names(schema)
    faults = [f"features: {name}: no such input" for name in reference.features if name not in known]
    faults += [
        f"features: {name}: {fault}"
        for name, bins in reference.features.items()
        if name in known and (fault := _fault(bins, 3 if known[name] else None))
    ]
    fault = _fault(reference.prediction, int(bool(reference.prediction.others)) if schema.outputs.classes else None)
    if fault:
        faults.append(f"prediction: {fault}")
    if faults:
        raise BundleError(f"{path} does not match the schema", faults)
    return reference


def _fault(bins: Bins, beside: int | None) -> str | None:
    """The fault of bins of categories with `beside` additional bins, or of bins of numbers (None); None if valid."""
    bounds = bins.edges if beside is None else bins.categories
    if bounds is None:
        return "expected bins of numbers" if beside is None else "expected bins of categories"
    expected = len(bounds) + (2 if beside is None else beside)
    if not len(bins.names) == len(bins.fractions) == expected:
        return f"expected {expected} names and fractions, found {len(bins.names)} and {len(bins.fractions)}"
    return None if min(bins.fractions) > 0 else "expected fractions above 0"


def number_bins(values: npt.NDArray[Any], noise: float = 0.0) -> Bins:
    """Bins of `values` (N,), NaN = missing: one per value that makes up a tenth of them, and quantiles of the rest.

    Frequent values need bins of their own: a column that is zero in nine of ten rows would otherwise get a single bin.
    Bounds that differ only by rounding errors are merged. `noise` is the size of further errors, by which a value may
    miss its bin: bounds within it are merged, and the others are lower by it.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        known = np.zeros(1, dtype=values.dtype)
    distinct, counts = np.unique(known, return_counts=True)
    frequent = distinct[counts * QUANTILE_BINS >= len(known)]
    rest = known[~np.isin(known, frequent)]
    steps = -(-len(rest) * QUANTILE_BINS // len(known))
    quantiles = np.quantile(rest, np.linspace(0, 1, steps + 1), method="nearest") if steps else rest
    # a frequent value's bin ends where the next value begins
    successors = distinct[np.minimum(np.searchsorted(distinct, frequent) + 1, len(distinct) - 1)]
    starts = _merged(np.unique(np.concatenate([frequent, successors, quantiles[:-1], distinct[:1]])), distinct, noise)
    end = np.minimum(np.nextafter(distinct[-1] + noise, np.inf), np.finfo(distinct.dtype).max)
    edges = np.append(starts - noise, end)
    *lows, high = _short_texts(np.append(starts, distinct[-1]))
    inner = (*(f"[{low}, {next_})" for low, next_ in pairwise(lows)), f"[{lows[-1]}, {high}]")
    names = ("below", *_distinct(inner), "above", "missing")
    bins = Bins(names=names, fractions=(), edges=tuple(edges.astype(np.float64).tolist()))
    return msgspec.structs.replace(
        bins, fractions=smoothed(np.bincount(bins.assign_numbers(values), minlength=len(names)))
    )


def _merged(starts: npt.NDArray[Any], values: npt.NDArray[Any], noise: float) -> npt.NDArray[Any]:
    """The ascending `starts` (S,) without those that equal their predecessor up to rounding errors of values (D,)."""
    largest = float(np.abs(values).max())
    kept = [0]
    for place in range(1, len(starts)):
        if differ(starts[kept[-1]], starts[place], largest) and starts[place] - starts[kept[-1]] > noise:
            kept.append(place)
    return starts[kept]


def _short_texts(bounds: npt.NDArray[Any]) -> list[str]:
    """Ascending numbers as text, with six digits, or as many as tell different ones apart."""
    count = len(np.unique(bounds))
    for digits in range(6, 18):
        texts = [f"{bound:.{digits}g}" for bound in bounds.tolist()]
        if len(set(texts)) == count:
            break
    return texts


def category_bins(values: npt.NDArray[np.object_], known: tuple[str, ...]) -> Bins:
    """Bins for the most frequent of the `known` categories, then `other`, `missing` and `unseen`."""
    present, counts = np.unique(values.astype(str), return_counts=True)
    frequency = dict(zip(present.tolist(), counts.tolist(), strict=True))
    ranked = sorted(known, key=lambda value: (-frequency.get(value, 0), value))
    own, others = tuple(ranked[:CATEGORY_BINS]), tuple(ranked[CATEGORY_BINS:])
    bins = Bins(names=(*own, *_beside(own)), fractions=(), categories=own, others=others)
    counts = np.bincount(bins.assign_categories(values), minlength=len(bins.names))
    return msgspec.structs.replace(bins, fractions=smoothed(counts))


def feature_bins(features: Sequence[Feature]) -> dict[str, Bins]:
    """Bins of the monitored features (the first 200) by name, from training rows."""
    return {
        feature.name: category_bins(feature.values, feature.field.categories or ())
        if feature.is_category
        else number_bins(feature.values)
        for feature in features[:MONITORED_FEATURES]
    }


def smoothed(counts: Integers) -> tuple[float, ...]:
    """The counts as fractions that sum to one, with half a count added to each bin, so that none is zero."""
    raised = counts + SMOOTHING
    return tuple((raised / raised.sum()).tolist())


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, with a number added to those that rounding made equal."""
    return tuple(f"{name} #{index}" if names.count(name) > 1 else name for index, name in enumerate(names))


def _beside(own: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the bins beside the categories, in parentheses where a category has the same name."""
    return tuple(f"({name})" if name in own else name for name in ("other", "missing", "unseen"))
