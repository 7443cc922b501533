"""Categories that did not occur in training are counted, with examples."""

import numpy as np
import pyarrow as pa
from tests import bundles

from dle_bundle.groups import Groups
from dle_bundle.schema import Field, Outputs, Schema
from dle_serving.offline.unseen import Unseen, UnseenCategories

SCHEMA = Schema(
    inputs=(
        Field(name="colour", kind="categorical", required=False, categories=("red", "blue")),
        Field(name="size", kind="categorical", required=False, categories=("1", "2")),
    ),
    outputs=Outputs(target="y", task="regression"),
)


def part(*rows: tuple[str, str]) -> Groups:
    return Groups(
        np.empty((len(rows), 0), dtype=np.float64),
        np.array(rows, dtype=object).reshape(len(rows), 2),
        np.empty((len(rows), 0), dtype=np.int64),
    )


def test_unseen_values_of_all_parts_are_counted() -> None:
    unseen = UnseenCategories(SCHEMA)
    unseen.add(part(("red", "1"), ("green", "2"), ("", "1")))
    unseen.add(part(("green", "1"), ("grey", "2")))
    assert unseen.found() == (Unseen("colour", 3, 5, ("green", "grey")),)


def test_missing_and_known_values_are_not_unseen() -> None:
    unseen = UnseenCategories(SCHEMA)
    unseen.add(part(("red", ""), ("blue", "2")))
    assert unseen.found() == ()


def test_categories_of_steps_without_a_channel() -> None:
    unseen = UnseenCategories(bundles.PROMOTION)
    unseen.add_steps(pa.table({"sky": ["hail", "grey", None, " clear", "hail", ""], "promo": range(6)}))
    unseen.add_steps(pa.table({"sequence": [[1.0]]}))
    assert unseen.found() == (Unseen("sky", 2, 6, ("hail",)),)
