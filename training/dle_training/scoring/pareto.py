"""Which of several models are worth a look when two things count: how good and how fast they are."""

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def front(costs: Mapping[Key, tuple[float, float]]) -> set[Key]:
    """The keys whose two costs, of which less is better, no other key undercuts: better in one, as good in the other.

    Of equals it is the first.
    """
    found: set[Key] = set()
    least = float("inf")
    for key, (cost, _) in sorted(costs.items(), key=lambda item: (item[1][1], item[1][0])):
        if cost < least:
            least = cost
            found.add(key)
    return found
