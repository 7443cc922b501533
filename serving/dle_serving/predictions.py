"""A model's predictions for a batch of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dle_bundle.schema import Outputs


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for N rows: `classes` and `probabilities` of a classifier, or `values` of a regression.

    `classes` (N,) int64 are positions in the schema's classes; `probabilities` (N, K) float32. `values` float64 are
    (N,), or (N, horizon) for a forecast over several steps.
    """

    classes: npt.NDArray[np.int64] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    values: npt.NDArray[np.float64] | None = None

    def take(self, rows: slice | npt.NDArray[np.int64]) -> "Predictions":
        """The predictions for the rows at these positions, in that order."""
        if self.values is not None:
            return Predictions(values=self.values[rows])
        assert self.classes is not None
        assert self.probabilities is not None
        return Predictions(self.classes[rows], self.probabilities[rows])

    @property
    def confidences(self) -> npt.NDArray[np.float32]:
        """The probability (N,) of each predicted class."""
        assert self.classes is not None
        assert self.probabilities is not None
        return np.take_along_axis(self.probabilities, self.classes[:, None], axis=1)[:, 0]

    @property
    def point_values(self) -> npt.NDArray[np.float64]:
        """One value (N,) per prediction of a regression: the mean over the horizon, as ids and monitoring use it."""
        assert self.values is not None
        return self.values if self.values.ndim == 1 else self.values.mean(axis=1)


def standardised(values: npt.NDArray[np.float64], outputs: Outputs) -> npt.NDArray[np.float32]:
    """Values as prediction ids hold them: in standard deviations from the mean of the training target."""
    return ((values - outputs.mean) / outputs.sd).astype(np.float32)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Join the predictions of one model, in order; at least one part."""
    if parts[0].values is not None:
        return Predictions(values=np.concatenate([part.values for part in parts if part.values is not None]))
    return Predictions(
        np.concatenate([part.classes for part in parts if part.classes is not None]),
        np.concatenate([part.probabilities for part in parts if part.probabilities is not None]),
    )
