"""A trained model as it answers: raw groups in, probabilities or values out.

Evaluation, calibration, parity and export all go through the one module `Answer`, so they speak of the same numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.models._base import Network
from dle_training.objectives import Objective
from dle_training.preprocessing.pipeline import Preprocessing

CHUNK = 8192


class Answer(nn.Module):
    """Preprocessing, network and link in a row.

    Shape: the groups that have columns, in the order numeric (N, F) float32, codes (N, C) int64, datetime (N, D)
    int64 → probabilities (N, K) or values (N,).
    """

    def __init__(
        self, preprocessing: Preprocessing, network: Network, objective: Objective, names: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.network = network
        self.objective = objective
        self.names = names

    def forward(self, *arrays: Tensor) -> Tensor:
        given = dict(zip(self.names, arrays, strict=True))
        rows = arrays[0].shape[0]
        absent = {
            name: torch.zeros((rows, 0), dtype=kind, device=arrays[0].device)
            for name, kind in (("numeric", torch.float32), ("codes", torch.int64), ("datetime", torch.int64))
            if name not in given
        }
        prepared = self.preprocessing(**given, **absent)
        answer: Tensor = self.objective.link(self.network(prepared))
        return answer


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What training leaves behind, on the CPU and in evaluation mode: the weights of `best_epoch`."""

    schema: Schema
    preprocessing: Preprocessing
    network: Network
    objective: Objective
    best_epoch: int

    @property
    def parameters(self) -> int:
        """How many trained numbers the network has."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def answer(self) -> Answer:
        """The module that the exporter traces."""
        present = {
            "numeric": self.schema.numeric,
            "codes": self.schema.categorical,
            "datetime": self.schema.datetime,
        }
        names = tuple(name for name, fields in present.items() if fields)
        return Answer(self.preprocessing, self.network, self.objective, names).eval()

    def tensors(self, groups: Groups) -> dict[str, Tensor]:
        """The arguments of `Answer`, by name, for these rows."""
        arrays = {
            "numeric": torch.from_numpy(groups.numeric),
            "codes": torch.from_numpy(self.preprocessing.encode(groups.categorical)),
            "datetime": torch.from_numpy(groups.datetime),
        }
        return {name: array for name, array in arrays.items() if array.shape[1]}

    def predict(self, groups: Groups) -> npt.NDArray[np.float32]:
        """Probabilities (N, K) in the order of the schema's classes, or values (N,)."""
        answer = self.answer()
        parts = []
        with torch.inference_mode():
            for start in range(0, max(len(groups), 1), CHUNK):
                rows = self.tensors(groups.take(slice(start, start + CHUNK)))
                parts.append(answer(*rows.values()).numpy())
        return np.concatenate(parts)
