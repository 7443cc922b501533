"""Evaluates a run's model on its test part and writes a report, or evaluates it on all rows of another source."""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np

from dle_bundle import schema as schemas
from dle_bundle.errors import InputError, counted
from dle_bundle.groups import Groups
from dle_training.config import run_config
from dle_training.data import dataset as datasets
from dle_training.data import sources
from dle_training.data.sources import Place, Source
from dle_training.data.target import Values
from dle_training.fitting.listeners import read_history
from dle_training.models import registry
from dle_training.report import page, samples, worst_examples
from dle_training.runs import baselines, contents, cross_validation, model_choices, trained_rows
from dle_training.runs.folder import RunFolder, read_facts, read_metrics, write_metrics
from dle_training.runs.prepare import reopen
from dle_training.runs.train import open_model, refuse_unfinished
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring import comparison, evaluation, forecast_baselines, importance, metrics
from dle_training.scoring.evaluation import Evaluation, defined
from dle_training.scoring.forecast_baselines import Baselines
from dle_training.scoring.metrics import Actual, Scores
from dle_training.settings import proposals


def evaluate(run: RunFolder, source: Place | Source | None = None) -> Evaluation:
    """Score the run's model on the test part that the run keeps, or on rows of `source`.

    All rows of `source` are scored, with one exception: if the run keeps no test rows and `source` holds the data of
    the run, only its test part is scored (see `is_test_part`). Raises InputError if the run is not finished, if there
    are no test rows, or if `source` does not fit the schema.
    """
    refuse_unfinished(run)
    if source is None:
        return evaluate_test_part(
            run, *contents.read_part(run, "test"), forecast_baselines.load(run.forecast_baselines)
        )
    return evaluate_source(run, source).evaluation


@dataclass(frozen=True, slots=True)
class OfSource:
    """Scores on rows of a source. `on_test`: they are the test part. `trained`: how many of them were in which part.

    `notes`: what was found in the files.
    """

    evaluation: Evaluation
    on_test: bool
    trained: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """How many of the rows were trained on, in words; None if there are none."""
        trained, rows = sum(self.trained.values()), self.evaluation.rows
        if not trained:
            return None
        by_use = {"training": self.trained["train"], "validation": self.trained["validation"]}
        parts = " and ".join(f"{count:,} for {use}" for use, count in by_use.items() if count)
        was = "was" if trained == 1 else "were"
        return f"{trained:,} of {counted(rows, 'row')} {was} trained on ({parts}), so the scores are too good"


def evaluate_source(run: RunFolder, source: Place | Source, *, sheet: str | None = None) -> OfSource:
    """Score rows of `source`, which is read once; see `evaluate`.

    `sheet` is that of a workbook, if not the one that training read.
    """
    refuse_unfinished(run)
    config = run.read_config()
    written = schemas.load(run.schema).text_format
    found = source if isinstance(source, Source) else sources.read(source, written, sheet=sheet, proposing=False)
    if is_test_part(run, found):
        dataset = reopen(run, source=found).dataset
        beside = None if dataset.baselines is None else dataset.baselines.take(dataset.split.test)
        return OfSource(evaluate_test_part(run, *dataset.part("test"), beside), True, {}, found.notes)
    model = open_model(run)
    kept = forecast_baselines.load(run.forecast_baselines)
    other = datasets.read_labelled(found, model.schema, config, None if kept is None else kept.fitted)
    facts = read_facts(run)
    if datasets.digest(found, model.schema) == facts.digest:
        trained = {part: facts.rows[part] for part in ("train", "validation")}
    else:
        trained = trained_rows.count(run.trained_rows, other.groups, other.target) or {}
    scores = _score(run, model, other.groups, other.target, other.baselines)
    return OfSource(scores, False, trained, (*found.notes, *other.notes))


def is_test_part(run: RunFolder, source: Source) -> bool:
    """Whether `evaluate` scores only the test part of `source`, because the run keeps no test rows.

    Raises InputError if the columns of the run are not in `source`.
    """
    facts = read_facts(run)
    if facts.kept["test"]:
        return False
    return datasets.digest(source, schemas.load(run.schema)) == facts.digest


def evaluate_test_part(run: RunFolder, groups: Groups, target: Values, beside: Baselines | None = None) -> Evaluation:
    """Score the run's model on its test part, which has these inputs, labels or values, and baselines of a forecast.

    Writes the scores to metrics.json, and writes the report and its figures. Raises InputError if the run is not
    finished.
    """
    model, config = open_model(run), run.read_config()
    predicted, actual = model.predict(groups), _actual(model, target)
    test = evaluation.evaluate(model.schema.outputs, actual, predicted, run=str(run.path), baselines=beside)
    further: dict[str, object] = {} if test.forecast is None else {"forecast": test.forecast}
    scores = baselines.read(run)
    if answers := baselines.read_answers(run):
        found = {name: defined(metrics.all_scores(test.task, own, actual)) for name, own in answers.items()}
        said = comparison.sentence(actual, predicted, answers)
        test = msgspec.structs.replace(test, baselines=found, comparison=said)
        scores = {name: msgspec.structs.replace(own, test=found[name]) for name, own in scores.items()}
        further |= {"baselines": scores, "comparison": said}
    write_metrics(run, test=test.test, per_class=test.per_class, confusion_matrix=test.confusion_matrix, **further)
    facts, history = read_facts(run), read_history(run.history)
    content = page.ReportContent(
        run=run.path.resolve().name,
        created=datetime.now(UTC),
        schema=model.schema,
        rows=facts.rows,
        config=run_config.dump(config),
        history=history,
        metric=str(config.training.metric),
        class_weights=config.objective.class_weights is not None,
        best_epoch=model.best_epoch,
        validation=read_metrics(run)["validation"],
        test=test,
        actual=actual,
        predicted=predicted,
        samples=samples.choose(*contents.read_training_sample(run), model.schema, model.preprocessing, config),
        prediction_examples=worst_examples.choose(model.schema, groups, actual, predicted, beside),
        dropped=facts.dropped,
        notes=facts.notes,
        importances=importance.measure(model.predict, groups, actual, model.schema),
        folds=cross_validation.read(run),
        baselines=scores,
        choices=model_choices.read(run),
        out_of_fold=registry.folds(config.model) > 1,
    )
    page.write(run.path, content)
    return test


def recorded(run: RunFolder) -> Evaluation:
    """Return the recorded evaluation on the test part. Raises InputError if the run has not been evaluated."""
    known = read_metrics(run)
    if "test" not in known:
        raise InputError(f"{run.path} has not been evaluated: {proposals.evaluating(run.path)}")
    task = schemas.load(run.schema).outputs.task
    found = {name: known.get(name) for name in ("test", "per_class", "confusion_matrix", "forecast", "comparison")}
    beside = {name: own.test for name, own in baselines.read(run).items() if own.test is not None}
    return msgspec.convert(
        {
            "run": str(run.path),
            "task": task,
            "rows": read_facts(run).rows["test"],
            "baselines": beside or None,
            **found,
        },
        Evaluation,
    )


def scores_on_test(run: RunFolder, model: TrainedModel) -> Scores:
    """Return the test scores of `model`, the model of the run: the recorded ones, or else newly computed ones.

    Raises InputError if no scores are recorded and the run keeps no test rows.
    """
    known: dict[str, Scores] = read_metrics(run)
    return known["test"] if "test" in known else _score(run, model, *contents.read_part(run, "test")).test


def _score(
    run: RunFolder, model: TrainedModel, groups: Groups, target: Values, beside: Baselines | None = None
) -> Evaluation:
    actual, predicted = _actual(model, target), model.predict(groups)
    return evaluation.evaluate(model.schema.outputs, actual, predicted, run=str(run.path), baselines=beside)


def _actual(model: TrainedModel, target: Values) -> Actual:
    if model.schema.outputs.classes is None:
        return target.astype(np.float64)
    return model.objective.actual(model.objective.encode(target))
