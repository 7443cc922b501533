"""Parses the series of JSON requests into the arrays of the `sequence` group, and computes their statistics.

In JSON a series is a list of steps, and each step is a list with a number or null per channel. With one channel, a
step may be just the number.
"""

import math
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dle_bundle.errors import counted
from dle_bundle.schema import SequenceShape
from dle_bundle.values.numbers import NumberFormat, limited, parse_number

_MOST_FAULTS = 3
_CHANNELS_APART = 8
"""Up to this many channels are monitored separately, more channels all together."""
_CELLS_AT_ONCE = 1 << 20
_BITS = 40
"""Bits of statistics that are kept: twelve digits."""


class BadSeries(ValueError):
    """The fault of a series; steps count from 0, as in JSON."""

    code = "sequence"


class MissingSteps(BadSeries):
    """Values that are missing in a series that must be complete."""

    code = "missing"


def parse(value: object, shape: SequenceShape, sentinels: Sequence[float] = ()) -> npt.NDArray[np.float64]:
    """Parse a JSON value into steps (T, channels), NaN = missing; raises BadSeries with its first faults.

    For forecasts, only the last `shape.window` steps are returned. `sentinels` are the numbers that mean missing, see
    `missing_numbers`. A number may be a text in the format of its channel. Raises MissingSteps if values are missing in
    a shape that is `complete`.
    """
    if not isinstance(value, list):
        raise BadSeries(f"expected a list of steps, got {_kind(value)}")
    if (fault := shape.count_fault(len(value))) is not None:
        raise BadSeries(fault)
    numbers = _numbers(_read(value, shape) if shape.number_formats else value, len(shape.channels))
    if numbers is None:
        raise BadSeries("; ".join(_faults(value, shape)))
    if shape.window is not None:
        numbers = numbers[-shape.window :]
    if sentinels:
        numbers[np.isin(numbers, sentinels)] = np.nan
    if (absent := missing_fault(numbers, shape)) is not None:
        raise MissingSteps(absent)
    return limited(numbers)


def missing_fault(steps: npt.NDArray[Any], shape: SequenceShape) -> str | None:
    """The fault of steps (T, channels) with missing values if the shape is `complete`, or None."""
    if not shape.complete or not np.isnan(steps).any():
        return None
    places = np.argwhere(np.isnan(steps)).tolist()
    first = ", ".join(f"{shape.channels[channel]} at step {step}" for step, channel in places[:_MOST_FAULTS])
    return f"a value is required: {first}{', …' if len(places) > _MOST_FAULTS else ''}"


def _read(steps: list[Any], shape: SequenceShape) -> list[Any]:
    """The steps with numbers in place of texts in the format of their channel; other values stay as they are."""
    formats = [shape.number_formats.get(name) for name in shape.channels]
    return [
        [_number(cell, written) for cell, written in zip_longest(step, formats[: len(step)])]
        if isinstance(step, list)
        else _number(step, formats[0])
        for step in steps
    ]


def _number(cell: Any, written: NumberFormat | None) -> Any:
    if written is None or not isinstance(cell, str):
        return cell
    try:
        return parse_number(cell.strip(), written)
    except ValueError:
        return cell


def _numbers(steps: list[Any], channels: int) -> npt.NDArray[np.float64] | None:
    """The steps as an array (T, channels), or None if any step is invalid."""
    flat = channels == 1 and not isinstance(steps[0], list)
    try:
        # msgspec checks the types in C; a loop in Python would take most of a prediction's time
        checked: list[Any] = msgspec.convert(steps, list[float | None] if flat else list[list[float | None]])
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for lone surrogates, which JSON can contain
        return None
    if not flat:
        if set(map(len, checked)) != {channels}:
            return None
        checked = list(chain.from_iterable(checked))
    numbers: npt.NDArray[np.float64] = np.fromiter(checked, np.float64, len(checked))
    # null has become NaN; any other number must be finite
    if (beside := len(numbers) - int(np.isfinite(numbers).sum())) and beside != checked.count(None):
        return None
    return numbers.reshape(-1, channels)


def missing(rows: int, shape: SequenceShape) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """`rows` missing series: (N, 1, channels), one step without values each, and lengths (N,).

    Values that are known in advance have all their steps.
    """
    steps = shape.ahead or 1
    return np.full((rows, steps, len(shape.channels)), np.nan, dtype=np.float64), np.full(rows, steps, dtype=np.int64)


def stack(
    parts: Sequence[npt.NDArray[np.float64] | None], shape: SequenceShape
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Stack series (T, channels), None = missing, into an array (N, longest T, channels) and lengths (N,)."""
    lengths = np.array([1 if part is None else len(part) for part in parts], dtype=np.int64)
    whole = np.full(
        (len(parts), int(lengths.max(initial=shape.ahead or 1)), len(shape.channels)), np.nan, dtype=np.float64
    )
    for row, part in enumerate(parts):
        if part is not None:
            whole[row, : len(part)] = part
    return whole, lengths


def join(
    parts: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Join several series per row side by side: (N, longest T, all channels), and the longest length of each row."""
    if len(parts) == 1:
        return parts[0]
    longest = max(array.shape[1] for array, _ in parts)
    padded = [
        np.pad(array, ((0, 0), (0, longest - array.shape[1]), (0, 0)), constant_values=np.nan) for array, _ in parts
    ]
    return np.concatenate(padded, axis=2), np.max([lengths for _, lengths in parts], axis=0)


def statistics_of(channels: Sequence[str]) -> tuple[str, ...]:
    """The names of the statistics for these channels."""
    if len(channels) == 1:
        return "level", "spread", "length"
    apart = channels if len(channels) <= _CHANNELS_APART else ()
    pairs = tuple(f"{name}.{what}" for name in apart for what in ("level", "spread"))
    return (*(pairs or ("level", "spread")), "length")


def statistics(
    sequence: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64], channels: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Level (mean) and spread (standard deviation) of each channel over the steps, and the length in steps; each (N,).

    A statistic without known values is NaN. More than 8 channels are treated as one. A network that is fitted to
    standardised steps reacts first to shifts of level and spread.
    """
    # part by part, since copies of a whole training set may not fit into memory
    rows = max(1, _CELLS_AT_ONCE // max(1, int(np.prod(sequence.shape[1:]))))
    parts = [
        _moments(sequence[start : start + rows], lengths[start : start + rows], len(channels))
        for start in range(0, len(sequence), rows)
    ]
    names = statistics_of(channels)
    whole = np.concatenate(parts) if parts else np.empty((0, len(names)))
    # the order of a sum changes its last bits, and padding changes the order
    fractions, exponents = np.frexp(whole)
    return dict(zip(names, np.ldexp(np.rint(np.ldexp(fractions, _BITS)), exponents - _BITS).T, strict=True))


def moments(sequence: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Level (mean) and spread (standard deviation), each (N, C), over the known steps of series (N, T, C).

    Both are NaN where no step is known. Padding is NaN, too.
    """
    known = ~np.isnan(sequence)
    values = np.where(known, sequence, 0).astype(np.float64)
    counts = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = values.sum(axis=1) / counts
        spread = np.sqrt(np.where(known, (values - level[:, None]) ** 2, 0).sum(axis=1) / counts)
    return level, spread


def _moments(
    sequence: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64], channels: int
) -> npt.NDArray[np.float64]:
    """The statistics of each row, (N, 2 · channels + 1): level and spread of each channel, then the length."""
    level, spread = moments(sequence if channels <= _CHANNELS_APART else sequence.reshape(len(sequence), -1, 1))
    steps = np.where(np.isnan(level).all(axis=1), np.nan, lengths)
    pairs = np.stack([level, spread], axis=2).reshape(len(level), -1)
    return np.concatenate([pairs, steps[:, None]], axis=1)


def _faults(steps: list[Any], shape: SequenceShape) -> list[str]:
    """The first few faults, found step by step."""
    channels, faults = len(shape.channels), list[str]()
    formats = [shape.number_formats.get(name) for name in shape.channels]
    flat = channels == 1 and not isinstance(steps[0], list)
    for place, step in enumerate(steps):
        if flat:
            faults += _value_faults(f"step {place}", step, formats[0])
        elif not isinstance(step, list):
            faults.append(f"step {place}: expected a list of {counted(channels, 'number')}, got {_kind(step)}")
        elif len(step) != channels:
            faults.append(f"step {place}: expected {counted(channels, 'number')}, got {len(step)}")
        else:
            for name, number, written in zip(shape.channels, step, formats, strict=True):
                where = f"step {place}, channel {name}" if channels > 1 else f"step {place}"
                faults += _value_faults(where, number, written)
        if len(faults) > _MOST_FAULTS:
            return [*faults[:_MOST_FAULTS], "…"]
    return faults


def _value_faults(where: str, value: Any, written: NumberFormat | None) -> list[str]:
    number = _number(value, written)
    if number is None:
        return []
    if isinstance(number, bool) or not isinstance(number, int | float):
        like = f", or a string like {written.example}" if written is not None else ""
        return [f"{where}: expected a number{like}, got {_kind(number)}"]
    return [] if _finite(number) else [f"{where}: expected a finite number"]


def _finite(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:  # integers in JSON are unbounded
        return False


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    if isinstance(value, bool):
        return f"a boolean ({'true' if value else 'false'})"
    kind = names.get(type(value), "a number")
    return f"{kind} ({value!r:.40})" if isinstance(value, str | int | float) else kind
