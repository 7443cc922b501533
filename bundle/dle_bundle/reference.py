"""`reference.json`: how the training data and the predictions were distributed, in bins that the service counts in.

A numeric column is binned by its own training quantiles, with bins of their own for values below and above what
training saw and for missing ones: equal-width bins would hide drift behind one outlier. A category has a bin to
itself up to 29 of them, then `other`, `missing` and `unseen`. Fractions are smoothed and so never zero, since
population stability index and χ² divide by them.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle import documents
from dle_bundle.errors import BundleError
from dle_bundle.groups import MISSING_TIME, Groups
from dle_bundle.schema import Field, Schema

QUANTILE_BINS = 10
CATEGORY_BINS = 29
MONITORED_FEATURES = 200
SMOOTHING = 0.5

Counts = npt.NDArray[np.int64]


class Bins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """The bins of one feature (or of the prediction), with names in counting order.

    With `edges` e0 < … < ek: `below` e0, k bins [e(i), e(i+1)), `above` (from ek on, which is the next number after
    the highest that training saw), `missing`.
    With `categories`: one bin each, then `other` (known, but beyond the first 29), `missing`, `unseen`.
    """

    names: tuple[str, ...]
    fractions: tuple[float, ...]
    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()

    def count_numbers(self, values: npt.NDArray[Any]) -> Counts:
        """How many of `values` (N,), NaN = missing, fall in each bin."""
        edges = np.asarray(self.edges, dtype=np.float64)
        numbers = np.asarray(values, dtype=np.float64)
        place = np.searchsorted(edges, numbers, side="right")
        place[np.isnan(numbers)] = len(edges) + 1
        return np.bincount(place, minlength=len(self.names)).astype(np.int64)

    def count_categories(self, values: npt.NDArray[np.object_]) -> Counts:
        """How many of the texts (N,), `""` = missing, fall in each bin."""
        place = self._places
        unseen = len(self.names) - 1
        places = np.fromiter((place.get(value, unseen) for value in values), dtype=np.int64, count=len(values))
        return np.bincount(places, minlength=len(self.names)).astype(np.int64)

    @property
    def _places(self) -> dict[str, int]:
        cached: dict[str, int] | None = self.__dict__.get("places")
        if cached is None:
            categories = self.categories or ()
            cached = {value: index for index, value in enumerate(categories)}
            cached |= dict.fromkeys(self.others, len(categories)) | {"": len(categories) + 1}
            self.__dict__["places"] = cached
        return cached


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """`features` by input name; `prediction` bins the answer: classes, or quantiles of the value.

    `rows` and `prediction_rows`: how many rows the fractions come from (training part, validation part).
    `calibration`: temperature and expected calibration error on validation. `metrics`: by part, then by name.
    """

    rows: int
    features: dict[str, Bins]
    prediction_rows: int
    prediction: Bins
    calibration: dict[str, float]
    metrics: dict[str, dict[str, float]]


def load(path: Path) -> Reference:
    """Read `reference.json`; raises BundleError that says where it is wrong."""
    return documents.read(path, Reference, BundleError)


def number_bins(values: npt.NDArray[Any]) -> Bins:
    """Bins of `values` (N,), NaN = missing: one for each value that holds a tenth of them, quantiles of the others.

    Without bins of their own, frequent values would swallow the quantiles: a column that is zero in nine rows of ten
    would have a single bin.
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
    starts = np.unique(np.concatenate([frequent, successors, quantiles[:-1], distinct[:1]]))
    edges = np.append(starts, np.nextafter(distinct[-1], np.inf, dtype=values.dtype))
    inner = tuple(f"[{low:.6g}, {high:.6g})" for low, high in pairwise(starts))
    inner = (*inner, f"[{starts[-1]:.6g}, {distinct[-1]:.6g}]")
    names = ("below", *_distinct(inner), "above", "missing")
    bins = Bins(names=names, fractions=(), edges=tuple(edges.astype(np.float64).tolist()))
    return msgspec.structs.replace(bins, fractions=smoothed(bins.count_numbers(values)))


def category_bins(values: npt.NDArray[np.object_], known: tuple[str, ...]) -> Bins:
    """One bin for each of the most frequent of the `known` categories, then other, missing and unseen."""
    present, counts = np.unique(values.astype(str), return_counts=True)
    frequency = dict(zip(present.tolist(), counts.tolist(), strict=True))
    ranked = sorted(known, key=lambda value: (-frequency.get(value, 0), value))
    own, others = tuple(ranked[:CATEGORY_BINS]), tuple(ranked[CATEGORY_BINS:])
    bins = Bins(names=(*own, *_beside(own)), fractions=(), categories=own, others=others)
    return msgspec.structs.replace(bins, fractions=smoothed(bins.count_categories(values)))


def feature_bins(groups: Groups, schema: Schema) -> dict[str, Bins]:
    """Bins of every monitored input (the first 200 columns), in column order, from training rows."""
    return {
        field.name: category_bins(values, field.categories or ())
        if field.kind == "categorical"
        else number_bins(values)
        for field, values in columns(groups, schema)[:MONITORED_FEATURES]
    }


def columns(groups: Groups, schema: Schema) -> list[tuple[Field, npt.NDArray[Any]]]:
    """Each field in column order with its values (N,); missing date-times as NaN."""
    by_name: dict[str, npt.NDArray[Any]] = {}
    for index, field in enumerate(schema.numeric):
        by_name[field.name] = groups.numeric[:, index]
    for index, field in enumerate(schema.categorical):
        by_name[field.name] = groups.categorical[:, index]
    for index, field in enumerate(schema.datetime):
        stamps = groups.datetime[:, index]
        by_name[field.name] = np.where(stamps == MISSING_TIME, np.nan, stamps.astype(np.float64))
    return [(field, by_name[field.name]) for field in schema.inputs]


def smoothed(counts: Counts) -> tuple[float, ...]:
    """Fractions with half a count added to every bin: positive, and summing to one."""
    raised = counts + SMOOTHING
    return tuple((raised / raised.sum()).tolist())


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that rounding made equal, told apart by their number."""
    return tuple(f"{name} #{index}" if names.count(name) > 1 else name for index, name in enumerate(names))


def _beside(own: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the bins beside the categories, told apart from a category that has such a name."""
    return tuple(f"({name})" if name in own else name for name in ("other", "missing", "unseen"))
