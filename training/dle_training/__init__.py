"""From a table to a trained, evaluated and exported model. From Python, `train` trains a run and `Run` opens one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dle_training.api import Run, train

__all__ = ["Run", "train"]


def __getattr__(name: str) -> Any:
    """Import what Python users call when they first name it, for PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dle_training import api

    return getattr(api, name)
