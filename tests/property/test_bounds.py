"""Time and memory are bounded for every byte of a body, whatever it holds, for every kind of input.

Calls are counted, which no other program disturbs. Calls do not show what a library does inside of one, so the CPU time
of bodies of two sizes is compared too, and the memory of a process with everything in it.
"""

import base64
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import bundles, hostile

from dle_bundle.errors import RowFaults
from dle_bundle.rows.decoder import RowDecoder, TooManyPixels, TooManyRows
from dle_bundle.schema import Schema

FAMILIES = {**hostile.TABLES, **hostile.SERIES, **hostile.TEXTS, **hostile.IMAGES}
MOST_ROWS = 20_000
CALLS_EACH, CALLS = 20, 20_000
"""Calls of functions for each byte, and for any body; suggesting similar names takes most of the latter."""
MEMORY_EACH, MEMORY = 90, 20 << 20
"""Bytes of memory for each byte of a body, and for any body."""
MEMORY_OF_A_PIXEL = 20


def answer(schema: Schema, content: bytes) -> str:
    """Decode a body and tokenise its texts, as the service does; returns how that ended."""
    try:
        groups = RowDecoder(schema, MOST_ROWS, 16_000_000).decode(content)
    except (RowFaults, TooManyRows) as error:
        return type(error).__name__
    if groups.text is not None:
        bundles.tokenizer().tokens(groups.text)
    return "answered"


def calls(schema: Schema, content: bytes) -> int:
    """The number of calls and returns of functions, those of C included, while a body is decoded."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        answer(schema, content)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", FAMILIES)
def test_the_calls_for_a_byte_are_bounded(name: str) -> None:
    family = FAMILIES[name]
    content = family.make(30_000)
    answer(family.schema, content)  # the first time fills caches
    assert calls(family.schema, content) <= CALLS + CALLS_EACH * len(content)


SMALL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SCHEMAS = (bundles.INCOME, bundles.PICTURE, bundles.SIGNAL, bundles.REVIEW, bundles.FORECAST, bundles.PROMOTION)
ROWS = {id(schema): bundles.rows(schema, 1)[0] for schema in SCHEMAS}
PUMPS: dict[str, Callable[[Any, str, Any, int], Any]] = {
    "rows": lambda row, name, value, n: {"rows": [{**row, name: value}] * n},
    "bare rows": lambda row, name, value, n: {"rows": [{name: value}] * n},
    "list": lambda row, name, value, n: {"rows": [{**row, name: [value] * n}]},
    "list of lists": lambda row, name, value, n: {"rows": [{**row, name: [[value] * 3] * n}]},
    "text": lambda row, name, value, n: {"rows": [{**row, name: str(value) * n}]},
    "names": lambda row, name, value, n: {"rows": [{**row, **{f"{name}{value}{i}": value for i in range(n)}}]},
    "keys": lambda row, name, value, n: {f"rows{i}": value for i in range(n)},
}


@settings(max_examples=150)
@given(schema=st.sampled_from(SCHEMAS), pump=st.sampled_from(sorted(PUMPS)), value=SMALL, data=st.data())
def test_the_calls_for_a_byte_are_bounded_whatever_is_repeated(
    schema: Schema, pump: str, value: Any, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(schema.inputs))
    content = json.dumps(PUMPS[pump](ROWS[id(schema)], field.name, value, 300)).encode()
    assert calls(schema, content) <= CALLS + CALLS_EACH * len(content)


CODE = """
import gc, json, sys, time
from tests import bundles, hostile
from tests.property.test_bounds import FAMILIES, SCHEMAS, answer, peak

def seconds(family, content):
    answer(family.schema, content)
    times = []
    for _ in range(3):
        begun = time.process_time()
        answer(family.schema, content)
        times.append(time.process_time() - begun)
    return min(times)

for schema in SCHEMAS:
    answer(schema, hostile.body(*bundles.rows(schema, 2)))
gc.collect()
gc.disable()  # its time follows the objects of the whole process
at_rest = peak()
found = {}
for name, family in FAMILIES.items():
    small, large = family.make(30_000), family.make(240_000)
    times = seconds(family, small), seconds(family, large)
    content = family.make(1_000_000)
    outcome = answer(family.schema, content)
    grown = peak() - at_rest
    found[name] = [outcome, len(content), grown, *times, len(large) / len(small)]
json.dump(found, sys.stdout)
"""


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` also counts what the parent held
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(code: str, text: str = "") -> Any:
    """What a process prints, as JSON, that runs this code and reads this text."""
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True, timeout=200
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """For each family: the outcome and size of a large body, the memory of the process since its start, CPU times."""
    found: dict[str, Any] = run(CODE)
    return found


def test_every_family_is_what_it_says(measured: dict[str, Any]) -> None:
    outcomes = {name: outcome for name, (outcome, *_) in measured.items()}
    assert set(outcomes) == set(FAMILIES)
    for name in ("many valid rows", "text: signs", "tokens: many texts", "image: small images", "categorical: accents"):
        assert outcomes[name] == "answered"


def test_the_memory_for_a_byte_is_bounded(measured: dict[str, Any]) -> None:
    largest = max(size for _, size, *_ in measured.values())
    grown = {name: grown for name, (_, _, grown, *_) in measured.items()}
    assert {name for name, memory in grown.items() if memory > MEMORY + MEMORY_EACH * largest} == set(), grown


@pytest.mark.parametrize("name", FAMILIES)
def test_the_time_grows_as_the_body_does(measured: dict[str, Any], name: str) -> None:
    """Eight times the bytes take at most 24 times the CPU time; 64 times would be quadratic."""
    *_, small, large, ratio = measured[name]
    assert large <= 3 * ratio * small + 0.05  # seconds, as short times are not exact


BOMBS = """
import json, sys
from tests import bundles, hostile
from tests.property.test_bounds import answer, peak

content = hostile.body({"photo": sys.stdin.read()})
answer(bundles.PICTURE, hostile.body(*bundles.rows(bundles.PICTURE, 2)))
at_rest = peak()
outcome = answer(bundles.PICTURE, content)
json.dump([outcome, len(content), peak() - at_rest], sys.stdout)
"""


@pytest.mark.parametrize("kind", hostile.BOMBS)
def test_the_memory_for_a_declared_pixel_is_bounded(kind: str) -> None:
    text = base64.b64encode(hostile.bomb(kind)).decode()
    outcome, size, grown = run(BOMBS, text)
    assert outcome == "answered"
    assert grown <= MEMORY + MEMORY_EACH * size + MEMORY_OF_A_PIXEL * hostile.BOMB_PIXELS


@pytest.mark.parametrize("kind", hostile.BOMBS)
def test_many_pixels_are_refused_by_their_headers(kind: str) -> None:
    text = base64.b64encode(hostile.bomb(kind)).decode()
    decoder = RowDecoder(bundles.PICTURE, MOST_ROWS, 4 * hostile.BOMB_PIXELS)
    with pytest.raises(TooManyPixels, match=r"at most 16,000,000 pixels .* found 20,000,000"):
        decoder.rows(hostile.body(*[{"photo": text}] * 5))
