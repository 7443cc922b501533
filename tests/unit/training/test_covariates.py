"""Which columns of a forecast are past, known or static covariates, and which cannot be."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import CategoryChannels
from dle_training.config import run_config
from dle_training.data import column_roles, dataset, memory
from dle_training.data.column_roles import Arranged
from dle_training.data.dataset import Dataset

DAYS = 60
SETTINGS = (
    "data.sequence_id=shop", "data.time=day", "data.window=6", "data.horizon=2", "preprocessing.window_scaling=none"
)  # fmt: skip


def table(**changes: list[Any]) -> pa.Table:
    """Two shops below one another; the training part ends after 70 % of the 54 days that can be forecast."""
    own: dict[str, list[Any]] = {
        "shop": [shop for shop in "xy" for _ in range(DAYS)],
        "day": [*range(DAYS)] * 2,
        "sales": [float(day % 7 + 10 * place) for place in range(2) for day in range(DAYS)],
        "promo": [day % 3 % 2 for _ in range(2) for day in range(DAYS)],
        "sky": [("grey", "clear", "clear")[day % 3] for _ in range(2) for day in range(DAYS)],
        "town": [town for town in ("A", "B") for _ in range(DAYS)],
    }
    return pa.table(own | changes)


def arrange(source: pa.Table, *assignments: str, target: str = "sales") -> Arranged:
    return column_roles.arrange(source, run_config.load(None, [*SETTINGS, *assignments]), target, ("", "NA"))


def load(source: pa.Table, *assignments: str) -> Dataset:
    config = run_config.load(None, ["data.target=sales", *SETTINGS, *assignments])
    return dataset.load(config, memory.read(source))


def refusal(source: pa.Table, *assignments: str) -> str:
    with pytest.raises(InputError) as caught:
        arrange(source, *assignments)
    return "\n".join((caught.value.message, *caught.value.details))


def steps(found: Arranged, name: str) -> Any:
    return np.array(found.table.column(name).to_pylist())


def test_columns_that_no_setting_names_are_channels_of_the_window() -> None:
    found = arrange(table())
    assert found.layout is not None
    assert found.layout.channels == ("sales", "promo", "sky", "town")
    assert found.layout.categories == {
        "sky": CategoryChannels(values=("clear", "grey")),
        "town": CategoryChannels(values=("A", "B")),
    }
    assert steps(found, "sequence")[0, :3].tolist() == [[0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 1, 0], [2, 0, 1, 0, 1, 0]]
    assert found.notes[0] == (
        "channels of the window: sales, promo, sky (2 categories), town (2 categories) (data.drop, data.known and "
        "data.static change this)"
    )
    assert found.notes[1] == (
        "town: the same in all rows of a series, and read as channels of the window; set 'data.static=[town]' to make "
        "them inputs of the series"
    )


def test_known_and_static_columns() -> None:
    found = arrange(table(), "data.known=[sky,promo]", "data.static=[town]")
    assert found.layout is not None
    assert found.layout.names(found.layout.known) == ("sky=clear", "sky=grey", "promo")
    assert found.table.column_names == ["sequence", "sales", "known", "town", "split"]
    # the first window ends on day 5, so it forecasts the days 6 and 7
    assert steps(found, "sequence").shape[1:] == (6, 4)
    assert steps(found, "known")[0].tolist() == [[0, 1, 0], [1, 0, 1]]
    assert steps(found, "sales")[0].tolist() == [6, 0]
    part = steps(found, "split")
    each = int((part == "test").sum()) // 2
    assert steps(found, "town")[part == "test"].tolist() == [*"A" * each, *"B" * each]
    assert found.notes[0].startswith(
        "channels of the window: sales, promo, sky (2 categories); known for the horizon: sky, promo; one value for "
        "each series: town ("
    )


def test_the_schema_says_what_is_known() -> None:
    found = load(table(), "data.known=[promo]", "data.static=[town]")
    assert [(field.name, field.kind) for field in found.schema.inputs] == [
        ("sequence", "sequence"), ("known", "sequence"), ("town", "categorical"),
    ]  # fmt: skip
    shape = found.schema.known[0].sequence
    assert shape is not None
    assert (shape.channels, shape.ahead, shape.max_steps, shape.complete) == (("promo",), 2, 2, True)
    assert found.schema.known[0].form == "2 future steps of promo"
    assert found.groups.known is not None
    assert found.groups.known.shape == (len(found.groups), 2, 1)
    assert found.schema.known[0].example == [0.0, 0.0]
    blank = [None if row == 50 else value for row, value in enumerate(table().column("promo").to_pylist())]
    shape = load(table(promo=blank), "data.known=[promo]").schema.known[0].sequence
    assert shape is not None
    assert not shape.complete


def test_categories_are_those_of_the_training_part() -> None:
    """Texts that occur later only are in no channel, whatever they say."""
    sky = table().column("sky").to_pylist()
    late = [f"storm {row}" if row % DAYS > 55 else text for row, text in enumerate(sky)]
    one, other = arrange(table()), arrange(table(sky=late))
    assert one.layout is not None
    assert other.layout is not None
    assert one.layout.categories == other.layout.categories
    assert steps(other, "sequence")[..., 2:4].sum(axis=2).min() == 0


def test_columns_that_give_no_channels() -> None:
    many = [f"text {row % 40}" for row in range(2 * DAYS)]
    found = arrange(table(sky=many, town=["A"] * 2 * DAYS, promo=[[row] for row in range(2 * DAYS)]))
    assert found.layout is not None
    assert found.layout.channels == ("sales",)
    assert found.dropped == {
        "promo": "no numbers and no categories",
        "sky": "40 different texts, too many for channels; set data.kinds.sky=categorical to take the 32 most frequent",
        "town": "constant: 'A' in every row of the training part",
    }
    asked = arrange(table(sky=many), "data.kinds.sky=categorical")
    assert asked.layout is not None
    assert len(asked.layout.categories["sky"].values) == 32
    assert "sky: the rarest 8 of 40 categories count as unseen" in asked.notes
    assert "sky: 40 different texts" in refusal(table(sky=many), "data.known=[sky]")


def test_numbers_that_are_categories_and_spellings_of_missing() -> None:
    sky = ["-" if row % 5 == 0 else text for row, text in enumerate(table().column("sky").to_pylist())]
    found = arrange(table(sky=sky), "data.kinds.promo=categorical", "data.na_values={sky: ['', '-']}")
    assert found.layout is not None
    assert found.layout.names(("promo", "sky")) == ("promo=0", "promo=1", "sky=clear", "sky=grey")
    assert np.isnan(steps(found, "sequence")[0, 0, 3:5]).all()
    assert steps(found, "sequence")[0, 1, 1:5].tolist() == [0, 1, 1, 0]


def test_a_series_is_static_where_rows_are_blank() -> None:
    town = [None if row % 4 else text for row, text in enumerate(table().column("town").to_pylist())]
    found = arrange(table(town=town), "data.static=[town]")
    assert set(steps(found, "town").tolist()) == {"A", "B"}


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("data.known=[promos]",), "data.known: no column 'promos' (did you mean 'promo'?)"),
        (("data.static=[twon]",), "data.static: no column 'twon' (did you mean 'town'?)"),
        (("data.known=[sales]",), "data.known: 'sales' is the target"),
        (("data.static=[shop]",), "data.static: 'shop' is data.sequence_id"),
        (("data.known=[day]",), "data.known: 'day' is data.time"),
        (("data.known=[promo]", "data.drop=[promo]"), "data.known: 'promo' is left out by data.drop"),
        (("data.known=[promo,promo]",), "data.known: 'promo' is named 2 times"),
        (("data.known=[town]", "data.static=[town]"), "'town' is in data.known and in data.static"),
        (("data.static=[sky]",), "'sky': 'grey' and 'clear' in 'x'"),
        (("data.kinds.promo=boolean",), "data.kinds: 'promo' is a channel of the series"),
        (("data.na_values={promo: ['-']}",), "data.na_values: 'promo' is a channel"),
    ],
)
def test_what_cannot_be_used(assignments: tuple[str, ...], message: str) -> None:
    assert message in refusal(table(), *assignments)


def test_all_faults_at_once_and_without_a_window() -> None:
    assert refusal(table(), "data.known=[promos]", "data.static=[sales]").count("\n") == 2
    config = run_config.load(None, ["data.known=[promo]", "data.static=[town]"])
    with pytest.raises(InputError) as caught:
        column_roles.arrange(table(), config, "sales", ("",))
    assert [line.split(" ")[0:3] for line in caught.value.details] == [
        ["data.known", "needs", "data.window:"], ["data.static", "needs", "data.window;"],
    ]  # fmt: skip


def test_names_of_their_own() -> None:
    named = table().rename_columns(["shop", "day", "sales", "promo", "sky", "known"])
    assert "'known' is the name of another column" in refusal(named, "data.known=[promo]", "data.static=[known]")
    twice = table().append_column("sky=grey", pa.array(range(2 * DAYS)))
    assert "sky=grey: the name of two channels" in refusal(twice)


def test_rows_after_the_last_value_of_the_target_change_nothing() -> None:
    """A table that holds the days to forecast too, a year ahead: its windows, parts and categories are the same."""
    settings = ("data.known=[promo,sky]", "data.static=[town]")
    whole = table()
    later = pa.table(
        {
            "shop": [shop for shop in "xy" for _ in range(365)],
            "day": [*range(DAYS, DAYS + 365)] * 2,
            "sales": pa.nulls(730, pa.float64()),
            "promo": [1] * 730,
            "sky": ["storm"] * 730,
            "town": pa.nulls(730, pa.string()),
        }
    )
    one, other = arrange(whole, *settings), arrange(pa.concat_tables([whole, later]), *settings)
    assert one.layout == other.layout
    assert one.table.equals(other.table)
    assert "left out: 730 rows after the last value of sales in a series" in other.notes
    with pytest.raises(InputError, match="the target has no value in any row"):
        arrange(later, *settings)
