"""k-fold cross-validation: trains one network per fold, and computes the mean and spread of their scores.

Each fold keeps its weights, history and scores in `folds/<number>/`. `out_of_fold.parquet` holds one answer for each
validated row, from the network that was not trained on that row.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dle_bundle.schema import Schema
from dle_training import packed
from dle_training.config.run_config import RunConfig
from dle_training.data import folds
from dle_training.data.dataset import Dataset
from dle_training.data.splits.split import Split
from dle_training.fitting import tensors
from dle_training.fitting.listeners import HistoryFile, Listeners
from dle_training.fitting.tensors import TrainingData
from dle_training.packed import Member, MemberFailure
from dle_training.runs import answers, prepare
from dle_training.runs import folder as run_folder
from dle_training.runs.folder import RunFolder
from dle_training.runs.prepare import Prepared
from dle_training.runs.train import RunResult, finish, fit
from dle_training.scoring.cross_validation import CrossValidation
from dle_training.scoring.metrics import Actual

FOLDS, OUT_OF_FOLD = "folds", "out_of_fold.parquet"
_MOST_PACKED = 2**30
"""The folds are trained together only if the training rows of all folds take at most this many bytes."""


def validate(run: RunFolder, prepared: Prepared, listeners: Listeners) -> CrossValidation:
    """Cross-validate the settings of `run`, or continue an interrupted cross-validation. The model does not change.

    `listeners(name)` returns the listeners of the training called `name`. Adds `cross_validation` to metrics.json.
    """
    config, dataset = prepared.config, prepared.dataset
    splits = make_folds(prepared)
    with prepare.streamed(dataset, config.device) as stream:
        finished = train(
            run.path,
            config,
            dataset.schema,
            lambda fold: tensors.make(dataset.with_split(splits[fold]), config, stream),
            len(splits),
            listeners,
        )
    write_out_of_fold(run.path, dataset.schema, splits, finished, actual(dataset))
    summary = summarise(finished)
    run_folder.write_metrics(run, cross_validation=summary)
    return summary


def make_folds(prepared: Prepared) -> tuple[Split, ...]:
    """Return the folds that `split.folds` asks for, or none if it is null. Raises InputError as `folds.make` does."""
    count = prepared.config.split.folds
    return () if count is None else folds.make(prepared.dataset, count, prepared.config.seed)


def train(
    folder: Path,
    config: RunConfig,
    schema: Schema,
    data: Callable[[int], TrainingData],
    count: int,
    listeners: Listeners,
) -> list[RunResult]:
    """Train the networks of all folds, or continue where they stopped. They train together if that is faster.

    `data(k)` returns the data of fold k, from 0. `listeners(name)` returns the listeners of the training called `name`.
    Raises the errors of `loop.fit`.
    """
    config = msgspec.structs.replace(config, training=msgspec.structs.replace(config.training, refit=False))
    places = [RunFolder(folder / FOLDS / str(fold + 1)) for fold in range(count)]
    names = [f"fold {fold + 1} of {count}" for fold in range(count)]
    first: TrainingData | None = data(0)
    assert first is not None
    if packed.signature(config, first) is not None and first.train.nbytes * count <= _MOST_PACKED:
        all_data = [first, *map(data, range(1, count))]
        members = [
            Member(config, own, run.checkpoints, [HistoryFile(run.history), *listeners(name)])
            for run, name, own in zip(places, names, all_data, strict=True)
        ]
        alike = len({packed.signature(config, own) for own in all_data}) == 1
        if alike and packed.faster(members) and (trained := _train_packed(places, schema, members)) is not None:
            return trained
        data = all_data.__getitem__
    finished = []
    for fold, (run, name) in enumerate(zip(places, names, strict=True)):
        own = data(fold) if first is None else first
        first = None  # frees the memory before the next fold
        own.write_fitted(run.path)
        finished.append(fit(run, config, schema, own, listeners(name)))
    return finished


def _train_packed(places: Sequence[RunFolder], schema: Schema, members: Sequence[Member]) -> list[RunResult] | None:
    """Train the folds together. Returns None if that is not possible."""
    for run, member in zip(places, members, strict=True):
        member.data.write_fitted(run.path)
    outcomes = packed.fit_if_possible(members)
    if outcomes is None:
        return None
    finished = []
    for run, member, outcome in zip(places, members, outcomes, strict=True):
        if isinstance(outcome, MemberFailure):
            raise outcome.error
        finished.append(finish(run, member.config, schema, member.data, outcome.network, outcome.fit))
    return finished


def summarise(finished: Sequence[RunResult]) -> CrossValidation:
    """Return the mean and the standard deviation of every metric over the folds."""
    scores = tuple(fold.validation for fold in finished)
    columns = {name: [fold[name] for fold in scores] for name in scores[0]}
    return CrossValidation(
        folds=len(finished),
        mean={name: _over(values, lambda array: array.mean()) for name, values in columns.items()},
        sd={name: _over(values, lambda array: array.std(ddof=1)) for name, values in columns.items()},
        scores=scores,
    )


def read(run: RunFolder) -> CrossValidation | None:
    """Return the cross-validation of a run, or None if the run has none."""
    return msgspec.convert(run_folder.read_metrics(run).get("cross_validation"), CrossValidation | None)


def actual(dataset: Dataset) -> Actual:
    """Return the target of every row of the source: class indices (N,), 0 for rows without a target, or values."""
    if dataset.schema.outputs.classes is None:
        return dataset.target
    places = np.zeros(len(dataset.target), dtype=np.int64)
    for rows in (dataset.split.train, dataset.split.validation, dataset.split.test):
        places[rows] = dataset.actual(rows)
    return places


def write_out_of_fold(
    folder: Path, schema: Schema, splits: Sequence[Split], finished: Sequence[RunResult], actual: Actual
) -> None:
    """Write `out_of_fold.parquet`: `row` (from 1), `fold`, `actual`, and the answer as `dle-predict` writes it.

    The argument `actual` (N,) or (N, horizon) holds the targets of all rows of the source, as the function `actual`
    returns them.
    """
    rows = np.concatenate([split.validation for split in splits])
    numbers = np.repeat(np.arange(1, len(splits) + 1), [len(split.validation) for split in splits])
    predicted = np.concatenate([fold.predicted for fold in finished])
    answers.write(folder / OUT_OF_FOLD, schema, rows, actual[rows], predicted, further={"fold": pa.array(numbers)})


def _over(values: Sequence[float | None], summary: Callable[[npt.NDArray[np.float64]], Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(summary(np.array(known))) if len(known) == len(values) else None
