"""k-fold cross-validation: a network for each fold, trained as any run is, and what all of them come to.

Each fold keeps its weights, history and scores in `folds/<number>/`; `out_of_fold.parquet` beside them has the answer
for each row by the network that did not train on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dle_bundle.files import atomic_path
from dle_bundle.schema import Schema
from dle_training import run as runs
from dle_training import training_data
from dle_training.config import RunConfig
from dle_training.data import folds
from dle_training.data.split import Split
from dle_training.data.target import Values
from dle_training.listeners import Listener
from dle_training.run import Finished, Prepared, RunFolder
from dle_training.training_data import TrainingData

FOLDS, OUT_OF_FOLD = "folds", "out_of_fold.parquet"


class CrossValidation(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of each fold on its validation rows, by name, their mean and their standard deviation (n − 1).

    Null where a score has no meaning in every fold.
    """

    folds: int
    mean: dict[str, float | None]
    sd: dict[str, float | None]
    scores: tuple[dict[str, float | None], ...]


def validate(run: RunFolder, prepared: Prepared, listeners: Callable[[str], Sequence[Listener]]) -> CrossValidation:
    """Cross-validate the settings of `run` beside its own training, or continue where that stopped.

    `listeners(what)` are told of the training called `what`. Adds `cross_validation` to metrics.json.
    """
    config, dataset = prepared.config, prepared.dataset
    assert config.split.folds is not None
    splits = folds.make(dataset, config.split.folds, config.seed)
    with runs.streamed(dataset) as stream:
        finished = train(
            run.path,
            config,
            dataset.schema,
            lambda fold: training_data.make(dataset.with_split(splits[fold]), config, stream),
            len(splits),
            lambda fold: listeners(f"fold {fold + 1} of {len(splits)}"),
        )
    write_out_of_fold(run.path, dataset.schema, splits, finished, dataset.target)
    summary = summarise(finished)
    runs.write_metrics(run, cross_validation=summary)
    return summary


def train(
    folder: Path,
    config: RunConfig,
    schema: Schema,
    data: Callable[[int], TrainingData],
    count: int,
    listeners: Callable[[int], Sequence[Listener]],
) -> list[Finished]:
    """Train the networks of all folds, or continue where they stopped: `data(k)` and `listeners(k)` are of fold k.

    Raises what `run.fit` does.
    """
    finished = []
    for fold in range(count):
        run = RunFolder(folder / FOLDS / str(fold + 1))
        run.path.mkdir(parents=True, exist_ok=True)
        own = data(fold)
        own.write_fitted(run.path)
        finished.append(runs.fit(run, config, schema, own, listeners(fold)))
    return finished


def summarise(finished: Sequence[Finished]) -> CrossValidation:
    """Mean and spread of every metric."""
    scores = tuple(fold.validation for fold in finished)
    columns = {name: [fold[name] for fold in scores] for name in scores[0]}
    return CrossValidation(
        folds=len(finished),
        mean={name: _over(values, lambda array: array.mean()) for name, values in columns.items()},
        sd={name: _over(values, lambda array: array.std(ddof=1)) for name, values in columns.items()},
        scores=scores,
    )


def write_out_of_fold(
    folder: Path, schema: Schema, splits: Sequence[Split], finished: Sequence[Finished], target: Values
) -> None:
    """Write `out_of_fold.parquet`: `row` (from 1), `fold`, `actual`, and the answer as `dle-predict` has it.

    `target` (N,) or (N, horizon) is that of all rows of the source.
    """
    rows = np.concatenate([split.validation for split in splits])
    numbers = np.repeat(np.arange(1, len(splits) + 1), [len(split.validation) for split in splits])
    predicted = np.concatenate([fold.predicted for fold in finished])
    columns: dict[str, pa.Array] = {"row": pa.array(rows + 1), "fold": pa.array(numbers)}
    outputs = schema.outputs
    if outputs.classes is None:
        names = _steps("value", outputs.horizon)
        actual = target[rows].reshape(len(rows), outputs.horizon)
        columns |= {name: pa.array(actual[:, step]) for step, name in enumerate(_steps("actual", outputs.horizon))}
        answers = predicted.reshape(len(rows), outputs.horizon)
        columns |= {name: pa.array(answers[:, step]) for step, name in enumerate(names)}
    else:
        best = predicted.argmax(axis=1)
        columns["actual"] = pa.array(target[rows].tolist())
        columns["label"] = pa.array([outputs.classes[index] for index in best])
        columns["probability"] = pa.array(predicted[np.arange(len(rows)), best])
        columns |= {f"probability_{name}": pa.array(predicted[:, k]) for k, name in enumerate(outputs.class_names)}
    table = pa.table(columns).take(pa.array(np.argsort(rows, kind="stable")))
    with atomic_path(folder / OUT_OF_FOLD) as temporary:
        pq.write_table(table, temporary)


def _over(values: Sequence[float | None], summary: Callable[[npt.NDArray[np.float64]], Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(summary(np.array(known))) if len(known) == len(values) else None


def _steps(name: str, horizon: int) -> list[str]:
    return [name] if horizon == 1 else [f"{name}_{step}" for step in range(1, horizon + 1)]
