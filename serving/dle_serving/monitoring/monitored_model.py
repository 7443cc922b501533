"""A loaded model as monitoring sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dle_bundle.drift.reference import Reference
from dle_serving.monitoring.observations import Observations

MODEL_LABELS = ("model", "version")
"""The labels of every series about one model."""


@dataclass(frozen=True, slots=True)
class MonitoredModel:
    """One loaded model: its names, its reference, and its counts (None when monitoring is off)."""

    name: str
    version: int
    fingerprint: bytes
    class_names: tuple[str, ...]
    reference: Reference
    observations: Observations | None

    @property
    def labels(self) -> tuple[str, str]:
        """Name and version: the labels of the model's metrics."""
        return self.name, str(self.version)


ListModels = Callable[[], Sequence[MonitoredModel]]
"""Returns the models that are loaded now."""
