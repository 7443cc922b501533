"""The data of all trials, prepared once for each split and each setting that it depends on, and shared by processes.

Who needs it first makes it and keeps it in the study while that goes on; everyone else maps it. Only images that are
decoded as they are needed cannot be kept, so each process opens the files by itself.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from dle_bundle import locks
from dle_bundle.files import atomic_folder
from dle_training.config.run_config import RunConfig
from dle_training.data import split as splits
from dle_training.data.dataset import Dataset
from dle_training.fitting import tensors
from dle_training.fitting.tensors import TrainingData
from dle_training.runs import prepare
from dle_training.search import study, trial_locks
from dle_training.search.study import Study


def discard(study: Study) -> None:
    """Remove what trials alone need, unless one goes on; whoever needs it again makes it again."""
    if not trial_locks.running(study):
        with _alone(study):
            shutil.rmtree(study.folder.prepared, ignore_errors=True)


def _alone(study: Study) -> AbstractContextManager[None]:
    """Nobody else makes or removes prepared data meanwhile. Their own folder may vanish, and a lock in it with it."""
    return locks.alone_in(study.folder.splits)


class PreparedData:
    """What the trials of `study` train on, in this process. To be closed, by leaving it.

    `dataset` reads the source, which happens only when data is not there that is asked for.
    """

    def __init__(self, study: Study, dataset: Callable[[], Dataset]) -> None:
        self._study = study
        self._read = dataset
        self._dataset: Dataset | None = None
        self._known: dict[str, TrainingData] = {}
        self._ending = ExitStack()

    def __enter__(self) -> "PreparedData":
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def of(self, config: RunConfig, fold: int) -> TrainingData:
        """The data of a trial with this configuration, for a fold (from 0; the hold-out split where there are none)."""
        index = 0 if self._study.folds == 1 else fold + 1
        name = study.key(index, config.preprocessing, config.objective.class_weights)
        if name not in self._known:
            self._known[name] = self._found(config, index, self._study.folder.prepared / name)
        return self._known[name]

    def _found(self, config: RunConfig, index: int, folder: Path) -> TrainingData:
        with _alone(self._study):
            if not folder.is_dir():
                dataset = self.dataset().with_split(splits.load(self._study.folder.split(index)))
                stream = self._ending.enter_context(prepare.streamed(dataset))
                if stream is not None:
                    return tensors.make(dataset, config, stream)
                with atomic_folder(folder) as temporary:
                    tensors.save(tensors.make(dataset, config), temporary)
        return tensors.load(folder, self._study.schema)

    def make_first(self) -> None:
        """Make what most trials share before several processes ask for it, of whom each would read the source."""
        for fold in range(self._study.folds):
            self.of(self._study.config(study.first_point(self._study)), fold)

    def dataset(self) -> Dataset:
        """The source, read once."""
        if self._dataset is None:
            self._dataset = self._read()
        return self._dataset
