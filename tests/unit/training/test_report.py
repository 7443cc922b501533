import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure as MatplotlibFigure

from dle_bundle.schema import Field, Label, Outputs, Schema, Task
from dle_training.config import run_config
from dle_training.fitting.listeners import EpochRecord
from dle_training.report import class_figures, figures, page, sample_figures
from dle_training.report.markup import duration, excerpt, number, share
from dle_training.report.page import ReportContent, observed
from dle_training.report.sample_figures import ImageRow
from dle_training.report.samples import IMAGES, VERSIONS, Samples, TextLengths, TrainingImages, TrainingSeries
from dle_training.report.worst_examples import Forecasts, PredictedImages, PredictedRow, PredictionExamples
from dle_training.scoring import metrics
from dle_training.scoring.cross_validation import CrossValidation
from dle_training.scoring.evaluation import evaluate
from dle_training.scoring.importance import Importance, Importances

SCRIPT = "<script>alert('x')</script>"
INPUTS = (
    Field(name="age", kind="numeric", required=True, unit="years", observed_range=(17.0, 90.0), example=37),
    Field(name=SCRIPT, kind="categorical", required=False, categories=("<b>", "$x$", "_y"), example="<b>"),
    Field(name="member", kind="boolean", required=True, observed_range=(0.0, 1.0), example=True),
)
CLASSES = {
    "two": (False, True),
    "awkward": ("_hidden", "$\\frac$", SCRIPT, "日本\n語", "a name that is longer than a figure can show"),
    "thirty": tuple(f"class {index}" for index in range(30)),
    "ninety": tuple(range(90)),
}


def epochs(count: int) -> list[EpochRecord]:
    losses = [1 / epoch for epoch in range(1, count + 1)]
    return [
        EpochRecord(
            epoch=epoch, train_loss=loss, validation_loss=loss + 0.1, metric=loss + 0.2, lr=1e-3 * loss,
            seconds=2.5, rows_per_second=12_345.6,
        )
        for epoch, loss in enumerate(losses, start=1)
    ]  # fmt: skip


def content(
    outputs: Outputs,
    actual: np.ndarray,
    predicted: np.ndarray,
    samples: Samples | None = None,
    shown: PredictionExamples | None = None,
) -> ReportContent:
    history = epochs(6)
    return ReportContent(
        run="houses & <more>",
        created=datetime(2026, 3, 4, 15, 30, tzinfo=UTC),
        schema=Schema(inputs=INPUTS, outputs=outputs),
        rows={"train": 70_000, "validation": 150, "test": len(actual)},
        config=run_config.dump(run_config.RunConfig()),
        history=history,
        metric="rmse" if outputs.classes is None else "log_loss",
        class_weights=False,
        best_epoch=6,
        validation=metrics.all_scores(outputs.task, predicted, actual),
        test=evaluate(outputs, actual, predicted, run="runs/houses"),
        actual=actual,
        predicted=predicted,
        samples=samples or Samples(),
        prediction_examples=shown or PredictionExamples(),
        dropped={"id": "identifier: a different value in each row"},
        notes=("2 rows without a target were left out.",),
        importances=IMPORTANCES if samples is None else None,
        folds=None,
        baselines={},
        choices=None,
        out_of_fold=False,
    )


IMPORTANCES = Importances(
    "log_loss", 400, 0.31, tuple(Importance(f"input {n}", 0.5 / (n + 1), 0.01) for n in range(25))
)


def classification(classes: Sequence[Label], rows: int = 400, known: int | None = None) -> ReportContent:
    """Some rows of the first `known` classes, and probabilities that are right more often than not."""
    random = np.random.default_rng(7)
    actual = random.integers(0, known or len(classes), rows)
    logits = random.normal(size=(rows, len(classes))) + 2 * np.eye(len(classes))[actual]
    weights = np.exp(logits)
    predicted = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    return content(Outputs(target="kind", task=task, classes=tuple(classes)), actual, predicted)


def regression(rows: int, scale: float = 1.0) -> ReportContent:
    random = np.random.default_rng(7)
    actual = random.lognormal(size=rows) * scale
    predicted = (actual + random.normal(size=rows) * 0.3 * scale).astype(np.float32)
    return content(Outputs(target="price", task="regression", unit="k$"), actual, predicted)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape).astype(np.uint8)


def training_images(*, augmented: bool, grey: bool = False) -> TrainingImages:
    size = (20, 30, 1 if grey else 3)
    targets = (SCRIPT, "$x$", 1_234_567.0, None) * (IMAGES // 4)
    if augmented:
        return TrainingImages(pixels(IMAGES, *size), targets, pixels(VERSIONS, IMAGES, *size))
    return TrainingImages(pixels(2 * IMAGES - 3, *size), (*targets, *targets[:-3]), None, column="front")


def training_series(*, augmented: bool, channels: int = 2) -> TrainingSeries:
    plain = np.random.default_rng(7).normal(size=(4, 30, channels))
    plain[0, 10:13], plain[1, 20:] = np.nan, np.nan
    plain[2, 1::2] = np.nan  # each known step stands alone
    plain[3] = np.nan
    names = tuple(f"$channel_{index}" for index in range(channels))
    return TrainingSeries(plain, ("a", SCRIPT, 2.5, None), np.stack([plain] * 3) if augmented else None, names, 7)


def pictured(*, augmented: bool) -> ReportContent:
    """A model of images and text, with what it was shown and what it says."""
    made = classification(CLASSES["awkward"])
    names = made.schema.outputs.class_names
    right = tuple(PredictedRow(name, name, 0.99999) for name in names)
    wrong = (PredictedRow(SCRIPT, "_hidden", 0.75),)
    samples = Samples(
        images=training_images(augmented=augmented),
        series=training_series(augmented=augmented),
        texts=TextLengths(np.arange(1, 400), 256, 0.021, 8_000),
    )
    shown = PredictionExamples(
        right=PredictedImages(pixels(len(right), 20, 30, 3), right),
        wrong=PredictedImages(pixels(1, 20, 30, 3), wrong),
        wrong_texts=((f"<b>really</b> {SCRIPT} " + "good " * 200, wrong[0]),),
    )
    return content(made.schema.outputs, made.actual, made.predicted, samples, shown)


def forecast(horizon: int = 4) -> ReportContent:
    random = np.random.default_rng(7)
    actual = random.normal(size=(60, horizon)) + 300
    predicted = (actual + random.normal(size=actual.shape) * np.arange(1, horizon + 1)).astype(np.float32)
    seen = random.normal(size=(3, 50)) + 300
    seen[0, 40:45] = np.nan
    shown = PredictionExamples(
        forecasts=Forecasts(
            seen, actual[:3], predicted[:3].astype(np.float64), np.arange(horizon) + 1.0, ("a", SCRIPT, "$b_")
        )
    )
    outputs = Outputs(target="$load_", task="regression", unit="MW", horizon=horizon)
    known = replace(training_series(augmented=False), targets=(None,) * 4, ahead=random.normal(size=(4, horizon)))
    return content(outputs, actual, predicted, Samples(series=known), shown)


CONTENTS: dict[str, Callable[[], ReportContent]] = {
    **{name: partial(classification, classes) for name, classes in CLASSES.items()},
    "one row": partial(classification, ("no", "yes"), rows=1),
    "one class in the test part": partial(classification, ("no", "yes"), rows=50, known=1),
    "a class without rows": partial(classification, ("a", "b", "c", "d"), known=3),
    "regression": partial(regression, 300),
    "many rows": partial(regression, figures.DENSE + 1, scale=1e6),
    "one value": partial(regression, 1),
    "augmented": partial(pictured, augmented=True),
    "not augmented": partial(pictured, augmented=False),
    "forecast": forecast,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of each of CONTENTS, written once."""

    @cache
    def write(name: str) -> Path:
        return page.write(tmp_path_factory.mktemp("run"), CONTENTS[name]())

    return write


class Markup(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def png_size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("name", CONTENTS)
def test_the_page_needs_nothing_but_itself(written: Callable[[str], Path], name: str) -> None:
    path = written(name)
    text = path.read_text()
    markup = Markup(text)
    assert path.name == "report.html"
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in markup.tags}
    sources = [attributes["src"] or "" for tag, attributes in markup.tags if tag == "img"]
    pictures = sorted((path.parent / "figures").glob("*.png"))
    assert len(sources) == len(pictures) >= 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in markup.tags if tag == "img")
    for picture in pictures:
        width, height = png_size(picture.read_bytes())
        assert width in (1040, 2120)
        assert 400 <= height <= 2200


def test_figures_are_those_of_the_task(written: Callable[[str], Path]) -> None:
    for name, expected in {
        "two": {"learning_curves", "confusion_matrix", "calibration", "roc", "precision_recall", "importance"},
        "regression": {"learning_curves", "predicted_against_actual", "residuals", "importance"},
        "one class in the test part": {"learning_curves", "confusion_matrix", "calibration", "importance"},
        "augmented": {
            "learning_curves", "training_images", "training_series", "text_lengths", "confusion_matrix", "calibration",
            "roc", "precision_recall", "test_images",
        },
        "forecast": {
            "learning_curves", "training_series", "predicted_against_actual", "residuals", "error_by_step", "forecasts",
        },
    }.items():  # fmt: skip
        assert {path.stem for path in (written(name).parent / "figures").iterdir()} == expected
    assert "at least two classes" in written("one class in the test part").read_text()
    assert "leaves out 5 less important inputs" in written("two").read_text()


@pytest.mark.parametrize(("name", "times"), [("awkward", 2), ("augmented", 4)])  # a column and a class; and an example
def test_names_from_the_data_are_text(written: Callable[[str], Path], name: str, times: int) -> None:
    text = written(name).read_text()
    markup = Markup(text)
    assert "<script" not in text
    assert "<b>" not in text
    assert markup.text.count(SCRIPT) >= times
    assert "houses & <more>" in markup.text


def test_the_page_says_what_there_is_to_say(written: Callable[[str], Path]) -> None:
    text = Markup(written("regression").read_text()).text
    for expected in (
        "2026-03-04 15:30 UTC", "70,000 train, 150 validation, 300 test", "price", "k$", "17 … 90", "false, true",
        "identifier: a different value", "2 rows without a target", "one_hot_limit: 9", "12,346 rows/s", "15 s",
    ):  # fmt: skip
        assert expected in text, expected
    for name in ("mae", "rmse", "r2"):
        assert name in text


def test_the_caption_is_true_of_a_pack_whose_networks_have_the_weights_of_several_epochs(
    written: Callable[[str], Path],
) -> None:
    text = Markup(written("two").read_text()).text
    assert "The model is the one chosen after the best epoch." in text
    assert "weights of the best epoch" not in text


def test_the_sheets_say_what_they_show(written: Callable[[str], Path]) -> None:
    augmented, plain = (Markup(written(name).read_text()) for name in ("augmented", "not augmented"))
    assert augmented.text.count("drawn anew in each epoch") == 2
    assert "Augmentation is off" not in augmented.text
    assert plain.text.count("Augmentation is off") == 2
    assert "from the column front" in plain.text
    assert "The figure shows 2 of 7 channels" in plain.text
    assert "2.1% of the training texts; their end was cut off" in augmented.text
    assert "<b>really</b>" in augmented.text
    assert "Most confident errors" in augmented.text
    pictures = [attributes for tag, attributes in augmented.tags if tag == "figure" and attributes.get("class")]
    assert [attributes["class"] for attributes in pictures] == ["wide pictures", "wide", "wide pictures"]


def test_a_model_without_errors_shows_its_right_answers_alone(tmp_path: Path) -> None:
    made = pictured(augmented=False)
    shown = replace(made.prediction_examples, wrong=None, wrong_texts=())
    text = page.write(tmp_path, replace(made, prediction_examples=shown)).read_text()
    assert "<h2>Most confident errors</h2>" not in text
    assert (tmp_path / "figures" / "test_images.png").exists()


def test_the_errors_of_a_forecast_are_told_by_step(written: Callable[[str], Path], tmp_path: Path) -> None:
    text = Markup(written("forecast").read_text()).text
    assert "a forecast of the next 4 values" in text
    assert "Below the grey line" in text
    without = replace(forecast(40), prediction_examples=PredictionExamples())
    alone = Markup(page.write(tmp_path, without).read_text()).text
    assert "Below the grey line" not in alone
    assert (tmp_path / "figures" / "error_by_step.png").exists()
    assert not (tmp_path / "figures" / "forecasts.png").exists()


def test_series_of_one_column_share_an_axis_unless_one_would_look_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[MatplotlibFigure] = []

    def keep(figure: MatplotlibFigure) -> bytes:
        drawn.append(figure)
        return b""

    monkeypatch.setattr(sample_figures, "png", keep)
    plain = np.sin(np.arange(40.0))[None, :, None] * np.array([[1.0, 1.0], [0.8, 100.0], [0.6, 0.0]])[:, None]
    plain[2, :, 1] = np.nan
    sample_figures.series(plain, None, ("", "", ""), ("level", "scaled"))
    level, scaled = drawn[0].axes[:3], drawn[0].axes[3:]
    assert len({panel.get_ylim() for panel in level}) == 1
    assert [round(panel.get_ylim()[1]) for panel in scaled[:2]] == [1, 110]
    sample_figures.series(plain, None, ("", "", ""), ("level", "scaled"), ahead=np.full((3, 5), 50.0))
    assert all(panel.get_ylim()[1] > 50 for panel in drawn[1].axes[:3])
    assert all(panel.get_xlim() == (-39.5, 5.5) for panel in drawn[1].axes)


def test_sheets_of_odd_images_and_lengths() -> None:
    for size in ((1, 1, 1), (200, 3, 3), (3, 200, 1)):
        drawn = sample_figures.images("sheet", [ImageRow("", pixels(3, *size))], IMAGES)
        assert png_size(drawn)[0] == 2120
    for tokens in ([], [1], [0, 0], [5, 100_000], [256] * 10):
        assert png_size(sample_figures.text_lengths(np.array(tokens, dtype=np.int64), 256)) == (1040, 840)


def test_an_undefined_score_is_a_dash(written: Callable[[str], Path]) -> None:
    text = written("one class in the test part").read_text()
    row = next(line for line in text.splitlines() if line.startswith('<tr><td class="name"><code>roc_auc'))
    assert row.count("–") == 2
    assert "the score is undefined for these rows" in text
    assert "precision for a class that was never predicted" in text
    assert "undefined for these rows" not in written("two").read_text()


def test_folds_are_columns_beside_their_mean_and_spread(tmp_path: Path, written: Callable[[str], Path]) -> None:
    first: dict[str, float | None] = {"accuracy": 0.75, "roc_auc": None}
    second: dict[str, float | None] = {"accuracy": 0.25, "roc_auc": 0.5}
    folds = CrossValidation(
        folds=2,
        mean={"accuracy": 0.5, "roc_auc": None},
        sd={"accuracy": 0.354, "roc_auc": None},
        scores=(first, second),
    )
    text = page.write(tmp_path, replace(CONTENTS["two"](), folds=folds)).read_text()
    table = text.partition("<h2>Cross-validation</h2>")[2].partition("</table>")[0]
    cells = [re.findall(r'<td class="n">(.*?)</td>', row) for row in table.splitlines() if "<td" in row]
    assert cells == [["0.5000", "0.3540", "0.7500", "0.2500"], ["–", "–", "–", "0.5000"]]
    assert "Cross-validation" not in written("two").read_text()


@pytest.mark.parametrize("name", ["two", "augmented", "forecast"])
def test_the_same_content_gives_the_same_page(written: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    assert page.write(tmp_path, CONTENTS[name]()).read_bytes() == written(name).read_bytes()


def test_settings_of_matplotlib_are_left_alone_and_do_not_matter() -> None:
    plain = figures.learning_curves(epochs(3), "rmse", 3)
    with mpl.rc_context({"font.size": 30, "savefig.dpi": 20, "text.usetex": True}):
        before = dict(mpl.rcParams)
        assert figures.learning_curves(epochs(3), "rmse", 3) == plain
        assert dict(mpl.rcParams) == before


def test_learning_curves_of_one_epoch_and_of_an_early_disaster() -> None:
    single, disaster = epochs(1), epochs(40)
    disaster[0] = EpochRecord(
        epoch=1, train_loss=1e9, validation_loss=1e8, metric=1e4, lr=0, seconds=1, rows_per_second=1
    )
    for history in (single, disaster):
        assert png_size(figures.learning_curves(history, "rmse", 1)) == (1040, 840)


@pytest.mark.parametrize(
    ("actual", "predicted"),
    [
        pytest.param([2.0] * 5, [2.0] * 5, id="all the same"),
        pytest.param([0.1 + 0.2, 0.3, 0.3], [0.3, 0.3, 0.3], id="rounding apart"),
        pytest.param([*range(99), 1e12], [*range(98), -1e12, 0], id="far outliers"),
        pytest.param([1e300, -1e300], [0, 0], id="huge"),
        pytest.param([1e-300, 3e-300], [2e-300, 2e-300], id="tiny"),
    ],
)
def test_regression_figures_of_awkward_values(actual: list[float], predicted: list[float]) -> None:
    outputs = Outputs(target="$y$ _ <b>", task="regression", unit="$")
    for draw in (figures.predicted_against_actual, figures.residuals):
        assert png_size(draw(outputs, np.array(actual), np.array(predicted))) == (1040, 840)


@pytest.mark.parametrize(("level", "sd"), [(0.0, 1.0), (1e9, 5.0), (1.7e12, 3e6), (-1e9, 1e-3)])
def test_axes_are_as_wide_as_the_values(level: float, sd: float) -> None:
    values = level + sd * np.linspace(-2, 2, 200)
    low, high = figures._limits(values)
    assert 4 * sd < high - low < 4.5 * sd
    assert low < values.min() < values.max() < high


def test_the_positive_class_is_the_one_drawn() -> None:
    actual, probabilities = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
    first, second = (class_figures.calibration(("no", "yes"), index, actual, probabilities) for index in (0, 1))
    assert first != second


def test_a_reader_sees_numbers_that_can_be_read() -> None:
    found = [
        number(value) for value in (None, float("nan"), 0.0, 0.85123, 12.3456, 48_211.37, 1_234_567, 0.00001, 1e15)
    ]
    assert found == ["–", "–", "0", "0.8512", "12.35", "48,211", "1,234,567", "1.00e-05", "1.00e+15"]
    assert [duration(seconds) for seconds in (4.25, 42, 185, 7_445)] == ["4.2 s", "42 s", "3 min 5 s", "2 h 4 min"]
    assert [share(value) for value in (0, 1e-5, 0.0214, 0.9999, 1)] == [
        "0.0%", "less than 0.1%", "2.1%", "more than 99.9%", "100.0%",
    ]  # fmt: skip
    assert excerpt("a\n b") == "a b"
    assert len(excerpt("word " * 1_000)) == 301
    many = Field(name="city", kind="categorical", required=True, categories=tuple("abcdefgh"))
    assert observed(many) == "a, b, c, d, e, f, and 2 more"
    born = Field(name="born", kind="datetime", required=True, observed_range=("2020-01-01", "2021-01-01"))
    assert observed(born) == "2020-01-01 … 2021-01-01"
