"""All steps together: groups of raw rows in, the tensors that a network takes out.

Fitted on the training part only. The fitted numbers are a readable JSON file from which exactly the same module is
made again, and the module is what the exporter puts in front of the network.
"""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_training.config import PreprocessingConfig
from dle_training.models._base import InputShape
from dle_training.preprocessing import categories, dates, numeric, piecewise
from dle_training.preprocessing._base import Step
from dle_training.preprocessing.categories import CategoryFit, OneHot
from dle_training.preprocessing.dates import DateFit, Dates
from dle_training.preprocessing.numeric import Numeric, NumericFit
from dle_training.preprocessing.piecewise import Piecewise, PiecewiseFit

_CHUNK = 16_384


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `preprocessing.json`."""

    numeric: NumericFit
    piecewise: PiecewiseFit
    categorical: CategoryFit
    datetime: DateFit


class Preprocessing(nn.Module):
    """Everything between raw groups and the network; deterministic and without trainable weights.

    Shape: numeric (N, F) float32, codes (N, C) int64, datetime (N, D) int64 → {"dense": (N, P) float32, "codes": (N, E)
    int64}. Groups without columns have width 0; "dense" or "codes" is absent when it would have.
    """

    def __init__(self, schema: Schema, fitted: Fitted) -> None:
        super().__init__()
        self.fitted = fitted
        self._vocabularies = _vocabularies(schema)
        self.numeric, self.piecewise = Numeric(fitted.numeric), Piecewise(fitted.piecewise)
        self.one_hot, self.dates = OneHot(fitted.categorical), Dates(fitted.datetime)
        steps: tuple[Step, ...] = (self.numeric, self.piecewise, self.one_hot, self.dates)
        self._dense = sum(step.width for step in steps)
        columns = torch.tensor(fitted.categorical.embedded, dtype=torch.int64)
        self.register_buffer("embedded", columns, persistent=False)

    embedded: Tensor

    def forward(self, numeric: Tensor, codes: Tensor, datetime: Tensor) -> dict[str, Tensor]:
        steps: tuple[tuple[Step, Tensor], ...] = (
            (self.numeric, numeric),
            (self.piecewise, numeric),
            (self.one_hot, codes),
            (self.dates, datetime),
        )
        dense = [step(values) for step, values in steps if step.width]
        outputs = {"dense": torch.cat(dense, dim=1)} if dense else {}
        if len(self.embedded):
            outputs["codes"] = torch.index_select(codes, 1, self.embedded)
        return outputs

    def encode(self, categorical: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
        """Codes (N, C) of categories (N, C): 0 = unseen, 1 = missing, 2 + i = category i of the column."""
        return categories.encode(categorical, self._vocabularies)

    @torch.no_grad()
    def prepare(self, groups: Groups) -> dict[str, Tensor]:
        """The network's inputs for all rows of `groups`, made in chunks, on the module's device."""
        chunks = [
            self(*(torch.from_numpy(array).to(self.embedded.device) for array in self._arrays(groups, start)))
            for start in range(0, max(len(groups), 1), _CHUNK)
        ]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def shape(self, *, frequencies: bool) -> InputShape:
        """What the network has to expect, with the frequencies of the codes for fresh weights."""
        columns = [self.fitted.categorical.frequencies[column] for column in self.fitted.categorical.embedded]
        return InputShape(self._dense, tuple(map(len, columns)), tuple(columns) if frequencies else ())

    def _arrays(
        self, groups: Groups, start: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        part = groups.take(slice(start, start + _CHUNK))
        return part.numeric, self.encode(part.categorical), part.datetime


def fit(schema: Schema, training: Groups, config: PreprocessingConfig) -> Preprocessing:
    """Fit all steps on the groups of the training part."""
    vocabularies = _vocabularies(schema)
    codes = categories.encode(training.categorical, vocabularies)
    boolean = np.array([field.kind == "boolean" for field in schema.numeric], dtype=bool)
    cardinalities = tuple(categories.FIRST + len(vocabulary) for vocabulary in vocabularies)
    numbers = numeric.fit(training.numeric, boolean, config.numeric)
    fitted = Fitted(
        numeric=numbers,
        piecewise=piecewise.fit(training.numeric, boolean, numbers.medians, piecewise.bins(config, len(training))),
        categorical=categories.fit(codes, cardinalities, config.one_hot_limit),
        datetime=dates.fit(training.datetime),
    )
    return Preprocessing(schema, fitted).eval()


def load(path: Path, schema: Schema) -> Preprocessing:
    """The module whose `fitted` was written to `path`, for this schema; InputError that says where it is wrong."""
    fitted = documents.read(path, Fitted)
    expected = tuple(categories.FIRST + len(vocabulary) for vocabulary in _vocabularies(schema))
    found = tuple(len(column) for column in fitted.categorical.frequencies)
    widths = (len(fitted.numeric.medians), len(fitted.datetime.centres))
    if (found, *widths) != (expected, len(schema.numeric), len(schema.datetime)):
        raise InputError(f"{path} does not belong to the schema: their columns differ")
    return Preprocessing(schema, fitted).eval()


def _vocabularies(schema: Schema) -> tuple[tuple[str, ...], ...]:
    return tuple(field.categories or () for field in schema.categorical)
