"""What is watched of images and series is each field's own."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from dle_bundle.drift import features
from dle_bundle.groups import Groups, empty
from dle_bundle.schema import Field, ImageShape, Outputs, Schema, SequenceShape

OUTPUTS = Outputs(target="y", task="regression")


def of(groups: Groups, *fields: Field) -> dict[str, npt.NDArray[np.float32]]:
    schema = Schema(inputs=fields, outputs=OUTPUTS)
    return {feature.name: feature.values for feature in features.monitored_features(groups, schema)}


def with_series(*rows: list[list[float | None]]) -> Groups:
    """Rows of steps of channels, all of one length."""
    bare = empty(len(rows))
    steps = np.array(rows, dtype=np.float64)
    lengths = np.full(len(rows), steps.shape[1], dtype=np.int64)
    return Groups(bare.numeric, bare.categorical, bare.datetime, sequence=steps, lengths=lengths)


def a_series(name: str, *channels: str) -> Field:
    return Field(name=name, kind="sequence", required=False, sequence=SequenceShape(channels=channels, max_steps=9))


@pytest.mark.parametrize("cells", [1, 1 << 20])
def test_a_series_is_as_long_as_it_is_known(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CELLS_AT_ONCE", cells)
    found = of(
        with_series(
            [[1, 2, None], [1, None, None], [1, None, 4]],
            [[None, None, None], [5, None, None], [None, None, None]],
            [[None, None, 3], [None, None, None], [None, None, None]],
        ),
        a_series("long", "a"),
        a_series("short", "b", "c"),
    )
    np.testing.assert_array_equal(found["long.length"], np.array([3, 2, np.nan]))
    np.testing.assert_array_equal(found["short.length"], np.array([3, np.nan, 1]))
    found = of(with_series([[1, 2], [1, None], [1, None]]), a_series("long", "a"), a_series("short", "b"))
    assert (found["long.length"].tolist(), found["short.length"].tolist()) == ([3], [1])


def test_values_that_are_known_in_advance_have_no_length() -> None:
    rows = with_series([[1], [3]])
    assert rows.sequence is not None
    rows = replace(rows, known=np.array([[[0, 1], [1, np.nan], [1, 1]]]))
    shape = SequenceShape(channels=("promo", "price"), max_steps=3, ahead=3)
    fields = (a_series("past", "a"), Field(name="known", kind="sequence", required=True, sequence=shape))
    found = of(rows, *fields)
    names = features.feature_names(Schema(inputs=fields, outputs=OUTPUTS))
    assert list(found) == list(names) == [
        *(f"past.{what}" for what in ("level", "spread", "length")),
        *(f"known.{name}.{what}" for name in ("promo", "price") for what in ("level", "spread")),
    ]  # fmt: skip
    assert found["known.promo.level"].tolist() == pytest.approx([2 / 3], rel=1e-11)
    assert found["known.price.level"].tolist() == [1]


@pytest.mark.parametrize("required", [True, False])
def test_a_black_image_is_missing_only_where_it_may_be(required: bool) -> None:
    bare = empty(2)
    pixels = np.zeros((2, 1, 4, 4), dtype=np.uint8)
    pixels[1] = 51
    shape = ImageShape(channels=1, height=4, width=4)
    found = of(
        Groups(bare.numeric, bare.categorical, bare.datetime, image=pixels),
        Field(name="photo", kind="image", required=required, image=shape),
    )
    black = 0 if required else np.nan
    np.testing.assert_array_equal(found["photo.brightness"], np.array([black, 0.2], np.float32))


def test_images_are_described_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    bare, shape = empty(5), ImageShape(channels=3, height=4, width=4)
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 4, 4), dtype=np.uint8)
    fields = [Field(name=name, kind="image", required=True, image=shape) for name in ("front", "back")]
    rows = Groups(bare.numeric, bare.categorical, bare.datetime, image=pixels)
    whole = of(rows, *fields)
    monkeypatch.setattr(features, "_PIXELS_AT_ONCE", 2 * 6 * 4 * 4)
    pieces = of(rows, *fields)
    assert list(pieces) == list(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(pieces[name], values)
