import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from dle_serving.models.repository import Repository
from dle_serving.monitoring.metrics import Metrics
from dle_serving.settings import ServerSettings


class _Counting:
    """The observations of a model with some slices to count; the first one may fail."""

    def __init__(self, slices: int, *, fails: bool) -> None:
        self.slices, self.fails = slices, fails

    def count_some(self) -> bool:
        self.slices -= 1
        if self.fails:
            self.fails = False
            raise OSError("no space left on device")
        return self.slices > 0


def test_a_model_whose_counting_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Repository(ServerSettings(bundles=(tmp_path,)), Metrics(tmp_path / "metrics"))
    first, second = _Counting(3, fails=True), _Counting(3, fails=False)
    models = [
        SimpleNamespace(name=name, version=1, observations=counting)
        for name, counting in (("broken", first), ("sound", second))
    ]
    monkeypatch.setattr(repository, "monitored", lambda: models)
    with caplog.at_level(logging.ERROR):
        asyncio.run(repository.count())
    assert (first.slices, second.slices) == (2, 0)
    assert "broken version 1: some predictions are not counted for drift" in caplog.text
    asyncio.run(repository.count())
    assert first.slices == 0
