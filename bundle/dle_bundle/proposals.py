"""How messages propose a setting: as `--set` takes it in a shell or, within `in_python`, as an argument of a call.

A proposal works when it is typed as printed.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_IN_PYTHON: ContextVar[bool] = ContextVar("in_python", default=False)
MARKS = "|>,;:.#&*!%@`?-_/^$+=<"
"""Marks that are text on their own in a setting, though YAML gives some of them another meaning."""
_ARGUMENTS = {"data.target": "target", "training.baseline": "baseline"}
"""Settings that are arguments of `dle_training.train` by a name of their own."""
_COLUMN = re.compile(r"\w[\w-]*")
_WORD = re.compile(r"(?!(?:true|false|null)$)\w[\w./+-]*(?: [\w./+-]+)*", re.IGNORECASE)
"""Text that YAML takes as text without quotes, also within a list or a mapping, unless it is a number."""


@contextmanager
def in_python() -> Iterator[None]:
    """Let messages propose arguments of Python calls. It also serves as a decorator."""
    token = _IN_PYTHON.set(True)
    try:
        yield
    finally:
        _IN_PYTHON.reset(token)


def for_python() -> bool:
    """Whether a message is for the user of a Python call."""
    return _IN_PYTHON.get()


def setting(key: str, value: object, column: str | None = None) -> str:
    """Return the setting `key` with its value, or the value of one column, as a user types it.

    In a shell, `data.kinds` for the column `zip` is `data.kinds.zip=…`. For a name with other characters than letters
    and digits it is `'data.kinds={"zip code": …}'`, with quotes for the shell. In Python both are
    `data={'kinds': {'zip': …}}`.
    """
    if for_python():
        return argument(key, value if column is None else {column: value})
    if column is not None and _COLUMN.fullmatch(column):
        text = f"{key}.{column}={_written(value)}"
    else:
        text = f"{key}={_written(value if column is None else {column: value})}"
    if re.fullmatch(r"[\w.=-]*\w", text):
        return text
    quoted = shlex.quote(text)  # a mark at the end is quoted too, or it would look like one of the sentence
    return quoted if quoted != text else f"'{text}'"


def together(settings: Mapping[str, object]) -> str:
    """Return several settings as a user adds them to a command, or to a call: `data={'time': 'day', 'window': 7}`."""
    if not for_python():
        return " ".join(f"--set {setting(key, value)}" for key, value in settings.items())
    sections: dict[str, dict[str, object]] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = value
    return ", ".join(
        argument(section, values) if section else ", ".join(argument(*each) for each in values.items())
        for section, values in sections.items()
    )


def flag(name: str, value: str | None = None) -> str:
    """Return an argument of a command or call that is no setting: `--sheet Data`, or in Python `sheet='Data'`."""
    if for_python():
        return f"{name}={'…' if value is None else repr(value)}"
    return f"--{name}" if value is None else f"--{name} {shlex.quote(value)}"


def argument(key: str, value: object) -> str:
    """Return the setting as an argument of `dle_training.train`: `data={'drop': ['id']}`."""
    name, *below = [_ARGUMENTS[key]] if key in _ARGUMENTS else key.split(".")
    for each in reversed(below):
        value = {each: value}
    return f"{name}={value!r}"


def _written(value: object) -> str:
    """The value as YAML, without single quotes, which a shell needs around it."""
    if isinstance(value, str) and len(value) == 1 and value in MARKS:
        return value
    return _flow(value) or json.dumps(value, ensure_ascii=False)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _flow(value: object) -> str | None:
    """The value as YAML without any quotes; None if it needs them."""
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and not _is_number(value) else None
    if isinstance(value, list | tuple):
        items = [_flow(each) for each in value]
        return None if None in items else f"[{', '.join(map(str, items))}]"
    if isinstance(value, dict):
        pairs = [(_flow(name), _flow(each)) for name, each in value.items()]
        return None if any(None in pair for pair in pairs) else f"{{{', '.join(f'{a}: {b}' for a, b in pairs)}}}"
    return json.dumps(value)
