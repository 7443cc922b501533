"""Chooses the device of all tensors from the setting `device`; no other code chooses one."""

import torch

from dle_bundle.errors import InputError
from dle_training.settings.proposals import option


def choose(name: str) -> torch.device:
    """The device for auto, cpu or cuda. Raises InputError for cuda without a usable device."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(f"device cuda: PyTorch finds no CUDA device here; use {option('device', 'cpu')}")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
