"""The models that a run could keep: which are measured, which is taken, and what the run then holds."""

from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.torch import load_file
from tests.people import write_people
from torch import Tensor

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.files import write_atomic
from dle_bundle.groups import Groups
from dle_training.config import run_config
from dle_training.ensembles import choice, distillation
from dle_training.models.pack import Ensemble
from dle_training.runs import model_choices, prepare, train
from dle_training.runs.folder import RunFolder, read_metrics
from dle_training.runs.trained_model import TrainedModel
from dle_training.scoring.model_choices import ModelChoice, ModelChoices, difference
from dle_training.search import study

SMALL = [
    "model.name=pack", "model.pack.members=4", "model.pack.width=12", "model.pack.cosines=[2,2]", "model.pack.most=5",
    "model.pack.folds=1", "training.epochs=6", "optimizer.lr=0.01", "device=cpu",
]  # fmt: skip
ORDER = [5, 2, 1]


class Clock:
    """A millisecond for each network, and half of one for the distilled network, which is measured last."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: TrainedModel, sample: Groups) -> float:
        assert len(sample) > 2
        assert isinstance(model.network, Ensemble)
        self.calls += 1
        return 0.5 if self.calls > len(ORDER) else float(len(model.network))


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_STEPS", 12)
    monkeypatch.setattr(model_choices, "_LEAST_SHUFFLED", 100)
    monkeypatch.setattr(choice, "LEAST_GAIN", -1.0)  # five members, even if one alone is best


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("source") / "people.csv", 300)


def trained(folder: Path, source: Path, *settings: str, config: Path | None = None) -> RunFolder:
    flags = {"data.source": str(source), "data.target": "buys"}
    asked = run_config.load(config, [] if config else [*SMALL, *settings], flags)
    prepared = prepare.prepare(asked)
    run = prepare.create(folder, prepared)
    train.train(run, prepared, measure=Clock())
    return run


def weights(run: RunFolder) -> dict[str, Tensor]:
    distilled = run.read_config().training.distill
    return load_file((run.distilled if distilled else run.checkpoints) / "best.safetensors")


@pytest.mark.parametrize(
    ("limit", "distill", "distilled", "slow"),
    [
        ("9", "null", False, False),  # all are within the limit, so nothing is distilled
        ("2", "false", False, False),
        ("2", "null", True, False),
        ("1", "false", False, False),
        ("0.1", "false", False, True),
        ("0.7", "null", True, False),
        ("0.1", "null", True, True),
        ("null", "true", True, False),
        ("9", "true", True, False),
    ],
)
def test_what_is_measured_and_taken(
    tmp_path: Path, source: Path, limit: str, distill: str, distilled: bool, slow: bool
) -> None:
    run = trained(tmp_path / "run", source, f"training.max_latency={limit}", f"training.distill={distill}")
    found, config = model_choices.read(run), run.read_config()
    assert found is not None
    choices = found.choices
    assert [(each.members, each.milliseconds) for each in choices[:3]] == [(count, count) for count in ORDER]
    assert [(each.distilled, each.milliseconds) for each in choices[3:]] == [(True, 0.5)] * distilled
    within = [each for each in choices if limit == "null" or each.milliseconds <= float(limit)]
    if distill == "true":
        assert found.taken.distilled
    elif slow:
        assert not within
        assert found.taken.milliseconds == min(each.milliseconds for each in choices)
    else:
        assert found.taken.score == min(each.score for each in within)
    assert [each.taken for each in choices].count(True) == 1
    assert config.training.max_latency is None
    assert config.training.distill is found.taken.distilled
    fewer = not found.taken.distilled and found.taken.members < 5
    assert msgspec.to_builtins(config)["model"]["pack"]["keep"] == (found.taken.members if fewer else None)
    network = train.open_model(run).network
    assert isinstance(network, Ensemble)
    assert len(network) == found.taken.members
    assert read_metrics(run)["validation"]["log_loss"] == pytest.approx(found.taken.score, rel=1e-6)
    warning = model_choices.warning(run)
    assert (warning is not None) is slow
    if warning is not None:
        assert f"{found.taken.milliseconds:g} ms for a single row, more than 0.1 ms" in warning
        assert "model.pack.width=6" in warning
    again = trained(tmp_path / "again", source, config=run.config)
    assert again.read_config() == config
    assert weights(again).keys() == weights(run).keys()
    assert all(tensor.equal(weights(run)[name]) for name, tensor in weights(again).items())


def test_fewer_members_are_those_that_greedy_choice_takes_first(tmp_path: Path, source: Path) -> None:
    run = trained(tmp_path / "two", source, "model.pack.keep=2")
    whole = trained(tmp_path / "whole", source)
    assert model_choices.read(run) is None, "nothing was asked for that must be measured"
    two, five = weights(run), weights(whole)
    names = [name for name in two if name.endswith("weight0")]
    assert sum(len(two[name]) for name in names) == 2
    for name in names:
        for member in two[name]:
            assert any(member.equal(other) for other in five[name])


def test_a_run_that_was_interrupted_after_the_choice_keeps_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"data.source": str(source), "data.target": "buys"}
    settings = [*SMALL, "training.max_latency=1", "training.distill=false"]
    prepared = prepare.prepare(run_config.load(None, settings, flags))
    run = prepare.create(tmp_path / "run", prepared)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train, "write_metrics", killed)
        train.train(run, prepared, measure=Clock())
    train.train(run, prepare.reopen(run), measure=killed)  # type: ignore[arg-type]
    found = model_choices.read(run)
    assert found is not None
    assert found.max_latency == 1
    assert found.taken.members == 1
    network = train.open_model(run).network
    assert isinstance(network, Ensemble)
    assert len(network) == 1


@pytest.mark.parametrize("place", ["_write_choice", "_taken"])
@pytest.mark.parametrize("distill", ["null", "false"])
def test_a_run_that_was_killed_while_it_wrote_the_choice_keeps_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, place: str, distill: str
) -> None:
    """`choices.json` is written first, config.yaml second, and the checkpoint last."""
    settings = ["training.max_latency=0.7" if distill == "null" else "training.max_latency=2"]
    settings.append(f"training.distill={distill}")
    whole = trained(tmp_path / "whole", source, *settings)
    flags = {"data.source": str(source), "data.target": "buys"}
    prepared = prepare.prepare(run_config.load(None, [*SMALL, *settings], flags))
    run = prepare.create(tmp_path / "run", prepared)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model_choices, place, killed)
        train.train(run, prepared, measure=Clock())
    assert run.choices.is_file()
    assert (run.read_config().training.max_latency is None) is (place == "_taken")
    train.train(run, prepare.reopen(run), measure=killed)  # type: ignore[arg-type]
    found = model_choices.read(run)
    assert found is not None
    assert found == model_choices.read(whole)
    assert found.taken.distilled is (distill == "null")
    assert run.read_config() == whole.read_config()
    kept, known = weights(run), weights(whole)
    assert kept.keys() == known.keys()
    assert all(tensor.equal(known[name]) for name, tensor in kept.items())
    assert read_metrics(run) == read_metrics(whole)


def _constant(milliseconds: float, model: TrainedModel, sample: Groups) -> float:
    return milliseconds


def test_another_model_is_measured_and_told_to_be_too_slow(tmp_path: Path, source: Path) -> None:
    flags = {"data.source": str(source), "data.target": "buys"}
    settings = ["model.name=mlp", "model.hidden=[24, 8]", "training.epochs=2", "device=cpu", "training.max_latency=0.5"]
    prepared = prepare.prepare(run_config.load(None, settings, flags))
    for milliseconds, slow in ((0.4, False), (0.8, True)):
        run = prepare.create(tmp_path / str(slow), prepared)
        train.train(run, prepared, measure=partial(_constant, milliseconds))
        warning = model_choices.warning(run)
        assert (warning is not None) is slow
        assert "0.8 ms" in (warning or "0.8 ms")
        assert "'model.hidden=[12, 4]'" in (warning or "'model.hidden=[12, 4]'")
    assert run.read_config().training.max_latency is None


@pytest.mark.parametrize(
    ("settings", "smaller"),
    [
        (["model.name=pack"], "model.pack.width=64"),
        (["model.name=pack", "model.pack.width=1"], None),
        (["model.name=pack", "model.pack.blocks=[0]"], None),
        (["model.name=pack", "model.pack.blocks=[0, 1]", "model.pack.width=3"], "model.pack.width=1"),
        (["model.name=mlp", "model.hidden=[3, 1]"], "'model.hidden=[1, 1]'"),
        (["model.name=mlp", "model.hidden=[1, 1]"], None),
        (["model.name=mlp", "model.hidden=[]"], None),
        (["model.name=tabm"], "model.name=pack"),
        (["model.name=linear"], None),
    ],
)
def test_a_warning_proposes_a_model_that_is_smaller(
    tmp_path: Path, source: Path, settings: list[str], smaller: str | None
) -> None:
    flags = {"data.source": str(source), "data.target": "buys"}
    asked = run_config.load(None, [*settings, "device=cpu", "training.max_latency=0.5"], flags)
    run = prepare.create(tmp_path / "run", prepare.prepare(asked))
    only = ModelChoice(members=1, distilled=False, score=0.5, milliseconds=0.8, taken=True)
    found = ModelChoices(metric="log_loss", max_latency=0.5, folds=1, choices=(only,))
    write_atomic(run.choices, documents.encode(found))
    warning = model_choices.warning(run)
    assert warning is not None
    if smaller is None:
        assert warning.endswith("train again with a higher limit")
    else:
        assert f"such as {smaller}, or with a higher limit" in warning


def test_what_cannot_be_limited_is_refused_together(source: Path) -> None:
    flags = {"data.source": str(source), "data.target": "buys", "split.folds": 3}
    asked = run_config.load(None, ["model.name=mlp", "training.max_latency=1", "training.distill=true"], flags)
    with pytest.raises(InputError) as refused:
        prepare.prepare(asked)
    assert list(refused.value.details) == [
        "training.max_latency: cannot be cross-validated; remove it, or split.folds",
        "training.distill: needs the model pack; set model.name=pack",
    ]


@pytest.mark.parametrize("setting", ["training.max_latency=1", "training.distill=true"])
def test_a_study_has_no_limit(setting: str) -> None:
    with pytest.raises(InputError) as refused:
        study.request({}, ["model.name=pack", setting], {}, ["optimizer.lr={log: [1e-4, 1e-2]}"], [])
    assert any(fault.startswith(f"{setting.partition('=')[0]}: leave it out") for fault in refused.value.details)


def test_how_far_answers_are_from_those_of_an_ensemble() -> None:
    even, sure = np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([[0.5, 0.5], [0.0, 1.0]])
    assert difference(even, even) == difference(sure, sure) == 0
    assert difference(sure, even) == pytest.approx(-np.log(0.75) / 2)
    assert difference(np.array([1.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(12.5**0.5)
