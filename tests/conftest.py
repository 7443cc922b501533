"""Every test starts from the same seeds, and a failure is found again by running it again."""

import os
import random
import signal
import sys

# Tests run side by side, and threads that outnumber the cores cost an order of magnitude. Before anything loads OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# A shell that runs the tests in the background makes them ignore Ctrl-C, and with them every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first call of a graph or an exporter takes as long as it takes.
settings.register_profile("dle", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("dle")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seeds the global generators of `random`, numpy and (where something has imported it) torch."""
    value = 20_260_101
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - scikit-learn draws from it
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(value)
    return value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` where there is no device, and imports torch only to find that out."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
