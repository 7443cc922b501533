"""The target: which column is predicted, the task, and the label or value of each row.

Labels keep their JSON type (text, whole number, truth value), so that predictions look like the data.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import InputError, counted, nearest
from dle_bundle.schema import Label, Outputs
from dle_bundle.tables import columns, folders
from dle_bundle.tables.columns import Column
from dle_bundle.values.categories import category
from dle_bundle.values.missing import NA_TEXTS, NA_VALUES
from dle_bundle.values.numbers import parse_boolean, parse_number
from dle_training.data.columns import column_settings, kinds, look_alikes, missing_words
from dle_training.data.columns.column_settings import ColumnSettings
from dle_training.data.columns.kinds import Reading
from dle_training.settings.proposals import option, setting

USUAL_NAMES = ("target", "label", "class", "y")
MOST_INFERRED_CLASSES = 20
LEAST_ROWS_PER_CLASS = 5
_SHOWN = 10

Values = npt.NDArray[Any]
"""Labels as an object array of str, int or bool, or values as float64; (N,)."""


@dataclass(frozen=True, slots=True)
class Target:
    """The outputs and the target `values` (N,) of all rows; `known` (N,) marks the rows with a value."""

    outputs: Outputs
    values: Values
    known: npt.NDArray[np.bool_]
    notes: tuple[str, ...]


def choose(names: list[str], wanted: str | None, suggested: str | None) -> tuple[str, str | None]:
    """Return the target's name, and a note if the user did not name it. Raises InputError if no target is found."""
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"no column {wanted!r} to predict{nearest(wanted, names)}", [f"columns: {_listed(names)}"])
        return wanted, None
    if suggested is not None:
        return suggested, None
    usual = [name for name in names if name.strip().lower() in USUAL_NAMES]
    if len(usual) == 1:
        return usual[0], f"{usual[0]}: taken as the target because of its name"
    if names == [folders.IMAGE]:
        raise InputError("images without labels: put them into a folder for each class, or into a table of their paths")
    raise InputError(
        f"no target column is known: name it with {option('data.target', 'COLUMN')}", [f"columns: {_listed(names)}"]
    )


def infer(
    name: str,
    column: Column,
    asked: ColumnSettings,
    task: Literal["classification", "regression"] | None,
) -> Target:
    """Infer the task, classes and values of the target column, which holds all rows of the table.

    Raises InputError if a regression target is text, if values are infinite or dates, if there are too many values for
    classes, or if there is only one value.
    """
    if isinstance(column.type, pa.FixedShapeTensorType):
        return _horizon(name, column)
    rows = np.arange(len(column))
    reading = _read(name, column, replace(asked, kind=None, date_format=None), rows, task)
    known = ~reading.missing
    if not known.any():
        raise InputError(f"{name!r}: the target has {missing_words.no_value(name, column, asked)}")
    chosen, reason = _task(name, reading, task)
    if chosen == "classification" and reading.number_format is not None:  # amounts are classes as they are written
        reading = kinds.read(name, column, replace(asked, kind="categorical"), rows)
    distinct = set(reading.known.tolist())
    if len(distinct) == 1:
        raise InputError(f"{name!r}: the target has one value only ({column[int(np.argmax(known))].as_py()!r:.60})")
    words, kept = missing_words.find(name, column, reading.kind, asked)
    taken = missing_words.note({name: words})
    notes = [*filter(None, [reason]), *missing_note(name, known), *taken, *filter(None, [kept])]
    if chosen == "regression":
        notes += [f"{name}: {_for_target(name, reading.note)}"] if reading.note else []
        written = reading.number_format
        outputs = Outputs(
            target=name,
            task="regression",
            unit=written.unit or None if written else None,
            number_format=written,
            na_values=asked.na_values,
        )
        return Target(outputs, reading.values, known, tuple(notes))
    classes = _classes(reading)
    if len(classes) > MOST_INFERRED_CLASSES and not reading.note and reading.kind == "categorical":
        notes += [f"{name}: {note}"] if (note := kinds.figures(column, reading)) else []
    notes += filter(None, [look_alikes.note(name, distinct)]) if reading.kind == "categorical" else []
    if reading.note:
        cure = setting("data.kinds", "numeric", name)
        notes.append(
            f"{name}: {_for_target(name, reading.note)}".replace(cure, setting("objective.task", "regression"))
        )
    if any(isinstance(value, float) and not value.is_integer() for value in distinct):
        notes.append(f"{name}: class labels with fractions are stored as text, such as {classes[0]!r}")
    outputs = Outputs(
        target=name,
        task="binary" if len(classes) == 2 else "multiclass",
        classes=classes,
        positive_class=classes[1] if len(classes) == 2 else None,
        na_values=asked.na_texts if reading.kind == "categorical" else asked.na_values,
    )
    return Target(outputs, *labels(column, outputs), tuple(notes))


def _for_target(name: str, note: str) -> str:
    """The note without a setting of the kind, which a target does not have."""
    return note.removesuffix(f"; if they are codes or dates, set {setting('data.kinds', 'categorical', name)}")


def labels(column: Column, outputs: Outputs) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Return the labels (N,) of another column in the type of the known classes, and a mask of the rows with a label.

    Raises InputError with the labels that are not classes.
    """
    texts = columns.categories(column, outputs.na_values or NA_TEXTS)
    by_text: dict[str, Label] = {category(label): label for label in outputs.classes or ()}
    distinct = sorted(set(texts) - {""})
    table = {text: by_text.get(text, by_text.get(_normal(text, outputs))) for text in distinct}
    if unknown := [text for text, label in table.items() if label is None]:
        counts = [f"{text!r:.60} in {counted(int((texts == text).sum()), 'row')}" for text in unknown[:_SHOWN]]
        raise InputError(
            f"{outputs.target!r}: {counted(len(unknown), 'label')} that the model does not know; "
            f"it knows {_listed([str(label) for label in by_text.values()])}",
            counts,
        )
    found = np.array([None, *table.values()], dtype=object)
    place = {text: index for index, text in enumerate(distinct, start=1)}
    return found[[place.get(text, 0) for text in texts]], texts != ""


def values(column: Column, outputs: Outputs) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the numbers (N,) or (N, horizon) of a regression target, and a mask of the rows with a number.

    Raises InputError as `infer` does.
    """
    if isinstance(column.type, pa.FixedShapeTensorType):
        ahead = _horizon(outputs.target, column)
        return ahead.values, ahead.known
    found, unreadable = columns.numbers(column, outputs.na_values or NA_VALUES, outputs.number_format)
    wrong = unreadable | np.isinf(found)
    if wrong.any():
        written = f" like {outputs.number_format.example}" if outputs.number_format else ""
        raise InputError(
            f"{outputs.target!r}: expected a finite number{written} or no value, found something else in "
            f"{counted(int(wrong.sum()), 'row')}",
            kinds.listed(column, wrong, np.arange(len(column))),
        )
    return found, ~np.isnan(found)


def _horizon(name: str, column: Column) -> Target:
    """Return the target values (N, horizon) of a forecast, NaN = not known; each row has at least one."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = whole.to_numpy_ndarray().astype(np.float64)
    if (low := np.nanmin(values)) == np.nanmax(values):
        raise InputError(f"{name!r}: the target has one value only ({low:g})")
    outputs = Outputs(target=name, task="regression", horizon=values.shape[1])
    return Target(outputs, values, np.ones(len(values), dtype=bool), ())


def missing_note(name: str, known: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """Return a note on the rows without a target, if there are any; `known` (N,) marks the rows with one."""
    missing = len(known) - int(known.sum())
    verbs = ("has", "was") if missing == 1 else ("have", "were")
    of = f"{missing:,} of {counted(len(known), 'row')}"
    return (f"{name}: {of} {verbs[0]} no value and {verbs[1]} left out",) if missing else ()


def class_index(labels: Values, classes: tuple[Label, ...]) -> npt.NDArray[np.int64]:
    """Return the index (N,) of each label in `classes`."""
    place = {label: index for index, label in enumerate(classes)}
    return np.fromiter((place[label] for label in labels), dtype=np.int64, count=len(labels))


def _read(
    name: str,
    column: Column,
    asked: ColumnSettings,
    rows: npt.NDArray[np.int64],
    task: Literal["classification", "regression"] | None,
) -> Reading:
    try:
        if task == "regression":
            return kinds.read(name, column, replace(asked, kind="numeric"), rows)
        reading = kinds.read(name, column, asked, rows)
    except InputError as error:
        if task == "classification" and columns.is_text(column):
            return kinds.read(name, column, replace(asked, kind="categorical"), rows)
        # a target's kind follows from the task, not from data.kinds
        other = setting("objective.task", "classification")
        other = "data.target to another column" if task == "classification" else other
        message = error.message.replace(setting("data.kinds", "categorical", name), other)
        message = message.replace(kinds.another_kind(name, asked), f"set {other}")
        message = message.replace(setting("data.kinds", "numeric", name), setting("objective.task", "regression"))
        message = message.replace(kinds.leaving_out(name, asked), "")
        message = message.replace(f"; leave it out with {column_settings.without(name, asked)}", "")
        raise InputError(message) from None
    if reading.kind in ("image", "sequence"):
        what = "an image" if reading.kind == "image" else "a series"
        raise InputError(f"{name!r}: {what} is no target; expected classes or numbers")
    if reading.kind == "datetime":
        if not (columns.is_text(column) or reading.whole):
            raise InputError(f"{name!r}: a date-time is no target; expected classes or numbers")
        if task != "classification":
            cure = setting("objective.task", "classification")
            raise InputError(f"{name!r}: a date-time is no target; if these are classes, set {cure}")
        return kinds.read(name, column, replace(asked, kind="categorical"), rows)
    return reading


def _task(
    name: str, reading: Reading, wanted: Literal["classification", "regression"] | None
) -> tuple[Literal["classification", "regression"], str | None]:
    if wanted == "regression":
        return "regression", None
    known, distinct = reading.known, len(set(reading.known.tolist()))
    if reading.kind in ("categorical", "boolean"):
        return "classification", None
    few = distinct <= MOST_INFERRED_CLASSES
    if wanted == "classification":
        if not reading.whole and not few:
            raise InputError(
                f"{name!r}: {distinct:,} distinct numbers with fractions are too many for classes (expected at most "
                f"{MOST_INFERRED_CLASSES}); set {setting('objective.task', 'regression')}"
            )
        return "classification", None
    if not reading.whole or not few:
        return "regression", None
    rare = sum(1 for count in Counter(known.tolist()).values() if count < LEAST_ROWS_PER_CLASS)
    if rare and (distinct > 2 or len(known) < LEAST_ROWS_PER_CLASS * distinct):
        note = (
            f"{name}: taken as numbers, because {rare} of {distinct} distinct whole numbers "
            f"{'has' if rare == 1 else 'have'} fewer than "
            f"{LEAST_ROWS_PER_CLASS} rows; if they are classes, set {setting('objective.task', 'classification')}"
        )
        return "regression", note
    cure = setting("objective.task", "regression")
    note = f"{distinct} distinct whole numbers are taken as classes; if they are amounts, set {cure}"
    return "classification", f"{name}: {note}"


def _classes(reading: Reading) -> tuple[Label, ...]:
    distinct = sorted(set(reading.known.tolist()))
    if reading.kind == "boolean":
        return tuple(bool(value) for value in distinct)
    if reading.whole:
        return tuple(sorted(int(value) for value in distinct))
    return tuple(category(value) for value in distinct)


def _normal(text: str, outputs: Outputs) -> str:
    """Match other spellings of a class that is a number or a truth value: `1.0`, `TRUE`."""
    try:
        if any(isinstance(label, bool) for label in outputs.classes or ()):
            return category(bool(parse_boolean(text)))
        return category(parse_number(text))
    except ValueError:
        return text


def _listed(names: list[str]) -> str:
    return ", ".join(names[:50]) + (", …" if len(names) > 50 else "")
