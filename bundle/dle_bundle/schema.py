"""`schema.json`: the inputs and outputs of a model.

Training infers the schema and the exporter copies it into the bundle. The service decodes, checks and documents
requests by it. Ranges and categories describe the training data; they are not limits, and other values are accepted.
"""

from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec

from dle_bundle import documents
from dle_bundle.errors import BundleError, counted
from dle_bundle.values.categories import category
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_bundle.values.numbers import NumberFormat

Kind = Literal["numeric", "boolean", "categorical", "datetime", "image", "sequence", "text"]
Task = Literal["binary", "multiclass", "regression"]
Label = str | int | bool


ImageFit = Literal["crop", "pad", "stretch"]
"""How an image gets another ratio of its sides: its centre is cut out, grey is added, or it is distorted."""
_FITTED = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}


class ImageShape(msgspec.Struct, frozen=True, kw_only=True):
    """The images that the graph takes: grey (1 channel) or RGB (3), resized and fitted to height × width by `fit`."""

    channels: Literal[1, 3]
    height: int
    width: int
    fit: ImageFit = "crop"


class SequenceShape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The series of an input: the names of their channels and their number of steps.

    `max_steps`: the maximum. `observed_steps`: the fewest and most steps in training. `window`: for forecasts, the
    number of steps at the end that the model sees, which is also the minimum. `number_formats`: by channel, how its
    numbers are written as text, if not plainly. `ahead`: for values known in advance, the number of steps, which are
    those of the forecast. `complete`: no value was missing in the source, so a missing value is a fault.
    """

    channels: tuple[str, ...]
    max_steps: int
    observed_steps: tuple[int, int] | None = None
    window: int | None = None
    number_formats: dict[str, NumberFormat] = msgspec.field(default_factory=dict)
    ahead: int | None = None
    complete: bool = False

    def count_fault(self, steps: int) -> str | None:
        """The fault of a series with this many steps, or None."""
        if self.ahead is not None:
            whole = f"the {self.ahead:,} steps of the forecast" if self.ahead > 1 else "the one step of the forecast"
            return None if steps == self.ahead else f"expected values for {whole}, got {steps:,}"
        if steps == 0:
            return "expected at least one step, got none"
        if steps > self.max_steps:
            return f"expected at most {counted(self.max_steps, 'step')}, got {steps:,}"
        if self.window is not None and steps < self.window:
            return f"expected at least {counted(self.window, 'step')} for a forecast, got {steps:,}"
        return None


class TimeStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The step from one row of a series to the next: `size` units.

    `weekdays` (0 = Monday) and `slots` (numbers of the steps of a day) are those that have rows, if some have none:
    weekends and nights are no gaps.
    """

    size: float
    unit: Literal["number", "second", "month"]
    weekdays: tuple[int, ...] | None = None
    slots: tuple[int, ...] | None = None


class TextFormat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a file of delimited text, JSON lines or a workbook is read.

    `delimiter`: the column separator; None follows the suffix and the file. `encoding`: a codec of Python, where the
    text is not UTF-8, UTF-16 or UTF-32, which the bytes show. `skip_rows`: lines before the header. `comment`: lines
    that begin with it, or with one of several texts, are left out. `header`: whether the first row has the names of the
    columns; None: it has, unless it looks like data. `sheet`: the sheet of a workbook; None is the first one. A
    workbook has neither delimiter nor encoding, and JSON lines have nothing but an encoding. `columns`: how many
    columns a file without a header may have, since places name its columns.
    """

    delimiter: str | None = None
    encoding: str | None = None
    skip_rows: int = 0
    comment: str | tuple[str, ...] | None = None
    header: Literal["first", "none"] | None = None
    sheet: str | None = None
    columns: tuple[int, ...] | None = None

    def leaving_out(self, text: str) -> str | list[str]:
        """Return the `comment` by which lines that begin with this text are left out too."""
        if self.comment is None:
            return text
        return [*([self.comment] if isinstance(self.comment, str) else self.comment), text]


class CategoryChannels(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A column of categories as channels: one for each of `values`, 1 at the steps of this category and 0 at others.

    All are missing where the text is one of `na_values`. All are 0 for a category that is not in `values`.
    """

    values: tuple[str, ...]
    na_values: tuple[str, ...] = NA_TEXTS


class SeriesLayout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the rows of a long table become series: the rows of each `sequence_id`, ordered by `time`.

    `channels` are the columns of the steps, `number_formats` those of channels that are not plain numbers, as in
    `SequenceShape`; columns in `categories` have several channels each. `known`, for forecasts: the columns among them
    whose values are known for the steps to forecast. `static`, for forecasts: columns with one value for each series.
    `time_format`: strptime format of a `time` that is not ISO 8601.
    `window`: for forecasts, the number of last steps that the model sees. `step`: for forecasts, the step of most
    rows, if they have one. `gaps`: whether absent steps are missing values of the window, or a fault. `season`: for
    forecasts, the number of steps after which the target repeats itself; 1 = it does not. `scaling`: for forecasts,
    what a window is scaled by: mean and spread of its own steps, of its series in training, or of all training windows.
    """

    channels: tuple[str, ...]
    number_formats: dict[str, NumberFormat] = msgspec.field(default_factory=dict)
    sequence_id: str | None = None
    time: str | None = None
    time_format: str | None = None
    window: int | None = None
    step: TimeStep | None = None
    gaps: Literal["missing", "refuse"] = "missing"
    season: int | None = None
    scaling: Literal["window", "series", "none"] | None = None
    categories: dict[str, CategoryChannels] = {}
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the channels of these columns: the column, or `COLUMN=category` for each category."""
        values = {name: each.values for name, each in self.categories.items()}
        own = ([f"{name}={value}" for value in values[name]] if name in values else [name] for name in columns)
        return tuple(chain.from_iterable(own))


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input column.

    `required`: no value was missing in the source, so a missing value is a fault.
    `observed_range`: lowest and highest training value (numbers, or ISO 8601 text for date-times).
    `categories`: the categories in the training data, in the order of their codes.
    `json_type`: the JSON type of a category or a date in digits, which follows the type of the source column.
    `date_format`: strptime format of date-time text that is not ISO 8601.
    `number_format`: how numbers are written as text, if not plainly.
    `na_values`: all spellings of a missing value in this column; None: those of the schema.
    `example`: the median or the most frequent value, never a value picked from one row.
    `image`, `sequence`: the shape of such an input.
    """

    name: str
    kind: Kind
    required: bool
    unit: str | None = None
    observed_range: tuple[float | str, float | str] | None = None
    categories: tuple[str, ...] | None = None
    json_type: Literal["string", "integer"] = "string"
    date_format: str | None = None
    number_format: NumberFormat | None = None
    na_values: tuple[str, ...] | None = None
    example: bool | int | float | str | list[Any] | None = None
    image: ImageShape | None = None
    sequence: SequenceShape | None = None

    @property
    def form(self) -> str:
        """The shape of an image or a series in words; empty for other kinds."""
        if self.image is not None:
            colour = "grey" if self.image.channels == 1 else "RGB"
            return f"{colour}, {_FITTED[self.image.fit]} to {self.image.width} × {self.image.height} pixels"
        if self.sequence is not None:
            names, seen = self.sequence.channels, dict.fromkeys(self.sequence.observed_steps or ())
            which = "" if self.sequence.ahead is None else "future "
            steps = f"{' to '.join(map(str, seen))} {which}steps of " if seen else ""
            return f"{steps}{', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        return ""


class Outputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The prediction: one of `classes`, in the order of the graph's probabilities, or a value if `classes` is None.

    `horizon`: the number of steps ahead, and of values, that a forecast predicts. `number_format` and `na_values`: how
    files write the target, as for a field. `mean`, `sd`: statistics of the values that a regression was trained on.
    Prediction ids hold (value − mean) / sd.
    """

    target: str
    task: Task
    classes: tuple[Label, ...] | None = None
    positive_class: Label | None = None
    threshold: float | None = None
    unit: str | None = None
    horizon: int = 1
    mean: float = 0.0
    sd: float = 1.0
    number_format: NumberFormat | None = None
    na_values: tuple[str, ...] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as text, for columns, keys, bins and metric labels; booleans are `true` and `false`."""
        return tuple(category(label) for label in self.classes or ())


class Schema(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The inputs in column order, the outputs, and how source files are read.

    `na_values`: spellings of a missing number, truth value, date or image path; `na_texts`: those of a missing text.
    `text_format`: how files of delimited text are read.
    `layout`: for models trained on long tables.
    """

    inputs: tuple[Field, ...]
    outputs: Outputs
    na_values: tuple[str, ...] = NA_VALUES
    na_texts: tuple[str, ...] = NA_TEXTS
    text_format: TextFormat = TextFormat()
    layout: SeriesLayout | None = None

    def missing(self, field: Field) -> tuple[str, ...]:
        """The spellings of a missing value in the column of `field`."""
        if field.na_values is not None:
            return field.na_values
        return self.na_texts if field.kind in ("categorical", "text") else self.na_values

    @cached_property
    def numeric(self) -> tuple[Field, ...]:
        """The inputs of the `numeric` group, in column order: numbers and booleans."""
        return tuple(field for field in self.inputs if field.kind in ("numeric", "boolean"))

    @cached_property
    def categorical(self) -> tuple[Field, ...]:
        """The inputs of the `categorical` group."""
        return tuple(field for field in self.inputs if field.kind == "categorical")

    @cached_property
    def scaled_by(self) -> Field | None:
        """The input that names the series whose mean and spread scale a window; it is no feature."""
        if self.layout is None or self.layout.scaling != "series":
            return None
        return next((field for field in self.categorical if field.name == self.layout.sequence_id), None)

    @cached_property
    def datetime(self) -> tuple[Field, ...]:
        """The inputs of the `datetime` group."""
        return tuple(field for field in self.inputs if field.kind == "datetime")

    @cached_property
    def image(self) -> tuple[Field, ...]:
        """The inputs of the `image` group; all have the same shape."""
        return tuple(field for field in self.inputs if field.kind == "image")

    @cached_property
    def sequence(self) -> tuple[Field, ...]:
        """The inputs of the `sequence` group."""
        return tuple(field for field in self.inputs if field.kind == "sequence" and field not in self.known)

    @cached_property
    def known(self) -> tuple[Field, ...]:
        """The input of the `known` group, at most one: series of values that are known for the steps of a forecast."""
        return tuple(field for field in self.inputs if field.sequence is not None and field.sequence.ahead is not None)

    @cached_property
    def text(self) -> tuple[Field, ...]:
        """The inputs of the `text` group, which becomes the `tokens` group."""
        return tuple(field for field in self.inputs if field.kind == "text")


def load(path: Path) -> Schema:
    """Read `schema.json`; raises BundleError that names the place where it is wrong."""
    return documents.read(path, Schema, BundleError)
