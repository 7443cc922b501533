"""Series: what is one in JSON and in Arrow, what is wrong with others, and what is watched of them."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dle_bundle import series
from dle_bundle.schema import SequenceShape
from dle_bundle.series import BadSeries
from dle_bundle.tables import series_columns
from dle_bundle.values.numbers import NumberFormat

ONE = SequenceShape(channels=("temp",), max_steps=6)
TWO = SequenceShape(channels=("temp", "load"), max_steps=6)
NAN = float("nan")


def equal(found: npt.NDArray[Any], expected: Any) -> None:
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float64), strict=True)


def parse(text: str, shape: SequenceShape) -> npt.NDArray[np.float64]:
    return series.parse(json.loads(text), shape)


@pytest.mark.parametrize(
    ("text", "shape", "steps"),
    [
        ("[1, 2.5, null]", ONE, [[1], [2.5], [NAN]]),
        ("[[1], [2.5], [null]]", ONE, [[1], [2.5], [NAN]]),
        ("[null]", ONE, [[NAN]]),
        ("[[1, null], [-3e2, 4]]", TWO, [[1, NAN], [-300, 4]]),
        ("[1000000003.25]", ONE, [[1000000003.25]]),
        ("[1e39]", ONE, [[np.finfo(np.float32).max]]),
        (f"[1{'0' * 30}]", ONE, [[1e30]]),
    ],
)
def test_json(text: str, shape: SequenceShape, steps: Any) -> None:
    equal(parse(text, shape), steps)


def test_amounts() -> None:
    """Texts in the format of their channel are numbers; other texts are faults that show the format."""
    money = NumberFormat(thousands=",", unit="$")
    one = replace(ONE, number_formats={"temp": money})
    equal(parse('["$1,234.50", 3, null, " -$2 "]', one), [[1234.5], [3], [NAN], [-2]])
    two = replace(TWO, number_formats={"load": money})
    equal(parse('[[1, "$2"], [null, 4]]', two), [[1, 2], [NAN, 4]])
    with pytest.raises(BadSeries, match=r"step 0: expected a number, or a string like -\$1,234.5, got a string"):
        parse('["2 kg"]', one)
    with pytest.raises(BadSeries, match="step 0, channel temp: expected a number, got a string"):
        parse('[["$1", "$2"]]', two)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("5", ONE, "expected a list of steps, got a number (5)"),
        ('"1, 2"', ONE, "expected a list of steps, got a string ('1, 2')"),
        ("[]", ONE, "expected at least one step, got none"),
        ("[1, 2, 3, 4, 5, 6, 7]", ONE, "expected at most 6 steps, got 7"),
        ("[1, true]", ONE, "step 1: expected a number, got a boolean (true)"),
        ('[1, "x"]', ONE, "step 1: expected a number, got a string ('x')"),
        ("[1, [2]]", ONE, "step 1: expected a number, got a list"),
        ("[[1], 2]", ONE, "step 1: expected a list of 1 number, got a number (2)"),
        ("[[1], [2, 3]]", ONE, "step 1: expected 1 number, got 2"),
        ("[1, NaN]", ONE, "step 1: expected a finite number"),
        ("[null, NaN]", ONE, "step 1: expected a finite number"),
        ("[1, -Infinity]", ONE, "step 1: expected a finite number"),
        (f"[1{'0' * 400}]", ONE, "step 0: expected a finite number"),
        ("[[1, 2], [3]]", TWO, "step 1: expected 2 numbers, got 1"),
        ("[[1, 2], []]", TWO, "step 1: expected 2 numbers, got 0"),
        ("[[1, 2], null]", TWO, "step 1: expected a list of 2 numbers, got null"),
        ("[[1, {}]]", TWO, "step 0, channel load: expected a number, got an object"),
        (
            '[1, [1], ["a", false], [1, 2, 3]]',
            TWO,
            (
                "step 0: expected a list of 2 numbers, got a number (1); step 1: expected 2 numbers, got 1; "
                "step 2, channel temp: expected a number, got a string ('a'); …"
            ),
        ),
    ],
)
def test_what_is_no_series_in_json(text: str, shape: SequenceShape, message: str) -> None:
    with pytest.raises(BadSeries) as caught:
        parse(text, shape)
    assert str(caught.value) == message


def tensors(values: Any) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(values, dtype=np.float64))


PAIRS = [[[1, 2], [3, None], [5, 6]], None, [[7, 8]]]
PAIRS_READ = [[[1, 2], [3, NAN], [5, 6]], [[NAN, NAN]] * 3, [[7, 8], [NAN, NAN], [NAN, NAN]]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float64())),
        pa.list_(pa.list_(pa.int8())),
        pa.large_list(pa.list_(pa.float32(), 2)),
        pa.list_(pa.large_list(pa.decimal128(5, 1))),
    ],
)
def test_lists_of_steps(kind: pa.DataType) -> None:
    column = pa.array([[[0, 0]], *PAIRS], kind).slice(1)
    for whole in (column, pa.chunked_array([column.slice(0, 1), column.slice(1)])):
        assert series_columns.is_series(whole)
        assert (series_columns.width(whole), series_columns.longest(whole)) == (2, 3)
        found, lengths, faults, missing = series_columns.read(whole, TWO)
        equal(found, PAIRS_READ)
        assert lengths.tolist() == [3, 1, 1]
        assert not faults
        assert missing.tolist() == [False, True, False]


@pytest.mark.parametrize("column", [pa.array([[1, 2], None, [3]]), pa.array([[[1], [2]], None, [[3]]])])
def test_lists_of_numbers(column: pa.Array) -> None:
    assert series_columns.width(column) == 1
    found, lengths, faults, missing = series_columns.read(column, ONE)
    equal(found, [[[1], [2]], [[NAN], [NAN]], [[3], [NAN]]])
    assert (lengths.tolist(), faults, missing.tolist()) == ([2, 1, 1], {}, [False, True, False])


@pytest.mark.parametrize("steps_first", [False, True])
def test_arrays(steps_first: bool) -> None:
    array = np.arange(24.0).reshape(4, 3, 2)  # (N, T, C)
    column = tensors(array if steps_first else array.transpose(0, 2, 1))
    assert (series_columns.width(column), series_columns.longest(column)) == (2, 3)
    equal(series_columns.read(pa.chunked_array([column]), TWO)[0], array)
    found, lengths, faults, missing = series_columns.read(column.slice(1).take(pa.array([0, None, 2])), TWO)
    equal(found, [array[1], np.full((3, 2), np.nan), array[3]])
    assert (lengths.tolist(), faults, missing.tolist()) == ([3, 1, 3], {}, [False, True, False])


def test_no_rows() -> None:
    for column in (pa.array([], pa.list_(pa.float32())), pa.chunked_array([], pa.list_(pa.float32()))):
        found, lengths, _, missing = series_columns.read(column, ONE)
        assert (found.shape, lengths.shape, missing.shape) == ((0, 1, 1), (0,), (0,))


def test_faults_of_some_rows_leave_the_others() -> None:
    rows = [[[1, 2]], [[1, 2], [3]], [], [[1, 2]] * 7, None, [[1, 2], [3, float("inf")]], [[1, 2], None], [[9, 8]] * 2]
    found, lengths, faults, missing = series_columns.read(pa.array(rows), TWO)
    assert faults == {
        1: "step 1: expected 2 numbers, got 1",
        2: "expected at least one step, got none",
        3: "expected at most 6 steps, got 7",
        5: "step 1, channel load: expected a finite number",
        6: "step 1: expected a list of 2 numbers, got null",
    }
    assert missing.tolist() == [row is None for row in rows]
    assert lengths.tolist() == [1, 1, 1, 1, 1, 1, 1, 2]
    equal(found[[0, 7]], [[[1, 2], [NAN, NAN]], [[9, 8], [9, 8]]])
    assert np.isnan(found[1:7]).all()


@pytest.mark.parametrize(
    ("column", "shape", "reason"),
    [
        (pa.array([[1.0, 2.0]]), TWO, "expected steps of 2 numbers, got single numbers"),
        (pa.array([[[1.0, 2.0]]]), ONE, "step 0: expected 1 number, got 2"),
        (tensors([[[1, 2], [3, 4]]]), ONE, "expected 1 channel, got an array of 2 × 2"),
        (tensors(np.zeros((1, 2, 7))), TWO, "expected at most 6 steps, got 7"),
    ],
)
def test_columns_of_another_form(column: pa.Array, shape: SequenceShape, reason: str) -> None:
    found, lengths, faults, _ = series_columns.read(column, shape)
    assert faults == {0: reason}
    assert np.isnan(found).all()
    assert lengths.tolist() == [1]


def test_what_is_no_column_of_series() -> None:
    for column in (pa.array([1.0]), pa.array([["a"]]), pa.array([[[[1.0]]]]), tensors(np.zeros((1, 2, 2, 2)))):
        assert not series_columns.is_series(column)


def test_numbers_that_mean_missing() -> None:
    equal(series.parse([1, -999, None], ONE, (-999.0,)), [[1], [NAN], [NAN]])
    equal(series_columns.read(pa.array([[1, -999, None]]), ONE, (-999.0,))[0], [[[1], [NAN], [NAN]]])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[SequenceShape, list[Any]]:
    channels = draw(st.integers(1, 3))
    number = st.one_of(st.none(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False))
    step = st.lists(number, min_size=channels, max_size=channels)
    window = draw(st.one_of(st.none(), st.integers(1, 4)))
    rows: list[Any] = draw(
        st.lists(st.one_of(st.none(), st.lists(step, min_size=window or 1, max_size=6)), min_size=1, max_size=5)
    )
    if draw(st.booleans()) and channels == 1:
        rows = [None if row is None else [step[0] for step in row] for row in rows]
    names = tuple(f"c{index}" for index in range(channels))
    return SequenceShape(channels=names, max_steps=6, window=window), rows


@given(bodies())
def test_json_and_arrow_give_the_same_bits(body: tuple[SequenceShape, list[Any]]) -> None:
    shape, rows = body
    depth = max((1 if row is None or not isinstance(row[0], list) else 2) for row in rows)
    kind = pa.list_(pa.float64()) if depth == 1 else pa.list_(pa.list_(pa.float64()))
    whole = [None if row is None else json.loads(json.dumps(row)) for row in rows]
    by_json, json_lengths = series.stack([None if row is None else series.parse(row, shape) for row in whole], shape)
    floats = [None if row is None else _floats(row) for row in rows]
    if len(shape.channels) > 1 and depth == 1:  # all rows are missing
        assert all(row is None for row in rows)
        return
    by_arrow, lengths, faults, missing = series_columns.read(pa.array(floats, kind), shape)
    assert by_json.tobytes() == by_arrow.tobytes()
    assert json_lengths.tolist() == lengths.tolist()
    assert not faults
    assert missing.tolist() == [row is None for row in rows]


def _floats(value: Any) -> Any:
    return [_floats(each) for each in value] if isinstance(value, list) else None if value is None else float(value)


def test_a_forecast_sees_the_last_steps_and_needs_as_many() -> None:
    shape = SequenceShape(channels=("temp",), max_steps=6, window=3)
    equal(parse("[9, 8, 1, null, 3]", shape), [[1], [NAN], [3]])
    with pytest.raises(BadSeries, match="expected at least 3 steps for a forecast, got 2"):
        parse("[1, 2]", shape)
    found, lengths, faults, _ = series_columns.read(pa.array([[9, 8, 1, None, 3], [1, 2], [4, 5, 6]]), shape)
    equal(found[[0, 2]], [[[1], [NAN], [3]], [[4], [5], [6]]])
    assert lengths.tolist() == [3, 1, 3]
    assert faults == {1: "expected at least 3 steps for a forecast, got 2"}


def test_side_by_side() -> None:
    first = series.stack([series.parse([1, 2, 3], ONE), None], ONE)
    second = series.stack([series.parse([[4, 5]], TWO), series.parse([[6, 7], [8, 9]], TWO)], TWO)
    joined, lengths = series.join([first, second])
    equal(joined, [[[1, 4, 5], [2, NAN, NAN], [3, NAN, NAN]], [[NAN, 6, 7], [NAN, 8, 9], [NAN, NAN, NAN]]])
    assert lengths.tolist() == [3, 2]
    assert series.join([first]) is first


def test_statistics_of_channels() -> None:
    sequence, lengths = series.stack([series.parse([[1, 5], [3, None]], TWO), series.parse([[2, 2]], TWO), None], TWO)
    found = series.statistics(sequence, lengths, TWO.channels)
    assert tuple(found) == series.statistics_of(TWO.channels)
    expected = {
        "temp.level": [2, 2, NAN],
        "temp.spread": [1, 0, NAN],
        "load.level": [5, 2, NAN],
        "load.spread": [0, 0, NAN],
        "length": [2, 1, NAN],
    }
    for name, values in found.items():
        equal(values, expected[name])


def test_statistics_of_one_and_of_many_channels() -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 9):
        names = [f"c{index}" for index in range(channels)]
        sequence = rng.normal(3, 2, (40, 50, channels))
        lengths = np.full(40, 50)
        found = series.statistics(sequence, lengths, names)
        assert list(found) == ["level", "spread", "length"]
        np.testing.assert_allclose(found["level"], sequence.mean(axis=(1, 2)), rtol=1e-5)
        np.testing.assert_allclose(found["spread"], sequence.std(axis=(1, 2)), rtol=1e-5)
        assert {name: len(values) for name, values in series.statistics(sequence[:0], lengths[:0], names).items()} == {
            "level": 0,
            "spread": 0,
            "length": 0,
        }


def test_a_row_is_described_alike_alone_and_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = np.random.default_rng(0).normal(size=(30, 20, 2))
    lengths = np.full(30, 20)
    together = series.statistics(sequence, lengths, TWO.channels)
    monkeypatch.setattr(series, "_CELLS_AT_ONCE", 100)
    for name, values in series.statistics(sequence, lengths, TWO.channels).items():
        equal(values, together[name])


def test_a_row_is_described_alike_with_and_without_padding() -> None:
    sequence = 1e9 + 100 * np.random.default_rng(0).normal(size=(30, 21, 1))
    padded = np.pad(sequence, ((0, 0), (0, 40), (0, 0)), constant_values=np.nan)
    lengths = np.full(30, 21)
    together = series.statistics(padded, lengths, ONE.channels)
    assert len(np.unique(together["level"])) == 30
    for name, values in series.statistics(sequence, lengths, ONE.channels).items():
        equal(values, together[name])


def test_level_and_spread_of_each_channel_are_those_of_its_known_steps() -> None:
    nan = np.nan
    steps = np.array([[[1.0, nan], [nan, nan], [3.0, nan]], [[5.0, 2.0], [5.0, nan], [nan, 4.0]]], dtype=np.float32)
    level, spread = series.moments(steps)
    np.testing.assert_array_equal(level, [[2, nan], [5, 3]])
    np.testing.assert_array_equal(spread, [[1, nan], [0, 1]])
    assert level.dtype == spread.dtype == np.float64
