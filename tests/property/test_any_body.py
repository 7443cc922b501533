"""Whatever a client sends, it gets 200 or a 4xx with the one body of all errors: never 500, never anything else."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import bundles
from tests.inprocess import InProcess, assert_is_error

from dle_serving.settings import ServerSettings

MODELS = bundles.MODELS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("any_body")
    for name, schema in MODELS.items():
        bundles.write(folder / "bundles" / name, schema, name=name)
    running = InProcess(
        ServerSettings(bundles=(folder / "bundles",), home=folder, max_body_bytes=1_000_000, max_rows=20)
    )
    yield running
    running.close()


def check(service: InProcess, model: str, content: bytes, media: str = "application/json") -> Any:
    response = service.post(f"/models/{model}/predict", content=content, headers={"content-type": media})
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, content
        body = assert_is_error(response, response.status_code)
        assert len(body["details"]) <= 100
        return body
    # msgspec refuses NaN and Infinity, which Python's parser would let pass
    body = msgspec.json.decode(response.content)
    assert body["model"] == model
    return body


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["NaN", "?", "2020-01-01", "0001-01-01T00:00:00+14:00", "Private", 2**63, 10**400, -999, 1e-320])
    | st.sampled_from(["data:,", "data:image/png;base64,iVBORw0KGgo=", "R0lGODlh", "====", "\ud800", "wool " * 300])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
NAMES = sorted({field.name for schema in MODELS.values() for field in schema.inputs})


def encode(value: Any) -> bytes:
    return json.dumps(value).encode(errors="surrogatepass")


@given(st.sampled_from(sorted(MODELS)), st.binary(max_size=200))
def test_any_bytes(service: InProcess, model: str, content: bytes) -> None:
    check(service, model, content)


@given(st.sampled_from(sorted(MODELS)), ANYTHING)
def test_any_json(service: InProcess, model: str, value: Any) -> None:
    check(service, model, encode(value))


@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.dictionaries(st.sampled_from(NAMES) | st.text(), SCALARS | ANYTHING), max_size=3),
)
def test_any_rows(service: InProcess, model: str, rows: Any) -> None:
    body = check(service, model, encode({"rows": rows}))
    if "predictions" in body:
        assert len(body["predictions"]) == len(rows)
    else:
        assert body["details"]


FIELDS = {
    "age": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300),
    "workclass": st.none() | st.text(),
    "hours-per-week": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "married": st.booleans(),
    "since": st.none() | st.datetimes().map(lambda moment: moment.isoformat()),
    "zone": st.none() | st.integers(-(2**62), 2**62) | st.text(),
}


@given(st.lists(st.fixed_dictionaries(FIELDS), max_size=4))
def test_any_row_of_the_right_types_is_answered(service: InProcess, rows: Any) -> None:
    body = check(service, "income", msgspec.json.encode({"rows": rows}))
    assert len(body["predictions"]) == len(rows)
    for prediction in body["predictions"]:
        assert 0 <= prediction["probability"] <= 1


PICTURE = bundles.png(np.asarray(bundles.groups(bundles.PICTURE, 1).image)[0])
HEADS = (
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"BM",
    b"RIFF\x20\0\0\0WEBPVP8 ",
    b"II*\0",
    b"P6 9 9 ",
)


@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_any_image_file(service: InProcess, head: bytes, rest: bytes) -> None:
    body = check(service, "picture", head + rest, "image/png")
    assert body.get("predictions") or [(each["row"], each["code"]) for each in body["details"]] == [(0, "image")]


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a part replaced, and perhaps without its end."""
    part = st.tuples(st.integers(0, len(content)), st.integers(0, 8), st.binary(max_size=8), st.integers(0, 40))
    return part.map(lambda at: (content[: at[0]] + at[2] + content[at[0] + at[1] :])[: len(content) + 40 - at[3]])


@given(mutated(PICTURE))
def test_an_image_file_with_a_part_replaced(service: InProcess, content: bytes) -> None:
    body = check(service, "picture", content, "image/png")
    assert body.get("predictions") or [(each["row"], each["code"]) for each in body["details"]] == [(0, "image")]


INPUTS = ("picture", "signal", "review", "forecast")
BODIES = {model: encode({"rows": bundles.rows(MODELS[model], 2, seed=1)}) for model in INPUTS}


@given(st.sampled_from(INPUTS).flatmap(lambda model: st.tuples(st.just(model), mutated(BODIES[model]))))
def test_a_body_with_a_part_replaced(service: InProcess, case: tuple[str, bytes]) -> None:
    model, content = case
    body = check(service, model, content)
    assert body.get("predictions") is not None or body["details"]


@given(
    st.sampled_from(["signal", "forecast"]),
    st.lists(st.none() | SCALARS | st.lists(st.none() | st.floats() | st.integers(), max_size=3), max_size=6),
)
def test_any_series(service: InProcess, model: str, steps: Any) -> None:
    (field,) = MODELS[model].inputs
    body = check(service, model, encode({"rows": [{field.name: steps}]}))
    assert body.get("predictions") or [(each["row"], each["code"]) for each in body["details"]] == [(0, "sequence")]


@given(st.text())
def test_any_text(service: InProcess, text: str) -> None:
    body = check(service, "review", encode({"rows": [{"text": text}]}))
    assert body.get("predictions") or body["details"]
