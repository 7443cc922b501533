"""One training by workers of a Ray cluster (Ray Train), which share each batch; see `data_parallel`.

The run directory, which every machine reaches by the same path, is that of any run. The command prepares the data,
keeps it there for the workers while they train, and measures the model at the end. The first worker alone writes
checkpoints; what it has to tell listeners goes through an actor to the command, where they are. When a worker or its
machine is lost, all begin again from the last checkpoint, as many as the cluster still has room for.

Imports Ray, which may not be installed; see `cluster.check`.
"""

import operator
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import distributed

from dle_bundle import schema as schemas
from dle_bundle.errors import DleError, InputError, Interrupted, WorkError
from dle_bundle.images.pixels import ImageFiles
from dle_training.config.run_config import RunConfig
from dle_training.distributed import cluster
from dle_training.distributed.cluster import Share
from dle_training.distributed.workers import Workers
from dle_training.fitting import tensors
from dle_training.fitting.interruption import Interruption
from dle_training.fitting.listeners import EpochRecord, HistoryFile, Listener, Plan
from dle_training.fitting.tensorboard import TensorBoard
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.runs.train import RunResult, fit, fit_network

_LOOK_SECONDS = 0.2
"""Between two looks at what was told, and between two questions whether to stop."""
_END_SECONDS = 60
"""For workers that were told to stop, or have given up, to end."""
_MOST_LOSSES = 5
"""Of workers, without a checkpoint in between, before the training gives up."""
_DATA = "data"
Call = Callable[[Listener], object]
"""Something that a listener is told."""


def check(config: RunConfig) -> None:
    """Raise InputError for what is asked of a run that workers cannot do."""
    faults = []
    if config.split.folds is not None:
        faults.append("split.folds: folds are networks of their own; leave --folds out, or --engine ray")
    if config.training.refit:
        faults.append("training.refit: expected false, found true")
    if faults:
        raise InputError("--engine ray trains one network, once", faults)


def train(run: RunFolder, prepared: Prepared, jobs: int | None, listeners: Sequence[Listener] = ()) -> RunResult:
    """Train, or continue where a checkpoint is, with `jobs` workers (None: one for each GPU, or for each CPU).

    Raises Interrupted after Ctrl-C with the state saved, InputError for more workers than there is room for or images
    that are not in memory, WorkError where the cluster cannot be reached or workers are lost again and again.
    """
    dataset, config = prepared.dataset, prepared.config
    if isinstance(dataset.groups.image, ImageFiles):
        raise InputError(
            "--engine ray: expected images that fit in memory, found more than data.image_memory; raise that, or train "
            "without --engine ray"
        )
    data = tensors.make(dataset, config)
    data.write_fitted(run.path)
    everyone = [HistoryFile(run.history), TensorBoard(run.tensorboard), *listeners]
    with _shared(run) as folder, cluster.connected():
        tensors.save(data, folder / _DATA)
        _until_it_ends(run, config, jobs, everyone)
    # it has ended, so this finds nothing left to train, and measures
    return fit(run, config, dataset.schema, data, dataset=dataset)


@contextmanager
def _shared(run: RunFolder) -> Iterator[Path]:
    """A folder in the run for what only workers need, while they do."""
    folder = run.workers
    shutil.rmtree(folder, ignore_errors=True)  # of a command that was killed
    (folder / _DATA).mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_ends(run: RunFolder, config: RunConfig, jobs: int | None, listeners: Sequence[Listener]) -> None:
    """Begin, and begin again from the last checkpoint when workers are lost."""
    room = _room(config)
    if jobs is not None and jobs > room:
        raise InputError(f"--jobs: expected at most {room}, one for each GPU or CPU of the cluster, found {jobs}")
    losses = 0
    while True:
        room = _room(config)
        share = cluster.share_of(cluster.machines(), min(jobs or room, room), config.device)
        attempt = _Attempt(run, share, listeners)
        try:
            attempt.work()
        except (RayError, ray.train.TrainingFailedError) as error:
            losses = 1 if attempt.saved else losses + 1
            if losses > _MOST_LOSSES:
                raise WorkError(
                    f"Ray lost workers, or could not start them, {losses} times in a row", [_cause(error)]
                ) from error
        else:
            return


def _room(config: RunConfig) -> int:
    """The most workers that the cluster can take now."""
    return cluster.share_of(cluster.machines(), None, config.device).tasks


def _cause(error: Exception) -> str:
    """Why workers were lost, as far as Ray knows: the error of one of them, where it has any."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return cluster.first_line(next(iter(failures.values()), getattr(error, "controller_failure", error)))


class _Attempt(Listener):
    """One group of workers, from its beginning until it has ended or is lost. It listens to how far they come."""

    def __init__(self, run: RunFolder, share: Share, listeners: Sequence[Listener]) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        self._listeners = [*listeners, self]  # the last one has begun when all have
        self._begun = False
        self.saved = False
        """Whether there was a checkpoint."""
        folder = run.path.absolute()
        self._trainer = ray.train.torch.TorchTrainer(
            _work,
            train_loop_config={"folder": folder, "share": share, "desk": self._desk},
            scaling_config=ray.train.ScalingConfig(
                num_workers=share.tasks,
                use_gpu=bool(share.gpus),
                resources_per_worker={"CPU": share.cpus, **({"GPU": 1} if share.gpus else {})},
            ),
            run_config=ray.train.RunConfig(
                storage_path=str(RunFolder(folder).workers),
                # what is lost is begun again with as many workers as there is room for then, by `_until_it_ends`
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )

    def on_start(self, plan: Plan) -> None:
        self._begun = True

    def on_checkpoint(self, path: Path) -> None:
        self.saved = True

    def work(self) -> None:
        """Raises the errors that would be those of any attempt, and errors of Ray where workers are lost."""
        with Interruption() as interruption:
            work = _started(self._trainer.fit)
            try:
                while not work.done():
                    futures.wait([work], timeout=_LOOK_SECONDS)
                    self._hear()
                    if interruption.requested:
                        ray.get(self._desk.stop.remote())
                self._hear()
            finally:
                with suppress(RayError):
                    ray.get(self._desk.stop.remote())
                # Ray ends a process that lets go of the cluster while a thread of it still works there
                futures.wait([work], timeout=_END_SECONDS)
                if self._begun:
                    for listener in self._listeners:
                        listener.on_end()
            if interruption.requested:
                raise Interrupted("Interrupted; what was saved last is in the run")
            work.result()

    def _hear(self) -> None:
        """Tell the listeners what the first worker has told since. Raises the error for which workers gave up."""
        calls, error = ray.get(self._desk.heard.remote())
        for call in calls:
            for listener in self._listeners:
                call(listener)
        if error is not None:
            raise error


def _started(work: Callable[[], object]) -> "futures.Future[object]":
    """Do it in a thread that does not keep this process alive, for the main thread is the one that hears Ctrl-C."""
    outcome: futures.Future[object] = futures.Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - who waits for the outcome raises it
            outcome.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return outcome


class _Desk:
    """An actor beside the command, through which it and the workers speak; nobody waits at it."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._error: DleError | None = None
        self._stop = False

    def tell(self, call: Call) -> None:
        """By the first worker, for the listeners."""
        self._calls.append(call)

    def fail(self, error: DleError) -> None:
        """By a worker that gives up for a reason that another attempt would have too."""
        self._error = error

    def heard(self) -> tuple[list[Call], DleError | None]:
        """What was told since this was asked last."""
        calls, self._calls = self._calls, []
        return calls, self._error

    def stop(self) -> None:
        """By the command."""
        self._stop = True

    def is_stopped(self) -> bool:
        """Whether the workers are to stop."""
        return self._stop


class _Teller(Listener):
    """Tells the desk what the first worker has to tell, of steps no more than people can see."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        self._told = 0.0

    def on_start(self, plan: Plan) -> None:
        self._tell(operator.methodcaller("on_start", plan))

    def on_step(self, epoch: int, step: int) -> None:
        if time.monotonic() - self._told >= _LOOK_SECONDS:
            self._told = time.monotonic()
            self._tell(operator.methodcaller("on_step", epoch, step))

    def on_epoch(self, history: Sequence[EpochRecord], best_epoch: int) -> None:
        self._tell(operator.methodcaller("on_epoch", history, best_epoch))

    def on_checkpoint(self, path: Path) -> None:
        self._tell(operator.methodcaller("on_checkpoint", path))

    def on_end(self) -> None:
        ray.get(self._desk.is_stopped.remote())  # calls arrive in their order, so all have arrived

    def _tell(self, call: Call) -> None:
        self._desk.tell.remote(call)


def _work(given: dict[str, Any]) -> None:
    """In each worker, whose process group Ray has made: train, and say why if it does not come to the end."""
    first = ray.train.get_context().get_world_rank() == 0
    desk = given["desk"]
    try:
        _train_share(RunFolder(given["folder"]), given["share"], first, desk)
    except Interrupted as interrupted:
        if first:  # all are
            ray.get(desk.fail.remote(interrupted))
    except DleError as error:
        ray.get(desk.fail.remote(error))
        raise  # the others may be waiting for this one
    except OSError as error:  # no room on the disk
        ray.get(desk.fail.remote(WorkError(f"{socket.gethostname()}: {error}")))
        raise


def _train_share(run: RunFolder, share: Share, first: bool, desk: Any) -> None:
    torch.set_num_threads(share.cpus)
    if not (run.workers).is_dir():
        raise InputError(
            f"{run.path} is not there on the machine {socket.gethostname()} of the cluster: expected a file system "
            "that all machines reach by the same path"
        )
    if share.gpus:
        torch.cuda.set_device(ray.train.torch.get_device())
    config = run.read_config()
    data = tensors.load(run.workers / _DATA, schemas.load(run.schema))
    asked = _Asked(desk) if first else _never
    with tempfile.TemporaryDirectory(prefix="dle-") as own:
        checkpoints = run.checkpoints if first else Path(own) / run.checkpoints.name
        if not first and run.checkpoints.is_dir():
            shutil.copytree(run.checkpoints, checkpoints)
        distributed.barrier()  # what is copied does not change meanwhile
        listeners = [_Teller(desk)] if first else []
        fit_network(data.network(config), config, data, checkpoints, listeners, Workers(asked))


class _Asked:
    """Whether the command has told the workers to stop, asked from time to time."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        self._last = 0.0

    def __call__(self) -> bool:
        if time.monotonic() - self._last < _LOOK_SECONDS:
            return False
        self._last = time.monotonic()
        return bool(ray.get(self._desk.is_stopped.remote()))


def _never() -> bool:
    return False
