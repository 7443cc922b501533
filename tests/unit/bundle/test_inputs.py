"""Images, series and text in bodies and in tables: arrays where they fit, a fault by row and field where not."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests import bundles

from dle_bundle.errors import RowFaults
from dle_bundle.images import pixels as images
from dle_bundle.rows import decoder as decoding
from dle_bundle.rows.decoder import RowDecoder, TooManyPixels, TooManyRows
from dle_bundle.schema import Field, ImageShape, Outputs, Schema, SequenceShape
from dle_bundle.tables.columns import to_groups

GREY = ImageShape(channels=1, height=4, width=6)
ALL = Schema(
    inputs=(
        Field(name="front", kind="image", required=False, image=GREY),
        Field(name="text", kind="text", required=False),
        Field(name="a\\b", kind="sequence", required=False, sequence=SequenceShape(channels=("x",), max_steps=9)),
        Field(name="back", kind="image", required=True, image=GREY),
        Field(name="c", kind="sequence", required=False, sequence=SequenceShape(channels=("y", "z"), max_steps=9)),
        Field(name="title", kind="text", required=False),
    ),
    outputs=Outputs(target="y", task="regression"),
    na_values=("-999", "NA", ""),
)
"""Several of each, and a name that no struct takes."""
PIXELS = np.arange(48, dtype=np.uint8).reshape(2, 1, 4, 6) + 1
FRONT, BACK = (bundles.base64_png(pixels) for pixels in PIXELS)


def decode(*rows: dict[str, Any]) -> Any:
    return RowDecoder(ALL).decode(msgspec.json.encode({"rows": rows}))


def faults(*rows: dict[str, Any]) -> list[tuple[int | None, str | None, str, str]]:
    with pytest.raises(RowFaults) as raised:
        decode(*rows)
    return [(fault.row, fault.field, fault.code, fault.message) for fault in raised.value.faults]


def test_several_of_each_stand_side_by_side() -> None:
    groups = decode(
        {"front": FRONT, "back": BACK, "text": " a b ", "a\\b": [1, None, -999], "c": [[1, 2]], "title": "t"},
        {"back": FRONT, "title": "NA", "a\\b": [[4]]},
    )
    np.testing.assert_array_equal(groups.image[0], PIXELS[:, 0])
    assert not groups.image[1, 0].any(), "a missing image is black"
    np.testing.assert_array_equal(groups.image[1, 1], PIXELS[0, 0])
    assert groups.text.tolist() == [["a b", "t"], ["", "NA"]]
    assert groups.lengths.tolist() == [3, 1]
    nan = np.nan
    np.testing.assert_array_equal(
        groups.sequence, [[[1, 1, 2], [nan] * 3, [nan] * 3], [[4, nan, nan], [nan] * 3, [nan] * 3]]
    )


def test_every_fault_of_every_row_is_told() -> None:
    found = faults(
        {"back": BACK[:40], "a\\b": [1, "x"], "c": [[1]]},
        {"back": BACK},
        {"front": "?", "back": "NA", "text": 3, "c": {}, "title": True},
        {"back": BACK, "front": "data:image/png;base64," + BACK[:-24], "a\\b": []},
    )
    assert [fault[:3] for fault in found] == [
        (0, "a\\b", "sequence"),
        (0, "back", "image"),
        (0, "c", "sequence"),
        (2, "front", "image"),
        (2, "text", "type"),
        (2, "back", "missing"),
        (2, "c", "type"),
        (2, "title", "type"),
        (3, "front", "image"),
        (3, "a\\b", "sequence"),
    ]
    assert found[3][3] == "expected base64, got '?'"


def test_a_file_is_a_row_of_a_model_of_one_image() -> None:
    shape = bundles.PICTURE.inputs[0].image
    assert shape is not None
    pixels = np.full((3, shape.height, shape.width), 7, dtype=np.uint8)
    decoder = RowDecoder(bundles.PICTURE)
    groups = decoder.groups([decoder.image_row(bundles.png(pixels)), decoder.image_row(bundles.png(pixels + 1))])
    np.testing.assert_array_equal(groups.image, [pixels, pixels + 1])
    with pytest.raises(RowFaults) as raised:
        decoder.image_row(b"")
    assert [str(fault) for fault in raised.value.faults] == ["row 0, 'photo': the image cannot be read: empty"]


def test_rows_that_would_not_fit_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MOST_BYTES", 200)
    assert len(decode({"back": BACK}, {"back": BACK})) == 2
    with pytest.raises(TooManyRows, match=r"at most 4 rows .* takes 48 bytes in memory, found 5"):
        decode(*[{"back": "not read"}] * 5)
    with pytest.raises(TooManyRows, match=r"at most 1 row .* takes 108 bytes in memory, found 2"):
        decode({"back": BACK}, {"back": BACK, "a\\b": [1] * 9})


def body(*rows: Any) -> bytes:
    return msgspec.json.encode({"rows": rows})


def test_the_pixels_of_all_images_are_limited_before_one_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = RowDecoder(ALL, most_pixels=3 * 24)
    assert len(decoder.rows(body({"back": BACK, "front": FRONT}, {"back": BACK}))) == 2
    decoded: list[bytes] = []
    monkeypatch.setattr(images, "decode", lambda content, shape: decoded.append(content))
    with pytest.raises(TooManyPixels, match="at most 72 pixels in all images of a request, found 96"):
        decoder.rows(body({"back": BACK, "front": FRONT}, {"back": BACK}, {"back": FRONT}))
    assert decoded == []


def damaged() -> str:
    """An image whose header and end are right, and whose pixels are not."""
    content = base64.b64decode(BACK)
    place = content.index(b"IDAT") + 6
    return base64.b64encode(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]).decode()


def test_images_are_decoded_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"back": BACK, "front": FRONT}, {"back": BACK}, {"back": BACK}]
    whole = RowDecoder(ALL).rows(body(*rows))
    assert list(RowDecoder(ALL).rows_in_turns(body(*rows))) == []  # small images share a turn
    monkeypatch.setattr(decoding, "_TURN_PIXELS", decoding._OPENING * 4 + 10)
    decoded: list[bytes] = []
    decode_image = images.decode

    def noting(content: bytes, shape: ImageShape) -> images.Pixels:
        decoded.append(content)
        return decode_image(content, shape)

    monkeypatch.setattr(images, "decode", noting)
    turns = RowDecoder(ALL).rows_in_turns(body(*rows))
    next(turns)
    assert len(decoded) == 1
    with pytest.raises(StopIteration) as done:
        next(turns)
    assert len(decoded) == 4
    found = done.value.value
    for row, expected in zip(found.image, whole.image, strict=True):
        for pixels, same in zip(row, expected, strict=True):
            np.testing.assert_array_equal(pixels, same)


@pytest.mark.parametrize("large", [True, False])
def test_of_large_images_one_is_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    monkeypatch.setattr(decoding, "_LARGE_PIXELS", 23 if large else 24)
    held: list[bool] = []
    monkeypatch.setattr(images, "decode", lambda content, shape: held.append(decoding._one_large.locked()))
    RowDecoder(ALL).rows(body({"back": BACK}, {"back": BACK}))
    assert held == [large, large]
    assert not decoding._one_large.locked()


def test_every_image_that_cannot_be_read_is_told() -> None:
    found = faults({"back": damaged(), "front": FRONT[:40]}, {"back": BACK}, {"back": BACK, "front": damaged()})
    assert [fault[:3] for fault in found] == [(0, "front", "image"), (0, "back", "image"), (2, "front", "image")]


def test_faults_are_looked_for_in_a_turn_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = RowDecoder(ALL).rows_in_turns(b'{"rows": [{}]}')
    next(turns)
    with pytest.raises(RowFaults, match="1 value does not match"):
        next(turns)


def table(**columns: Any) -> pa.Table:
    return pa.table({"back": pa.array([base64.b64decode(BACK)] * 3), **columns})


def test_tables_have_paths_contents_and_arrays(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.png").write_bytes(base64.b64decode(FRONT))
    front = pa.array([" deep/a.png ", "NA", None])
    groups, found = to_groups(table(front=front), ALL, folder=tmp_path)
    assert not found
    np.testing.assert_array_equal(groups.image[:, 0].any(axis=(1, 2)), [True, False, False])
    np.testing.assert_array_equal(groups.image[0, 0], PIXELS[0, 0])
    arrays = pa.FixedShapeTensorArray.from_numpy_ndarray(np.repeat(PIXELS[:1, 0], 3, axis=0))
    groups, found = to_groups(table(front=arrays), ALL)
    assert not found
    np.testing.assert_array_equal(groups.image[2, 0], PIXELS[0, 0])


def test_what_is_wrong_in_a_table_is_told_by_row(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(base64.b64decode(FRONT)[:50])
    whole = pa.table(
        {
            "front": pa.array(["cut.png", "gone.png", "a\0b"]),
            "back": pa.array([b"", None, base64.b64decode(BACK)]),
            "a\\b": pa.array([[1.0], [], [float("inf")]]),
            "c": pa.array(["[1,2]", None, None]),
            "text": pa.array([[1], None, None]),
        }
    )
    groups, found = to_groups(whole, ALL, 11, folder=tmp_path)
    assert [(fault.row, fault.field, fault.code) for fault in found] == [
        (11, "front", "image"),
        (11, "text", "type"),
        (11, "back", "image"),
        (11, "c", "type"),
        (12, "front", "image"),
        (12, "a\\b", "sequence"),
        (12, "back", "missing"),
        (13, "front", "image"),
        (13, "a\\b", "sequence"),
    ]
    assert len(groups) == 3


def test_arrays_that_are_no_images_are_faults_of_every_row() -> None:
    odd = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((3, 5, 7, 9), dtype=np.uint8))
    _, found = to_groups(table(front=odd), ALL)
    assert [(fault.row, fault.field, fault.code) for fault in found] == [(row, "front", "image") for row in (1, 2, 3)]
