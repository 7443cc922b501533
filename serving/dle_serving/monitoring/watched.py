"""What watching a model takes to know of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dle_bundle.drift.reference import Reference
from dle_serving.monitoring.observations import Monitor


@dataclass(frozen=True, slots=True)
class Watched:
    """One loaded model: its names, what it is compared with, and its counts; None: nothing is counted."""

    name: str
    version: int
    fingerprint: bytes
    class_names: tuple[str, ...]
    reference: Reference
    monitor: Monitor | None

    @property
    def labels(self) -> tuple[str, str]:
        """Name and version, as every series of the model has them."""
        return self.name, str(self.version)

    @property
    def tested(self) -> dict[str, float]:
        """The bundle's scores on its test part, by metric."""
        return self.reference.metrics.get("test", {})


Models = Callable[[], Sequence[Watched]]
"""Those that are loaded now."""
