"""Counts rows and answers in the bins of a bundle's reference: what the service counts by, and `dle-drift` will.

All counts of a model stand in one vector, so that adding a batch, merging workers and cutting out a window are one
array operation each. Beside the bins it holds what the answers promise of themselves: the sum of their confidences p
is how many of them are expected to be right, and Σ p(1 − p) is that number's variance.
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
    """One vector taken apart: bin counts of each feature and of the prediction, and the answers' own promise."""

    features: dict[str, Sums]
    prediction: Sums
    expected_correct: float
    expected_variance: float

    @property
    def rows(self) -> int:
        """How many answers were counted."""
        return int(self.prediction.sum())


class BinCounter:
    """Counts by one reference, into vectors of `size` sums."""

    def __init__(self, reference: Reference, schema: Schema, tokenizer: Tokenizer | None = None) -> None:
        """`tokenizer` is the bundle's, where there is text."""
        self._schema = schema
        self._tokenizer = tokenizer
        self._features = reference.features
        self._prediction = reference.prediction
        starts = np.cumsum([0, *(len(bins.names) for bins in self._features.values())]).tolist()
        self._starts = dict(zip(self._features, starts, strict=False))
        self._bins = starts[-1]
        self._answers = starts[-1] + len(self._prediction.names)
        self.size: int = self._answers + 2
        names = schema.outputs.class_names
        self._bin_of_class = self._prediction.assign_categories(np.array(names, dtype=object)) if names else None

    def count(self, groups: Groups) -> Sums:
        """The sums (size,) that these rows add; nothing for their answers."""
        places = [
            self._starts[feature.name]
            + (bins.assign_categories(feature.values) if feature.is_category else bins.assign_numbers(feature.values))
            for feature in monitored_features(groups, self._schema, self._tokenizer)
            if (bins := self._features.get(feature.name)) is not None
        ]
        joined = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
        return np.bincount(joined, minlength=self.size).astype(np.float64)

    def count_classes(self, classes: npt.NDArray[np.int64], confidences: npt.NDArray[Any]) -> Sums:
        """The sums (size,) that these answers add: positions in the schema's classes, and their probabilities (N,)."""
        assert self._bin_of_class is not None
        sums = np.bincount(self._bins + self._bin_of_class[classes], minlength=self.size).astype(np.float64)
        sure = np.clip(confidences, 0, 1, dtype=np.float64)  # sums of rounded probabilities may be a little more
        sums[self._answers] = sure.sum()
        sums[self._answers + 1] = (sure * (1 - sure)).sum()
        return sums

    def count_values(self, values: npt.NDArray[Any]) -> Sums:
        """The sums (size,) that these answers (N,) of a regression add."""
        places = self._bins + self._prediction.assign_numbers(values)
        return np.bincount(places, minlength=self.size).astype(np.float64)

    def read(self, sums: Sums) -> BinCounts:
        """The vector taken apart."""
        return BinCounts(
            {name: sums[start : start + len(self._features[name].names)] for name, start in self._starts.items()},
            sums[self._bins : self._answers],
            float(sums[self._answers]),
            float(sums[self._answers + 1]),
        )
