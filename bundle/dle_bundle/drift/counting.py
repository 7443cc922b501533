"""Counts rows and predictions in the bins of a bundle's reference.

All counts of a model are one vector, so adding a batch, merging workers and selecting a window are single array
operations. The vector also holds two sums over the confidences p of the predictions: Σ p, the expected number of
correct ones, and Σ p(1 − p), the variance of that number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.drift.features import monitored_features
from dle_bundle.drift.reference import Reference
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_bundle.text import Tokenizer

Sums = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BinCounts:
    """The counts by name: per bin for each feature and for the predictions, and the sums over the confidences."""

    features: dict[str, Sums]
    prediction: Sums
    expected_correct: float
    expected_variance: float

    @property
    def rows(self) -> int:
        """The number of counted predictions."""
        return int(self.prediction.sum())


class BinCounter:
    """Counts rows and predictions of one model into vectors of `size` sums."""

    def __init__(self, reference: Reference, schema: Schema, tokenizer: Tokenizer | None = None) -> None:
        """`tokenizer` is the bundle's, needed for text inputs."""
        self._schema = schema
        self._tokenizer = tokenizer
        self._features = reference.features
        self._prediction = reference.prediction
        starts = np.cumsum([0, *(len(bins.names) for bins in self._features.values())]).tolist()
        self._starts = dict(zip(self._features, starts, strict=False))
        self._bins = starts[-1]
        self._confidences = starts[-1] + len(self._prediction.names)
        self.size: int = self._confidences + 2
        names = schema.outputs.class_names
        self._bin_of_class = self._prediction.assign_categories(np.array(names, dtype=object)) if names else None

    def count(self, groups: Groups) -> Sums:
        """Count the features of these rows; returns sums (size,)."""
        positions = [
            self._starts[feature.name]
            + (bins.assign_categories(feature.values) if feature.is_category else bins.assign_numbers(feature.values))
            for feature in monitored_features(groups, self._schema, self._tokenizer)
            if (bins := self._features.get(feature.name)) is not None
        ]
        joined = np.concatenate(positions) if positions else np.empty(0, dtype=np.int64)
        return np.bincount(joined, minlength=self.size).astype(np.float64)

    def count_classes(self, classes: npt.NDArray[np.int64], confidences: npt.NDArray[Any]) -> Sums:
        """Count predicted classes (N,), as positions in the schema's classes, with their probabilities (N,)."""
        assert self._bin_of_class is not None
        sums = np.bincount(self._bins + self._bin_of_class[classes], minlength=self.size).astype(np.float64)
        sure = np.clip(confidences, 0, 1, dtype=np.float64)  # rounding may give slightly more than 1
        sums[self._confidences] = sure.sum()
        sums[self._confidences + 1] = (sure * (1 - sure)).sum()
        return sums

    def count_values(self, values: npt.NDArray[Any]) -> Sums:
        """Count predicted values (N,) of a regression."""
        positions = self._bins + self._prediction.assign_numbers(values)
        return np.bincount(positions, minlength=self.size).astype(np.float64)

    def read(self, sums: Sums) -> BinCounts:
        """The sums (size,) as counts by name."""
        return BinCounts(
            {name: sums[start : start + len(self._features[name].names)] for name, start in self._starts.items()},
            sums[self._bins : self._confidences],
            float(sums[self._confidences]),
            float(sums[self._confidences + 1]),
        )
