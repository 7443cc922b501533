"""A trained model: raw groups in, probabilities or values out.

Evaluation, calibration, parity and export all use the same `InferenceModule`, so they get the same numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.models._base import Network
from dle_training.optimization.objectives import Objective
from dle_training.preprocessing.pipeline import Preprocessing
from dle_training.preprocessing.shape import WINDOW
from dle_training.scoring.metrics import Predictions


class InferenceModule(nn.Module):
    """Applies preprocessing, network and link, one after the other.

    Shape: the groups that have columns, as positional arguments in the order of `names` (see `Preprocessing` for their
    shapes) → probabilities (N, K), or values (N,) or (N, horizon).

    Example:
        >>> from dle_bundle.schema import Field, Outputs
        >>> from dle_training.models.families import ModelConfig
        >>> from dle_training.models.registry import build
        >>> from dle_training.optimization import objectives
        >>> from dle_training.preprocessing import pipeline
        >>> from dle_training.preprocessing.settings import PreprocessingConfig
        >>> inputs = (Field(name="x", kind="numeric", required=True),)
        >>> schema = Schema(inputs=inputs, outputs=Outputs(target="y", task="regression"))
        >>> rows = Groups(
        ...     numeric=np.array([[1.0], [3.0]]),
        ...     categorical=np.empty((2, 0), object),
        ...     datetime=np.empty((2, 0), np.int64),
        ... )
        >>> settings = PreprocessingConfig(numeric="standard", signs=False, piecewise_bins=0, quantiles=False)
        >>> preprocessing, _ = pipeline.fit(schema, rows, settings)
        >>> model = ModelConfig(name="mlp", hidden=(4,), dropout=0.1)
        >>> network = build(model, preprocessing.shape(frequencies=True), outputs=1)
        >>> objective = objectives.fit("regression", np.array([1.0, 3.0]))
        >>> module = InferenceModule(preprocessing, network, objective, names=("numeric",))
        >>> module(torch.tensor([[2.0], [3.0]], dtype=torch.float64)).shape
        torch.Size([2])
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
        prepared = self.preprocessing(dict(zip(self.names, arrays, strict=True)))
        answer: Tensor = self.objective.link(self.network(prepared), prepared.get(WINDOW))
        return answer


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The result of a training, on the CPU and in evaluation mode, with the weights of `best_epoch`."""

    schema: Schema
    preprocessing: Preprocessing
    network: Network
    objective: Objective
    best_epoch: int

    @property
    def parameters(self) -> int:
        """The number of trained weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def inference_module(self, names: tuple[str, ...]) -> InferenceModule:
        """Return the module that the exporter traces. Its arguments are the groups `names`."""
        return InferenceModule(self.preprocessing, self.network, self.objective, names).eval()

    def tensors(self, groups: Groups) -> dict[str, Tensor]:
        """Return these rows as arguments of `InferenceModule`, by name."""
        return self.preprocessing.tensors(groups)

    def scale(self, groups: Groups) -> float | npt.NDArray[np.float64]:
        """The standard deviation of the training targets; with window scaling, a window's (N,) own spread if larger."""
        sd = self.objective.state().sd if self.objective.task == "regression" else 1.0
        if self.preprocessing.fitted.sequence is None or self.preprocessing.fitted.sequence.windows is None:
            return sd
        spreads: npt.NDArray[np.float64] = self.preprocessing.prepare(groups)[WINDOW][:, 1].numpy()
        return np.maximum(spreads, sd)

    def predict(self, groups: Groups) -> Predictions:
        """Answer these rows: probabilities (N, K) in the order of the schema's classes, values (N,) or (N, horizon).

        Probabilities are float32 and values are float64.
        """
        parts = []
        step = groups.rows_at_once()
        with torch.inference_mode():
            for start in range(0, max(len(groups), 1), step):
                rows = self.tensors(groups.take(slice(start, start + step)).trimmed())
                parts.append(self.inference_module(tuple(rows))(*rows.values()).numpy())
        return np.concatenate(parts)
