"""How good a run's model is: on its test part, with a report, or on all rows of another source."""

from datetime import UTC, datetime

import msgspec

from dle_bundle import schema as schemas
from dle_bundle.errors import InputError
from dle_bundle.groups import Groups
from dle_training.config import run_config
from dle_training.data.dataset import read_labelled
from dle_training.data.target import Values
from dle_training.fitting.listeners import read_history
from dle_training.report import page, samples, worst_examples
from dle_training.runs import cross_validation
from dle_training.runs.folder import RunFolder, read_facts, read_metrics, write_metrics
from dle_training.runs.prepare import reopen
from dle_training.runs.train import open_model
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring import evaluation
from dle_training.scoring.evaluation import Evaluation
from dle_training.scoring.metrics import Actual


def measure(run: RunFolder, source: str | None = None) -> Evaluation:
    """Judge the run's model, on all rows of `source` or on the test part.

    For the test part the scores go into metrics.json and the report and its figures are written. Raises InputError: no
    finished run, data that changed or does not fit the schema.
    """
    model, config = open_model(run), run.read_config()
    if source is not None:
        other = read_labelled(source, model.schema, config)
        return judge(run, model, other.groups, other.target)
    dataset = reopen(run).dataset
    groups, target = dataset.part("test")
    predicted, actual = model.predict(groups), _actual(model, target)
    test = evaluation.evaluate(model.schema.outputs, actual, predicted, run=str(run.path))
    write_metrics(run, test=test.test, per_class=test.per_class, confusion_matrix=test.confusion_matrix)
    facts, history = read_facts(run), read_history(run.history)
    content = page.ReportContent(
        run=run.path.resolve().name,
        created=datetime.now(UTC),
        schema=model.schema,
        rows=facts.rows,
        config=run_config.dump(config),
        history=history,
        metric=str(config.training.metric),
        best_epoch=model.best_epoch,
        validation=read_metrics(run)["validation"],
        test=test,
        actual=actual,
        predicted=predicted,
        samples=samples.choose(dataset, model.preprocessing, config),
        prediction_examples=worst_examples.choose(model.schema, groups, actual, predicted),
        dropped=facts.dropped,
        notes=facts.notes,
        folds=cross_validation.read(run),
    )
    page.write(run.path, content)
    return test


def measured(run: RunFolder) -> Evaluation:
    """What `measure` found on the test part. Raises InputError where it was not measured yet."""
    known = read_metrics(run)
    if "test" not in known:
        raise InputError(f"{run.path}: not evaluated yet: dle-evaluate {run.path}")
    task = schemas.load(run.schema).outputs.task
    found = {name: known.get(name) for name in ("test", "per_class", "confusion_matrix")}
    return msgspec.convert(
        {"run": str(run.path), "task": task, "rows": read_facts(run).rows["test"], **found}, Evaluation
    )


def judge(run: RunFolder, model: TrainedModel, groups: Groups, target: Values) -> Evaluation:
    """The scores of `model` on rows with their target."""
    return evaluation.evaluate(model.schema.outputs, _actual(model, target), model.predict(groups), run=str(run.path))


def _actual(model: TrainedModel, target: Values) -> Actual:
    return model.objective.actual(model.objective.encode(target))
