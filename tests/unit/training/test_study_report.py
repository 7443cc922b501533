"""The report of a study: what it says, and that no trials make it fail."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from dle_bundle.schema import Field, Outputs, Schema
from dle_training.report import canvas, study_figures, study_page
from dle_training.report.study_page import StudyContent
from dle_training.report.trials import Finalist, TrialRow
from dle_training.scoring import metrics
from dle_training.scoring.pareto import front
from dle_training.search import points, report, storage
from dle_training.settings.dimensions import Choice, Float, Int, Space

SCRIPT = "<script>alert('$x$')</script>"
SPACE = Space(
    {
        "optimizer.lr": Float(1e-4, 1e-1, log=True),
        "training.batch_size": Int(16, 256, log=True),
        "model.hidden": Choice(([64, 64], [128], SCRIPT, None)),
        "model.dropout": Float(0.0, 0.5),
        "schedule.name": Choice(("cosine",)),
    }
)
LOG_LOSS, ACCURACY = metrics.METRICS["log_loss"], metrics.METRICS["accuracy"]


def drawn(space: Space, random: np.random.Generator) -> dict[str, Any]:
    """A point of the space."""
    point: dict[str, Any] = {}
    for key, dimension in space.dimensions.items():
        if isinstance(dimension, Choice):
            point[key] = dimension.values[random.integers(len(dimension.values))]
        else:
            low, high = float(dimension.low), float(dimension.high)
            share = random.random()
            value = low * (high / low) ** share if dimension.log else low + share * (high - low)
            point[key] = round(value) if isinstance(dimension, Int) else value
    return point


def content(
    count: int,
    *,
    space: Space = SPACE,
    metric: metrics.Metric = LOG_LOSS,
    scores: Sequence[float] | None = None,
    folds: int = 1,
    finalists: Sequence[Finalist] = (),
) -> StudyContent:
    """A study of so many trials: every third is pruned, every eleventh failed, unless `scores` are given."""
    random = np.random.default_rng(7)
    rows, curves = [], {}
    for number in range(count):
        point = drawn(space, random)
        final = 0.1 + 0.4 * random.random() ** 2 if scores is None else scores[number]
        curve = [final + math.exp(-epoch / 4) * 0.5 for epoch in range(20)]
        if scores is None and number % 11 == 5:
            rows.append(TrialRow(number=number, state="fail", point=point, error=f"no memory for {SCRIPT}"))
        elif scores is None and number % 3 == 1:
            curves[number] = curve[: 3 + number % 5]
            stopped = curves[number][-1]
            rows.append(TrialRow(number=number, state="pruned", point=point, stopped=stopped, seconds=2.5))
        else:
            rows.append(
                TrialRow(
                    number=number, state="complete", point=point, score=final, sd=0.01 if folds > 1 else None,
                    parameters=10_000 + number, seconds=12.5, latency=0.05 * (1 + random.integers(6)),
                )
            )  # fmt: skip
            curves[number] = curve
    sign = -1 if metric.higher_is_better else 1
    ended = {row.number: row for row in rows if row.score is not None and row.latency is not None}
    best = front({number: (sign * (row.score or 0), row.latency or 0) for number, row in ended.items()})
    rows = [
        TrialRow(**{name: getattr(row, name) for name in row.__struct_fields__} | {"on_front": row.number in best})
        for row in rows
    ]
    rows.sort(key=lambda row: (row.score is None, sign * (row.score or 0)))
    return StudyContent(
        study="houses & <more>",
        created=datetime(2026, 3, 4, 15, 30, tzinfo=UTC),
        schema=Schema(
            inputs=(Field(name="age", kind="numeric", required=True, observed_range=(0.0, 1.0), example=1),),
            outputs=Outputs(target=SCRIPT, task="binary", classes=(False, True)),
        ),
        rows={"train": 700, "validation": 150, "test": 150},
        metric=metric,
        folds=folds,
        search="random",
        pruner="halving",
        space=space,
        trials=rows,
        curves=curves,
        importances={} if count < 4 else {key: 0.5**place for place, key in enumerate(space.dimensions, start=1)},
        selected=rows[0].number,
        rule="best",
        refit=False,
        finalists=finalists,
        test={"accuracy": 0.9, "log_loss": 0.3, "roc_auc": None},
        seconds=75.0,
        config="study:\n  search: random\n",
    )


WIDE = Space({f"preprocessing.a_setting_with_a_name_{index}": Float(0.0, 1.0) for index in range(20)})
ONE = Space({"optimizer.lr": Float(1e-4, 1e-1, log=True)})
CONTENTS: dict[str, Callable[[], StudyContent]] = {
    "twenty": partial(content, 20),
    "many": partial(content, 260, folds=5),
    "one": partial(content, 1),
    "one setting": partial(content, 12, space=ONE, metric=ACCURACY),
    "twenty settings": partial(content, 30, space=WIDE),
    "forty choices": partial(content, 30, space=Space({"model.name": Choice(tuple(range(40)))})),
    "constant": partial(content, 6, scores=[0.5] * 6),
    "infinite": partial(content, 6, scores=[math.inf, 0.3, 0.2, 0.25, 1e300, 0.22]),
    "only infinite": partial(content, 2, scores=[math.inf, math.inf]),
    "seeds": partial(
        content, 6, finalists=(Finalist(0, (0.1, 0.12), 0.11, 0.014), Finalist(2, (0.2, 0.22), 0.21, 0.01))
    ),
}


class Markup(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of each of CONTENTS, written once."""

    @cache
    def write(name: str) -> Path:
        return study_page.write(tmp_path_factory.mktemp("study"), CONTENTS[name]())

    return write


@pytest.mark.parametrize("name", CONTENTS)
def test_the_page_needs_nothing_but_itself(written: Callable[[str], Path], name: str) -> None:
    path = written(name)
    text = path.read_text()
    page = Markup(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", text))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == len(list((path.parent / "figures").glob("*.png"))) >= 4
    assert "houses & <more>" in page.text
    assert SCRIPT in page.text
    assert "<script" not in text


def test_the_table_has_every_trial_up_to_many(written: Callable[[str], Path]) -> None:
    for name, rows in {"twenty": 20, "many": study_page.MOST_ROWS, "one": 1}.items():
        assert Markup(written(name).read_text()).tags.count("tr") == 1 + rows
    assert "60 more are in leaderboard.csv" in Markup(written("many").read_text()).text


def test_the_page_says_what_there_is_to_say(written: Callable[[str], Path]) -> None:
    text = Markup(written("twenty").read_text()).text
    for expected in (
        "12 complete", "2 failed", "6 pruned", "random search", f"failed: no memory for {SCRIPT}", "study.yaml",
        "pruned at 0.", "All trainings together took 1 min 15 s",
        "10,00", "2026-03-04 15:30 UTC", "700 train", "[64, 64]",
    ):  # fmt: skip
        assert expected in text, expected
    assert "±" not in text
    assert "Finalists" not in text
    assert "± 0.0100 over 5 folds" in Markup(written("many").read_text()).text


def test_finalists_are_shown_with_their_seeds(written: Callable[[str], Path]) -> None:
    text = Markup(written("seeds").read_text()).text
    assert "Finalists" in text
    assert "0.1100 ± 0.0140" in text
    assert "0.1000 · 0.1200" in text
    assert "each trained again with 2 new seeds" in text


def test_what_cannot_be_told_is_said(written: Callable[[str], Path]) -> None:
    path = written("one")
    assert (
        "The importance of settings is not shown. Estimating it needs at least two settings that vary, and 20 complete"
        in path.read_text()
    )
    assert not (path.parent / "figures" / "importance.png").exists()


def test_without_latencies_and_curves_their_figures_are_left_out(tmp_path: Path) -> None:
    made = content(1)
    rows = [TrialRow(number=0, state="complete", point=made.trials[0].point, score=1.0, parameters=1, seconds=1.0)]
    study_page.write(tmp_path, replace(made, trials=rows, curves={}))
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"history", "parallel_coordinates"}


def test_the_same_content_gives_the_same_page(written: Callable[[str], Path], tmp_path: Path) -> None:
    assert study_page.write(tmp_path, CONTENTS["twenty"]()).read_bytes() == written("twenty").read_bytes()


@pytest.mark.parametrize(
    ("scores", "metric", "low", "high"),
    [
        ([0.1, 0.2, 0.3], LOG_LOSS, 0.1, 0.3),
        ([0.1, 0.2, 0.3, 0.2, 9e9, math.inf], LOG_LOSS, 0.1, 0.3),
        ([0.9, 0.8, 0.85, 0.88, 0.1], ACCURACY, 0.8, 0.9),
        ([0.5, 0.5], ACCURACY, 0.5, 0.5),
        ([0.5, 0.5 + 1e-8], ACCURACY, 0.5, 0.5),
    ],
)
def test_an_axis_shows_the_better_scores(scores: list[float], metric: metrics.Metric, low: float, high: float) -> None:
    first, last = study_figures.limits(np.array(scores), metric)
    assert first < low <= high < last
    assert last - first < 0.3


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_values_that_differ_by_rounding_alone_are_not_spread_over_an_axis(unit: float) -> None:
    low, high = canvas.with_margin(unit, unit * (1 + 1e-15), share=0.05, least=1e-3 * unit)
    assert high - low == pytest.approx(0.1 * unit, rel=1e-3)
    low, high = canvas.with_margin(unit, unit * (1 + 1e-9), share=0.05, least=1e-3 * unit)
    assert high - low == pytest.approx(1.1e-9 * unit, rel=1e-3)


def test_a_front_has_who_is_beaten_by_none() -> None:
    costs = {"good": (0.1, 9.0), "fast": (0.9, 1.0), "both": (0.2, 2.0), "worse": (0.3, 3.0), "same": (0.2, 2.0)}
    assert front(costs) == {"good", "fast", "both"}
    assert front({}) == set()


@pytest.mark.parametrize(
    ("score", "count", "told"),
    [
        pytest.param(lambda trial: trial.params["a"], 20, True, id="it matters"),
        pytest.param(lambda trial: trial.number or math.inf, 21, True, id="infinite"),
        pytest.param(lambda trial: 1.0, 20, False, id="constant"),
        pytest.param(lambda trial: trial.number, 19, False, id="few"),
    ],
)
def test_importance_is_told_where_it_can_be(
    score: Callable[[optuna.Trial], float], count: int, told: bool, tmp_path: Path
) -> None:
    space = Space({"a": Float(1e-4, 1.0, log=True), "b": Choice(([16], [32], None)), "c": Choice(("x",))})
    trials = storage.create(None, tmp_path / "journal.log", "study", higher_is_better=False)
    for _ in range(count):
        trials.study.sampler = RandomSampler(seed=len(trials.all()))
        trial = trials.study.ask()
        points.suggest(space, trial)
        trials.study.tell(trial, score(trial))
    found = report.importances(trials, space)
    assert found == report.importances(trials, space)
    assert found.keys() == ({"a", "b", "c"} if told else set())
    if told:
        assert math.isclose(sum(found.values()), 1)
    assert report.importances(trials, Space({"a": space.dimensions["a"], "c": space.dimensions["c"]})) == {}


def test_a_report_tells_no_password() -> None:
    hidden = storage.without_password("storage: postgresql://me:s3cret@host:5432/db\nsource: a@b:c\n")
    assert hidden == "storage: postgresql://me:***@host:5432/db\nsource: a@b:c\n"
    plain = "storage: sqlite:///study.db\nrun: {}\n"
    assert storage.without_password(plain) == plain
