"""The Pareto front of models by two costs, such as error and latency."""

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def front(costs: Mapping[Key, tuple[float, float]]) -> set[Key]:
    """The keys that no other key beats: none has one cost lower and the other cost lower or equal.

    Among keys with equal costs, the first one counts.
    """
    found: set[Key] = set()
    least = float("inf")
    for key, (cost, _) in sorted(costs.items(), key=lambda item: (item[1][1], item[1][0])):
        if cost < least:
            least = cost
            found.add(key)
    return found
