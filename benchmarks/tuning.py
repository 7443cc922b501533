"""Compares the wall time of a random search over a small network: `dle-tune` against others, in turns.

    python benchmarks/tuning.py --source adult.parquet --target income
    python benchmarks/tuning.py … --lightning lightning/bin/python --ray ray/bin/python

The search has 32 trials on adult. Each trains two hidden layers of 64 units for five epochs, in batches of 256 rows,
with a validation after every epoch. Learning rate and weight decay vary, and no trial is pruned. The source and its
tensors are ready before the clock starts, and every contender has as many threads as the machine has cores:

- `packed`: `dle-tune` with its defaults. It trains several trials at once, each with its folder, history, checkpoints
  and scores, and its state in the journal. All contenders but the last two run on the CPU.
- `one by one`: the same with `study.packing=never`.
- `bare`: a plain PyTorch loop on the same tensors, with unchanged layers of torch.nn and torch.optim.AdamW. It keeps
  the best weights in memory and writes nothing. `packed` must take at most 0.6 of its time.
- `scikit-learn`: RandomizedSearchCV over MLPClassifier, one process per core. `packed` must be 1.3 times as fast.
- `lightning`, `ray`: with `--lightning PYTHON` and `--ray PYTHON`, Optuna with Lightning and Ray Tune on the same
  arrays (`tuning_rivals.py`), in processes of their own whose start does not count. The goal is 3 times as fast. Make
  the environments with

      python -m venv lightning && lightning/bin/pip install torch lightning optuna
      python -m venv ray && ray/bin/pip install torch 'ray[tune]'

- `GPU, 32` and `GPU, 1`: if there is a GPU, `packed` on the GPU, and a single trial. All 32 trials must take less than
  3 times as long as the single trial.

The table has medians of `--repeats` runs. `overhead` is the time that `one by one` spends on a trial outside its
epochs.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dle_training.data.dataset import Dataset
from dle_training.fitting.tensors import TrainingData
from dle_training.search import leaderboard, study, workers
from dle_training.search.shared_data import PreparedData
from dle_training.search.study import Study, StudyFolder
from dle_training.search.trial import Watcher

TRIALS, EPOCHS, WIDTHS, BATCH = 32, 5, (64, 64), 256
LEARNING_RATES, DECAYS = (3e-4, 1e-2), (1e-6, 1e-2)
DEMANDED, SKLEARN_DEMANDED, GPU_DEMANDED = 0.6, 1.3, 3.0
PACKED, ONE_BY_ONE, BARE, SKLEARN, LIGHTNING, RAY = "packed", "one by one", "bare", "scikit-learn", "lightning", "ray"
GPU_ALL, GPU_ONE = f"GPU, {TRIALS}", "GPU, 1"


def main() -> None:
    """Run all contenders in turn, and print the table."""
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        begun = _study(options, folder / "first")
        with PreparedData(*begun) as prepared:
            data = prepared.of(begun[0].resolved(study.first_point(begun[0])), 0)
            arrays = folder / "arrays.npz"
            _write_arrays(data, arrays)
            contenders: dict[str, Callable[[int], float]] = {
                PACKED: lambda turn: _searched(_study(options, folder / f"packed{turn}", "device=cpu")),
                ONE_BY_ONE: lambda turn: _searched(
                    _study(options, folder / f"single{turn}", "device=cpu", "study.packing=never")
                ),
                BARE: lambda turn: _bare(data),
                SKLEARN: lambda turn: _sklearn(data),
            }
            for name, python in ((LIGHTNING, options.lightning), (RAY, options.ray)):
                if python is not None:
                    contenders[name] = lambda turn, name=name, python=python: _rival(python, name, arrays)  # type: ignore[misc]
            if torch.cuda.is_available():
                for name, trials in ((GPU_ALL, TRIALS), (GPU_ONE, 1)):
                    contenders[name] = lambda turn, trials=trials: _searched(  # type: ignore[misc]
                        _study(options, folder / f"gpu{trials}.{turn}", "device=cuda", f"study.trials={trials}")
                    )
            else:
                print(f"NOT MEASURED: {GPU_ALL} and {GPU_ONE}, for there is no GPU here", file=sys.stderr)
            seconds: dict[str, list[float]] = {name: [] for name in contenders}
            for turn in range(options.repeats):
                for name, run in contenders.items():
                    seconds[name].append(run(turn))
                    print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
        spent = [_overhead(folder / f"single{turn}", took) for turn, took in enumerate(seconds[ONE_BY_ONE])]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("\n".join(_table(medians)))
    print(f"\nOverhead of a trial beside its epochs: {1_000 * statistics.median(spent):.0f} ms")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "overhead": spent}, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lightning", metavar="PYTHON")
    parser.add_argument("--ray", metavar="PYTHON")
    parser.add_argument("--json", type=Path, help="file for every single result")
    return parser.parse_args()


def _study(options: argparse.Namespace, folder: Path, *further: str) -> tuple[Study, Callable[[], Dataset]]:
    """Return a new study whose data has been read. No trial has begun."""
    fixed = [
        f"model.hidden={list(WIDTHS)}", "model.dropout=0", f"training.epochs={EPOCHS}", f"training.batch_size={BATCH}",
        "training.patience=0", "preprocessing.one_hot_limit=100", "preprocessing.piecewise_bins=0",
        f"study.trials={TRIALS}", "study.pruner=none", *further,
    ]  # fmt: skip
    spaces = [
        f"optimizer.lr={{log: {list(LEARNING_RATES)}}}",
        f"optimizer.weight_decay={{log: {list(DECAYS)}}}",
    ]
    asked = study.request({}, fixed, {"data.source": options.source, "data.target": options.target}, spaces)
    planned = study.plan(asked)
    made = study.create(StudyFolder(folder), planned)
    with PreparedData(made, lambda: planned.prepared.dataset) as data:
        data.of(made.resolved(study.first_point(made)), 0)
    return made, lambda: planned.prepared.dataset


def _searched(begun: tuple[Study, Callable[[], Dataset]]) -> float:
    started = time.perf_counter()
    workers.run(begun[0], 1, begun[1], Watcher(), None)
    return time.perf_counter() - started


def _overhead(folder: Path, seconds: float) -> float:
    """Return the seconds per trial outside its epochs, for the study in `folder`, which took `seconds`."""
    rows = leaderboard.make(study.open_study(StudyFolder(folder)), {})
    return (seconds - sum(row.seconds for row in rows)) / len(rows)


def _points() -> list[tuple[float, float]]:
    draw = np.random.default_rng(0)
    ranges = (LEARNING_RATES, DECAYS)
    columns = [np.exp(draw.uniform(math.log(low), math.log(high), TRIALS)).tolist() for low, high in ranges]
    return list(zip(*columns, strict=True))


def _bare(data: TrainingData) -> float:
    """Train as a PyTorch user would for two classes."""
    x, y = data.train.inputs["dense"], data.train.targets.float()
    held_x, held_y = data.validation.inputs["dense"], data.validation.targets.float()
    steps = -(-len(x) // BATCH)
    begun = time.perf_counter()
    for seed, (lr, decay) in enumerate(_points()):
        torch.manual_seed(seed)
        sizes = (x.shape[1], *WIDTHS)
        layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
        network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
        best, kept = math.inf, {}
        for _ in range(EPOCHS):
            order = torch.randperm(len(x))
            shuffled_x, shuffled_y = x[order], y[order]
            for start in range(0, len(x), BATCH):
                rows = slice(start, start + BATCH)
                loss = F.binary_cross_entropy_with_logits(network(shuffled_x[rows])[:, 0], shuffled_y[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            with torch.inference_mode():
                score = F.binary_cross_entropy_with_logits(network(held_x)[:, 0], held_y).item()
            if score < best:
                best, kept = score, {name: tensor.clone() for name, tensor in network.state_dict().items()}
        assert kept
    return time.perf_counter() - begun


def _sklearn(data: TrainingData) -> float:
    import warnings

    from scipy.stats import loguniform
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV
    from sklearn.neural_network import MLPClassifier

    x = np.concatenate([data.train.inputs["dense"].numpy(), data.validation.inputs["dense"].numpy()])
    y = np.concatenate([data.train.targets.numpy(), data.validation.targets.numpy()])
    parts = np.repeat([-1, 0], [len(data.train), len(data.validation)])
    search = RandomizedSearchCV(
        MLPClassifier(WIDTHS, batch_size=BATCH, max_iter=EPOCHS),
        {"learning_rate_init": loguniform(*LEARNING_RATES), "alpha": loguniform(*DECAYS)},
        n_iter=TRIALS, scoring="neg_log_loss", cv=PredefinedSplit(parts), n_jobs=os.cpu_count(), refit=False,
        random_state=0,
    )  # fmt: skip
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(x, y)
    return time.perf_counter() - begun


def _write_arrays(data: TrainingData, path: Path) -> None:
    arrays = {
        f"{name}_{kind}": tensor.numpy()
        for name, part in (("train", data.train), ("validation", data.validation))
        for kind, tensor in (("x", part.inputs["dense"]), ("y", part.targets))
    }
    np.savez(path, allow_pickle=False, **arrays)


def _rival(python: str, name: str, arrays: Path) -> float:
    """Return the seconds of the search that a process of another environment reports."""
    script = Path(__file__).with_name("tuning_rivals.py")
    settings = {"trials": TRIALS, "epochs": EPOCHS, "widths": WIDTHS, "batch": BATCH, "points": _points()}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, script, name, arrays, json.dumps(settings)],
        stdout=subprocess.PIPE, text=True, check=True, env=environment,
    )  # fmt: skip
    return float(done.stdout.strip().splitlines()[-1])


def _table(medians: dict[str, float]) -> list[str]:
    lines = ["| Search | Seconds | Time of `packed` as a share |", "|---|---|---|"]
    for name, seconds in medians.items():
        lines.append(f"| {name} | {seconds:.1f} | {medians[PACKED] / seconds:.2f} |")
    lines.append("")
    lines.append(
        f"Demanded: at most {DEMANDED} of {BARE}, {1 / SKLEARN_DEMANDED:.2f} of {SKLEARN}; goal: a third of rivals."
    )
    if GPU_ALL in medians:
        share = medians[GPU_ALL] / medians[GPU_ONE]
        lines.append(f"{GPU_ALL} takes {share:.2f} times as long as {GPU_ONE}; demanded: less than {GPU_DEMANDED:g}.")
    return lines


if __name__ == "__main__":
    main()
