"""Trains the baselines of a table beside the model of a run, and keeps their scores and their answers to the test part.

They learn from the rows that the weights of the model learnt from. The labels of the test part are not read.
"""

import time
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.files import atomic_path
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.ensembles import folds
from dle_training.models import registry
from dle_training.optimization.objectives import ObjectiveState
from dle_training.runs.folder import RunFolder, read_facts, read_metrics, write_metrics
from dle_training.runs.prepare import Prepared
from dle_training.scoring import metrics, table_baselines
from dle_training.scoring.evaluation import defined
from dle_training.scoring.metrics import Predictions
from dle_training.scoring.table_baselines import BASELINES, BaselineScores, Predict

_Rows = npt.NDArray[np.int64]


def train(run: RunFolder, prepared: Prepared) -> None:
    """Train the baselines of a run whose model is finished. Adds `baselines` to metrics.json, which comes last.

    A pack with folds is scored by the answers of the copies that did not train on a row, and so are they: one is
    trained for each fold, and a test row is answered by the mean of these.
    """
    config, dataset = prepared.config, prepared.dataset
    weights = documents.read(run.objective, ObjectiveState).class_weights
    kept = dataset.split.test[: read_facts(run).kept["test"]]
    scores, answers = dict[str, BaselineScores](), dict[str, Predictions]()
    for name in BASELINES:
        begun = time.perf_counter()
        fitted = [
            (_fit(name, dataset, trains, weights, config.seed), validates)
            for trains, validates in _fits(config, dataset)
        ]
        validated = np.concatenate([rows for _, rows in fitted])
        predicted = np.concatenate([predict(dataset.groups.take(rows)) for predict, rows in fitted])
        models = [predict for predict, _ in fitted]
        if config.training.refit:  # as the weights of the model
            both = np.concatenate([dataset.split.train, dataset.split.validation])
            models = [_fit(name, dataset, both, weights, config.seed)]
        if len(kept):
            test = dataset.groups.take(kept)
            answers[name] = np.mean([predict(test) for predict in models], axis=0)
        scores[name] = BaselineScores(
            seconds=time.perf_counter() - begun,
            validation=defined(metrics.all_scores(dataset.schema.outputs.task, predicted, dataset.actual(validated))),
        )
    if answers:
        with atomic_path(run.baseline_answers) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **answers)  # type: ignore[arg-type]
    write_metrics(run, baselines=scores)


def read(run: RunFolder) -> dict[str, BaselineScores]:
    """Return the scores of the baselines by name; empty without baselines."""
    return msgspec.convert(read_metrics(run).get("baselines", {}), dict[str, BaselineScores])


def read_answers(run: RunFolder) -> dict[str, Predictions]:
    """Return the answers of the baselines to the test part by name; empty if the run keeps none.

    Raises InputError if they are not readable.
    """
    if not run.baseline_answers.is_file():
        return {}
    try:
        with np.load(run.baseline_answers, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{run.baseline_answers}: no readable answers: {error}") from error


def _fits(config: RunConfig, dataset: Dataset) -> list[tuple[_Rows, _Rows]]:
    """The rows that each training learns from, and the rows that it answers for the validation scores."""
    split, count = dataset.split, registry.folds(config.model)
    if count == 1:
        return [(split.train, split.validation)]
    rows = np.concatenate([split.train, split.validation])
    fold = folds.draw(torch.from_numpy(dataset.actual(rows)), count, config.seed).numpy()
    return [(rows[fold != number], rows[fold == number]) for number in range(count)]


def _fit(name: str, dataset: Dataset, rows: _Rows, weights: Sequence[float] | None, seed: int) -> Predict:
    classes = len(dataset.schema.outputs.classes or ())
    return table_baselines.fit(name, dataset.groups.take(rows), dataset.actual(rows), classes, weights, seed)
