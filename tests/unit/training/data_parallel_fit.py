"""The small fit as one of several processes, which find each other by a file.

python data_parallel_fit.py FOLDER RANK COUNT STOP ASSIGNMENT...: leaves in FOLDER/RANK the checkpoints, the weights,
and a number drawn after the last step; the last process asks for a stop after STOP steps (0: it does not).
"""

import itertools
import runpy
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed

from dle_bundle.errors import Interrupted
from dle_training.distributed.workers import Workers
from dle_training.fitting import loop
from dle_training.fitting.loop import FitInputs
from dle_training.fitting.replicas import ALONE
from dle_training.models.registry import build

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank, count, stop = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    small_fit = runpy.run_path(str(Path(__file__).with_name("small_fit.py")))
    config = small_fit["configured"]("model.batch_norm=false", *sys.argv[5:])
    objective, train, validation, shape = small_fit["problem"]()
    torch.manual_seed(config.seed)
    network = build(config.model, shape, objective.outputs)
    replicas = ALONE
    if count > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
        steps = itertools.count(1)
        replicas = Workers(lambda: next(steps) == stop and rank == count - 1)
    checkpoints = folder / str(rank)
    try:
        loop.fit(FitInputs(network, objective, train, validation, config, checkpoints, replicas=replicas))
    except Interrupted as interrupted:
        print(interrupted)  # noqa: T201
    save_file({**network.state_dict(), "drawn": torch.rand(3)}, checkpoints / "left.safetensors")
    if count > 1:
        distributed.destroy_process_group()
