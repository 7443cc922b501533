"""Divides a .json file, an array of objects, into JSON lines, which `json_lines` reads.

Each object keeps its text, and so the digits of its numbers.
"""

import json
import re
from pathlib import Path
from typing import NoReturn

from dle_bundle.errors import InputError

_SPACE = re.compile(r"[ \t\r\n]*")
_BREAKS = str.maketrans("\r\n", "  ")
"""Line breaks inside of an object; its texts have none."""
_EXPECTED = 'expected an array of objects, such as [{"age": 39}, {"age": 41}]'


def lines(path: Path, text: str) -> tuple[str, str]:
    """Return the objects as JSON lines, and what messages call a line: `object`.

    A file that holds JSON lines already is returned as it is; its lines are called `line`. Raises InputError, with the
    place, if the file holds anything else.
    """
    start = _skip(text, 0)
    if text[start] == "[":
        return "\n".join(_objects(path, text, start + 1)), "object"
    value, end = _decoded(path, text, start)
    if isinstance(value, dict) and _skip(text, end) < len(text):
        return text, "line"
    found = "one object; if it is a row, put it between [ and ]" if isinstance(value, dict) else "a single value"
    raise _refusal(path, f"{_EXPECTED}, found {found}")


def _objects(path: Path, text: str, place: int) -> list[str]:
    """The text of each object of the array whose content begins at `place`."""
    found: list[str] = []
    place = _skip(text, place)
    while text[place : place + 1] != "]" or found:
        value, end = _decoded(path, text, place)
        if not isinstance(value, dict):
            _fail(path, text, place, f"{_EXPECTED}, found another value")
        found.append(text[place:end].translate(_BREAKS))
        place = _skip(text, end)
        if text[place : place + 1] == "]":
            break
        if text[place : place + 1] != ",":
            _fail(path, text, place, "expected , or ] after an object")
        place = _skip(text, place + 1)
    if (rest := _skip(text, place + 1)) < len(text):
        _fail(path, text, rest, "expected nothing after the array")
    return found


def _decoded(path: Path, text: str, place: int) -> tuple[object, int]:
    try:
        found: tuple[object, int] = json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError) as error:
        _fail(path, text, error.pos if isinstance(error, json.JSONDecodeError) else place, fault(error))
    return found


def fault(error: ValueError | RecursionError) -> str:
    """Return what is wrong with JSON that Python's parser refuses."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    return "a number has too many digits" if "integer string" in str(error) else str(error)


def _skip(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    assert space is not None
    return space.end()


def _fail(path: Path, text: str, place: int, message: str) -> NoReturn:
    raise _refusal(path, f"line {text.count(chr(10), 0, place) + 1:,}: {message}")


def _refusal(path: Path, message: str) -> InputError:
    return InputError(f"{path}: not readable as .json: {message}")
