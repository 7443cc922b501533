"""Rows a second of `dle_training.loop.fit` against bare PyTorch loops, taking turns in one run.

    python benchmarks/train_loop.py                        # made-up data of the shape of adult
    python benchmarks/train_loop.py --source adult.parquet --target income

Three contenders train the same network (256 × 3, dropout 0.1, batches of 256, AdamW, cosine schedule) on the same
tensors in the same order of rows, shuffled once an epoch and sliced:

- `fit`: the project's loop, with its checkpoints, listeners, running loss and finite check.
- `bare`: nothing but what a PyTorch user would write: nn.Dropout, nn.Embedding, torch.optim.AdamW as they come.
- `bare, same parts`: the bare loop around the project's own network and fused optimizer: what `fit` itself costs.

Validation is left out of all three. Each contender runs `--repeats` times; the table has the medians.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dle_training import config as configuration
from dle_training import loop, objectives, optimizers, run
from dle_training.config import RunConfig
from dle_training.models._base import InputShape
from dle_training.models.registry import build
from dle_training.objectives import Objective
from dle_training.parts import Part
from dle_training.preprocessing import pipeline

ROWS = 27_677  # adult's training rows without those for validation
DENSE, CARDINALITIES = 37, (18, 16, 43)  # its numbers and one-hot columns, and its embedded ones
SETTINGS = ["model.hidden=[256, 256, 256]", "training.batch_size=256", "schedule.name=cosine", "device=cpu"]


class Problem:
    """Prepared tensors, and what is needed to make networks for them."""

    def __init__(self, part: Part, objective: Objective, shape: InputShape, config: RunConfig) -> None:
        self.part, self.objective, self.shape, self.config = part, objective, shape, config


def made_up(config: RunConfig) -> Problem:
    """Data of adult's shape: half of the dense columns numbers, half one-hot, three embedded columns."""
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(ROWS, DENSE))
    dense[:, DENSE // 2 :] = dense[:, DENSE // 2 :] > 1
    codes = np.stack([draw.integers(2, size, ROWS) for size in CARDINALITIES], axis=1)
    target = (dense[:, 0] + dense[:, 1] + draw.normal(size=ROWS) > 1).astype(np.int64)
    objective = objectives.fit("binary", target, (0, 1))
    inputs = {"dense": torch.from_numpy(dense.astype(np.float32)), "codes": torch.from_numpy(codes)}
    frequencies = tuple(
        tuple(np.bincount(column, minlength=size).tolist()) for column, size in zip(codes.T, CARDINALITIES, strict=True)
    )
    shape = InputShape(DENSE, CARDINALITIES, frequencies)
    return Problem(Part(inputs, objective.encode(target)), objective, shape, config)


def from_source(config: RunConfig) -> Problem:
    """The training part of a table, prepared as `dle-train` does."""
    dataset = run.prepare(config).dataset
    groups, target = dataset.part("train")
    preprocessing = pipeline.fit(dataset.schema, groups, config.preprocessing)
    outputs = dataset.schema.outputs
    objective = objectives.fit(outputs.task, target, outputs.classes)
    part = Part(preprocessing.prepare(groups), objective.encode(target))
    return Problem(part, objective, preprocessing.shape(frequencies=True), config)


class PlainMlp(nn.Module):
    """The same layers from torch.nn alone."""

    def __init__(self, shape: InputShape, config: RunConfig, outputs: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, config.model.embedding_dim) for size in shape.cardinalities)
        width = shape.dense + len(shape.cardinalities) * config.model.embedding_dim
        layers: list[nn.Module] = []
        for hidden in config.model.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.model.dropout)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        features = [inputs["dense"]] if "dense" in inputs else []
        features += [embed(inputs["codes"][:, index]) for index, embed in enumerate(self.embeddings)]
        output: Tensor = self.layers(torch.cat(features, dim=1))
        return output


def bare(problem: Problem, network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Rows a second of a loop without anything around it."""
    config, part = problem.config, problem.part
    epochs, size = config.training.epochs, loop.batch_size(config, len(part))
    steps = epochs * ((len(part) + size - 1) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shuffle = torch.Generator().manual_seed(config.seed)
    network.train()
    begun = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(part), generator=shuffle)
        inputs = {name: tensor[order] for name, tensor in part.inputs.items()}
        targets = part.targets[order]
        for start in range(0, len(part), size):
            logits = network({name: tensor[start : start + size] for name, tensor in inputs.items()})
            loss = problem.objective.loss(logits, targets[start : start + size])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return epochs * len(part) / (time.perf_counter() - begun)


def run_bare(problem: Problem) -> float:
    """PyTorch as it comes."""
    network = PlainMlp(problem.shape, problem.config, problem.objective.outputs)
    peak = loop.learning_rate(problem.config, 0)
    decay = problem.config.optimizer.weight_decay
    return bare(problem, network, torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=decay))


def run_same_parts(problem: Problem) -> float:
    """The bare loop around the project's network and optimizer."""
    network = build(problem.config.model, problem.shape, problem.objective.outputs)
    return bare(problem, network, optimizers.build(problem.config.optimizer, network.parameters()))


def run_fit(problem: Problem) -> float:
    """The project's loop, as it measures itself: shuffling and steps, without validation."""
    network = build(problem.config.model, problem.shape, problem.objective.outputs)
    few = problem.part.slice(slice(256))
    with tempfile.TemporaryDirectory() as folder:
        fitted = loop.fit(network, problem.objective, problem.part, few, problem.config, checkpoints=Path(folder))
    seconds = sum(len(problem.part) / record.rows_per_second for record in fitted.history)
    return len(fitted.history) * len(problem.part) / seconds


CONTENDERS: dict[str, Callable[[Problem], float]] = {
    "fit": run_fit,
    "bare": run_bare,
    "bare, same parts": run_same_parts,
}


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--source", help="a table to train on, instead of made-up data")
    parser.add_argument("--target", help="its target column")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=3, help="epochs a repeat")
    parser.add_argument("--json", type=Path, help="file for the figures")
    chosen = parser.parse_args()

    flags = {"data.source": chosen.source, "data.target": chosen.target}
    config = configuration.load(None, [*SETTINGS, f"training.epochs={chosen.epochs}", "training.patience=null"], flags)
    problem = from_source(config) if chosen.source else made_up(config)
    measured: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    order = list(CONTENDERS)
    for _ in range(chosen.repeats):
        for name in order:
            measured[name].append(CONTENDERS[name](problem))
        order.append(order.pop(0))  # so that none always follows the same one

    medians = {name: statistics.median(values) for name, values in measured.items()}
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(measured["fit"], values, strict=True))
        for name, values in measured.items()
    }
    print(f"{len(problem.part):,} rows, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':18}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'fit is':>10}")
    for name, values in measured.items():
        print(f"{name:18}{medians[name]:10,.0f}{min(values):10,.0f}{max(values):10,.0f}{ratios[name]:9.2f}×")
    if chosen.json:
        facts = {"rows": len(problem.part), "threads": torch.get_num_threads(), "torch": torch.__version__}
        figures = {**facts, "rows_per_second": medians, "fit_ratio": ratios, "measured": measured}
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
