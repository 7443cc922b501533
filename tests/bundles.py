"""Small valid bundles without torch: graphs built by hand on the contract of real ones, so serving tests are quick.

Each answer is a weighted sum of the inputs, which the tests can compute themselves.
"""

import base64
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image
from tests.graphs import answers, graph
from tokenizers import Tokenizer as Model
from tokenizers import models, normalizers, pre_tokenizers

from dle_bundle import bundle, documents, integrity, manifest, series
from dle_bundle.drift import reference
from dle_bundle.drift.features import monitored_features, table_columns
from dle_bundle.groups import Groups
from dle_bundle.schema import (
    CategoryChannels,
    Field,
    ImageShape,
    Outputs,
    Schema,
    SequenceShape,
    SeriesLayout,
    TimeStep,
)
from dle_bundle.text import SPECIALS, Tokenizer

WORKCLASSES = ("Private", "Self-emp", "State-gov")

INCOME = Schema(
    inputs=(
        Field(name="age", kind="numeric", required=True, observed_range=(17.0, 90.0), example=38.0, unit="years"),
        Field(name="workclass", kind="categorical", required=False, categories=WORKCLASSES, example="Private"),
        Field(name="hours-per-week", kind="numeric", required=False, observed_range=(1.0, 99.0), example=40.0),
        Field(name="married", kind="boolean", required=True, example=True),
        Field(name="since", kind="datetime", required=False, observed_range=("2001-01-01", "2020-01-01")),
        Field(name="zone", kind="categorical", required=False, categories=("1", "2"), json_type="integer", example=1),
    ),
    outputs=Outputs(target="income", task="binary", classes=("<=50K", ">50K"), positive_class=">50K", threshold=0.5),
)
"""Two classes; every kind of input."""

DIGIT = Schema(
    inputs=tuple(Field(name=f"x{index}", kind="numeric", required=True, example=0.5) for index in range(4)),
    outputs=Outputs(target="digit", task="multiclass", classes=(0, 1, 2)),
)
"""Three classes whose labels are whole numbers."""

PRICE = Schema(
    inputs=(
        Field(name="rooms", kind="numeric", required=True, example=3.0),
        Field(name="town", kind="categorical", required=False, categories=("A", "B"), example="A"),
    ),
    outputs=Outputs(target="price", task="regression"),
)
"""A value, no classes."""

SPAM = Schema(
    inputs=(Field(name="capitals", kind="numeric", required=False, example=1.0),),
    outputs=Outputs(target="spam", task="binary", classes=(False, True), positive_class=True, threshold=0.5),
)
"""Labels that are truth values; its one input is optional, so that `{}` is a row."""

WORDS = ("good", "bad", "fits", "well", "wool", "it", "the", "small", "##er", "##ed")
"""What the tokenizer knows beside single letters."""


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """The PNG file of an image (channels, H, W)."""
    out = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(out, "png")
    return out.getvalue()


def base64_png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """The same as JSON has it."""
    return base64.b64encode(png(pixels)).decode()


_SHAPE = ImageShape(channels=3, height=12, width=16)
PICTURE = Schema(
    inputs=(
        Field(
            name="photo",
            kind="image",
            required=True,
            image=_SHAPE,
            example=base64_png(np.full((3, 12, 16), 128, dtype=np.uint8)),
        ),
    ),
    outputs=Outputs(target="time", task="binary", classes=("night", "day"), positive_class="day", threshold=0.5),
)
"""One image, so that a body may be an image file."""

SIGNAL = Schema(
    inputs=(
        Field(
            name="signal",
            kind="sequence",
            required=True,
            sequence=SequenceShape(channels=("x", "y"), max_steps=50, observed_steps=(5, 30)),
            example=[[0.0, 0.5], [0.25, None], [0.0, 0.0]],
        ),
    ),
    outputs=Outputs(target="motion", task="multiclass", classes=("still", "walking", "running")),
)
"""Series of two channels and different lengths."""

REVIEW = Schema(
    inputs=(
        Field(name="text", kind="text", required=True, example="it fits well"),
        Field(name="age", kind="numeric", required=False, observed_range=(18.0, 99.0), example=41.0),
    ),
    outputs=Outputs(target="recommended", task="binary", classes=(False, True), positive_class=True, threshold=0.5),
)
"""Text beside a number."""

FORECAST = Schema(
    inputs=(
        Field(
            name="sequence",
            kind="sequence",
            required=True,
            sequence=SequenceShape(channels=("load",), max_steps=32, observed_steps=(4, 4)),
            example=[1.0, 2.0, 1.5, 2.5],
        ),
    ),
    outputs=Outputs(target="load", task="regression", horizon=3),
    layout=SeriesLayout(
        channels=("load",), sequence_id="meter", time="hour", window=4, step=TimeStep(size=1, unit="number")
    ),
)
"""Three values ahead, of long tables."""

PROMOTION = Schema(
    inputs=(
        Field(
            name="sequence",
            kind="sequence",
            required=True,
            sequence=SequenceShape(
                channels=("sales", "promo", "sky=clear", "sky=grey"), max_steps=32, window=4, observed_steps=(4, 4)
            ),
            example=[[9.0, 0.0, 1.0, 0.0]] * 4,
        ),
        Field(
            name="known",
            kind="sequence",
            required=True,
            sequence=SequenceShape(
                channels=("promo", "sky=clear", "sky=grey"), max_steps=3, ahead=3, complete=True, observed_steps=(3, 3)
            ),
            example=[[1.0, 1.0, 0.0]] * 3,
        ),
        Field(name="town", kind="categorical", required=True, categories=("A", "B"), example="A"),
    ),
    outputs=Outputs(target="sales", task="regression", horizon=3),
    layout=SeriesLayout(
        channels=("sales", "promo", "sky"),
        sequence_id="shop",
        time="day",
        window=4,
        step=TimeStep(size=86_400, unit="second"),
        categories={"sky": CategoryChannels(values=("clear", "grey"))},
        known=("promo", "sky"),
        static=("town",),
    ),
)
"""Three values ahead, of long tables with known columns, categories and a static column."""


def write(folder: Path, schema: Schema = INCOME, *, name: str = "income", version: int = 1) -> Path:
    """A bundle in `folder`, with digests as an exporter writes them."""
    folder.mkdir(parents=True)
    (folder / bundle.SCHEMA).write_bytes(documents.encode(schema))
    onnx.save(graph(schema), folder / bundle.MODEL)
    (folder / bundle.REFERENCE).write_bytes(documents.encode(_reference(schema)))
    files: tuple[str, ...] = bundle.FILES
    if schema.text:
        (folder / bundle.TOKENIZER).write_bytes(tokenizer().content)
        files = (*files, bundle.TOKENIZER)
    (folder / bundle.PARITY).write_text("{}")
    (folder / bundle.CARD).write_text(f"# {name}\n")
    classes = schema.outputs.classes
    described = manifest.Manifest(
        format=manifest.FORMAT,
        name=name,
        version=version,
        task=schema.outputs.task,
        created="2026-01-01T00:00:00Z",
        tools={},
        outputs={"value": "value"} if classes is None else {"label": "label", "probabilities": "probabilities"},
        files={file: integrity.digest(folder / file) for file in files},
    )
    (folder / bundle.MANIFEST).write_bytes(documents.encode(described))
    return folder


def groups(schema: Schema, count: int, seed: int = 0, shift: float = 0.0) -> Groups:
    """Rows as the reference knows them: normal numbers (moved by `shift` standard deviations), categories, times."""
    random = np.random.default_rng(seed)
    numbers = random.normal(shift, 1, (count, len(schema.numeric)))
    for index, field in enumerate(schema.numeric):
        low, high = field.observed_range or (-4.0, 4.0)
        assert isinstance(low, float)
        assert isinstance(high, float)
        whole = (numbers[:, index] > 0).astype(np.float64)
        numbers[:, index] = (
            whole if field.kind == "boolean" else (low + high + (high - low) / 4 * numbers[:, index]) / 2
        )
    texts = np.empty((count, len(schema.categorical)), dtype=object)
    for index, field in enumerate(schema.categorical):
        texts[:, index] = random.choice(np.array(field.categories, dtype=object), count)
    times = random.integers(1_000_000_000, 1_500_000_000, (count, len(schema.datetime)))
    image = sequence = lengths = known = text = tokens = None
    if schema.image and (shape := schema.image[0].image):
        levels = random.normal(128 + 40 * shift, 40, (count, 1, 1, 1))
        noise = random.normal(0, 20, (count, len(schema.image) * shape.channels, shape.height, shape.width))
        image = np.clip(levels + noise, 1, 255).astype(np.uint8)
    if schema.sequence:
        shapes = [field.sequence for field in schema.sequence if field.sequence is not None]
        parts = [[_wave(shape, random, shift) for _ in range(count)] for shape in shapes]
        sequence, lengths = series.join([series.stack(part, shape) for part, shape in zip(parts, shapes, strict=True)])
    for field in schema.known:
        assert field.sequence is not None
        known, _ = series.stack([_wave(field.sequence, random, shift) for _ in range(count)], field.sequence)
    if schema.text:
        text = np.empty((count, len(schema.text)), dtype=object)
        words = np.array([word for word in WORDS if not word.startswith("#")])
        for place in np.ndindex(*text.shape):
            drawn = random.choice(words, random.integers(2, 8))
            strange = random.random(len(drawn)) < 0.05 + 0.3 * shift
            text[place] = " ".join("qzx" if odd else word for word, odd in zip(drawn, strange, strict=True))
        tokens = tokenizer().tokens(text)
    return Groups(numbers, texts, times, image, sequence, lengths, text, tokens, known)


def tokenizer() -> Tokenizer:
    """A tokenizer of a few words, that looks at 16 tokens of a text."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = (*SPECIALS, *WORDS, *(letter for letter in letters if letter not in "qzx"))
    model = Model(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token=SPECIALS[1]))
    model.normalizer = normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.enable_truncation(16)
    return Tokenizer.from_bytes(model.to_str().encode())


def _wave(shape: SequenceShape, random: np.random.Generator, shift: float) -> Any:
    low, high = shape.observed_steps or (1, shape.max_steps)
    steps = random.normal(0, 1, (random.integers(low, high + 1), len(shape.channels)))
    return shift + random.normal(0, 1) + steps


def rows(schema: Schema, count: int, seed: int = 0, shift: float = 0.0) -> list[dict[str, Any]]:
    """The rows of `groups` as a request has them; of at most one image and one series each."""
    found = groups(schema, count, seed, shift)
    by_name: dict[str, list[Any]] = {}
    for feature in table_columns(found, schema):
        field, values = feature.field, feature.values
        if field.kind == "datetime":
            by_name[field.name] = [datetime.fromtimestamp(value, UTC).isoformat() for value in values]
        else:
            by_name[field.name] = [bool(value) for value in values] if field.kind == "boolean" else values.tolist()
    for field in schema.image:
        by_name[field.name] = [base64_png(pixels) for pixels in np.asarray(found.image)]
    for field in schema.sequence:
        assert found.sequence is not None
        assert found.lengths is not None
        pairs = zip(found.sequence, found.lengths.tolist(), strict=True)
        by_name[field.name] = [steps[:length].tolist() for steps, length in pairs]
    for field in schema.known:
        assert found.known is not None
        by_name[field.name] = found.known.tolist()
    for index, field in enumerate(schema.text):
        assert found.text is not None
        by_name[field.name] = found.text[:, index].tolist()
    return [dict(zip(by_name, row, strict=True)) for row in zip(*by_name.values(), strict=True)]


def _reference(schema: Schema) -> reference.Reference:
    known = groups(schema, 2_000)
    found = answers(schema, known)
    names = schema.outputs.class_names
    if names:
        counts = np.bincount(found.argmax(axis=1), minlength=len(names))
        prediction = reference.Bins(names=names, fractions=reference.smoothed(counts), categories=names)
        scores = {"accuracy": float(found.max(axis=1).mean())}  # as sure as right, as after calibration
    else:
        summary = found if found.ndim == 1 else found.mean(axis=1)
        prediction = reference.number_bins(summary, noise=1e-5)
        scores = {"mae": 0.5, "rmse": 0.6}
    return reference.Reference(
        rows=len(known),
        features=reference.feature_bins(monitored_features(known, schema, tokenizer())),
        prediction_rows=len(known),
        prediction=prediction,
        calibration={"temperature": 1.0},
        metrics={"test": scores},
    )


EXAMPLE: Mapping[str, object] = {
    "age": 39,
    "workclass": "State-gov",
    "hours-per-week": 40,
    "married": False,
    "since": "2010-06-01T12:00:00Z",
    "zone": 2,
}
"""A row that INCOME takes."""


MODELS = {
    "income": INCOME,
    "digit": DIGIT,
    "price": PRICE,
    "spam": SPAM,
    "picture": PICTURE,
    "signal": SIGNAL,
    "review": REVIEW,
    "forecast": FORECAST,
    "promotion": PROMOTION,
}
"""Schemas of every kind of input, by the name of a model."""
