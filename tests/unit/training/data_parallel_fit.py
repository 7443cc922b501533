"""The small fit as one of several processes, which find each other through a file.

python data_parallel_fit.py FOLDER RANK COUNT STOP ASSIGNMENT...: writes to FOLDER/RANK the checkpoints, the weights,
and numbers drawn after the last step. The last process stops all after STOP steps (0: it does
not); a single process stops by the signal of Ctrl-C.
"""

import itertools
import runpy
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed

from dle_bundle.errors import Interrupted
from dle_training.distributed.data_parallel import DataParallelReplicas
from dle_training.fitting import loop
from dle_training.fitting.listeners import Listener
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.replicas import ALONE, Replicas
from dle_training.models.registry import build


class Stop(Listener):
    """Ctrl-C after so many steps."""

    def __init__(self, after: int) -> None:
        self._left = after

    def on_step(self, epoch: int, step: int) -> None:
        self._left -= 1
        if self._left == 0:
            signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank, count, stop = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    small_fit = runpy.run_path(str(Path(__file__).with_name("small_fit.py")))
    config = small_fit["configured"]("model.batch_norm=false", *sys.argv[5:])
    objective, train, validation, shape = small_fit["problem"]()
    torch.manual_seed(config.seed)
    network = build(config.model, shape, objective.outputs)
    replicas: Replicas = ALONE
    listeners: list[Listener] = [Stop(stop)] if count == 1 else []
    if count > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
        steps = itertools.count(1)
        replicas = DataParallelReplicas(lambda: next(steps) == stop and rank == count - 1)
    checkpoints = folder / str(rank)
    try:
        loop.fit(FitInputs(network, objective, train, validation, config, checkpoints, listeners, replicas=replicas))
    except Interrupted as interrupted:
        print(interrupted)  # noqa: T201
    save_file({**network.state_dict(), "drawn": torch.rand(3)}, checkpoints / "left.safetensors")
    if count > 1:
        distributed.destroy_process_group()
