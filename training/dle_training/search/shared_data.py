"""Training data that all trials of a study share, prepared once and memory-mapped by every process.

Data is prepared once for each split and each combination of settings that it depends on. The first process that needs
it writes it to the study folder, and the other processes map that file. The exception is images that are decoded on
demand: they cannot be stored, so each process reads the image files itself.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from dle_bundle import locks
from dle_bundle.files import atomic_folder
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.data.splits import split as splits
from dle_training.fitting import tensors
from dle_training.fitting.tensors import TrainingData
from dle_training.runs import prepare
from dle_training.search import study, trial_locks
from dle_training.search.study import Study


def discard(study: Study) -> None:
    """Delete the prepared data, unless a trial has begun and not ended. It is prepared again if it is needed again."""
    if not trial_locks.running(study):
        with _alone(study):
            shutil.rmtree(study.folder.prepared, ignore_errors=True)


def _alone(study: Study) -> AbstractContextManager[None]:
    """Keep other processes from writing or deleting prepared data.

    The lock is in the splits folder, because `discard` deletes the folder of the prepared data.
    """
    return locks.alone_in(study.folder.splits)


class PreparedData:
    """The training data of the study's trials, as this process opens it. Use it as a context manager.

    `dataset` reads the source. It is called only if data is needed that no process has prepared yet.
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
        """Return the data for a trial with this configuration and this fold.

        Folds count from 0. A study without folds has one, the hold-out split.
        """
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
        """Prepare the data that most trials share.

        Call this before several processes start, because otherwise each of them reads the source.
        """
        for fold in range(self._study.folds):
            self.of(self._study.resolved(study.first_point(self._study)), fold)

    def dataset(self) -> Dataset:
        """Return the data of the source, which is read on the first call only."""
        if self._dataset is None:
            self._dataset = self._read()
        return self._dataset
