"""Whatever a client sends, it gets 200 or a 4xx with the one body of all errors: never 500, never anything else."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import bundles
from tests.inprocess import InProcess, assert_is_error

from dle_serving.settings import Settings

MODELS = {"income": bundles.INCOME, "digit": bundles.DIGIT, "price": bundles.PRICE, "spam": bundles.SPAM}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder = tmp_path_factory.mktemp("any_body")
    for name, schema in MODELS.items():
        bundles.write(folder / "bundles" / name, schema, name=name)
    running = InProcess(Settings(bundles=(folder / "bundles",), home=folder, max_body_bytes=10_000, max_rows=20))
    yield running
    running.close()


def check(service: InProcess, model: str, content: bytes) -> Any:
    response = service.post(f"/models/{model}/predict", content=content)
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, content
        return assert_is_error(response, response.status_code)
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
    st.sampled_from(sorted(MODELS)), st.lists(st.dictionaries(st.sampled_from(NAMES) | st.text(), SCALARS), max_size=3)
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
