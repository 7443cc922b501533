"""Covariates of a forecast: columns beside the target, and what is known of them when the forecast is made.

Past ones are channels of the window, known ones are also inputs for the steps to forecast, and static ones have one
value for each series. A channel is a column of numbers, or one category of a column of texts.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.errors import combined, counted, nearest
from dle_bundle.schema import CategoryChannels, SeriesLayout
from dle_bundle.tables import columns, long_tables
from dle_bundle.tables.columns import Column
from dle_bundle.tables.long_tables import Ordered
from dle_training.config.run_config import DataConfig, SplitConfig
from dle_training.data.columns import column_settings
from dle_training.data.series import windows
from dle_training.settings.proposals import setting

MOST_CATEGORIES = 32
"""A column of texts gives at most so many channels."""
_NAMED = 10


def check(data: DataConfig, names: Sequence[str], target: str) -> None:
    """Raise InputError with every name in `data.known` and `data.static` that cannot be used."""
    faults: list[str] = []
    if data.window is None:
        if data.known:
            faults.append("data.known needs data.window: it names what is known for the steps of a forecast")
        if data.static:
            faults.append(
                "data.static needs data.window; without it, columns that are the same in all rows of a series are "
                "inputs already"
            )
    taken = {target: "is the target", data.sequence_id: "is data.sequence_id", data.time: "is data.time"}
    taken |= dict.fromkeys(data.drop, "is left out by data.drop")
    for key, mentioned in (("known", data.known), ("static", data.static)):
        faults += [f"data.{key}: no column {name!r}{nearest(name, names)}" for name in mentioned if name not in names]
        faults += [f"data.{key}: {name!r} {taken[name]}" for name in mentioned if name in taken]
        faults += [
            f"data.{key}: {name!r} is named {count} times" for name, count in Counter(mentioned).items() if count > 1
        ]
    faults += [
        f"{name!r} is in data.known and in data.static: a static column has one value for each series, which is known"
        for name in data.known
        if name in data.static
    ]
    if faults:
        raise combined("The covariates cannot be used", faults)


def training_rows(ordered: Ordered, layout: SeriesLayout, horizon: int, split: SplitConfig) -> npt.NDArray[np.int64]:
    """The rows of the table that belong to the training part of a forecast; `ordered` ends with the target's values."""
    whole = long_tables.completed(ordered, layout, horizon)
    training = whole.times < windows.training_end(whole, layout, horizon, split)
    return whole.rows[training & (whole.rows >= 0)]


def of_texts(
    name: str, column: Column, data: DataConfig, rows: npt.NDArray[np.int64]
) -> tuple[CategoryChannels | None, str | None]:
    """The channels of a column of texts, from its values in the training `rows`, and a note on them.

    None if the column gives no channels; the note then says why.
    """
    if not (columns.is_text(column) or columns.is_number(column) or columns.is_date(column)):
        return None, "no numbers and no categories"
    asked = column_settings.of(name, data)
    texts = columns.categories(column.take(pa.array(rows)), asked.na_texts)
    ranked = sorted(Counter(texts[texts != ""].tolist()).items(), key=lambda item: (-item[1], item[0]))
    if not ranked:
        return None, "no value in the training part"
    if len(ranked) == 1 and (texts != "").all():
        return None, f"constant: {ranked[0][0]!r:.40} in every row of the training part"
    many = len(ranked) > MOST_CATEGORIES
    if many and asked.kind is None:
        return None, (
            f"{len(ranked):,} different texts, too many for channels; set "
            f"{setting('data.kinds', 'categorical', name)} to take the {MOST_CATEGORIES} most frequent"
        )
    kept, rare = tuple(text for text, _ in ranked[:MOST_CATEGORIES]), len(ranked) - MOST_CATEGORIES
    verb = "counts" if rare == 1 else "count"
    note = f"the rarest {rare:,} of {len(ranked):,} categories {verb} as unseen" if many else None
    return CategoryChannels(values=kept, na_values=asked.na_texts), note


def notes(ordered: Ordered, layout: SeriesLayout, target: str) -> list[str]:
    """What the columns became, with the settings that change it; nothing if the target is the only column."""
    past = [name for name in layout.channels if name != target]
    if not past and not layout.static:
        return []
    of_window = ", ".join(
        f"{name} ({counted(len(layout.categories[name].values), 'category', 'categories')})"
        if name in layout.categories
        else name
        for name in (target, *past[:_NAMED])
    )
    more = f" and {len(past) - _NAMED:,} more" if len(past) > _NAMED else ""
    said = [f"channels of the window: {of_window}{more}"]
    said += [f"known for the horizon: {', '.join(layout.known)}"] if layout.known else []
    said += [f"one value for each series: {', '.join(layout.static)}"] if layout.static else []
    found = [f"{'; '.join(said)} (data.drop, data.known and data.static change this)"]
    if len(ordered.starts) > 1 and (constant := [name for name in past if long_tables.constant(ordered, name)]):
        found.append(
            f"{', '.join(constant)}: the same in all rows of a series, and read as channels of the window; set "
            f"{setting('data.static', [*layout.static, *constant])} to make them inputs of the series"
        )
    return found
