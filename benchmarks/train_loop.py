"""Compares the rows per second of `fitting.loop.fit` with bare PyTorch loops, and for images with Keras.

    python benchmarks/train_loop.py                              # all models, on made-up data
    python benchmarks/train_loop.py --model cnn --keras keras/bin/python
    python benchmarks/train_loop.py --model mlp --source adult.parquet --target income

Four models of the project's default sizes and dropout, AdamW at its own learning rate and a cosine schedule, without
augmentation:

- `mlp`: 256 × 3, batches of 256 rows of adult's shape, or of a table's.
- `cnn`: three stages from 16 channels on, batches of 128 grey images of 28 × 28.
- `rnn`: a GRU in both directions with attention pooling, batches of 64 rows of 4 to 128 tokens, 42 on average.
- `transformer`: two layers of width 128, batches of 64 such rows.

The contenders train the same layers on the same tensors:

- `fit`: the project's loop, with its checkpoints, listeners, running loss and finite check.
- `bare`: what a PyTorch user would write: unchanged layers of torch.nn and torch.optim.AdamW, images
  contiguous in memory, nn.GRU over packed sequences, nn.TransformerEncoder with norm_first and a padding mask.
- `bare, same parts`: the bare loop with the project's own network and fused optimizer. It shows what `fit` itself
  costs. The arithmetic is the same, so `fit` must reach 0.9 of it.
- `keras`: with `--keras PYTHON`, the same layers in Keras on TensorFlow (`keras_cnn.py`), in a process of its own with
  as many threads. The epoch in which it compiles is not counted. The goal is 1.2 of it. Make PYTHON with

      python -m venv keras && keras/bin/pip install tensorflow-cpu

All PyTorch loops order the rows in the same way (`PreparedRows.draw_order`): they shuffle once per epoch, put rows of
similar length together, and cut each batch to its longest row. Keras shuffles by itself. There is no validation.
The contenders take turns. Each runs `--repeats` times, and the tables have the medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dle_bundle.groups import PADDING
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.fitting import batches, loop
from dle_training.fitting.batches import PreparedRows
from dle_training.fitting.loop import FitInputs
from dle_training.models import mlp
from dle_training.models.families import FAMILIES
from dle_training.models.registry import build, section
from dle_training.optimization import objectives, optimizers
from dle_training.optimization.objectives import Objective
from dle_training.preprocessing import pipeline
from dle_training.preprocessing.shape import Images, Inputs, InputShape, Tokens
from dle_training.runs import prepare
from dle_training.settings.base import chosen

DEMANDED, KERAS_GOAL = 0.9, 1.2
FIT, BARE, SAME_PARTS, KERAS = "fit", "bare", "bare, same parts", "keras"
DENSE, CARDINALITIES = 37, (18, 16, 43)  # adult's numbers and one-hot columns, and its embedded ones
IMAGE_CLASSES = 10
VOCABULARY, SHORTEST, LONGEST = 5_000, 4, 128


@dataclass(frozen=True, slots=True)
class Problem:
    """Prepared tensors, and what is needed to make networks for them. `plain` makes a network of torch.nn alone."""

    part: PreparedRows
    objective: Objective
    shape: InputShape
    config: RunConfig
    plain: Callable[["Problem"], nn.Module]

    @property
    def dropout(self) -> float:
        """The dropout, which is the model's default. `main` has written it into the configuration."""
        assert isinstance(self.config.model.dropout, float)
        return self.config.model.dropout


@dataclass(frozen=True, slots=True)
class Case:
    """A model to measure, on made-up data of `rows` rows in batches of `batch`."""

    rows: int
    batch: int
    make: Callable[[RunConfig, int], Problem]


def table(config: RunConfig, rows: int) -> Problem:
    """Data of adult's shape: half of the dense columns numbers, half one-hot, three embedded columns."""
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(rows, DENSE))
    dense[:, DENSE // 2 :] = dense[:, DENSE // 2 :] > 1
    codes = np.stack([draw.integers(2, size, rows) for size in CARDINALITIES], axis=1)
    target = (dense[:, 0] + dense[:, 1] + draw.normal(size=rows) > 1).astype(np.int64)
    objective = objectives.fit("binary", target, (0, 1))
    inputs = {"dense": torch.from_numpy(dense.astype(np.float32)), "codes": torch.from_numpy(codes)}
    frequencies = tuple(
        tuple(np.bincount(column, minlength=size).tolist()) for column, size in zip(codes.T, CARDINALITIES, strict=True)
    )
    shape = InputShape(DENSE, CARDINALITIES, frequencies)
    return Problem(PreparedRows(inputs, objective.encode(target)), objective, shape, config, PlainMlp)


def from_source(config: RunConfig) -> Problem:
    """The training part of a table, prepared as `dle-train` does."""
    dataset = prepare.prepare(config).dataset
    groups, target = dataset.part("train")
    preprocessing, _ = pipeline.fit(dataset.schema, groups, config.preprocessing)
    outputs = dataset.schema.outputs
    objective = objectives.fit(outputs.task, target, outputs.classes)
    part = PreparedRows(preprocessing.prepare(groups), objective.encode(target))
    return Problem(part, objective, preprocessing.shape(frequencies=True), config, PlainMlp)


def images(config: RunConfig, rows: int) -> Problem:
    """Grey noise, uint8 of 28 × 28, brighter for some of ten classes."""
    draw = np.random.default_rng(0)
    target = draw.integers(0, IMAGE_CLASSES, rows)
    pixels = (draw.integers(0, 128, (rows, 1, 28, 28)) + 10 * target.reshape(-1, 1, 1, 1)).astype(np.uint8)
    objective = objectives.fit("multiclass", target, tuple(range(IMAGE_CLASSES)))
    scaled = pixels / 255
    shape = InputShape(image=Images(1, 1, 28, 28, (float(scaled.mean()),), (float(scaled.std()),)))
    inputs = {"image": torch.from_numpy(pixels)}
    return Problem(PreparedRows(inputs, objective.encode(target)), objective, shape, config, PlainCnn)


def text(config: RunConfig, rows: int, plain: Callable[[Problem], nn.Module]) -> Problem:
    """Rows of 4 to 128 tokens, rare ones as rare as in text; two classes."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.gamma(2, 21, rows), SHORTEST, LONGEST).astype(np.int64)
    tokens = np.minimum(draw.zipf(1.2, (rows, LONGEST)) + 2, VOCABULARY - 1)  # 0 to 2 have meanings of their own
    tokens[np.arange(LONGEST) >= lengths.reshape(-1, 1)] = PADDING
    target = (lengths + draw.normal(0, 20, rows) > np.median(lengths)).astype(np.int64)
    objective = objectives.fit("binary", target, (0, 1))
    inputs = {"tokens": torch.from_numpy(tokens)}
    part = PreparedRows(inputs, objective.encode(target), spans=batches.spans(inputs))
    return Problem(part, objective, InputShape(tokens=Tokens(VOCABULARY, LONGEST)), config, plain)


class PlainMlp(nn.Module):
    """The layers of `mlp` from torch.nn alone."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        shape, model = problem.shape, problem.config.model
        self.embeddings = nn.ModuleList(nn.Embedding(size, model.embedding_dim) for size in shape.cardinalities)
        width = shape.dense + len(shape.cardinalities) * model.embedding_dim
        layers: list[nn.Module] = []
        for hidden in model.hidden or ():
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(problem.dropout)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, problem.objective.outputs))

    def forward(self, inputs: Inputs) -> Tensor:
        features = [inputs["dense"]] if "dense" in inputs else []
        features += [embed(inputs["codes"][:, index]) for index, embed in enumerate(self.embeddings)]
        output: Tensor = self.layers(torch.cat(features, dim=1))
        return output


class PlainBlock(nn.Module):
    """A residual block, contiguous in memory."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.inner(maps))


class PlainCnn(nn.Module):
    """The layers of `cnn` from torch.nn alone."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        cnn, image = section(problem.config.model, FAMILIES["cnn"]), problem.shape.image
        assert image is not None
        self.mean, self.std = image.mean[0], image.std[0]
        inputs, outputs = 1, cnn.width
        layers: list[nn.Module] = []
        for blocks in cnn.blocks:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(), *(PlainBlock(outputs) for _ in range(blocks))]
            inputs, outputs = outputs, 2 * outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(problem.dropout))
        self.head = nn.Linear(inputs, problem.objective.outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        pixels = (inputs["image"].float() / 255 - self.mean) / self.std
        output: Tensor = self.head(self.layers(pixels))
        return output


class PlainRnn(nn.Module):
    """The layers of `rnn` from torch.nn alone; packed, so that the second direction starts at each row's own end."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        rnn = section(problem.config.model, FAMILIES["rnn"])
        self.embed = nn.Embedding(VOCABULARY, rnn.width, padding_idx=PADDING)
        self.dropout = nn.Dropout(problem.dropout)
        self.gru = nn.GRU(rnn.width, rnn.width, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * rnn.width, 1)
        self.head = nn.Linear(2 * rnn.width, problem.objective.outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        real = inputs["tokens"] != PADDING
        vectors = self.dropout(self.embed(inputs["tokens"]))
        packed = pack_padded_sequence(vectors, real.sum(dim=1), batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)  # (N, T, 2 · width)
        weights = self.score(outputs).masked_fill(~real.unsqueeze(2), -1e9).softmax(dim=1)
        output: Tensor = self.head(self.dropout((outputs * weights).sum(dim=1)))
        return output


class PlainTransformer(nn.Module):
    """The layers of `transformer` from torch.nn alone; no dropout of attention weights, which the project has not."""

    positions: Tensor

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        transformer = section(problem.config.model, FAMILIES["transformer"])
        width, heads = transformer.width, transformer.heads
        self.embed = nn.Embedding(VOCABULARY, width, padding_idx=PADDING)
        waves = torch.arange(LONGEST).unsqueeze(1) / 10_000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.cat([waves.sin(), waves.cos()], dim=1))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, problem.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        layer.self_attn.dropout = 0.0
        self.encoder = nn.TransformerEncoder(
            layer, transformer.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(problem.dropout)
        self.head = nn.Linear(width, problem.objective.outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        padding = inputs["tokens"] == PADDING
        vectors = self.dropout(self.embed(inputs["tokens"]) + self.positions[: padding.shape[1]])
        vectors = self.encoder(vectors, src_key_padding_mask=padding)
        real = (~padding).unsqueeze(2).float()
        output: Tensor = self.head(self.dropout((vectors * real).sum(dim=1) / real.sum(dim=1)))
        return output


CASES = {
    "mlp": Case(27_677, 256, table),  # adult's training rows without those for validation
    "cnn": Case(4_000, 128, images),
    "rnn": Case(4_000, 64, lambda config, rows: text(config, rows, PlainRnn)),
    "transformer": Case(2_000, 64, lambda config, rows: text(config, rows, PlainTransformer)),
}


def bare(problem: Problem, network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Return the rows per second of a bare loop."""
    config, part = problem.config, problem.part
    epochs, size = config.training.epochs, config.training.batch_size
    assert epochs is not None
    assert size is not None
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(part) // size))
    shuffle = torch.Generator().manual_seed(config.seed)
    network.train()
    begun = time.perf_counter()
    for _ in range(epochs):
        order = part.draw_order(shuffle, size)
        inputs = {name: tensor[order] for name, tensor in part.inputs.items()}
        targets = part.targets[order]
        lengths = None if part.spans is None else part.spans[order]
        for start in range(0, len(part), size):
            batch = {name: tensor[start : start + size] for name, tensor in inputs.items()}
            if lengths is not None:
                batch["tokens"] = batch["tokens"][:, : int(lengths[start : start + size].max())]
            loss = problem.objective.loss(network(batch), targets[start : start + size])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return epochs * len(part) / (time.perf_counter() - begun)


def run_bare(problem: Problem) -> float:
    """Measure the layers and the optimizer of PyTorch alone."""
    network = problem.plain(problem)
    peak = loop.learning_rate(problem.config, 0)
    decay = chosen(problem.config.optimizer.weight_decay)
    return bare(problem, network, torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=decay))


def run_same_parts(problem: Problem) -> float:
    """Measure the bare loop with the project's network and optimizer."""
    network = build(problem.config.model, problem.shape, problem.objective.outputs)
    return bare(problem, network, optimizers.build(problem.config.optimizer, network))


def run_fit(problem: Problem) -> float:
    """Return the rows per second that the project's loop reports: shuffling and steps, without validation."""
    network = build(problem.config.model, problem.shape, problem.objective.outputs)
    few = next(problem.part.batches([slice(256)]))
    with tempfile.TemporaryDirectory() as folder:
        fitted = loop.fit(FitInputs(network, problem.objective, problem.part, few, problem.config, Path(folder)))
    seconds = sum(len(problem.part) / record.rows_per_second for record in fitted.history)
    return len(fitted.history) * len(problem.part) / seconds


def run_keras(problem: Problem, python: Path) -> float:
    """Measure Keras in a process of that interpreter. Its network must have the same number of trained weights."""
    config, image = problem.config, problem.shape.image
    assert image is not None
    cnn = section(config.model, FAMILIES["cnn"])
    settings = {
        "width": cnn.width,
        "blocks": cnn.blocks,
        "dropout": problem.dropout,
        "classes": problem.objective.outputs,
        "mean": image.mean[0],
        "std": image.std[0],
        "lr": loop.learning_rate(config, 0),
        "weight_decay": config.optimizer.weight_decay,
        "batch": config.training.batch_size,
        "epochs": config.training.epochs,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        pixels = problem.part.inputs["image"].permute(0, 2, 3, 1)  # (N, 28, 28, 1), as Keras has them
        np.savez(data, X=np.ascontiguousarray(pixels.numpy()), y=problem.part.targets.numpy())
        worker = Path(__file__).with_name("keras_cnn.py")
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        command = [str(python), str(worker), str(data), json.dumps(settings)]
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:2])} failed:\n{done.stderr}")
    said = json.loads(done.stdout.splitlines()[-1])
    network = build(config.model, problem.shape, problem.objective.outputs)
    assert said["parameters"] == sum(weight.numel() for weight in network.parameters()), said
    return float(said["rows_per_second"])


def compare(contenders: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Return the rows per second of each contender in each repeat."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(repeats):
        for name in order:
            measured[name].append(contenders[name]())
        order.append(order.pop(0))  # so that no contender always follows the same one
    return measured


def main() -> None:
    """Measure, print tables, and write JSON if asked. The exit code is 1 if a demand is not met."""
    chosen = _options()
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(f"{facts['threads']} threads, torch {facts['torch']}")
    figures, enough = {}, True
    for name in CASES if chosen.model == "all" else [chosen.model]:
        problem = make_problem(name, rows=chosen.rows, epochs=chosen.epochs, source=chosen.source, target=chosen.target)
        contenders: dict[str, Callable[[], float]] = {
            FIT: partial(run_fit, problem),
            BARE: partial(run_bare, problem),
            SAME_PARTS: partial(run_same_parts, problem),
        }
        if chosen.keras and name == "cnn":
            contenders[KERAS] = partial(run_keras, problem, chosen.keras)
        measured = compare(contenders, chosen.repeats)
        ratios = {
            contender: statistics.median(ours / theirs for ours, theirs in zip(measured[FIT], values, strict=True))
            for contender, values in measured.items()
        }
        medians = {contender: statistics.median(values) for contender, values in measured.items()}
        figures[name] = {
            "rows": len(problem.part),
            "rows_per_second": medians,
            "fit_ratio": ratios,
            "measured": measured,
        }
        enough &= ratios[SAME_PARTS] >= DEMANDED
        print(f"\n{name}: {len(problem.part):,} rows, {problem.config.training.epochs} epochs a repeat")
        print(f"{'':18}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'fit is':>10}")
        wanted = {SAME_PARTS: f"  (demanded: {DEMANDED})", KERAS: f"  (goal: {KERAS_GOAL})"}
        for contender, values in measured.items():
            print(
                f"{contender:18}{medians[contender]:10,.0f}{min(values):10,.0f}{max(values):10,.0f}"
                f"{ratios[contender]:9.2f}×{wanted.get(contender, '')}"
            )
    if chosen.json:
        chosen.json.write_text(json.dumps({**facts, "models": figures}, indent=2) + "\n")
    sys.exit(0 if enough else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", choices=[*CASES, "all"], default="all")
    parser.add_argument("--keras", type=Path, metavar="PYTHON", help="an interpreter that has tensorflow-cpu")
    parser.add_argument("--source", help="a table to train mlp on, instead of made-up data")
    parser.add_argument("--target", help="its target column")
    parser.add_argument("--rows", type=int, help="of made-up data, instead of what gives a repeat a few seconds")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=3, help="epochs a repeat")
    parser.add_argument("--json", type=Path, help="file for the figures")
    chosen = parser.parse_args()
    if chosen.source and chosen.model != "mlp":
        parser.error("--source is for --model mlp")
    if chosen.keras and chosen.model not in ("cnn", "all"):
        parser.error("--keras is for --model cnn")
    return chosen


def make_problem(
    name: str, *, rows: int | None, epochs: int, source: str | None = None, target: str | None = None
) -> Problem:
    """The made-up data of a case, or the table `source`, and the configuration that trains it."""
    case = CASES[name]
    settings = [
        f"model.name={name}",
        f"training.batch_size={case.batch}",
        f"training.epochs={epochs}",
        f"model.hidden={list(mlp.ALONE)}",
        f"model.dropout={FAMILIES[name].dropout}",
        f"optimizer.lr={FAMILIES[name].recipe.lr}",
        "training.metric=log_loss",
        "training.patience=0",
        "schedule.name=cosine",
        "device=cpu",
    ]
    config = run_config.load(None, settings, {"data.source": source, "data.target": target})
    return from_source(config) if source else case.make(config, rows or case.rows)


if __name__ == "__main__":
    main()
