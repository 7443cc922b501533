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

from dle_bundle.schema import Schema
from dle_training import packed
from dle_training.config.run_config import RunConfig
from dle_training.data import folds
from dle_training.data.dataset import Dataset
from dle_training.data.split import Split
from dle_training.fitting import tensors
from dle_training.fitting.listeners import HistoryFile, Listener
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
"""Bytes of the training rows of all folds, up to which they are in memory at once."""


def validate(run: RunFolder, prepared: Prepared, listeners: Callable[[str], Sequence[Listener]]) -> CrossValidation:
    """Cross-validate the settings of `run` beside its own training, or continue where that stopped.

    `listeners(what)` are told of the training called `what`. Adds `cross_validation` to metrics.json.
    """
    config, dataset = prepared.config, prepared.dataset
    splits = make_folds(prepared)
    with prepare.streamed(dataset) as stream:
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
    """The folds that the configuration asks for, none where it asks for none. Raises InputError as `folds.make`."""
    count = prepared.config.split.folds
    return () if count is None else folds.make(prepared.dataset, count, prepared.config.seed)


def train(
    folder: Path,
    config: RunConfig,
    schema: Schema,
    data: Callable[[int], TrainingData],
    count: int,
    listeners: Callable[[str], Sequence[Listener]],
) -> list[RunResult]:
    """Train the networks of all folds, or continue where they stopped: all at once where that is faster.

    `data(k)` is that of fold k, from 0, and `listeners(what)` are told of the training called `what`. Raises what
    `run.fit` does.
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
        first = None  # no longer kept in memory than its own training
        own.write_fitted(run.path)
        finished.append(fit(run, config, schema, own, listeners(name)))
    return finished


def _train_packed(places: Sequence[RunFolder], schema: Schema, members: Sequence[Member]) -> list[RunResult] | None:
    """None where they cannot be trained at once."""
    for run, member in zip(places, members, strict=True):
        member.data.write_fitted(run.path)
    outcomes = packed.fit_if_possible(members)
    if outcomes is None:
        return None
    finished = []
    for run, member, outcome in zip(places, members, outcomes, strict=True):
        if isinstance(outcome, MemberFailure):
            raise outcome.error
        finished.append(finish(run, schema, member.data, outcome.network, outcome.fit))
    return finished


def summarise(finished: Sequence[RunResult]) -> CrossValidation:
    """Mean and spread of every metric."""
    scores = tuple(fold.validation for fold in finished)
    columns = {name: [fold[name] for fold in scores] for name in scores[0]}
    return CrossValidation(
        folds=len(finished),
        mean={name: _over(values, lambda array: array.mean()) for name, values in columns.items()},
        sd={name: _over(values, lambda array: array.std(ddof=1)) for name, values in columns.items()},
        scores=scores,
    )


def read(run: RunFolder) -> CrossValidation | None:
    """What a run was cross-validated to; None where it was not."""
    return msgspec.convert(run_folder.read_metrics(run).get("cross_validation"), CrossValidation | None)


def actual(dataset: Dataset) -> Actual:
    """The target of every row of the source: the place among the classes (N,), 0 where none is known, or values."""
    if dataset.schema.outputs.classes is None:
        return dataset.target
    places = np.zeros(len(dataset.target), dtype=np.int64)
    for rows in (dataset.split.train, dataset.split.validation, dataset.split.test):
        places[rows] = dataset.actual(rows)
    return places


def write_out_of_fold(
    folder: Path, schema: Schema, splits: Sequence[Split], finished: Sequence[RunResult], actual: Actual
) -> None:
    """Write `out_of_fold.parquet`: `row` (from 1), `fold`, `actual`, and the answer as `dle-predict` has it.

    `actual` (N,) or (N, horizon) is that of all rows of the source, as the function of this name tells it.
    """
    rows = np.concatenate([split.validation for split in splits])
    numbers = np.repeat(np.arange(1, len(splits) + 1), [len(split.validation) for split in splits])
    predicted = np.concatenate([fold.predicted for fold in finished])
    answers.write(folder / OUT_OF_FOLD, schema, rows, actual[rows], predicted, further={"fold": pa.array(numbers)})


def _over(values: Sequence[float | None], summary: Callable[[npt.NDArray[np.float64]], Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(summary(np.array(known))) if len(known) == len(values) else None
