"""Which examples the report shows: of training as the loop has them, of the test part as the model judges them."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec.structs import replace as change

from dle_bundle.groups import Groups, empty
from dle_bundle.schema import Field, ImageShape, Label, Outputs, Schema, SequenceShape, SeriesLayout
from dle_training.augmentation import augment as augmentation
from dle_training.config import run_config
from dle_training.config.resolve import resolve
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.data.rows.row_samples import one_of_each
from dle_training.data.splits.split import Split
from dle_training.models.family import NO_AUGMENTATION
from dle_training.preprocessing import pipeline
from dle_training.preprocessing.pipeline import Preprocessing
from dle_training.report import samples, worst_examples
from dle_training.report.samples import IMAGES, SERIES, VERSIONS, Samples
from dle_training.report.worst_examples import PredictedRow

ROWS, STEPS = 60, 20
CLASSES: tuple[Label, ...] = ("cat", "dog", "owl")
INPUTS = (
    Field(name="photo", kind="image", required=True, image=ImageShape(channels=3, height=6, width=5)),
    Field(
        name="pulse", kind="sequence", required=True,
        sequence=SequenceShape(channels=("a", "b", "c", "d"), max_steps=STEPS),
    ),
    Field(name="note", kind="text", required=True),
)  # fmt: skip
VARIED = RunConfig(augmentation=change(NO_AUGMENTATION, flip=True, shift=0.2, jitter=0.1, scaling=0.1, slicing=0.3))


class Unread:
    """Images that are read when they are asked for, and count how many were."""

    def __init__(self, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None) -> None:
        self.pixels, self.rows = pixels, np.arange(len(pixels)) if rows is None else rows
        self.shape, self.ndim, self.read = (len(self.rows), *pixels.shape[1:]), 4, 0

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> "Unread":
        taken = Unread(self.pixels, self.rows[rows])
        taken.__dict__["whole"] = self.__dict__.get("whole", self)
        return taken

    def __len__(self) -> int:
        return len(self.rows)

    def __array__(self, dtype: object = None, copy: object = None) -> npt.NDArray[np.uint8]:
        self.__dict__.get("whole", self).read += len(self)
        return self.pixels[self.rows]


def dataset(outputs: Outputs, target: npt.NDArray[np.generic]) -> Dataset:
    """Rows whose image, series and text tell their number, split in three."""
    random = np.random.default_rng(3)
    numbers = np.arange(ROWS)
    sequence = random.normal(size=(ROWS, STEPS, 4))
    lengths = random.integers(8, STEPS + 1, ROWS)
    sequence[np.arange(STEPS) >= lengths[:, None]] = np.nan
    sequence[:, 3:5, 0] = np.nan
    image = random.integers(0, 256, (ROWS, 3, 6, 5)).astype(np.uint8)
    image[:, :, 0, 0] = numbers[:, None]
    text = np.array([["word " * (number + 1)] for number in numbers], dtype=object)
    order = random.permutation(ROWS)
    return Dataset(
        source="nowhere",
        digest="",
        schema=Schema(inputs=INPUTS, outputs=outputs),
        groups=replace(empty(ROWS), image=image, sequence=sequence, lengths=lengths, text=text),
        target=target,
        split=Split(train=order[:40], validation=order[40:50], test=order[50:]),
        split_by="random",
        dropped={},
        notes=(),
    )


def classified() -> Dataset:
    target = np.array(CLASSES, dtype=object)[np.random.default_rng(5).integers(0, 3, ROWS)]
    return dataset(Outputs(target="kind", task="multiclass", classes=CLASSES), target)


def fitted(data: Dataset) -> Preprocessing:
    config = resolve(run_config.RunConfig(), data.schema, len(data.split.train))
    return pipeline.fit(data.schema, data.part("train")[0], change(config.preprocessing, max_tokens=16))[0]


def chosen(data: Dataset, preprocessing: Preprocessing, config: RunConfig = VARIED) -> Samples:
    """The examples of the training part."""
    return samples.choose(*data.part("train"), data.schema, preprocessing, config)


def test_training_examples_are_of_the_training_part_and_of_every_class() -> None:
    data = classified()
    made = chosen(data, fitted(data))
    assert made.images is not None
    rows = made.images.plain[:, 0, 0, 0]
    assert set(rows) <= set(data.split.train)
    assert made.images.targets == tuple(data.target[rows])
    assert set(made.images.targets) == set(CLASSES)
    assert len(rows) == len(set(rows)) == IMAGES


def test_no_other_part_has_a_say_in_training_examples() -> None:
    data = classified()
    target, groups = data.target.copy(), data.groups
    others = np.concatenate([data.split.validation, data.split.test])
    target[others] = "poison"
    poisoned = groups.image.copy()
    poisoned[others] = 0
    changed = replace(data, target=target, groups=replace(groups, image=poisoned))
    first, second = (chosen(one, fitted(data)) for one in (data, changed))
    for one, other in ((first.images, second.images), (first.series, second.series)):
        assert one is not None
        assert other is not None
        assert one.targets == other.targets
        np.testing.assert_array_equal(one.plain, other.plain)
        assert one.varied is not None
        assert other.varied is not None
        np.testing.assert_array_equal(one.varied, other.varied)


def test_variations_are_those_of_the_loop_and_leave_its_random_numbers_alone() -> None:
    data = classified()
    preprocessing = fitted(data)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    made = chosen(data, preprocessing).images
    assert torch.equal(torch.get_rng_state(), before)
    assert made is not None
    assert made.varied is not None
    assert made.varied.shape == (VERSIONS, *made.plain.shape)
    augment = augmentation.build(VARIED.augmentation, preprocessing.shape(frequencies=False))
    assert augment is not None
    assert augment.images is not None
    torch.manual_seed(VARIED.seed)
    drawn = augment.images(torch.from_numpy(data.groups.image[made.plain[:, 0, 0, 0]])).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(made.varied[0], drawn.numpy())
    assert (made.varied[0] != made.varied[1]).any()


def test_without_augmentation_there_are_more_images_and_no_variations() -> None:
    data = classified()
    made = chosen(data, fitted(data), RunConfig(augmentation=NO_AUGMENTATION))
    assert made.images is not None
    assert made.series is not None
    assert made.images.varied is None
    assert made.series.varied is None
    assert len(made.images.plain) == 2 * IMAGES


def test_images_in_files_are_read_only_where_they_are_shown() -> None:
    data = classified()
    preprocessing, files = fitted(data), Unread(data.groups.image)
    made = chosen(replace(data, groups=replace(data.groups, image=files)), preprocessing)
    same = chosen(data, preprocessing)
    assert files.read == IMAGES
    assert made.images is not None
    assert same.images is not None
    np.testing.assert_array_equal(made.images.plain, same.images.plain)


def test_missing_steps_of_series_are_not_there_to_be_drawn() -> None:
    data = classified()
    made = chosen(data, fitted(data)).series
    assert made is not None
    assert made.varied is not None
    assert made.plain.shape == (SERIES, STEPS, 3)
    assert (made.channels, made.total) == (("a", "b", "c"), 4)
    assert np.isnan(made.plain[:, 3:5, 0]).all()
    assert not np.isnan(made.plain[:, :8, 1:]).any()
    lengths = (~np.isnan(made.plain[..., 1])).sum(axis=1)
    for version in made.varied:
        np.testing.assert_array_equal((~np.isnan(version[..., 1])).sum(axis=1), lengths)
        assert (np.isnan(version[:, :8, 0]).sum(axis=1) >= 1).all()


def test_windows_of_a_forecast_are_shown_in_their_units_with_the_target_first() -> None:
    """The variations of a window are scaled as the window itself is."""
    target = np.random.default_rng(5).normal(size=(ROWS, 2))
    data = dataset(Outputs(target="d", task="regression", horizon=2), target)
    layout = SeriesLayout(channels=("a", "b", "c", "d"), time="t", window=STEPS)
    sequence = 1_000 + 10 * np.random.default_rng(6).normal(size=(ROWS, STEPS, 4))
    sequence[:, 5, 3] = np.nan
    groups = replace(data.groups, sequence=sequence, lengths=np.full(ROWS, STEPS))
    data = replace(data, schema=change(data.schema, layout=layout), groups=groups)
    made = chosen(data, fitted(data), RunConfig(augmentation=change(NO_AUGMENTATION, jitter=0.01))).series
    assert made is not None
    assert made.ahead is not None
    assert made.varied is not None
    assert (made.channels, made.total) == (("d", "a", "b"), 4)
    rows = [int(np.flatnonzero((target == each).all(axis=1))[0]) for each in made.ahead]
    np.testing.assert_array_equal(made.plain, sequence[rows][..., [3, 0, 1]])
    known = ~np.isnan(made.plain)
    assert (np.abs(made.varied - made.plain)[:, known] < 1).all()
    assert np.isnan(made.varied[:, :, 5, 0]).all()


def test_lengths_of_texts_are_those_before_the_cut() -> None:
    data = classified()
    preprocessing = fitted(data)
    made = chosen(data, preprocessing).texts
    assert made is not None
    assert made.max_tokens == 16
    assert sorted(made.tokens) == sorted(data.split.train + 1)
    assert made.truncated == pytest.approx((made.tokens > 16).mean())


def test_values_are_shown_from_the_lowest_to_the_highest() -> None:
    values = np.random.default_rng(5).normal(size=ROWS)
    data = dataset(Outputs(target="price", task="regression"), values)
    made = chosen(data, fitted(data)).images
    assert made is not None
    trained = values[data.split.train]
    assert list(made.targets) == sorted(made.targets, key=float)  # type: ignore[arg-type]
    assert (made.targets[0], made.targets[-1]) == (trained.min(), trained.max())
    steps = dataset(Outputs(target="price", task="regression", horizon=2), np.stack([values, values], axis=1))
    many = chosen(steps, fitted(steps)).images
    assert many is not None
    assert many.targets == (None,) * IMAGES


@pytest.mark.parametrize(
    ("kinds", "most", "expected"),
    [
        ([0, 0, 0, 1, 2], 3, [0, 3, 4]),
        ([2, 0, 2, 0, 0], 4, [1, 3, 0, 2]),
        ([1, 1], 5, [0, 1]),
        ([], 3, []),
    ],
)
def test_one_of_each_kind_comes_first(kinds: list[int], most: int, expected: list[int]) -> None:
    assert one_of_each(np.array(kinds, dtype=np.int64), most).tolist() == expected


def test_the_most_confident_answers_are_shown_right_and_wrong() -> None:
    data = classified()
    groups, _ = data.part("test")
    actual = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    predicted = np.full((10, 3), 0.0, dtype=np.float32)
    said = np.array([0, 0, 0, 1, 0, 0, 2, 2, 1, 1])
    sure = np.array([0.5, 0.9, 0.7, 0.6, 0.8, 0.95, 0.6, 0.7, 0.5, 0.6], dtype=np.float32)
    predicted[np.arange(10), said] = sure
    made = worst_examples.choose(data.schema, groups, actual, predicted)
    assert made.right is not None
    assert made.wrong is not None
    numbers = groups.image[:, 0, 0, 0]
    assert made.right.pixels[:, 0, 0, 0].tolist() == numbers[[1, 2, 0, 3, 7, 6]].tolist()
    assert made.wrong.pixels[:, 0, 0, 0].tolist() == numbers[[5, 4, 9, 8]].tolist()
    assert made.wrong.answers[0] == PredictedRow("dog", "cat", float(sure[5]))
    assert [text for text, _ in made.wrong_texts] == groups.text[[5, 4, 9, 8], 0].tolist()  # type: ignore[index]
    flawless = worst_examples.choose(data.schema, groups, said, predicted)
    assert (flawless.wrong, flawless.wrong_texts) == (None, ())


def test_the_largest_errors_of_values_are_shown() -> None:
    values = np.arange(ROWS, dtype=np.float64)
    data = dataset(Outputs(target="price", task="regression"), values)
    groups, actual = data.part("test")
    errors = np.array([0, 3, -9, 1, 0, 0, 5, 0, 0, 2])
    made = worst_examples.choose(data.schema, groups, actual, (actual + errors).astype(np.float32))
    assert made.right is None
    assert made.wrong is not None
    assert made.wrong.answers[0] == PredictedRow(actual[2], actual[2] - 9, None)
    assert made.wrong.pixels[:3, 0, 0, 0].tolist() == groups.image[[2, 6, 1], 0, 0, 0].tolist()


def test_forecasts_stand_beside_the_last_value_that_was_seen() -> None:
    groups = windows()
    actual = np.array([[5.0, 6.0], [7.0, 7.0], [9.0, 5.0], [1.0, 1.0]])
    schema = Schema(inputs=INPUTS[1:2], outputs=Outputs(target="b", task="regression", horizon=2))
    made = worst_examples.choose(schema, groups, actual, actual.astype(np.float32) + 1)
    assert made.forecasts is not None
    # the last values are 3, 5, 5 and one that is missing
    assert made.forecasts.last_value.tolist() == pytest.approx([(2 + 2 + 4) / 3, (3 + 2 + 0) / 3])
    np.testing.assert_array_equal(made.forecasts.actual, actual[[0, 2, 3]])
    assert made.forecasts.names == ()
    one = change(schema, layout=SeriesLayout(channels=("b",), time="t", window=3))
    next_value = worst_examples.choose(one, groups, actual[:, 0], actual[:, 0].astype(np.float32)).forecasts
    assert next_value is not None
    np.testing.assert_array_equal(next_value.actual, actual[[0, 2, 3], :1])
    assert next_value.last_value.tolist() == pytest.approx([(2 + 2 + 4) / 3])
    assert made.right is made.wrong is None
    elsewhere = change(schema, outputs=change(schema.outputs, target="other"))
    assert worst_examples.choose(elsewhere, groups, actual, actual.astype(np.float32)).forecasts is None


def windows() -> Groups:
    """Four windows of three steps, in the second channel 1 2 3, 3 4 5, 5 – 5 and 7 8 –."""
    sequence = np.zeros((4, 3, 4))
    sequence[..., 1] = np.array([[1, 2, 3], [3, 4, 5], [5, np.nan, 5], [7, 8, np.nan]])
    return replace(empty(4), sequence=sequence, lengths=np.full(4, 3))
