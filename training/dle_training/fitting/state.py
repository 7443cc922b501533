"""The training state: everything that a training needs to continue as if it had never stopped."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor, optim

from dle_bundle.errors import InputError
from dle_training.fitting import checkpoint
from dle_training.fitting.averaging import WeightAverage
from dle_training.fitting.listeners import EpochRecord
from dle_training.models._base import Network


class LoopProgress(msgspec.Struct, kw_only=True):
    """How far the loop has come: the readable half of a checkpoint.

    `epoch` counts finished epochs, `step` the steps done in the current epoch, and `seconds` the time spent on them.
    `data` is a digest of the targets in order; it detects that the data has changed. `out_of_time` says that training
    ended because its time was up.
    """

    data: str
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_score: float | None = None
    history: list[EpochRecord] = msgspec.field(default_factory=list)
    finished: bool = False
    out_of_time: bool = False


class TrainingState:
    """Weights and their average, optimizer, random generators, the running loss, the best weights, and the progress.

    `average` is None if the training has none; otherwise the best weights are those of the average.

    `shuffle` draws only the order of the rows. `epoch_start` is its state before the current epoch's order, so that the
    order can be drawn again instead of stored. `generators`, by device type, draw all other random numbers, such as
    those of dropout. `extra` has what a training keeps beside its weights, such as the answers of an ensemble.

    Threads:
        A state belongs to the thread that trains.

    Ownership:
        The state does not copy the network and the optimizer: it seeds the generators, and `restore` writes into all of
        them. `best_weights` is a copy. Saving draws no random numbers and changes nothing, so when and how often you
        save does not affect the training.

    Failures:
        `save` replaces the file atomically: after a crash the file holds the old or the new state. `restore` and
        `restore_best` raise InputError if the file is missing or belongs to another model or other data.
    """

    def __init__(
        self,
        network: Network,
        optimizer: optim.Optimizer,
        generators: Mapping[str, torch.Generator],
        seed: int,
        data: str,
        average: WeightAverage | None = None,
    ) -> None:
        self.network = network
        self.average = average
        self.optimizer = optimizer
        self.generators = generators
        self.device = next(network.parameters()).device
        for generator in generators.values():
            generator.manual_seed(seed)
        self.shuffle = torch.Generator().manual_seed(seed)
        self.epoch_start = self.shuffle.get_state()
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.best_weights = self._weights()
        self.extra: dict[str, Tensor] = {}
        self.progress = LoopProgress(data=data)

    @property
    def evaluated(self) -> Network:
        """The network that is validated: the average if there is one."""
        return self.network if self.average is None else self.average.network

    def draw_order(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """The order of the rows in the current epoch, also the same if training was resumed within the epoch."""
        self.shuffle.set_state(self.epoch_start)
        return draw(self.shuffle)

    def next_epoch(self, record: EpochRecord, improved: bool, best: dict[str, Tensor] | None = None) -> None:
        """Close the epoch with its record. If it improved, `best`, or else the evaluated weights, become the best."""
        progress = self.progress
        progress.history.append(record)
        progress.epoch, progress.step, progress.seconds = record.epoch, 0, 0.0
        if improved:
            progress.best_epoch, progress.best_score = record.epoch, record.metric
            self.best_weights = self._weights() if best is None else best
        self.loss_sum.zero_()
        self.epoch_start = self.shuffle.get_state()

    def save(self, path: Path) -> None:
        """Write the state to `path` atomically."""
        tensors = {
            "generator.shuffle": self.epoch_start,
            **{f"generator.{device}": generator.get_state() for device, generator in self.generators.items()},
            "loss_sum": self.loss_sum,
            **_prefixed("network", self.network),
            **({} if self.average is None else _prefixed("average", self.average.network)),
            **{f"best.{name}": tensor for name, tensor in self.best_weights.items()},
            **{f"extra.{name}": tensor for name, tensor in self.extra.items()},
            **{
                f"optimizer.{index}.{name}": value
                for index, values in self.optimizer.state_dict()["state"].items()
                for name, value in values.items()
                if isinstance(value, Tensor)
            },
        }
        checkpoint.write(path, tensors, self.progress)

    def restore(self, path: Path) -> None:
        """Load what `save` wrote. Raises InputError if it belongs to another model or other data."""
        tensors, progress = self._read(path)
        parts: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("network", "average", "best", "extra", "optimizer", "generator")
        }
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        checkpoint.load(self.network, parts["network"], path)
        if self.average is not None:
            checkpoint.load(self.average.network, parts["average"], path)
        own = self.network.state_dict()
        self.best_weights = {name: tensor.to(own[name].device) for name, tensor in parts["best"].items()}
        self.extra = {name: tensor.to(self.device) for name, tensor in parts["extra"].items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, _, rest = name.partition(".")
            state.setdefault(int(index), {})[rest] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.loss_sum.copy_(tensors["loss_sum"])
        self.epoch_start = parts["generator"]["shuffle"]
        for device, generator in self.generators.items():
            if device in parts["generator"]:  # a training may continue on another type of device
                generator.set_state(parts["generator"][device])
        self.progress = progress

    def save_best(self, path: Path) -> None:
        """Write the best weights and the progress, which are all that a finished training keeps."""
        checkpoint.write(path, self.best_weights, self.progress)

    def restore_best(self, path: Path) -> None:
        """Load what `save_best` wrote: a finished training. Raises InputError as `restore` does."""
        tensors, progress = self._read(path)
        checkpoint.load(self.evaluated, tensors, path)
        self.best_weights, self.progress = self._weights(), progress

    def _read(self, path: Path) -> tuple[dict[str, Tensor], LoopProgress]:
        tensors, progress = checkpoint.read(path, LoopProgress)
        if progress.data != self.progress.data:
            raise InputError(f"{path} was trained on other data: the targets differ; train into a new directory")
        return tensors, progress

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.evaluated.state_dict().items()}


def _prefixed(part: str, network: Network) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for name, tensor in network.state_dict().items()}


def global_generators(device: torch.device) -> dict[str, torch.Generator]:
    """PyTorch's default generators for a training on `device`, by device type."""
    generators = {"cpu": torch.default_generator}
    if device.type == "cuda":
        generators["cuda"] = torch.cuda.default_generators[torch.cuda.current_device()]
    return generators


def own_generators(device: torch.device) -> dict[str, torch.Generator]:
    """New generators for a training on `device`; on a CPU, equal seeds give the numbers of the global generator."""
    return {kind: torch.Generator(kind) for kind in dict.fromkeys(("cpu", device.type))}


def digest(*targets: Tensor) -> str:
    """A short digest of target tensors, in order."""
    together = hashlib.blake2b(digest_size=16)
    for tensor in targets:
        together.update(tensor.cpu().numpy().tobytes())
    return together.hexdigest()
