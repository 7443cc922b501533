"""BentoML services beside which `serving.py` measures: the ordinary API with ONNX Runtime, and one that does nothing.

    MODEL=BUNDLE bentoml serve serving_bento:Income
    bentoml serve serving_bento:Bare

They run in an environment of their own, which needs bentoml and onnxruntime.
"""

import json
import os
from pathlib import Path
from typing import Any, cast

import bentoml
import numpy as np
import onnxruntime
from serving_rivals import columns, one_thread, pydantic_models

_BUNDLE = Path(os.environ["MODEL"])
_SCHEMA = json.loads((_BUNDLE / "schema.json").read_text())
Row, _ = pydantic_models(_SCHEMA)


@bentoml.service
class Income:
    """Predicts rows, as a BentoML user writes it."""

    def __init__(self) -> None:
        self.numeric, self.categorical = columns(_SCHEMA)
        self.classes = _SCHEMA["outputs"]["classes"]
        self.session = onnxruntime.InferenceSession(str(_BUNDLE / "model.onnx"), one_thread(onnxruntime))

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: list[Row]) -> dict[str, Any]:  # type: ignore[valid-type]
        """Predictions of all rows of one request."""
        found = [cast(Any, row).model_dump(by_alias=True) for row in rows]
        feeds: dict[str, Any] = {}
        if self.numeric:
            feeds["numeric"] = np.array([[row[name] for name in self.numeric] for row in found], dtype=np.float64)
        if self.categorical:
            texts = [[row[name] or "" for name in self.categorical] for row in found]
            feeds["categorical"] = np.array(texts, dtype=object)
        labels, probabilities = self.session.run(["label", "probabilities"], feeds)
        return {
            "predictions": [
                {"label": label, "probability": max(each), "probabilities": dict(zip(self.classes, each, strict=True))}
                for label, each in zip(labels.tolist(), probabilities.tolist(), strict=True)
            ]
        }


@bentoml.service
class Bare:
    """Imports ONNX Runtime and loads no model."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def hello(self) -> str:
        """Say hello."""
        return "hello"
