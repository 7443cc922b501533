"""Preprocessing: what each step makes of its columns, and the JSON file from which it is made again."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec.structs import replace

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.groups import MISSING_TIME, Groups, empty
from dle_bundle.schema import Field, Outputs, Schema, SequenceShape
from dle_training.preprocessing import categories, dates, numeric, pipeline
from dle_training.preprocessing.categories import OneHot
from dle_training.preprocessing.dates import Dates
from dle_training.preprocessing.numeric import Numeric
from dle_training.preprocessing.settings import NumericScaling, PreprocessingConfig
from dle_training.preprocessing.shape import Known

PLAIN = PreprocessingConfig(numeric="standard", signs=False, piecewise_bins=0, quantiles=False)
LARGEST = float(np.finfo(np.float64).max)


def scaled(
    training: list[list[float]],
    rows: list[list[float]],
    scaling: NumericScaling = "standard",
    boolean: tuple[bool, ...] | None = None,
) -> npt.NDArray[np.float32]:
    values = np.array(training, dtype=np.float64)
    kinds = np.array(boolean or [False] * values.shape[1])
    step = Numeric(numeric.fit(values, kinds, scaling))
    output: npt.NDArray[np.float32] = step(torch.tensor(rows, dtype=torch.float64)).numpy()
    assert output.shape == (len(rows), step.width)
    assert np.isfinite(output).all()
    return output


def test_standard() -> None:
    output = scaled([[1.0], [3.0], [5.0]], [[1.0], [3.0], [5.0], [np.nan]])
    np.testing.assert_allclose(output[:, 0], [-1.2247449, 0, 1.2247449, 0], rtol=1e-6)


def test_min_max() -> None:
    np.testing.assert_allclose(scaled([[1.0], [3.0]], [[1.0], [2.0], [5.0]], "min_max")[:, 0], [0, 0.5, 2])


def test_missing_in_training_is_the_median_with_an_indicator() -> None:
    output = scaled([[0.0, 1.0], [4.0, np.nan], [np.nan, 5.0], [8.0, 3.0]], [[np.nan, np.nan], [4.0, 3.0]])
    np.testing.assert_allclose(output, [[0, 0, 1, 1], [0, 0, 0, 0]], atol=1e-6)


def test_truth_values_are_imputed_too() -> None:
    output = scaled([[1.0], [1.0], [np.nan], [0.0]], [[np.nan], [1.0]], boolean=(True,))
    assert output[0, 0] == output[1, 0]
    assert output[:, 1].tolist() == [1, 0]


def test_unit_norm() -> None:
    output = scaled([[1.0, 1.0, 1.0]], [[3.0, 4.0, 1.0], [0.0, 0.0, 0.0]], "unit_norm", (False, False, True))
    np.testing.assert_allclose(output, np.array([[0.6, 0.8, 1.0], [0.0, 0.0, 0.0]]), rtol=1e-6)


def test_robust() -> None:
    """From the median, in units of the interquartile range, then z / √(1 + (z / 3)²)."""
    output = scaled([[0.0], [2.0], [3.0], [4.0], [90.0]], [[3.0], [5.0], [-1.0], [np.nan], [1e9]], "robust")
    np.testing.assert_allclose(output[:, 0], [0, 1 / (10 / 9) ** 0.5, -2 / (13 / 9) ** 0.5, 0, 3], rtol=1e-6)


def test_robust_of_a_column_that_is_mostly_one_number() -> None:
    """Half the range is the unit where the quartiles are equal, or differ by rounding errors alone."""
    bent = 1 / (10 / 9) ** 0.5
    np.testing.assert_allclose(scaled([[1.0]] * 9 + [[9.0]], [[1.0], [5.0]], "robust")[:, 0], [0, bent], rtol=1e-6)
    noisy = [[0.1 + 0.2], [0.3], [0.3], [0.1 + 0.2], [0.3], [8.3]]
    np.testing.assert_allclose(scaled(noisy, [[0.3], [4.3]], "robust")[:, 0], [0, bent], atol=1e-6)


@pytest.mark.parametrize("size", [LARGEST, 1e25, 1e-25, 1e-300])
def test_unit_norm_of_any_size(size: float) -> None:
    expected = np.array([[0.5, -0.5]]) * 2**0.5
    np.testing.assert_allclose(scaled([[1.0, 1.0]], [[size, -size]], "unit_norm"), expected, rtol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "min_max", "robust"])
def test_constant_in_training(scaling: NumericScaling) -> None:
    rows = [[7.0], [9.0], [LARGEST], [-LARGEST], [np.nan]]
    assert not scaled([[7.0], [7.0]], rows, scaling).any()
    assert not scaled([[-LARGEST], [-LARGEST]], rows, scaling).any()


@pytest.mark.parametrize("unit", [1e-300, 1e-30, 1e-8, 1e8, 1e30, 1e300])
def test_small_and_large_units(unit: float) -> None:
    training = [[1 * unit], [3 * unit], [5 * unit]]
    np.testing.assert_allclose(scaled(training, training)[:, 0], [-1.2247449, 0, 1.2247449], atol=1e-5)
    np.testing.assert_allclose(scaled(training, training, "min_max")[:, 0], [0, 0.5, 1], atol=1e-5)
    bent = 1 / (10 / 9) ** 0.5
    np.testing.assert_allclose(scaled(training, training, "robust")[:, 0], [-bent, 0, bent], atol=1e-5)


@pytest.mark.parametrize("scaling", ["standard", "min_max", "robust"])
def test_constant_but_for_rounding(scaling: NumericScaling) -> None:
    rows = [[1.0], [1.0 + 3e-16], [1.0 + 9e-16]]
    assert not scaled(rows, rows, scaling).any()
    tiny = [[5e-324], [1e-310], [5e-310]]
    assert not scaled(tiny, tiny, scaling).any(), "such numbers have a spread whose inverse is beyond float64"


@pytest.mark.parametrize("scaling", ["standard", "min_max", "robust"])
def test_a_rare_value_among_the_smallest(scaling: NumericScaling) -> None:
    """The standard deviation, 1e-309, has no inverse in float64."""
    training = [[0.0]] * 1_000_000 + [[1e-306]]
    output = scaled(training, [[0.0], [1e-306], [LARGEST], [-LARGEST]], scaling)
    assert abs(output[0, 0]) < 1e-2 < output[1, 0]


def test_wild_values_stay_in_bounds() -> None:
    rows = [[-LARGEST], [-1e6], [-10.0], [0.0], [1.0], [10.0], [1e6], [LARGEST]]
    output = scaled([[0.0], [1.0]], rows)[:, 0]
    assert (np.diff(output) >= 0).all()
    assert abs(output).max() <= 1e4
    assert output[3:5].tolist() == [-1, 1]


def test_codes() -> None:
    values = np.array([["x", "9"], ["", "7"], ["new", ""]], dtype=object)
    assert categories.encode(values, (("x", "y"), ("7", "8", "9"))).tolist() == [[2, 4], [1, 2], [0, 1]]
    assert categories.encode(np.empty((2, 0), dtype=object), ()).shape == (2, 0)


def test_one_hot_with_missing_seen() -> None:
    fitted = categories.fit(np.array([[2], [2], [3], [1]]), (4,), one_hot_limit=9)
    output = OneHot(fitted)(torch.tensor([[2], [3], [1], [0]]))
    assert output.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0.25, 0.5, 0.25]]


def test_one_hot_without_missing_seen() -> None:
    fitted = categories.fit(np.array([[2, 2], [2, 3], [3, 4], [2, 4]]), (4, 5), one_hot_limit=9)
    output = OneHot(fitted)(torch.tensor([[1, 4], [0, 0]]))
    assert output.tolist() == [[0.75, 0.25, 0, 0, 1], [0.75, 0.25, 0.25, 0.25, 0.5]]


def test_two_categories_as_signs() -> None:
    codes = np.array([[2, 2], [2, 3], [3, 4], [1, 4]])
    fitted = categories.fit(codes, (4, 5), one_hot_limit=9, signs=True)
    output = OneHot(fitted)(torch.tensor([[2, 2], [3, 3], [1, 4], [0, 4]]))
    assert output.tolist() == [[-1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]]


def test_many_categories_are_embedded() -> None:
    fitted = categories.fit(np.array([[2, 2], [3, 11]]), (4, 12), one_hot_limit=9)
    assert (fitted.one_hot, fitted.embedded) == ((0,), (1,))
    assert fitted.frequencies[1] == (0, 0, 1, *[0] * 8, 1)
    assert categories.fit(np.array([[2, 2], [3, 11]]), (4, 12), one_hot_limit=10).embedded == ()


def seconds(*moments: datetime) -> npt.NDArray[np.int64]:
    return np.array([[int(moment.timestamp())] for moment in moments])


YEARS = seconds(datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 8, 18, 18, tzinfo=UTC))


def test_parts_of_a_date() -> None:
    step = Dates(dates.fit(YEARS))
    output = step(torch.from_numpy(seconds(datetime(2024, 4, 1, 6, tzinfo=UTC)))).numpy()[0]
    assert step.width == 9
    # April is a quarter of the circle, a first of the month its start, Monday too, six o'clock a quarter
    np.testing.assert_allclose(output[1:], [1, 0, 0, 1, 0, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(step(torch.from_numpy(YEARS)).numpy()[:, 0], [-1, 1], rtol=1e-5)


def test_calendar_of_all_years() -> None:
    days = np.arange(-719_162, 2_932_897, 11)
    month, day = dates.month_and_day(torch.from_numpy(days).to(torch.float64))
    calendar = [date.fromordinal(int(number) + 719_163) for number in days]
    assert month.tolist() == [moment.month for moment in calendar]
    assert day.tolist() == [moment.day for moment in calendar]


def test_dates_without_a_time_have_no_time_of_day() -> None:
    values = seconds(datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 8, 18, tzinfo=UTC))
    assert Dates(dates.fit(values)).width == 7


def test_dates_within_a_few_seconds() -> None:
    moments = seconds(*(datetime(2024, 1, 1, 12, 0, second, tzinfo=UTC) for second in range(4)))
    step = Dates(dates.fit(moments))
    assert step.width == 2, "time passed, and one coordinate of the time of day"
    np.testing.assert_allclose(step(torch.from_numpy(moments)).numpy()[:, 0], np.array([-3, -1, 1, 3]) / 5**0.5, 1e-6)


def test_missing_dates() -> None:
    values = np.concatenate([YEARS, [[MISSING_TIME]]])
    output = Dates(dates.fit(values))(torch.from_numpy(values)).numpy()
    assert output[2].tolist() == [0] * 9 + [1]
    assert output[:2, 9].tolist() == [0, 0]
    assert not Dates(dates.fit(YEARS))(torch.from_numpy(values)).numpy()[2].any()


def test_dates_beyond_the_calendar_are_finite() -> None:
    info = np.iinfo(np.int64)
    output = Dates(dates.fit(YEARS))(torch.tensor([[info.max], [info.min + 1], [info.min]])).numpy()
    assert np.isfinite(output).all()
    assert abs(output).max() <= 1e4


SCHEMA = Schema(
    inputs=(
        Field(name="a", kind="numeric", required=False),
        Field(name="b", kind="boolean", required=True),
        Field(name="few", kind="categorical", required=True, categories=("x", "y")),
        Field(name="many", kind="categorical", required=True, categories=tuple(map(str, range(12)))),
        Field(name="day", kind="datetime", required=True),
    ),
    outputs=Outputs(target="y", task="regression"),
)


def groups(count: int) -> Groups:
    rng = np.random.default_rng(0)
    number = rng.normal(size=count)
    number[::7] = np.nan
    few, many = rng.choice(["x", "y"], count), rng.integers(0, 12, count).astype(str)
    return Groups(
        np.stack([number, rng.integers(0, 2, count)], 1),
        np.stack([few, many], 1).astype(object),
        rng.integers(0, 2_000_000_000, (count, 1)),
    )


def test_pipeline() -> None:
    data = groups(100)
    preprocessing, _ = pipeline.fit(SCHEMA, data, PLAIN)
    inputs = preprocessing.prepare(data)
    shape = preprocessing.shape(frequencies=True)
    assert inputs["dense"].shape == (100, shape.dense)
    assert shape.dense == 2 + 1 + 2 + 9
    assert inputs["codes"].shape == (100, 1)
    assert shape.cardinalities == (14,)
    assert sum(shape.frequencies[0]) == 100
    assert preprocessing.shape(frequencies=False).frequencies == ()
    np.testing.assert_allclose(inputs["dense"][:, :2].mean(0), [0, 0], atol=1e-6)
    assert not list(preprocessing.parameters())
    assert not preprocessing.state_dict()


def test_chunks_change_nothing() -> None:
    data = groups(40_000)
    preprocessing, _ = pipeline.fit(SCHEMA, data, PLAIN)
    whole, part = preprocessing.prepare(data), preprocessing.prepare(data.take(slice(20_000, 20_003)))
    for name in whole:
        assert torch.equal(whole[name][20_000:20_003], part[name])


@pytest.mark.parametrize("scaling", ["standard", "min_max", "unit_norm"])
def test_json_makes_the_same_module(scaling: Literal["standard", "min_max", "unit_norm"], tmp_path: Path) -> None:
    data = groups(100)
    preprocessing, _ = pipeline.fit(SCHEMA, data, replace(PLAIN, numeric=scaling))
    (tmp_path / "p.json").write_bytes(documents.encode(preprocessing.fitted))
    again = pipeline.load(tmp_path / "p.json", SCHEMA, tmp_path)
    assert again.fitted == preprocessing.fitted
    for name, tensor in preprocessing.prepare(data).items():
        assert torch.equal(again.prepare(data)[name], tensor)


def test_groups_without_columns() -> None:
    data = groups(30)
    for kept in (("numeric", "boolean"), ("categorical",), ("datetime",)):
        inputs = tuple(field for field in SCHEMA.inputs if field.kind in kept)
        schema = Schema(inputs=inputs, outputs=SCHEMA.outputs)
        part = Groups(
            data.numeric[:, : len(schema.numeric)],
            data.categorical[:, : len(schema.categorical)],
            data.datetime[:, : len(schema.datetime)],
        )
        prepared = pipeline.fit(schema, part, PLAIN)[0].prepare(part)
        assert set(prepared) == ({"dense", "codes"} if kept == ("categorical",) else {"dense"})
    only = Schema(inputs=SCHEMA.inputs[3:4], outputs=SCHEMA.outputs)
    part = Groups(data.numeric[:, :0], data.categorical[:, 1:], data.datetime[:, :0])
    assert set(pipeline.fit(only, part, PLAIN)[0].prepare(part)) == {"codes"}


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(InputError, match="cannot read the preprocessing state"):
        pipeline.load(path, SCHEMA, path)
    path.write_bytes(b"{}")
    with pytest.raises(InputError, match="cannot read the preprocessing state"):
        pipeline.load(path, SCHEMA, path)
    preprocessing, _ = pipeline.fit(SCHEMA, groups(30), PLAIN)
    path.write_bytes(documents.encode(preprocessing.fitted))
    other = Schema(inputs=SCHEMA.inputs[1:], outputs=SCHEMA.outputs)
    with pytest.raises(InputError, match="does not belong to the schema"):
        pipeline.load(path, other, path)


@pytest.mark.parametrize("gaps", [False, True])
def test_values_that_are_known_in_advance(gaps: bool, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    steps, known = (draw.normal(5, 2, (50, length, 2)) for length in (9, 3))
    if gaps:
        known[0, 1, 1] = np.nan
    fields = (
        Field(name="s", kind="sequence", required=True, sequence=SequenceShape(channels=("a", "b"), max_steps=99)),
        Field(
            name="known", kind="sequence", required=True,
            sequence=SequenceShape(channels=("a", "b"), max_steps=3, ahead=3),
        ),
    )  # fmt: skip
    schema = Schema(inputs=fields, outputs=Outputs(target="y", task="regression", horizon=3))
    bare, lengths = empty(50), np.full(50, 9)
    rows = Groups(bare.numeric, bare.categorical, bare.datetime, sequence=steps, lengths=lengths, known=known)
    preprocessing, _ = pipeline.fit(schema, rows, PLAIN)
    assert preprocessing.shape(frequencies=True).known == Known(channels=2 + gaps, steps=3)
    prepared = preprocessing.prepare(rows)["known"]
    assert prepared.shape == (50, 3, 2 + gaps)
    assert abs(float(prepared[..., 0].mean())) < 1e-6
    if gaps:
        assert prepared[0, 1].tolist()[1:] == [0.0, 1.0]
        assert float(prepared[..., 2].sum()) == 1.0
    (tmp_path / "p.json").write_bytes(documents.encode(preprocessing.fitted))
    assert torch.equal(pipeline.load(tmp_path / "p.json", schema, tmp_path).prepare(rows)["known"], prepared)
    with pytest.raises(InputError, match="does not belong to the schema"):
        pipeline.load(tmp_path / "p.json", Schema(inputs=fields[:1], outputs=schema.outputs), tmp_path)
