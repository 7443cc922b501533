"""The trials of a study as tasks of Ray: on all CPUs of a machine, or on a cluster of machines.

The study stays a folder, which every machine of the cluster reaches by the same path, and a task is a process of Ray
that claims a trial in it (or a pack of trials), as any process does that works on a study. Who holds a trial, what is
done and where to go on is thus known by the folder alone: Ray decides where and when a task runs, and a task whose
machine or process is lost is followed by another one, which finds the trial that was left behind.

Imports Ray, which may not be installed; see `cluster.check`.
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

_LOOK_SECONDS = 0.5
"""Between two looks at what the tasks have done."""
_MOST_LOSSES = 10
"""Of tasks, with their process or machine, without a trial that ended in between, before the study gives up."""


def run(
    study: Study, jobs: int | None, dataset: Callable[[], Dataset], watcher: Watcher, seconds: float | None
) -> None:
    """Work on the study until no trial is left, in `jobs` tasks at a time (None: as many as Ray finds room for).

    As `workers.run` otherwise. Raises WorkError where the cluster cannot be reached.
    """
    deadline, left = Deadline(seconds), True
    with PreparedData(study, dataset) as data:
        data.make_first()
    with cluster.connected():
        device = study.request.fixed.get("device", "auto")
        allocation = cluster.allocate(cluster.machines(), jobs, device)
        driver = _Driver(study, jobs, allocation, watcher, deadline)
        while left:
            driver.run()
            left = work.wait_for_others(study, deadline)


class _Driver:
    """Keeps as many tasks at work as there are trials left, and tells the watcher what becomes of them."""

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
            # another task, not this one again, goes on with a trial that is lost
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
        """Whether a task found no trial without a process, and none has lost its own since."""

    def run(self) -> None:
        """Until there is no trial that has nobody. Raises Interrupted after Ctrl-C, with every state saved."""
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
        """Start what is missing; whether any task runs."""
        self._observer.look()
        if not self._all_taken and not self._deadline.is_over:
            wanted = min(self._jobs, self._observer.left)
            self._running += [self._task() for _ in range(wanted - len(self._running))]
        return bool(self._running)

    def _hear(self, task: Any) -> None:
        """What became of a task. Raises the errors that would be those of all."""
        try:
            found = ray.get(task)
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, Interrupted):  # that is one whose machine is shut down
                raise cause if isinstance(cause, DleError) else error from None
            self._all_taken = False
        except RayError as error:
            self._losses += 1
            if self._losses > _MOST_LOSSES:
                raise WorkError(f"Ray lost {self._losses} tasks in a row", [cluster.first_line(error)]) from error
            self._all_taken = False
        else:
            self._losses = 0 if found else self._losses
            self._all_taken = not found  # what was found may have left others their turn

    def _cancel(self) -> None:
        """Ctrl-C for all that run, which save their state; those that wait never begin."""
        for each in self._running:
            ray.cancel(each)
        if self._running:
            ray.wait(self._running, num_returns=len(self._running))
        self._running = []


class _Observer:
    """Tells a watcher what the study says of its trials, whoever works on them.

    The epochs of a trial are those that the pruner was told.
    """

    def __init__(self, study: Study, watcher: Watcher) -> None:
        self._study = study
        self._watcher = watcher
        self._epochs: dict[int, int] = {}
        self._count = study.count
        self._ended = {each.number for each in self._trials() if each.state in storage.ENDED}

    @property
    def left(self) -> int:
        """Trials that have not ended."""
        return self._count - len(self._ended)

    def look(self) -> None:
        """Tell what is new."""
        trials = self._trials()
        self._count = max(self._count, len(trials))  # another command may have let the study grow
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
            point = points.from_storable(self._study.request.space, each.params)
            try:
                config = self._study.config(point)
            except InputError:  # the trial fails of it
                return False
            self._epochs[each.number] = 0
            self._watcher.on_begin(each.number, point, (config.training.epochs or 1) * self._study.folds)
        return each.number in self._epochs

    def _tell_epochs(self, each: FrozenTrial) -> None:
        last = max(each.intermediate_values, default=0)
        if last > self._epochs[each.number]:
            self._epochs[each.number] = last
            self._watcher.on_epoch(each.number, last, each.intermediate_values[last])


def _work_once(folder: Path, directory: Path, end: float | None, allocation: Allocation) -> bool:
    """In a process of Ray on any machine: work as `work.work_once` does, unless it is past `end` (Unix time).

    `directory` is the one in which the command was given, from which the paths of the data may count.
    """
    torch.set_num_threads(allocation.cpus)
    deadline = Deadline(None if end is None else end - time.time())
    try:
        study, data, faster = _opened(folder, directory)
        return not deadline.is_over and work.work_once(study, data, Watcher(), deadline, allocation.tasks, faster)
    except OSError as error:  # no room on the disk
        raise WorkError(f"{socket.gethostname()}: {error}") from error


@functools.cache
def _opened(folder: Path, directory: Path) -> tuple[Study, PreparedData, Faster]:
    """The study and its data, once for all tasks of this process, which Ray ends with the command that it works for."""
    if not StudyFolder(folder).study.exists() or not directory.is_dir():
        raise InputError(
            f"{folder} or {directory} is not there on the machine {socket.gethostname()} of the cluster: expected a "
            "file system that all machines reach by the same path"
        )
    os.chdir(directory)
    study = studies.open_study(StudyFolder(folder))
    return study, PreparedData(study, lambda: studies.read_again(study)), {}
