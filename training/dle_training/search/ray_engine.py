"""The Ray engine: runs the trials of a study as Ray tasks, on one machine or on a cluster.

Every machine of the cluster must reach the study folder by the same path. A task claims one trial, or a pack of trials,
in that folder, as any other process does that works on the study. The folder alone records which trials are claimed,
which have ended and where to resume. Ray decides where and when a task runs. If a task loses its process or machine,
another task finds the abandoned trial and resumes it.

This module imports Ray, which is optional: call `cluster.check` first.
"""

import functools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from optuna.trial import FrozenTrial
from ray.exceptions import RayError, RayTaskError

from dle_bundle.errors import DleError, InputError, Interrupted, WorkError
from dle_training.data.dataset import Dataset
from dle_training.distributed import cluster
from dle_training.distributed.cluster import Allocation
from dle_training.fitting.interruption import Interruption
from dle_training.search import points, storage, work
from dle_training.search import study as studies
from dle_training.search.shared_data import PreparedData
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import Watcher
from dle_training.search.work import Deadline, Faster
from dle_training.settings.base import chosen

_LOOK_SECONDS = 0.5
"""Seconds between two checks of the running tasks."""
_MOST_LOSSES = 10
"""The study stops if Ray loses more tasks than this without a task that works on a trial in between."""


def run(
    study: Study, jobs: int | None, dataset: Callable[[], Dataset], watcher: Watcher, seconds: float | None
) -> None:
    """Work on the study until no trial is left, in `jobs` tasks at a time (None means as many as the cluster can run).

    Everything else is as in `workers.run`. Raises WorkError if the cluster cannot be reached.
    """
    deadline, left = Deadline(seconds), True
    with PreparedData(study, dataset) as data:
        data.make_first()
    with cluster.connected():
        device = study.request.fixed["device"]
        allocation = cluster.allocate(cluster.machines(), jobs, device)
        driver = _Driver(study, jobs, allocation, watcher, deadline)
        while left:
            driver.run()
            left = work.wait_for_others(study, deadline)


class _Driver:
    """Keeps up to one task running for each trial that has not ended, and reports progress to the watcher."""

    def __init__(
        self, study: Study, jobs: int | None, allocation: Allocation, watcher: Watcher, deadline: Deadline
    ) -> None:
        left = deadline.left()
        self._study = study
        self._jobs = study.count if jobs is None else jobs
        self._deadline = deadline
        self._observer = _Observer(study, watcher)
        self._task = functools.partial(
            ray.remote(_work_once)
            # no retries: another task resumes an abandoned trial
            .options(num_cpus=allocation.cpus, num_gpus=allocation.gpus, max_retries=0, scheduling_strategy="SPREAD")
            .remote,
            study.folder.path.absolute(),
            Path.cwd(),
            None if left is None else time.time() + left,
            allocation,
        )
        self._running: list[Any] = []
        self._losses = 0
        self._all_taken = False
        """Whether a task found no trial to claim, and no trial has been abandoned since."""

    def run(self) -> None:
        """Run tasks until no trial is left to claim. Raises Interrupted after Ctrl-C, once every state is saved."""
        self._all_taken = False
        with Interruption() as interruption:
            try:
                while not interruption.requested and self._start():
                    done, self._running = ray.wait(self._running, timeout=_LOOK_SECONDS)
                    for each in done:
                        self._hear(each)
            finally:
                self._cancel()
        if interruption.requested:
            raise Interrupted("Interrupted; the state of every trial is saved")

    def _start(self) -> bool:
        """Start tasks up to the wanted number. Returns whether any task runs."""
        self._observer.look()
        if not self._all_taken and not self._deadline.is_over:
            wanted = min(self._jobs, self._observer.left)
            self._running += [self._task() for _ in range(wanted - len(self._running))]
        return bool(self._running)

    def _hear(self, task: Any) -> None:
        """Handle the end of a task. Raises errors that every task would meet."""
        try:
            found = ray.get(task)
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, Interrupted):  # Interrupted means that the task's machine shuts down
                raise cause if isinstance(cause, DleError) else error from None
            self._all_taken = False
        except RayError as error:
            self._losses += 1
            if self._losses > _MOST_LOSSES:
                raise WorkError(f"Ray lost {self._losses} tasks in a row", [cluster.first_line(error)]) from error
            self._all_taken = False
        else:
            self._losses = 0 if found else self._losses
            self._all_taken = not found  # a task that found trials may have unlocked some for other tasks

    def _cancel(self) -> None:
        """Cancel all tasks. Running tasks save their state, and waiting tasks never start."""
        for each in self._running:
            ray.cancel(each)
        if self._running:
            ray.wait(self._running, num_returns=len(self._running))
        self._running = []


class _Observer:
    """Reports the progress of all trials in the study to a watcher, whichever process trains them.

    The epochs of a trial come from the scores that were reported to the pruner.
    """

    def __init__(self, study: Study, watcher: Watcher) -> None:
        self._study = study
        self._watcher = watcher
        self._epochs: dict[int, int] = {}
        self._count = study.count
        self._ended = {each.number for each in self._trials() if each.state in storage.ENDED}

    @property
    def left(self) -> int:
        """The number of trials that have not ended."""
        return self._count - len(self._ended)

    def look(self) -> None:
        """Report everything that happened since the last call."""
        trials = self._trials()
        self._count = max(self._count, len(trials))  # another command may have extended the study
        for each in trials:
            if each.number not in self._ended and self._has_begun(each):
                self._tell_epochs(each)
            if each.number not in self._ended and each.state in storage.ENDED:
                self._ended.add(each.number)
                self._watcher.on_end(each.number, each.state.name.lower(), each.value, storage.error_of(each))

    def _trials(self) -> list[FrozenTrial]:
        with storage.errors_translated("read"):
            return self._study.trials.all()

    def _has_begun(self, each: FrozenTrial) -> bool:
        if each.number not in self._epochs and each.params.keys() >= self._study.request.space.dimensions.keys():
            folder = self._study.folder.trial(each.number)
            if not folder.config.is_file():  # the task is about to write it, or the settings conflict
                return False
            point = points.from_storable(self._study.request.space, each.params)
            self._epochs[each.number] = 0
            epochs = chosen(folder.read_config().training.epochs)
            self._watcher.on_begin(each.number, point, epochs * self._study.folds)
        return each.number in self._epochs

    def _tell_epochs(self, each: FrozenTrial) -> None:
        last = max(each.intermediate_values, default=0)
        if last > self._epochs[each.number]:
            self._epochs[each.number] = last
            self._watcher.on_epoch(each.number, last, each.intermediate_values[last])


def _work_once(folder: Path, directory: Path, end: float | None, allocation: Allocation) -> bool:
    """The Ray task: call `work.work_once` on some machine of the cluster, unless it is past `end` (Unix time).

    `directory` is the working directory of the command. Relative paths of the data start there.
    """
    torch.set_num_threads(allocation.cpus)
    deadline = Deadline(None if end is None else end - time.time())
    try:
        study, data, faster = _opened(folder, directory)
        return not deadline.is_over and work.work_once(study, data, Watcher(), deadline, allocation.tasks, faster)
    except OSError as error:  # for example a full disk
        raise WorkError(f"{socket.gethostname()}: {error}") from error


@functools.cache
def _opened(folder: Path, directory: Path) -> tuple[Study, PreparedData, Faster]:
    """Open the study and its data, once for all tasks of this process. Ray ends the process with the command."""
    if not StudyFolder(folder).study.exists() or not directory.is_dir():
        raise InputError(
            f"{folder} or {directory} does not exist on the machine {socket.gethostname()} of the cluster: expected a "
            "file system that all machines reach by the same path"
        )
    os.chdir(directory)
    study = studies.open_study(StudyFolder(folder))
    return study, PreparedData(study, lambda: studies.read_again(study)), {}
