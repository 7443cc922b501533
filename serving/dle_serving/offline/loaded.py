"""A bundle that is open for predictions: what `dle_serving.load` returns."""

from pathlib import Path

import pyarrow as pa

from dle_bundle import bundle as bundles
from dle_bundle import in_memory
from dle_bundle.groups import Groups
from dle_bundle.in_memory import Rows
from dle_bundle.manifest import Manifest
from dle_bundle.proposals import in_python
from dle_bundle.schema import Schema
from dle_bundle.tables import prediction_columns
from dle_serving.models.runtime import Model
from dle_serving.predictions import concatenate
from dle_serving.settings import Device

_RUN_ROWS = 4_096


class LoadedModel:
    """A bundle, open in ONNX Runtime. Safe to share between threads.

    `schema` describes the inputs and the outputs, `manifest` names the model and its version.
    """

    def __init__(self, bundle: Path, device: Device = "auto") -> None:
        """Open the bundle. Raises BundleError if it is incomplete or altered, InputError for an unusable device."""
        loaded = bundles.load(bundle)
        self.schema: Schema = loaded.schema
        self.manifest: Manifest = loaded.manifest
        self._model = Model(loaded, device)

    def __repr__(self) -> str:
        outputs = self.schema.outputs
        return f"<{self.manifest.name}, version {self.manifest.version}: {outputs.target}, {outputs.task}>"

    @in_python()
    def predict(self, rows: Rows) -> pa.Table:
        """Predict N rows: a DataFrame, an Arrow table, or a list of dicts with the values of a request.

        Returns an Arrow table of N rows with the columns `label, probability, probability_<class>…`, or `value`, or
        `value_1`, `value_2`, … for a forecast. A long table has one prediction for each series; a forecast of it is a
        long table with the id of the series, the time and the `value` of each step. Columns that the model does not
        know are ignored.

        Raises InputError if `rows` is no table, and RowFaults with every fault of every row; rows count from 0.
        """
        groups, series = in_memory.read(rows, self.schema)
        return prediction_columns.table(answers(self._model, groups), series, self.schema)


def answers(model: Model, groups: Groups) -> dict[str, pa.Array]:
    """Predict these rows, a few thousand at a time: the columns of the predictions, by name."""
    starts = range(0, max(len(groups), 1), _RUN_ROWS)
    found = concatenate([model.run(model.tokenise(groups.take(slice(start, start + _RUN_ROWS)))) for start in starts])
    if found.values is not None:
        return prediction_columns.of_values(model.schema.outputs, found.values)
    assert found.classes is not None
    assert found.probabilities is not None
    return prediction_columns.of_classes(model.schema.outputs, found.classes, found.probabilities)
