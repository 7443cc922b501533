"""The exported graph answers as PyTorch does, for any row that a request or a file can hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trained import small

from dle_bundle.groups import MISSING_TIME, Groups

NUMBERS = st.floats(allow_infinity=False, allow_nan=True)
TEXTS = st.one_of(
    st.sampled_from(["", "town a", "red", "yes", "no"]), st.text(st.characters(codec="utf-8"), max_size=8)
)
MOMENTS = st.one_of(st.just(MISSING_TIME), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31))


@pytest.mark.parametrize("target", ["buys", "level", "spent"])
@settings(max_examples=60)
@given(data=st.data())
def test_torch_and_onnx_agree_on_any_row(target: str, data: st.DataObject) -> None:
    chosen = small(target)
    schema = chosen.model.schema
    count = data.draw(st.integers(1, 5))

    def columns(width: int, values: st.SearchStrategy[object]) -> list[list[object]]:
        return data.draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=count, max_size=count))

    rows = Groups(
        np.array(columns(len(schema.numeric), NUMBERS), dtype=np.float64),
        np.array(columns(len(schema.categorical), TEXTS), dtype=object).reshape(count, -1),
        np.array(columns(len(schema.datetime), MOMENTS), dtype=np.int64),
    )
    expected = chosen.model.predict(rows)
    assert np.isfinite(expected).all()
    found = chosen.session().run(None, rows.feeds())
    if target == "spent":
        sd = chosen.model.objective.state().sd
        assert (np.abs(found[0] - expected) <= 1e-5 * (np.abs(expected) + sd)).all()
        return
    labels, probabilities = found
    assert np.abs(probabilities - expected).max() <= 1e-5
    ordered = np.sort(expected, axis=1)
    decided = ordered[:, -1] - ordered[:, -2] >= 2e-5
    classes = np.array(schema.outputs.classes, dtype=object)
    assert (labels[decided].astype(object) == classes[expected.argmax(axis=1)][decided]).all()
