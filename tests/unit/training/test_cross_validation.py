"""The networks of all folds: trained at once or one after another, gone on with, and what is kept of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests import people

from dle_bundle import documents
from dle_training import packed
from dle_training.config import run_config
from dle_training.fitting.listeners import EpochRecord, Listener, TrainingPlan, read_history
from dle_training.packed import Member, MemberFailure, MemberResult
from dle_training.runs import cross_validation, prepare
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.scoring.cross_validation import CrossValidation

FOLDS = 3


class Ear(Listener):
    """Hears what a training is called, and its epochs; breaks off the first fold after epoch 2 where it is told to."""

    def __init__(self, what: str, heard: list[str], *, breaks: bool) -> None:
        self._what, self._heard, self._breaks = what, heard, breaks

    def on_start(self, plan: TrainingPlan) -> None:
        self._heard.append(self._what)

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        if self._breaks and len(history) == 2 and self._what.startswith("fold 2"):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    source = people.write_people(tmp_path_factory.mktemp("folds") / "people.csv", 301)
    settings = [
        "preset=fast", "training.epochs=4", "model.hidden=[8]", "device=cpu", f"split.folds={FOLDS}",
        "training.refit=true", "training.checkpoint_seconds=0", "training.batch_size=32",
    ]  # fmt: skip
    return prepare.prepare(run_config.load(None, settings, {"data.source": str(source), "data.target": "buys"}))


def validated(folder: Path, prepared: Prepared, heard: list[str], *, breaks: bool = False) -> CrossValidation:
    run = RunFolder(folder)
    if not folder.exists():
        prepare.create(folder, prepared)
    return cross_validation.validate(run, prepared, lambda what: [Ear(what, heard, breaks=breaks)])


@pytest.fixture(params=[True, False], ids=["at once", "one after another"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "faster", lambda members: request.param)


@pytest.mark.usefixtures("_both_ways")
def test_what_is_kept_of_the_folds(tmp_path: Path, prepared: Prepared) -> None:
    heard: list[str] = []
    found = validated(tmp_path / "run", prepared, heard)
    assert heard == [f"fold {fold} of {FOLDS}" for fold in range(1, FOLDS + 1)]
    assert found == cross_validation.read(RunFolder(tmp_path / "run"))
    scores = [fold["accuracy"] for fold in found.scores]
    assert found.mean["accuracy"] == pytest.approx(np.mean(np.array(scores, dtype=float)))
    assert found.sd["accuracy"] == pytest.approx(np.std(np.array(scores, dtype=float), ddof=1))
    for fold in range(1, FOLDS + 1):
        run = RunFolder(tmp_path / "run" / "folds" / str(fold))
        assert len(read_history(run.history)) == 4
        assert documents.read(run.metrics, dict[str, Any])["validation"] == found.scores[fold - 1]
        assert not run.refitted.exists(), "a fold is no model to be kept"
    table = pq.read_table(tmp_path / "run" / "out_of_fold.parquet").to_pydict()
    split = prepared.dataset.split
    assert table["row"] == sorted((np.concatenate([split.train, split.validation]) + 1).tolist())
    right = np.array(table["label"]) == np.array(table["actual"])
    own = [right[np.array(table["fold"]) == fold].mean() for fold in range(1, FOLDS + 1)]
    assert own == pytest.approx(scores)


def test_trained_at_once_they_come_to_the_same(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, packs = packed.fit_if_possible, list[int]()

    def fitted(members: Sequence[Member]) -> list[MemberResult | MemberFailure] | None:
        packs.append(len(members))
        return fit(members)

    monkeypatch.setattr(packed, "faster", lambda members: True)
    monkeypatch.setattr(packed, "fit_if_possible", fitted)
    together = validated(tmp_path / "together", prepared, [])
    assert packs == [FOLDS]
    monkeypatch.setattr(packed, "faster", lambda members: False)
    alone = validated(tmp_path / "alone", prepared, [])
    for one, other in zip(together.scores, alone.scores, strict=True):
        assert one["log_loss"] == pytest.approx(other["log_loss"], abs=1e-4)


def test_where_memory_lacks_they_are_trained_alone(
    tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_room(members: Sequence[Member]) -> list[MemberResult | MemberFailure]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("dle_training.packed.loop.fit", without_room)
    monkeypatch.setattr("dle_training.packed.timing.fit", without_room)
    assert len(validated(tmp_path / "measured", prepared, []).scores) == FOLDS
    monkeypatch.setattr(packed, "faster", lambda members: True)
    assert len(validated(tmp_path / "begun", prepared, []).scores) == FOLDS


@pytest.mark.usefixtures("_both_ways")
def test_broken_off_they_are_gone_on_with(tmp_path: Path, prepared: Prepared) -> None:
    whole = validated(tmp_path / "whole", prepared, [])
    with pytest.raises(KeyboardInterrupt):
        validated(tmp_path / "broken", prepared, [], breaks=True)
    assert not (tmp_path / "broken" / "out_of_fold.parquet").exists()
    assert validated(tmp_path / "broken", prepared, []) == whole
