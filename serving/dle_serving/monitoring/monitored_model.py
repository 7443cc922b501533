"""What watching a model takes to know of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dle_bundle.drift.reference import Reference
from dle_serving.monitoring.observations import Observations


@dataclass(frozen=True, slots=True)
class MonitoredModel:
    """One loaded model: its names, what it is compared with, and its counts; None: nothing is counted."""

    name: str
    version: int
    fingerprint: bytes
    class_names: tuple[str, ...]
    reference: Reference
    observations: Observations | None

    @property
    def labels(self) -> tuple[str, str]:
        """Name and version, as every series of the model has them."""
        return self.name, str(self.version)


ListModels = Callable[[], Sequence[MonitoredModel]]
"""Those that are loaded now."""
