"""What a series is in a request and in the `sequence` group: steps one after another, each with its channels.

In JSON it is a list of steps, each a list of numbers or null; with one channel the numbers alone will do.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.decode import float32
from dle_bundle.schema import SequenceShape

_MOST_FAULTS = 3
_CHANNELS_APART = 8
"""Of so many channels each is watched on its own; of more, all together."""


class BadSeries(ValueError):
    """What is wrong with a series, and at which step."""


def parse(value: object, shape: SequenceShape) -> npt.NDArray[np.float32]:
    """The steps (T, channels) of a value as JSON has it, NaN = missing; raises BadSeries with its first faults."""
    if not isinstance(value, list):
        raise BadSeries(f"expected a list of steps, got {_kind(value)}")
    if not value:
        raise BadSeries("expected at least one step, got none")
    if len(value) > shape.max_steps:
        raise BadSeries(f"expected at most {shape.max_steps:,} steps, got {len(value):,}")
    channels = len(shape.channels)
    steps = [[step] for step in value] if channels == 1 and not any(isinstance(step, list) for step in value) else value
    if all(type(step) is list and len(step) == channels for step in steps) and all(
        type(number) in (float, int) or number is None for step in steps for number in step
    ):
        try:
            numbers = np.array(steps, dtype=np.float64)
        except OverflowError:  # whole numbers have no bound
            numbers = np.full(1, np.inf)
        if not np.isinf(numbers).any():
            return float32(numbers)
    raise BadSeries("; ".join(_faults(steps, shape)[:_MOST_FAULTS]))


def missing(rows: int, shape: SequenceShape) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """`rows` series that are missing: one step without values, (N, 1, channels), and lengths (N,)."""
    return np.full((rows, 1, len(shape.channels)), np.nan, dtype=np.float32), np.ones(rows, dtype=np.int64)


def stack(
    parts: Sequence[npt.NDArray[np.float32] | None], shape: SequenceShape
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Series (T, channels) of different lengths as one array (N, longest T, channels) and lengths; None = missing."""
    lengths = np.array([1 if part is None else len(part) for part in parts], dtype=np.int64)
    whole = np.full((len(parts), int(lengths.max(initial=1)), len(shape.channels)), np.nan, dtype=np.float32)
    for row, part in enumerate(parts):
        if part is not None:
            whole[row, : len(part)] = part
    return whole, lengths


def join(
    parts: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Several series of each row side by side: (N, longest T, all channels), and the longest length of each row."""
    if len(parts) == 1:
        return parts[0]
    longest = max(array.shape[1] for array, _ in parts)
    padded = [
        np.pad(array, ((0, 0), (0, longest - array.shape[1]), (0, 0)), constant_values=np.nan) for array, _ in parts
    ]
    return np.concatenate(padded, axis=2), np.max([lengths for _, lengths in parts], axis=0)


def statistics_of(channels: Sequence[str]) -> tuple[str, ...]:
    """The names of what `statistics` gives for these channels."""
    if len(channels) == 1:
        return "level", "spread", "length"
    apart = channels if len(channels) <= _CHANNELS_APART else ()
    pairs = tuple(f"{name}.{what}" for name in apart for what in ("level", "spread"))
    return (*(pairs or ("level", "spread")), "length")


def statistics(
    sequence: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64], channels: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Level (mean) and spread (standard deviation) over the steps of each channel, (N,), and the length in steps.

    NaN where nothing is known. More than 8 channels are taken together.
    """
    known = ~np.isnan(sequence)  # padding is NaN as well
    values = np.where(known, sequence, 0).astype(np.float64)
    if len(channels) > _CHANNELS_APART:
        known, values = known.reshape(len(known), -1, 1), values.reshape(len(values), -1, 1)
    counts = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = values.sum(axis=1) / counts  # (N, C)
        spread = np.sqrt(np.where(known, (values - np.nan_to_num(level)[:, None]) ** 2, 0).sum(axis=1) / counts)
    columns = [column for pair in zip(level.T, spread.T, strict=True) for column in pair]
    found = [float32(column) for column in columns]
    return dict(zip(statistics_of(channels), [*found, lengths.astype(np.float32)], strict=True))


def _faults(steps: list[Any], shape: SequenceShape) -> list[str]:
    channels, faults = len(shape.channels), []
    for place, step in enumerate(steps):
        if not isinstance(step, list):
            expected = "a number" if channels == 1 else f"a list of {channels} numbers"
            faults.append(f"step {place}: expected {expected}, got {_kind(step)}")
        elif len(step) != channels:
            faults.append(f"step {place}: expected {channels} number{'s' if channels > 1 else ''}, got {len(step)}")
        else:
            for name, number in zip(shape.channels, step, strict=True):
                where = f"step {place}, {name}" if channels > 1 else f"step {place}"
                if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                    faults.append(f"{where}: expected a number, got {_kind(number)}")
                elif number is not None and not _finite(number):
                    faults.append(f"{where}: expected a finite number")
        if len(faults) > _MOST_FAULTS:
            break
    return faults


def _finite(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    kind = names.get(type(value), "a number")
    return f"{kind} ({value!r:.40})" if isinstance(value, str | int | float) else kind
