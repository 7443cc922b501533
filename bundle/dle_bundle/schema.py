"""What goes into a model and what comes out: the content of `schema.json`.

Training infers it, the exporter copies it into the bundle, and the service decodes, documents and checks requests
by it. Ranges and categories are what was *observed* in training, never limits: a value outside them is served.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from dle_bundle import documents
from dle_bundle.errors import BundleError
from dle_bundle.values.categories import category
from dle_bundle.values.missing import NA_VALUES

Kind = Literal["numeric", "boolean", "categorical", "datetime", "image", "sequence", "text"]
Task = Literal["binary", "multiclass", "regression"]
Label = str | int | bool


class ImageShape(msgspec.Struct, frozen=True, kw_only=True):
    """An image as the graph takes it: grey (one channel) or RGB (three), resized and cropped to height × width."""

    channels: Literal[1, 3]
    height: int
    width: int


class SequenceShape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A series: the names of its channels, the most steps that one may have, the fewest and most that training saw.

    `window`: of forecasts, which see the last so many steps and need as many.
    """

    channels: tuple[str, ...]
    max_steps: int
    observed_steps: tuple[int, int] | None = None
    window: int | None = None

    def count_fault(self, steps: int) -> str | None:
        """What is wrong with a series of so many steps."""
        if steps == 0:
            return "expected at least one step, got none"
        if steps > self.max_steps:
            return f"expected at most {self.max_steps:,} steps, got {steps:,}"
        if self.window is not None and steps < self.window:
            return f"expected at least {self.window:,} steps, which a forecast sees, got {steps:,}"
        return None


class Layout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the rows of a long table become series: one of each `sequence_id`, in the order of `time`, of these columns.

    `window`: the last so many steps of each are what a forecast sees.
    """

    channels: tuple[str, ...]
    sequence_id: str | None = None
    time: str | None = None
    window: int | None = None


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input column.

    `required`: no value was missing in the data it was inferred from, so a missing one is a fault.
    `observed_range`: lowest and highest training value (numbers, or ISO 8601 text for date-times).
    `categories`: the values that training knew, in the order of their codes.
    `json_type`: what a category looks like in JSON, as in the source column.
    `date_format`: strptime format of date-time text that is not ISO 8601.
    `example`: median or most frequent value, never a value picked from one row.
    `image`, `sequence`: what the array of such an input looks like.
    """

    name: str
    kind: Kind
    required: bool
    unit: str | None = None
    observed_range: tuple[float | str, float | str] | None = None
    categories: tuple[str, ...] | None = None
    json_type: Literal["string", "integer"] = "string"
    date_format: str | None = None
    example: bool | int | float | str | list[Any] | None = None
    image: ImageShape | None = None
    sequence: SequenceShape | None = None

    @property
    def form(self) -> str:
        """The form of an image or a series in words; nothing for other kinds."""
        if self.image is not None:
            colour = "grey" if self.image.channels == 1 else "RGB"
            return f"{colour}, fitted to {self.image.width} × {self.image.height} pixels"
        if self.sequence is not None:
            names, seen = self.sequence.channels, dict.fromkeys(self.sequence.observed_steps or ())
            steps = f"{' to '.join(map(str, seen))} steps of " if seen else ""
            return f"{steps}{', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        return ""


class Outputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: `classes` in the order of the graph's probabilities, or a value when there are none.

    `horizon`: how many steps ahead a forecast answers; its answer is so many values.
    """

    target: str
    task: Task
    classes: tuple[Label, ...] | None = None
    positive_class: Label | None = None
    threshold: float | None = None
    unit: str | None = None
    horizon: int = 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as text, for columns, keys, bins and labels of metrics: truth values as JSON writes them."""
        return tuple(category(label) for label in self.classes or ())


class Schema(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Inputs in column order, outputs, and how text files are read: spellings of a missing value, column separator.

    `delimiter` None: the one that goes with a file's suffix. `layout`: of models that learnt from long tables.
    """

    inputs: tuple[Field, ...]
    outputs: Outputs
    na_values: tuple[str, ...] = NA_VALUES
    delimiter: str | None = None
    layout: Layout | None = None

    @cached_property
    def numeric(self) -> tuple[Field, ...]:
        """Columns of the `numeric` group: numbers and booleans, in column order."""
        return tuple(field for field in self.inputs if field.kind in ("numeric", "boolean"))

    @cached_property
    def categorical(self) -> tuple[Field, ...]:
        """Columns of the `categorical` group."""
        return tuple(field for field in self.inputs if field.kind == "categorical")

    @cached_property
    def datetime(self) -> tuple[Field, ...]:
        """Columns of the `datetime` group."""
        return tuple(field for field in self.inputs if field.kind == "datetime")

    @cached_property
    def image(self) -> tuple[Field, ...]:
        """Columns of the `image` group; all of one shape."""
        return tuple(field for field in self.inputs if field.kind == "image")

    @cached_property
    def sequence(self) -> tuple[Field, ...]:
        """Columns of the `sequence` group."""
        return tuple(field for field in self.inputs if field.kind == "sequence")

    @cached_property
    def text(self) -> tuple[Field, ...]:
        """Columns of the `tokens` group."""
        return tuple(field for field in self.inputs if field.kind == "text")


def load(path: Path) -> Schema:
    """Read `schema.json`; raises BundleError that says where it is wrong."""
    return documents.read(path, Schema, BundleError)
