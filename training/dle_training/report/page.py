"""`report.html` of a run: its scores, training curves, figures, examples and settings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from dle_bundle.schema import Field, Schema
from dle_training.fitting.listeners import EpochRecord
from dle_training.report import class_figures, figures, markup, sample_figures
from dle_training.report.canvas import short
from dle_training.report.markup import Figure, number, score, share
from dle_training.report.sample_figures import ImageRow
from dle_training.report.samples import IMAGES, Samples, Shown, TrainingImages, TrainingSeries
from dle_training.report.worst_examples import PredictedImages, PredictedRow, PredictionExamples
from dle_training.scoring import forecasts, metrics
from dle_training.scoring.cross_validation import CrossValidation
from dle_training.scoring.evaluation import Evaluation
from dle_training.scoring.forecasts import SeriesScores
from dle_training.scoring.importance import Importances
from dle_training.scoring.metrics import Actual, Predictions, Scores
from dle_training.scoring.model_choices import ModelChoices
from dle_training.scoring.table_baselines import BaselineScores

_HEADLINES = ("accuracy", "roc_auc", "f1_macro", "log_loss", "rmse", "mae", "r2")
_CATEGORIES_SHOWN = 6
_LONGEST_EXAMPLE = 60
_SERIES_SHOWN = 50
_INPUTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ReportContent:
    """The content of the report.

    `rows` counts the rows of each part. `validation` and `test` are the scores of the model of the best epoch.
    `actual` and `predicted` are the targets and answers of the test part, in the form that `evaluation.evaluate` takes.
    `samples` are examples of the training part, and `prediction_examples` are examples of the test part.
    `class_weights` says whether training weighted the classes. `dropped` gives the reason for each column that was left
    out. `notes` are remarks on the data. `folds` is None unless the run was cross-validated. `baselines` are the scores
    of boosted trees and a linear model, by name; empty if none were trained. `choices` are the models that the run
    could have kept, None if they were not measured. `out_of_fold` says that validation scores are those of the rows of
    both training and validation, by weights that did not learn from them.
    """

    run: str
    created: datetime
    schema: Schema
    rows: Mapping[str, int]
    config: str
    history: Sequence[EpochRecord]
    metric: str
    class_weights: bool
    best_epoch: int
    validation: Scores
    test: Evaluation
    actual: Actual
    predicted: Predictions
    samples: Samples
    prediction_examples: PredictionExamples
    dropped: Mapping[str, str]
    notes: Sequence[str]
    importances: Importances | None
    folds: CrossValidation | None
    baselines: Mapping[str, BaselineScores]
    choices: ModelChoices | None
    out_of_fold: bool


def write(folder: Path, content: ReportContent) -> Path:
    """Write `report.html` and its figures (`figures/*.png`) into `folder`, and return the path of the page."""
    training = Figure(
        "learning_curves",
        figures.learning_curves(content.history, content.metric, content.best_epoch),
        "The model is the one chosen after the best epoch. Training loss is measured with dropout while the weights "
        "change, so it may be higher than validation loss.",
    )
    choices = [] if content.choices is None else [_model_choices(content.choices)]
    examples, test = _sample_figures(content.samples), _test_figures(content)
    return markup.write(
        folder,
        "page.html.jinja",
        (training, *choices, *examples, *test),
        (observed, example, target_text, forecasts.in_words),
        content=content,
        outputs=content.schema.outputs,
        names=tuple(content.test.per_class or ()),
        headlines=[name for name in _HEADLINES if name in content.test.test],
        metrics=metrics.METRICS,
        baseline=_baseline(content),
        forecast_rows=[] if content.test.forecast is None else forecasts.table(content.test.forecast),
        series_rows=_series_rows(content.test),
        training=training,
        choices=choices,
        examples=examples,
        figures=test,
        seconds=sum(record.seconds for record in content.history),
        speed=round(np.median([record.rows_per_second for record in content.history])),
        best=content.history[content.best_epoch - 1],
    )


def observed(field: Field) -> str:
    """Return what training saw in a column: its categories, or its range."""
    if field.categories is not None:
        shown = ", ".join(field.categories[:_CATEGORIES_SHOWN])
        more = len(field.categories) - _CATEGORIES_SHOWN
        return f"{shown}, and {more:,} more" if more > 0 else shown
    if field.observed_range is None:
        return field.form
    if field.kind == "boolean":
        return ", ".join(dict.fromkeys("true" if end else "false" for end in field.observed_range))
    return " … ".join(end if isinstance(end, str) else _with_digits(end, field) for end in field.observed_range)


def _with_digits(end: float, field: Field) -> str:
    """Return an end of a range with as many digits as show a hundredth of the range."""
    low, high = (float(each) for each in field.observed_range or ())
    spread, largest = high - low, max(abs(low), abs(high))
    if not 0 < spread < 0.1 * largest or not 1e-3 <= largest < 1e15:
        return number(end)
    text = f"{end:,.{min(max(2 - math.floor(math.log10(spread)), 0), 15)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def example(value: bool | int | float | str | list[Any] | None) -> str:
    """Return a value as in JSON, without quotation marks. A long value is cut at its end."""
    if isinstance(value, bool):
        return str(value).lower()
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…"


def target_text(value: Shown) -> str:
    """Return the name of a class, or a value as text."""
    return value if isinstance(value, str) else number(value)


def _series_rows(test: Evaluation) -> list[tuple[str, SeriesScores]]:
    """Return the series with the largest MASE, which come first."""
    scores = {} if test.forecast is None else test.forecast.per_series
    return sorted(scores.items(), key=lambda item: -(item[1].model.mase or 0))[:_SERIES_SHOWN]


def _baseline(content: ReportContent) -> str:
    """Return the accuracy of always answering the most frequent class, as a sentence. Empty without classes."""
    if content.test.per_class is None:
        return ""
    name, scores = max(content.test.per_class.items(), key=lambda item: item[1].support)
    return f"{score(scores.support / content.test.rows)} by always answering {name}"


def _model_choices(choices: ModelChoices) -> Figure:
    limit = ""
    if choices.max_latency is not None:
        limit = f" At most {choices.max_latency:g} ms were asked for, left of the dashed line."
        if choices.too_slow:
            limit += " No model is that fast, so the fastest was kept."
    distance = "" if choices.distance is None else f" {choices.distance}"
    return Figure(
        "model_choices",
        figures.model_choices(choices),
        "The models that this run could have kept: time for a single row on one core, through the exported graph, and "
        f"score; lower is better.{limit} The circle marks the model that was kept.{distance}",
    )


def _sample_figures(samples: Samples) -> list[Figure]:
    drawn = []
    if samples.images is not None:
        drawn.append(_training_images(samples.images))
    if samples.series is not None:
        drawn.append(_training_series(samples.series))
    if samples.texts is not None:
        tokens, most = samples.texts.tokens, samples.texts.max_tokens
        caption = "Tokens are words and pieces of words."
        if samples.texts.truncated:
            caption += " Orange texts have more tokens than the limit, and the model does not see their end."
        drawn.append(Figure("text_lengths", sample_figures.text_lengths(tokens, most), caption))
    return drawn


def _training_images(images: TrainingImages) -> Figure:
    titles = [short(target_text(target), 17) if target is not None else "" for target in images.targets]
    of = f" The images are from the column {images.column}." if images.column is not None else ""
    if images.varied is None:
        starts = range(0, len(images.plain), IMAGES)
        rows = [ImageRow("", images.plain[at : at + IMAGES], titles[at : at + IMAGES]) for at in starts]
        caption = (
            "Training images as the network sees them, resized and fitted. Augmentation is off, so training does not "
            "vary them."
        )
    else:
        rows = [ImageRow("original", images.plain, titles), *(ImageRow("varied", version) for version in images.varied)]
        caption = (
            "Training images as the network sees them, resized and fitted. Below each image are some of the "
            "variations that the network is trained on. They are drawn anew in each epoch. Validation, test "
            "and service use the original images alone."
        )
    return Figure(
        "training_images",
        sample_figures.images("Training images", rows, IMAGES),
        caption + of,
        wide=True,
        pictures=True,
    )


def _training_series(series: TrainingSeries) -> Figure:
    if series.ahead is None:
        caption = "Training series as the network sees them, standardised. Gaps are missing steps."
    else:
        caption = (
            "Training windows. The model sees the values left of the dashed line, and learns to predict the black ones "
            "right of it. Gaps are missing values."
        )
    if len(series.plain) > 1:
        caption += " All panels of a column have one axis, unless a series would look flat on it."
    if series.total > len(series.channels):
        caption += f" The figure shows {len(series.channels)} of {series.total} channels."
    if series.varied is None:
        caption += " Augmentation is off, so training does not vary them."
    else:
        caption += " The faint lines are variations that the network is trained on, drawn anew in each epoch."
    titles = ["" if target is None else target_text(target) for target in series.targets]
    drawn = sample_figures.series(series.plain, series.varied, titles, series.channels, series.ahead)
    return Figure("training_series", drawn, caption, wide=True)


def _test_images(prediction_examples: PredictionExamples) -> list[Figure]:
    named = {"right": prediction_examples.right, "wrong": prediction_examples.wrong}
    rows = [ImageRow(name, images.pixels, _titles(images)) for name, images in named.items() if images is not None]
    if not rows:
        return []
    if prediction_examples.wrong is not None and prediction_examples.wrong.answers[0].probability is None:
        rows = [ImageRow("", rows[-1].images, rows[-1].titles)]
        title, caption = "Largest errors", "The test images with the largest errors: actual → predicted."
    else:
        title = "Most confident answers"
        caption = (
            "The test images that the model answered with the highest probability: actual → predicted, with the "
            "probability. Right answers are from as many classes as possible, wrong answers from any class. A "
            "confident error often comes from a wrong label, or shows which feature misleads the model."
        )
    drawn = sample_figures.images(title, rows, IMAGES)
    return [Figure("test_images", drawn, caption, wide=True, pictures=True)]


def _titles(images: PredictedImages) -> list[str]:
    return [_title(answer) for answer in images.answers]


def _title(answer: PredictedRow) -> str:
    """Return the title of an image in two short lines."""
    if answer.probability is None:
        return f"{target_text(answer.actual)} →\n{target_text(answer.predicted)}"
    sure = share(answer.probability).replace("more than ", ">")
    if answer.actual == answer.predicted:
        return f"{short(target_text(answer.actual), 17)}\n{sure}"
    return f"{short(target_text(answer.actual), 15)} →\n{short(target_text(answer.predicted), 11)} {sure}"


def _test_figures(content: ReportContent) -> list[Figure]:
    outputs, actual, predicted = content.schema.outputs, content.actual, content.predicted
    if outputs.classes is None or content.test.per_class is None:
        drawn = _value_figures(content, actual.astype(np.float64), predicted)
    else:
        names = tuple(content.test.per_class)
        positive = 1 if outputs.positive_class is None else outputs.classes.index(outputs.positive_class)
        drawn = _class_figures(names, positive, actual, predicted)
    return [*drawn, *_importances(content.importances), *_test_images(content.prediction_examples)]


def _importances(measured: Importances | None) -> list[Figure]:
    if measured is None:
        return []
    what = "The log loss" if measured.measure == "log_loss" else "The mean absolute error"
    more = len(measured.inputs) - _INPUTS_SHOWN
    caption = (
        f"{what} of {measured.rows:,} test rows is {number(measured.loss)}. A bar shows how much it grows when the "
        "values of one input are shuffled among the rows, with lines for ±2 standard errors. Inputs that tell the same "
        f"share their importance.{f' The figure leaves out {more:,} less important inputs.' if more > 0 else ''}"
    )
    return [Figure("importance", figures.importances(measured, _INPUTS_SHOWN), caption)]


def _value_figures(content: ReportContent, actual: Actual, predicted: Predictions) -> list[Figure]:
    outputs, examples = content.schema.outputs, content.prediction_examples.forecasts
    known = ~np.isnan(actual)
    each = "" if actual.ndim == 1 else " Each forecast step of each row is a value."
    drawn = [
        Figure(
            "predicted_against_actual",
            figures.predicted_against_actual(outputs, actual[known], predicted[known]),
            "A prediction on the dashed line is exactly right, above the line too high, and below the line too low."
            + each,
        ),
        Figure(
            "residuals",
            figures.residuals(outputs, actual[known], predicted[known]),
            "The errors of the predictions, predicted − actual. The grey band contains 90% of the "
            f"{'rows' if actual.ndim == 1 else 'values'}. A mean far from 0 is a bias.",
        ),
    ]
    if actual.ndim > 1:
        errors = forecasts.mean_by_step(np.abs(predicted - actual))
        last = examples.last_value if examples is not None and len(examples.last_value) else None
        beside = "" if last is None else " Below the grey line the model is better than repeating the last value."
        drawn.append(
            Figure(
                "error_by_step",
                sample_figures.error_by_step(outputs, errors, last),
                f"The error of each forecast step, from the next step to the last.{beside}",
            )
        )
    if examples is not None:
        drawn.append(
            Figure(
                "forecasts",
                sample_figures.forecasts(outputs, examples.seen, examples.actual, examples.predicted, examples.names),
                "The first, the middle and the last row of the test part. The model sees the values left of the dashed "
                "line and predicts the values right of it.",
            )
        )
    return drawn


def _class_figures(names: Sequence[str], positive: int, actual: Actual, predicted: Predictions) -> list[Figure]:
    whose = f"class {names[positive]}" if len(names) == 2 else "each class against all others"
    right = names[positive] if len(names) == 2 else "right"
    captions = {
        "confusion_matrix": "Rows: actual class; columns: predicted class. Right answers are on the diagonal. The "
        " shade is the share within the row.",
        "calibration": f"On the dashed line the model is calibrated: of the rows with 80% predicted, 80% are {right}. "
        "Bars are 95% intervals. A wide interval means few rows.",
        "roc": f"For {whose}: true positive rate against false positive rate at every threshold. The dashed line "
        "is random guessing.",
        "precision_recall": f"For {whose}: precision against recall at every threshold. For rare classes this curve "
        "says more than the ROC curve.",
    }
    drawn = {
        "confusion_matrix": class_figures.confusion_matrix(names, metrics.confusion(predicted, actual)),
        "calibration": class_figures.calibration(names, positive, actual, predicted),
        "roc": class_figures.roc(names, positive, actual, predicted),
        "precision_recall": class_figures.precision_recall(names, positive, actual, predicted),
    }
    return [
        Figure(name, png, captions[name], wide=name == "confusion_matrix" and class_figures.is_wide(len(names)))
        for name, png in drawn.items()
        if png is not None
    ]
