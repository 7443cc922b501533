"""For any row of finite, missing or unseen values: the preprocessing is finite, and in ONNX what it is in PyTorch."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from dle_bundle.groups import MISSING_TIME, Groups, empty
from dle_bundle.schema import Field, Outputs, Schema, SequenceShape
from dle_training.preprocessing import pipeline
from dle_training.preprocessing.pipeline import Preprocessing
from dle_training.preprocessing.settings import NumericScaling, PreprocessingConfig

SCHEMA = Schema(
    inputs=(
        Field(name="gaps", kind="numeric", required=False),
        Field(name="wide", kind="numeric", required=True),
        Field(name="small", kind="numeric", required=True),
        Field(name="constant", kind="numeric", required=True),
        Field(name="flag", kind="boolean", required=False),
        Field(name="few", kind="categorical", required=False, categories=("x", "y", "é ü")),
        Field(name="all", kind="categorical", required=True, categories=("u", "v")),
        Field(name="many", kind="categorical", required=True, categories=tuple(map(str, range(12)))),
        Field(name="moment", kind="datetime", required=False),
        Field(name="day", kind="datetime", required=True),
    ),
    outputs=Outputs(target="y", task="regression"),
)


def training() -> Groups:
    rng, count = np.random.default_rng(0), 64
    wide, small, constant = rng.normal(0, 1e30, count), rng.normal(0, 1e-30, count), np.full(count, 3.0)
    numeric = np.stack([rng.normal(5, 2, count), wide, small, constant, rng.integers(0, 2, count)], axis=1)
    numeric[::5, 0] = numeric[::7, 4] = np.nan
    columns = [rng.choice(["x", "y", "é ü", ""], count), rng.choice(["u", "v"], count)]
    categorical = np.stack([*columns, rng.integers(0, 12, count).astype(str)], axis=1).astype(object)
    datetime = np.stack([rng.integers(0, 2**31, count), rng.integers(0, 20_000, count) * 86_400], axis=1)
    datetime[::6, 0] = MISSING_TIME
    return Groups(numeric, categorical, datetime)


def encoded(preprocessing: Preprocessing, categorical: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    rows = replace(empty(len(categorical)), categorical=categorical)
    return preprocessing.tensors(rows)["codes"].numpy()


class Tuple(nn.Module):
    """The preprocessing with a tuple of outputs, as the exporter wants them."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, numeric: Tensor, codes: Tensor, datetime: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.preprocessing({"numeric": numeric, "codes": codes, "datetime": datetime})
        return outputs["dense"], outputs["codes"]


@cache
def exported(scaling: NumericScaling) -> tuple[Preprocessing, Callable[..., list[npt.NDArray[Any]]]]:
    """The fitted preprocessing and its graph in ONNX Runtime."""
    data = training()
    config = PreprocessingConfig(numeric=scaling, piecewise_bins=4, quantiles=True, signs=scaling == "robust")
    preprocessing, _ = pipeline.fit(SCHEMA, data, config)
    rows = torch.export.Dim("rows", min=1, max=1 << 30)
    example = (data.numeric[:3], encoded(preprocessing, data.categorical[:3]), data.datetime[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            Tuple(preprocessing).eval(),
            tuple(map(torch.from_numpy, example)),
            dynamo=True,
            external_data=False,
            opset_version=20,
            input_names=["numeric", "codes", "datetime"],
            dynamic_shapes=tuple({0: rows} for _ in example),
            verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return preprocessing, lambda *arrays: session.run(
        None, dict(zip(("numeric", "codes", "datetime"), arrays, strict=True))
    )


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.just(float("nan"))
TEXTS = st.sampled_from(["", "x", "y", "é ü", "u", "v", "0", "11"]) | st.text(max_size=5)
MOMENTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**36), 2**36) | st.just(MISSING_TIME)
ROWS = st.lists(
    st.tuples(st.tuples(*[NUMBERS] * 5), st.tuples(*[TEXTS] * 3), st.tuples(*[MOMENTS] * 2)), min_size=1, max_size=5
)


@pytest.mark.parametrize("scaling", ["standard", "min_max", "unit_norm", "robust"])
@given(rows=ROWS)
@settings(max_examples=60)
def test_finite_and_the_same_in_onnx(
    scaling: NumericScaling, rows: list[tuple[tuple[float, ...], tuple[str, ...], tuple[int, ...]]]
) -> None:
    preprocessing, run = exported(scaling)
    numeric = np.array([row[0] for row in rows], dtype=np.float64)
    codes = encoded(preprocessing, np.array([row[1] for row in rows], dtype=object))
    datetime = np.array([row[2] for row in rows], dtype=np.int64)
    with torch.inference_mode():
        given = {"numeric": numeric, "codes": codes, "datetime": datetime}
        expected = preprocessing({name: torch.from_numpy(array) for name, array in given.items()})
    dense, embedded = run(numeric, codes, datetime)
    assert np.isfinite(dense).all()
    assert abs(dense).max() <= 15
    np.testing.assert_allclose(dense, expected["dense"].numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(embedded, expected["codes"].numpy())


CHANNELS = ("a", "b")
UNITS = Schema(
    inputs=(
        *(Field(name=name, kind="numeric", required=False) for name in "xyz"),
        Field(name="s", kind="sequence", required=True, sequence=SequenceShape(channels=CHANNELS, max_steps=9)),
    ),
    outputs=Outputs(target="y", task="regression"),
)
EIGHTHS = st.integers(-1000, 1000).map(lambda number: number / 8)
TABLE = arrays(np.float64, st.tuples(st.integers(2, 20), st.just(len("xyz"))), elements=EIGHTHS | st.just(np.nan))
SERIES = arrays(np.float64, (6, len(CHANNELS)), elements=EIGHTHS)


@pytest.mark.parametrize("scaling", ["standard", "min_max", "robust"])
@given(table=TABLE, series=SERIES, power=st.integers(-30, 30))
@settings(max_examples=100)
def test_the_unit_of_a_column_makes_no_difference(
    scaling: NumericScaling, table: npt.NDArray[np.float64], series: npt.NDArray[np.float64], power: int
) -> None:
    """Numbers, bins and series of any unit become the same features, up to the rounding of float32."""

    def features(unit: float) -> dict[str, npt.NDArray[Any]]:
        rows = len(table)
        sequence = np.repeat((series * unit)[None], rows, axis=0)
        lengths = np.full(rows, len(series))
        groups = replace(empty(rows), numeric=table * unit, sequence=sequence, lengths=lengths)
        config = PreprocessingConfig(numeric=scaling, signs=False, piecewise_bins=4, quantiles=True)
        prepared = pipeline.fit(UNITS, groups, config)[0].prepare(groups)
        return {name: tensor.numpy() for name, tensor in prepared.items()}

    plain, scaled = features(1), features(10.0**power)
    for name, array in plain.items():
        np.testing.assert_allclose(scaled[name], array, rtol=1e-3, atol=1e-3, err_msg=name)
