"""The data that a run keeps besides its model, so that later commands need not read the source again.

A run keeps test and validation rows, a sample of the training rows, the answers for the validation rows, and the
distributions that a service compares its requests with.
"""

from dle_bundle import documents
from dle_bundle import schema as schemas
from dle_bundle.drift.reference import Reference
from dle_bundle.errors import InputError, counted
from dle_bundle.files import write_atomic
from dle_bundle.groups import Groups
from dle_bundle.proposals import for_python
from dle_training.data.dataset import Dataset
from dle_training.data.sources import MEMORY, typed
from dle_training.data.target import Values
from dle_training.fitting.tensors import TrainingData
from dle_training.preprocessing.shape import WINDOW
from dle_training.runs import answers, kept_rows, reference, trained_rows, training_sample
from dle_training.runs.folder import RunFolder, read_facts
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring.metrics import Predictions, Scores
from dle_training.settings import proposals


def write(
    run: RunFolder,
    model: TrainedModel,
    dataset: Dataset,
    data: TrainingData,
    predicted: Predictions,
    validation: Scores,
) -> None:
    """Write all data that the run of `model` keeps. Each file is written whole or not at all.

    `data` is the prepared form of `dataset`. `predicted` and `validation` are the answers and the scores on the
    validation part. `data.json`, which was written when the run began, says which parts are kept.
    """
    schema, split = model.schema, dataset.split
    for name, rows in read_facts(run).kept.items():
        if rows:
            kept_rows.write(run.part(name), dataset.groups, dataset.target, split.rows(name), schema)
    if dataset.baselines is not None:  # without kept rows, other sources need what is fitted
        kept = split.test[: read_facts(run).kept["test"]]
        dataset.baselines.take(kept).save(run.forecast_baselines)
    training, target = dataset.part("train")
    sample = split.train[training_sample.choose(training, target, schema.outputs)]
    kept_rows.write(run.training_sample, dataset.groups, dataset.target, sample, schema)
    trained_rows.write(run.trained_rows, dataset)
    actual = model.objective.actual(data.validation.targets, data.validation.inputs.get(WINDOW))
    answers.write(run.validation_answers, schema, split.validation, actual, predicted)
    if "tokens" in data.train.inputs:  # so that texts are not tokenised again
        training = training.with_tokens(data.train.inputs["tokens"].numpy())
    write_atomic(run.reference, documents.encode(reference.build(model, training, predicted, validation)))


def read_part(run: RunFolder, name: str) -> tuple[Groups, Values]:
    """Return the inputs and the target of the `test` or the `validation` part.

    Raises InputError, which names the source of the run, if the run does not keep these rows.
    """
    facts = read_facts(run)
    if not facts.kept[name]:
        data = run.read_config().data
        in_memory = str(data.source).startswith(MEMORY)
        cure = f"{proposals.evaluating(run.path)} {typed(data.source or '', '--data')}"
        if in_memory or for_python():
            cure = f"dle_training.Run({str(run.path)!r}).evaluate({'table' if in_memory else repr(data.source)})"
        raise InputError(
            f"{run.path} keeps no {name} rows: {counted(facts.rows[name], 'row')} did not fit into data.keep_rows="
            f"{data.keep_rows}. Evaluate it on its source: {cure}"
        )
    return kept_rows.read(run.part(name), schemas.load(run.schema))


def read_training_sample(run: RunFolder) -> tuple[Groups, Values]:
    """Return the inputs and the target of some training rows; see `training_sample`.

    The longest rows come first. Raises InputError if the file is missing or not readable.
    """
    return kept_rows.read(run.training_sample, schemas.load(run.schema))


def read_reference(run: RunFolder) -> Reference:
    """Return the distributions and the validation scores, without test scores.

    Raises InputError if the file is missing or not readable.
    """
    return documents.read(run.reference, Reference)
