"""The rows that test an export: training rows, and copies of them with missing, unseen and extreme values."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dle_bundle.groups import MISSING_TIME, Groups, concatenate
from dle_bundle.schema import Schema


def make(sample: Groups, schema: Schema, generator: np.random.Generator) -> Groups:
    """Return the rows of `sample`, and copies with about a third of the values missing, unseen, extreme or mixed.

    In some more rows every value is missing, unseen or extreme. Series are also cut short and repeated.
    """
    changes = (_missing, _unseen, _extreme)
    parts = [sample, *(change(sample, generator) for change in changes)]
    mixed = sample
    for change in changes:
        mixed = change(mixed, generator)
    edge = max(len(sample) // 3, 1)
    # in a wide table, random choices would never change every value of a row
    whole = [*parts, mixed, *(change(sample.take(slice(edge)), None) for change in changes)]
    if schema.sequence:
        whole += [_cut(sample, generator), _repeated(sample, schema)]
    return concatenate(whole)


def _chosen(array: npt.NDArray[Any], generator: np.random.Generator | None) -> npt.NDArray[np.bool_]:
    return np.ones(array.shape, dtype=bool) if generator is None else generator.random(array.shape) < 1 / 3


def _missing(rows: Groups, generator: np.random.Generator | None) -> Groups:
    image, text, sequence, known = rows.image, rows.text, rows.sequence, rows.known
    if image is not None:
        image = np.where(_chosen(image[:, :1, :1, :1], generator), np.uint8(0), image)
    return replace(
        rows,
        numeric=np.where(_chosen(rows.numeric, generator), np.nan, rows.numeric),
        categorical=np.where(_chosen(rows.categorical, generator), "", rows.categorical).astype(object),
        datetime=np.where(_chosen(rows.datetime, generator), MISSING_TIME, rows.datetime),
        image=image,
        sequence=None if sequence is None else np.where(_chosen(sequence, generator), np.nan, sequence),
        known=None if known is None else np.where(_chosen(known, generator), np.nan, known),
        text=None if text is None else np.where(_chosen(text, generator), "", text).astype(object),
    )


def _unseen(rows: Groups, generator: np.random.Generator | None) -> Groups:
    unseen = np.where(_chosen(rows.categorical, generator), "never seen in training ✗", rows.categorical)
    text = rows.text
    if text is not None:
        text = np.where(_chosen(text, generator), "Zyx wvutsrq ✗ 無 и 123.45, " * 40, text).astype(object)
    return replace(rows, categorical=unseen.astype(object), text=text)


def _extreme(rows: Groups, generator: np.random.Generator | None) -> Groups:
    draw = generator or np.random.default_rng(0)
    largest = float(np.finfo(np.float64).max)
    numbers = np.array([0.0, -1.0, 1e9, -1e9, 1e-30, largest, -largest])
    moments = np.array([0, -1, -62_135_596_800, 253_402_300_799, np.iinfo(np.int64).max, 1 - 2**63], dtype=np.int64)
    image, sequence, known = rows.image, rows.sequence, rows.known
    if image is not None:
        noise = draw.integers(0, 256, image.shape, dtype=np.uint8)
        image = np.where(_chosen(image[:, :1, :1, :1], generator), noise, image)
    if sequence is not None:
        sequence = np.where(_chosen(sequence, generator), draw.choice(numbers, sequence.shape), sequence)
    if known is not None:
        known = np.where(_chosen(known, generator), draw.choice(numbers, known.shape), known)
    return replace(
        rows,
        numeric=np.where(_chosen(rows.numeric, generator), draw.choice(numbers, rows.numeric.shape), rows.numeric),
        datetime=np.where(_chosen(rows.datetime, generator), draw.choice(moments, rows.datetime.shape), rows.datetime),
        image=image,
        sequence=sequence,
        known=known,
    )


def _cut(rows: Groups, generator: np.random.Generator) -> Groups:
    """Return the same series, each cut at a random step."""
    assert rows.sequence is not None
    assert rows.lengths is not None
    lengths = generator.integers(1, rows.lengths + 1)
    beyond = np.arange(rows.sequence.shape[1]) >= lengths[:, None]
    return replace(rows, lengths=lengths, sequence=np.where(beyond[..., None], np.nan, rows.sequence)).trimmed()


def _repeated(rows: Groups, schema: Schema) -> Groups:
    """Return some series, repeated beyond the longest training series as far as the schema allows."""
    few = rows.take(slice(8))
    assert few.sequence is not None
    assert few.lengths is not None
    most = min(field.sequence.max_steps for field in schema.sequence if field.sequence is not None)
    steps = min(2 * few.sequence.shape[1] + 3, most)
    again = np.resize(np.arange(few.sequence.shape[1]), steps)
    return replace(few, sequence=few.sequence[:, again], lengths=np.full(len(few), steps, dtype=np.int64))
