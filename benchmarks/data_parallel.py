"""Rows a second of two workers that share each batch: DistributedDataParallel against an all-reduce by hand.

    python benchmarks/data_parallel.py
    python benchmarks/data_parallel.py --model cnn --steps 50

The models and data are those of `train_loop.py`. All contenders run the project's `loop.fit`:

- `ddp`: `DataParallelReplicas`, which `dle-train --engine ray` uses.
- `ddp, buffers`: the same, but DistributedDataParallel copies the first worker's buffers before each step.
- `by hand`: one all-reduce after the backward pass, of gradients, running statistics, loss and stop flag.

The two workers stay the same processes, with one thread each. The contenders take short turns in them, so that other
work on the machine slows all of them down alike. The table has the medians, and the median ratio of `ddp` to each
contender in the same turn.
"""

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import train_loop
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dle_training.distributed.data_parallel import DataParallelReplicas
from dle_training.fitting import loop
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.replicas import Replicas
from dle_training.fitting.state import TrainingState
from dle_training.models._base import Network
from dle_training.models.registry import build

WORKERS = 2
DDP = "ddp"


class WithBuffers(DataParallelReplicas):
    """DistributedDataParallel with its own way of keeping buffers equal."""

    def begin(self, state: TrainingState) -> nn.Module:
        ours = super().begin(state)
        assert isinstance(ours, DistributedDataParallel)
        ours.broadcast_buffers = True
        return ours

    def merge_statistics(self, network: Network) -> None:
        pass


class ByHand(Replicas):
    """Sends one message per step, when all gradients are computed. Shares are those of `DataParallelReplicas`."""

    def __init__(self) -> None:
        self._network: Network | None = None
        self._workers = DataParallelReplicas(lambda: False)

    def begin(self, state: TrainingState) -> nn.Module:
        self._network = state.network
        return state.network

    def share(self, batch: slice) -> slice:
        return self._workers.share(batch)

    def backward(self, loss: Tensor, batch: slice) -> Tensor:
        assert self._network is not None
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [weight.grad for weight in self._network.parameters() if weight.grad is not None]
        norms = [norm for norm in self._network.modules() if isinstance(norm, _BatchNorm) and norm.training]
        moved = [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
        averaged = [*gradients, *moved, loss.detach()]
        share = self.share(batch)
        message = torch.cat([each.reshape(-1) for each in averaged] + [loss.new_tensor([1, 0])])
        message *= share.stop - share.start
        distributed.all_reduce(message)
        message /= message[-2].clone()
        parts = torch.split(message[:-2], [each.numel() for each in averaged])
        for each, part in zip(averaged[:-1], parts, strict=False):
            each.copy_(part.view_as(each))
        bool(message[-1])  # the stop flag is read in every step
        return parts[-1].view(())


CONTENDERS: dict[str, Callable[[], Replicas]] = {
    DDP: lambda: DataParallelReplicas(lambda: False),
    "ddp, buffers": lambda: WithBuffers(lambda: False),
    "by hand": ByHand,
}


def main() -> None:
    """Measure and print a table for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", choices=[*train_loop.CASES, "all"], default="all")
    parser.add_argument("--steps", type=int, default=20, help="steps in each turn")
    parser.add_argument("--repeats", type=int, default=60)
    chosen = parser.parse_args()
    for name in train_loop.CASES if chosen.model == "all" else [chosen.model]:
        with tempfile.TemporaryDirectory() as folder:
            arguments = (name, chosen.steps, chosen.repeats, Path(folder))
            spawn(_measure, arguments, nprocs=WORKERS)  # type: ignore[no-untyped-call]
            measured = json.loads((Path(folder) / "measured.json").read_text())
        _print(name, measured)


def _measure(rank: int, name: str, steps: int, repeats: int, folder: Path) -> None:
    """In each worker: all contenders in turn; the first worker writes the rows a second of each repeat."""
    # PyTorch warns once per process about the layout of a convolution with one input channel
    warnings.filterwarnings("ignore", "Grad strides do not match")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORKERS)
    problem = train_loop.make_problem(name, rows=steps * train_loop.CASES[name].batch, epochs=1)
    measured: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    order = list(CONTENDERS)
    for repeat in range(repeats):
        for contender in order:
            distributed.barrier()
            checkpoints = folder / f"{rank}-{repeat}-{contender}"
            measured[contender].append(_rows_per_second(problem, CONTENDERS[contender](), checkpoints))
        order.append(order.pop(0))  # so that no contender always follows the same one
    if rank == 0:
        (folder / "measured.json").write_text(json.dumps(measured))
    distributed.barrier()
    distributed.destroy_process_group()


def _rows_per_second(problem: train_loop.Problem, replicas: Replicas, checkpoints: Path) -> float:
    """Train alone, without validation."""
    torch.manual_seed(problem.config.seed)
    network = build(problem.config.model, problem.shape, problem.objective.outputs)
    few = next(problem.part.batches([slice(256)]))
    inputs = FitInputs(network, problem.objective, problem.part, few, problem.config, checkpoints, replicas=replicas)
    fitted = loop.fit(inputs)
    return fitted.history[0].rows_per_second


def _print(name: str, measured: dict[str, Any]) -> None:
    print(f"\n{name}, {WORKERS} workers, torch {torch.__version__}")
    print(f"{'':14}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'ddp is':>10}")
    for contender, values in measured.items():
        ratio = statistics.median(ddp / other for ddp, other in zip(measured[DDP], values, strict=True))
        print(f"{contender:14}{statistics.median(values):10,.0f}{min(values):10,.0f}{max(values):10,.0f}{ratio:9.2f}×")


if __name__ == "__main__":
    main()
