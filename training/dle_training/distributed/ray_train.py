"""One training by workers of a Ray cluster (Ray Train), which share each batch; see `workers`.

The run directory is the same as for any run, and every machine reaches it by the same path. The command prepares the
data, keeps them in the run directory while the workers train, and scores the model at the end. Only the first worker
writes the run's checkpoints. It sends progress to the command through a mailbox. When a worker or its machine is lost,
Ray ends the other workers, and the command starts as many new ones as fit in the cluster; they continue from the
last checkpoint.

This module imports Ray, an optional dependency: call `cluster.check` before the import.
"""

import shutil
import socket
import tempfile
import threading
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
from dle_training.config import resolve
from dle_training.config.run_config import RunConfig
from dle_training.distributed import cluster
from dle_training.distributed.cluster import Allocation
from dle_training.distributed.data_parallel import DataParallelReplicas
from dle_training.distributed.mailbox import LOOK_SECONDS, Mailbox, Poster, StopFlag, deliver
from dle_training.fitting import tensors
from dle_training.fitting.interruption import Interruption
from dle_training.fitting.listeners import HistoryFile, Listener, TrainingPlan
from dle_training.fitting.tensorboard import TensorBoard
from dle_training.models import pack
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.runs.train import RunResult, fit, fit_network

_END_SECONDS = 60
"""Time that workers get to end after they were asked to stop, or after one of them gave up."""
_MOST_LOSSES = 5
"""Losses of workers in a row, without a checkpoint in between, after which the training gives up."""
_DATA = "data"


def check(config: RunConfig) -> None:
    """Raise InputError for settings that workers cannot train with, whether or not they are resolved."""
    faults = []
    if config.split.folds is not None:
        faults.append("split.folds: folds are networks of their own; leave --folds out, or --engine ray")
    if config.training.refit:
        faults.append("training.refit: expected false, found true")
    if config.training.max_latency is not None:
        faults.append("training.max_latency: it is measured where one process trains; leave --max-latency out")
    if config.model.name == pack.FAMILY.name:
        other = resolve.without_pack(config)
        faults.append(f"model.name={pack.FAMILY.name}: its networks are trained in one process; set {other}")
    if faults:
        raise InputError("--engine ray trains one network, once", faults)


def train(run: RunFolder, prepared: Prepared, jobs: int | None, listeners: Sequence[Listener] = ()) -> RunResult:
    """Train with `jobs` workers, or continue from a checkpoint; None means one worker for each GPU, or for each CPU.

    Raises Interrupted after Ctrl-C, with the state saved; InputError for more workers than the cluster has room for,
    and for images that are not in memory; WorkError when the cluster cannot be reached or loses workers repeatedly.
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
    # the checkpoint says that training has ended, so this only calibrates and scores the model
    return fit(run, config, dataset.schema, data, dataset=dataset)


@contextmanager
def _shared(run: RunFolder) -> Iterator[Path]:
    """A folder in the run for the data that the workers read; it is removed when they have ended."""
    folder = run.workers
    shutil.rmtree(folder, ignore_errors=True)  # left by a command that was killed
    (folder / _DATA).mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until_it_ends(run: RunFolder, config: RunConfig, jobs: int | None, listeners: Sequence[Listener]) -> None:
    """Start workers, and start new ones from the last checkpoint whenever some are lost."""
    room = _room(config)
    if jobs is not None and jobs > room:
        raise InputError(f"--jobs: expected at most {room}, one for each GPU or CPU of the cluster, found {jobs}")
    losses = 0
    while True:
        room = _room(config)
        allocation = cluster.allocate(cluster.machines(), min(jobs or room, room), config.device)
        group = _WorkerGroup(run, allocation, listeners)
        try:
            group.work()
        except (RayError, ray.train.TrainingFailedError) as error:
            losses = 1 if group.saved else losses + 1
            if losses > _MOST_LOSSES:
                raise WorkError(
                    f"Ray lost workers, or could not start them, {losses} times in a row", [_cause(error)]
                ) from error
        else:
            return


def _room(config: RunConfig) -> int:
    """The number of workers that the cluster has room for now."""
    return cluster.allocate(cluster.machines(), None, config.device).tasks


def _cause(error: Exception) -> str:
    """Why workers were lost: the error of one of them if Ray knows it, else the error of Ray."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return cluster.first_line(next(iter(failures.values()), getattr(error, "controller_failure", error)))


class _WorkerGroup(Listener):
    """One group of workers, from its start until all have ended or one is lost. It listens to their progress."""

    def __init__(self, run: RunFolder, allocation: Allocation, listeners: Sequence[Listener]) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._listeners = [*listeners, self]  # this one is last, so when it has begun, all have
        self._begun = False
        self.saved = False
        """Whether these workers have written a checkpoint."""
        folder = run.path.absolute()
        self._trainer = ray.train.torch.TorchTrainer(
            _work,
            train_loop_config={"folder": folder, "allocation": allocation, "mailbox": self._mailbox},
            scaling_config=ray.train.ScalingConfig(
                num_workers=allocation.tasks,
                use_gpu=bool(allocation.gpus),
                resources_per_worker={"CPU": allocation.cpus, **({"GPU": 1} if allocation.gpus else {})},
            ),
            run_config=ray.train.RunConfig(
                storage_path=str(RunFolder(folder).workers),
                # `_until_it_ends` restarts instead, with as many workers as there is room for then
                failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )

    def on_start(self, plan: TrainingPlan) -> None:
        self._begun = True

    def on_checkpoint(self, path: Path) -> None:
        self.saved = True

    def work(self) -> None:
        """Wait until the workers have ended. Raises their DleError, and an error of Ray when workers are lost."""
        with Interruption() as interruption:
            work = _started(self._trainer.fit)
            try:
                while not work.done():
                    futures.wait([work], timeout=LOOK_SECONDS)
                    self._deliver()
                    if interruption.requested:
                        ray.get(self._mailbox.stop.remote())
                self._deliver()
            finally:
                with suppress(RayError):
                    ray.get(self._mailbox.stop.remote())
                # Ray ends a process that disconnects while one of its threads still works on the cluster
                futures.wait([work], timeout=_END_SECONDS)
                if self._begun:
                    for listener in self._listeners:
                        listener.on_end()
            if interruption.requested:
                raise Interrupted("Interrupted; the run holds the last saved state")
            work.result()

    def _deliver(self) -> None:
        """Pass the new messages to the listeners. Raises the error with which a worker gave up."""
        messages, error = ray.get(self._mailbox.collect.remote())
        for message in messages:
            for listener in self._listeners:
                deliver(message, listener)
        if error is not None:
            raise error


def _started(work: Callable[[], object]) -> "futures.Future[object]":
    """Call `work` in a daemon thread; the main thread stays free to receive Ctrl-C."""
    outcome: futures.Future[object] = futures.Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - the caller gets it from the future
            outcome.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return outcome


def _work(given: dict[str, Any]) -> None:
    """The function that Ray runs in each worker, within a process group: train, and report an error to the command."""
    first = ray.train.get_context().get_world_rank() == 0
    mailbox = given["mailbox"]
    try:
        _train_share(RunFolder(given["folder"]), given["allocation"], first, mailbox)
    except Interrupted as interrupted:
        if first:  # all workers are interrupted after the same step
            ray.get(mailbox.fail.remote(interrupted))
    except DleError as error:
        ray.get(mailbox.fail.remote(error))
        raise  # the other workers may be waiting for this one, and Ray ends them
    except OSError as error:  # a full disk, for instance
        ray.get(mailbox.fail.remote(WorkError(f"{socket.gethostname()}: {error}")))
        raise


def _train_share(run: RunFolder, allocation: Allocation, first: bool, mailbox: Any) -> None:
    torch.set_num_threads(allocation.cpus)
    if not run.workers.is_dir():
        raise InputError(
            f"{run.path} was not found on the machine {socket.gethostname()} of the cluster: expected a file system "
            "that all machines reach by the same path"
        )
    if allocation.gpus:
        torch.cuda.set_device(ray.train.torch.get_device())
    config = run.read_config()
    data = tensors.load(run.workers / _DATA, schemas.load(run.schema))
    stop = StopFlag(mailbox) if first else _never
    with tempfile.TemporaryDirectory(prefix="dle-") as own:
        checkpoints = run.checkpoints if first else Path(own) / run.checkpoints.name
        if not first and run.checkpoints.is_dir():
            shutil.copytree(run.checkpoints, checkpoints)
        distributed.barrier()  # the first worker writes no checkpoint before the others have copied the last one
        listeners = [Poster(mailbox)] if first else []
        fit_network(data.network(config), config, data, checkpoints, listeners, DataParallelReplicas(stop))


def _never() -> bool:
    return False  # the first worker passes the flag on to the others
