"""For any dimensions of any settings: the space is read back equal, and all its points are configurations."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from dle_training.config.run_config import RunConfig
from dle_training.search import points
from dle_training.search import space as spaces
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Choice, Dimension, Float, Int, Space


def ranges(
    kind: Callable[..., Dimension], numbers: st.SearchStrategy[int] | st.SearchStrategy[float], *, log: bool = False
) -> st.SearchStrategy[Dimension]:
    bounds = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
    return bounds.map(lambda ends: kind(*ends, log=log))


def choices(values: st.SearchStrategy[object]) -> st.SearchStrategy[Dimension]:
    return st.lists(values, min_size=1, max_size=4, unique_by=repr).map(lambda each: Choice(tuple(each)))


WHOLE = st.integers(1, 10**6)
RATES = st.floats(1e-300, 1e9)
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8)
SETTINGS: dict[str, st.SearchStrategy[Dimension]] = {
    "optimizer.lr": ranges(Float, RATES, log=True) | choices(RATES),
    "model.dropout": ranges(Float, st.floats(0, 0.99)),
    "model.embedding_dim": ranges(Int, WHOLE) | choices(WHOLE),
    "training.batch_size": ranges(Int, WHOLE, log=True),
    "model.hidden": choices(st.lists(WHOLE, max_size=3)),
    "model.name": choices(WORDS | st.none()),
    "objective.class_weights": choices(st.dictionaries(WORDS, RATES, max_size=3)),
}
SPACES = st.fixed_dictionaries({}, optional=SETTINGS).map(Space)


@given(SPACES)
def test_a_space_is_read_back_equal(space: Space) -> None:
    written = spaces.to_tree(space)
    assert spaces.from_tree(yaml_text.parse(yaml_text.write(written))) == space
    nested: yaml_text.Tree = {}
    for key, dimension in written.items():
        yaml_text.assign(nested, key, dimension)
    assert spaces.read(nested) == ({}, space, [])


@given(SPACES)
def test_points_make_configurations_and_are_kept_by_a_study(space: Space) -> None:
    spaces.check(space, {})
    for point in points.some(space, 5):
        assert isinstance(points.apply({}, point), RunConfig)
        assert points.from_storable(space, points.to_storable(point)) == point
