"""How a split is told."""

import pytest

from dle_training.data import summary


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("stratified", "stratified"),
        ("column:part", "by the column part"),
        ("group:a:b", "by the groups of a:b"),
        ("time:sold at", "by the time of sold at"),
    ],
)
def test_a_split_is_told(by: str, said: str) -> None:
    assert summary._split_by(by) == said
