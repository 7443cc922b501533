"""The small fit of `small_fit.py`, which tests run here and in processes that they kill."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SMALL_FIT = Path(__file__).with_name("small_fit.py")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are too small for two: threads that wait for each other would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_fit() -> SimpleNamespace:
    """What `small_fit.py` defines."""
    return SimpleNamespace(**runpy.run_path(str(SMALL_FIT)))
