"""The worker processes of a study on one machine, and the keeper that starts and replaces them.

With one job, the trials run in the present process. With several, each worker is a separate process that is started
once for all trials. The workers share the machine's threads and send events to the keeper through a pipe. The keeper
replaces a worker that dies, and the next worker that looks for a trial resumes the abandoned one.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from dle_bundle.errors import DleError, InputError, Interrupted, WorkError
from dle_training.data.dataset import Dataset
from dle_training.data.processes import cores, without_interrupts
from dle_training.fitting.interruption import Interruption
from dle_training.search import study as studies
from dle_training.search import work
from dle_training.search.points import Point
from dle_training.search.shared_data import PreparedData
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import Watcher
from dle_training.search.work import Deadline
from dle_training.settings import proposals

_MOST_DEATHS = 5
"""The study stops if more workers than this die without a trial completing or being pruned in between."""


@dataclass(frozen=True, slots=True)
class TrialBegan:
    """A worker starts or resumes a trial."""

    number: int
    point: Point
    epochs: int


@dataclass(frozen=True, slots=True)
class TrialEpochEnded:
    """An epoch of a trial has ended."""

    number: int
    epoch: int
    score: float


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial is complete, pruned or failed."""

    number: int
    state: str
    score: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker ended with an error that would stop every worker. `is_input` says whether it is an InputError."""

    is_input: bool
    message: str
    details: Sequence[str] = ()

    def error(self) -> DleError:
        """Return the error to raise in the keeper."""
        return (InputError if self.is_input else WorkError)(self.message, self.details)


WorkerMessage = TrialBegan | TrialEpochEnded | TrialEnded | WorkerFailed
"""The messages that a worker sends to its keeper."""


def run(
    study: Study, jobs: int | None, dataset: Callable[[], Dataset], watcher: Watcher, seconds: float | None
) -> None:
    """Work on the study until no trial is left, in `jobs` processes (None means one), at most one for each core.

    `dataset` reads the source. No trial starts after `seconds` seconds. If other commands work on the study too, this
    function waits for their trials, and resumes the trials of a command that dies.

    Raises Interrupted after Ctrl-C or SIGTERM. The state of every trial is saved by then.
    """
    jobs, deadline, left = min(jobs or 1, cores()), Deadline(seconds), True
    with PreparedData(study, dataset) as data:
        if jobs > 1:
            data.make_first()
        while left:
            if jobs == 1:
                work.work(study, data, watcher, deadline, jobs)
            else:
                _Keeper(study, jobs, watcher, deadline).run()
            left = work.wait_for_others(study, deadline)


class _Keeper:
    """Starts the workers, passes their messages to the watcher, and replaces workers that die."""

    def __init__(self, study: Study, jobs: int, watcher: Watcher, deadline: Deadline) -> None:
        self._study = study
        self._jobs = jobs
        self._watcher = watcher
        self._deadline = deadline
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, BaseProcess] = {}
        self._deaths = 0
        self._errors: list[DleError] = []

    def run(self) -> None:
        with Interruption() as interruption:
            for _ in range(self._jobs):
                self._start()
            asked = False
            try:
                while self._workers:
                    if interruption.requested and not asked:
                        asked = True
                        self._interrupt()
                    for pipe in wait(list(self._workers), timeout=0.2):
                        assert isinstance(pipe, Connection)
                        self._hear(pipe, stopping=asked)
            finally:
                self._interrupt()
                for worker in self._workers.values():
                    worker.join()
        if interruption.requested:
            raise Interrupted("Interrupted; the state of every trial is saved")
        if self._errors:
            raise self._errors[0]

    def _start(self) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        worker = self._context.Process(
            target=_work, args=(self._study.folder.path, self._jobs, self._deadline.left(), theirs), daemon=False
        )
        with theirs, without_interrupts():  # the keeper handles Ctrl-C for all workers
            worker.start()
        self._workers[ours] = worker

    def _hear(self, pipe: Connection, *, stopping: bool) -> None:
        try:
            message: WorkerMessage = pipe.recv()
        except EOFError:
            self._ended(pipe, stopping=stopping)
            return
        match message:
            case TrialBegan(number, point, epochs):
                self._watcher.on_begin(number, point, epochs)
            case TrialEpochEnded(number, epoch, score):
                self._watcher.on_epoch(number, epoch, score)
            case TrialEnded(number, state, final_score, error):
                if state != "fail":  # repeated deaths of workers also fail trials
                    self._deaths = 0
                self._watcher.on_end(number, state, final_score, error)
            case WorkerFailed():
                self._errors.append(message.error())
                self._interrupt()

    def _ended(self, pipe: Connection, *, stopping: bool) -> None:
        worker = self._workers.pop(pipe)
        worker.join()
        pipe.close()
        if worker.exitcode == 0 or stopping or self._errors:
            return
        self._deaths += 1
        if self._deaths > _MOST_DEATHS:
            again = f"{proposals.resuming_study(self._study.folder.path)} --jobs {self._jobs // 2}"
            hint = f"the system may have killed them for lack of memory; resume with fewer jobs: {again}"
            self._errors.append(WorkError(f"{self._deaths} worker processes died in a row", [hint]))
            self._interrupt()
        else:
            self._start()

    def _interrupt(self) -> None:
        for worker in self._workers.values():
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)


class _PipeWatcher(Watcher):
    """Sends every event to the keeper."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def on_begin(self, number: int, point: Point, epochs: int) -> None:
        self._pipe.send(TrialBegan(number, point, epochs))

    def on_epoch(self, number: int, epoch: int, score: float) -> None:
        self._pipe.send(TrialEpochEnded(number, epoch, score))

    def on_end(self, number: int, state: str, score: float | None, error: str | None) -> None:
        self._pipe.send(TrialEnded(number, state, score, error))


def _work(folder: Path, jobs: int, seconds: float | None, pipe: Connection) -> None:
    """The main function of a worker. It ignores Ctrl-C, because the keeper sends it SIGTERM instead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_keeper, daemon=True).start()
    torch.set_num_threads(cores() // jobs)
    try:
        study = studies.open_study(StudyFolder(folder))
        with PreparedData(study, lambda: studies.read_again(study)) as data:
            deadline = Deadline(seconds)
            work.work(study, data, _PipeWatcher(pipe), deadline, jobs)
            while work.wait_for_others(
                study, deadline
            ):  # other workers may have unlocked trials that they cannot start yet
                work.work(study, data, _PipeWatcher(pipe), deadline, jobs)
    except Interrupted:
        pass
    except DleError as error:
        pipe.send(WorkerFailed(isinstance(error, InputError), error.message, error.details))
    except OSError as error:  # for example a full disk
        pipe.send(WorkerFailed(False, str(error)))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        pipe.close()


def _follow_keeper() -> None:
    """Stop this worker when its keeper ends. The worker saves its state as after Ctrl-C."""
    keeper = multiprocessing.parent_process()
    assert keeper is not None
    keeper.join()
    os.kill(os.getpid(), signal.SIGTERM)
