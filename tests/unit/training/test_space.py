"""Search spaces: how they are written, every fault at once, the points of a grid and of a study."""

from itertools import product
from typing import Any

import optuna
import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import Field, Outputs, Schema
from dle_training.config.run_config import RunConfig
from dle_training.models import registry
from dle_training.models.families import FAMILIES
from dle_training.models.family import InputKind
from dle_training.preprocessing.settings import PreprocessingConfig
from dle_training.search import defaults, points
from dle_training.search import space as spaces
from dle_training.settings import yaml_text
from dle_training.settings.dimensions import Choice, Dimension, Float, Int, Space
from dle_training.settings.yaml_text import Tree

EXAMPLE = """
seed: 3
optimizer:
  lr: {log: [1e-4, 1e-2]}
  name: {choice: [adamw, sgd]}
model:
  dropout: {float: [0, 0.5]}
  hidden: {choice: [[64], [256, 256, 256]]}
  embedding_dim: {int: [4, 32]}
  rnn: {width: {log: [8, 256]}, layers: 2}
"""
DIMENSIONS: dict[str, Dimension] = {
    "optimizer.lr": Float(1e-4, 1e-2, log=True),
    "optimizer.name": Choice(("adamw", "sgd")),
    "model.dropout": Float(0, 0.5),
    "model.hidden": Choice(([64], [256, 256, 256])),
    "model.embedding_dim": Int(4, 32),
    "model.rnn.width": Int(8, 256, log=True),
}
COMBINATIONS: list[dict[InputKind, str]] = [
    dict(zip(("image", "sequence", "text", "table"), names, strict=True))
    for names in product(
        ("cnn", "timm:resnet18"), ("tcn", "rnn", "transformer", "dlinear"), ("bag", "rnn", "transformer"), ("mlp",)
    )
]


def faults(text: str = "", written: list[str] | None = None, grids: list[str] | None = None, *sets: str) -> list[str]:
    fixed, space, found = spaces.read(yaml_text.read("search.yaml", text), written or [], grids or [])
    found += yaml_text.settings([*sets], fixed)
    with pytest.raises(InputError) as caught:
        spaces.check(space, fixed, found)
    return list(caught.value.details)


def test_dimensions_stand_in_place_of_values() -> None:
    tree = yaml_text.read("search.yaml", EXAMPLE)
    fixed, space, found = spaces.read(tree)
    assert found == []
    assert space == Space(DIMENSIONS)
    assert list(space.dimensions) == list(DIMENSIONS)
    assert fixed == {"seed": 3, "model": {"rnn": {"layers": 2}}}
    assert tree == yaml_text.read("search.yaml", EXAMPLE)  # which is left as it is
    spaces.check(space, fixed)


def test_flags_say_the_same() -> None:
    given = ["optimizer.lr={log: [1e-4, 1e-2]}", "model.rnn.width={log: [8, 256]}"]
    grids = [
        "model.hidden=[64],[128, 128]",
        "optimizer.weight_decay=0,1e-3",
        "optimizer.name= sgd , adam",
        "model.name=~",
    ]
    fixed, space, found = spaces.read({}, given, grids)
    assert (fixed, found) == ({}, [])
    assert space.dimensions == {
        "optimizer.lr": DIMENSIONS["optimizer.lr"],
        "model.rnn.width": DIMENSIONS["model.rnn.width"],
        "model.hidden": Choice(([64], [128, 128])),
        "optimizer.weight_decay": Choice((0, 1e-3)),
        "optimizer.name": Choice(("sgd", "adam")),
        "model.name": Choice((None,)),
    }
    spaces.check(space, fixed)


def test_log_is_of_whole_numbers_where_the_setting_and_both_bounds_are() -> None:
    _, space, _ = spaces.read({}, ["training.epochs={log: [1, 100]}", "optimizer.lr={log: [1, 100]}"])
    assert space.dimensions == {"training.epochs": Int(1, 100, log=True), "optimizer.lr": Float(1, 100, log=True)}
    assert faults("", ["training.epochs={log: [1.5, 100]}"])[0] == "training.epochs: expected int | null, found 1.5"


def test_columns_and_classes_may_have_the_names_of_kinds() -> None:
    tree: Tree = {
        "data": {"kinds": {"choice": "numeric"}, "date_formats": {"log": "%Y"}},
        "objective": {"class_weights": {"float": 2}},
    }
    fixed, space, found = spaces.read(tree)
    assert (fixed, space, found) == (tree, Space({}), [])
    spaces.check(space, fixed)


def test_the_series_that_scale_windows_are_an_input_of_all_trials() -> None:
    (fault,) = faults("", ["preprocessing.window_scaling={choice: [window, series]}"])
    assert fault == (
        "preprocessing.window_scaling: series cannot be one of several, because it makes the series an input; give "
        "window and none, or set it for all trials: --set preprocessing.window_scaling=series"
    )
    fixed, space, _ = spaces.read({}, ["preprocessing.window_scaling={choice: [window, none]}"])
    spaces.check(space, fixed)


def test_class_weights_vary_as_a_whole() -> None:
    weights = [None, "balanced", {"a": 2.0}]
    fixed, space, _ = spaces.read({"objective": {"class_weights": {"choice": weights}}})
    assert (fixed, space) == ({}, Space({"objective.class_weights": Choice(tuple(weights))}))
    spaces.check(space, fixed)
    for point in points.grid(space, fixed):
        assert points.apply(fixed, point).objective.class_weights == point["objective.class_weights"]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("{choice: []}", "choice: expected at least one value, found none"),
        ("{choice: 3}", "choice: expected a list of values, found 3"),
        ("{choice: [1e-3, 1e-2, 0.001]}", "choice: expected each value once, found 0.001 again"),
        ("{log: [1e-3]}", "log: expected two numbers above 0, the lower first, found the list [0.001]"),
        ("{log: 1e-3}", "log: expected two numbers above 0, the lower first, found 0.001"),
        ("{log: [0, 1]}", "log: expected two numbers above 0, the lower first, found the list [0,1]"),
        ("{float: [0.5, 0.1]}", "float: expected two numbers, the lower first, found the list [0.5,0.1]"),
        ("{float: [0.5, 0.5]}", "float: expected two numbers, the lower first, found the list [0.5,0.5]"),
        ("{float: [a, true]}", 'float: expected two numbers, the lower first, found the list ["a",true]'),
        ("{int: [1, 2.5]}", "int: expected two whole numbers, the lower first, found the list [1,2.5]"),
        ("{int: [1, 2, 3]}", "int: expected two whole numbers, the lower first, found the list [1,2,3]"),
        ("1e-3", "expected one of choice, int, float, log, as in {log: [1e-4, 1e-2]}, found 0.001"),
        (
            "{logg: [1e-4, 1e-2]}",
            "expected one of choice, int, float, log, as in {log: [1e-4, 1e-2]}, found logg (did you mean 'log'?)",
        ),
        ("{low: 1, high: 2}", "expected one of choice, int, float, log, as in {log: [1e-4, 1e-2]}, found a mapping"),
        ("{log: [4, 1e16]}", "log: expected numbers of at most 2**53, found the list [4,1e16]"),
    ],
)
def test_what_makes_no_dimension(written: str, fault: str) -> None:
    assert faults("", [f"optimizer.lr={written}"]) == [f"optimizer.lr: {fault}"]
    if written.startswith("{") and "low" not in written:
        assert faults(f"optimizer: {{lr: {written}}}") == [f"optimizer.lr: {fault}"]


def test_whole_numbers_may_be_written_as_floats() -> None:
    _, space, found = spaces.read({}, ["model.embedding_dim={log: [4, 1e3]}", "model.rnn.width={int: [8, 6.4e1]}"])
    assert found == []
    assert space == Space({"model.embedding_dim": Int(4, 1000, log=True), "model.rnn.width": Int(8, 64)})


@pytest.mark.parametrize("bound", [".inf", ".nan", "1" + "0" * 400])
def test_bounds_that_no_study_can_hold(bound: str) -> None:
    assert len(faults("", [f"training.epochs={{int: [1, {bound}]}}", f"optimizer.lr={{float: [1, {bound}]}}"])) == 2


def test_every_fault_at_once() -> None:
    text = """
training: {epochs: -1, metric: {choice: [f1_macro]}, checkpoint_seconds: {float: [1, 2]}}
optimizer: {lr: {log: [1e-3, 1e-2]}, momentum: {float: [0, 1]}, name: {choice: [adamw, sgdd]}}
modle: {dropout: {float: [0, 0.5]}}
model: {dropuot: {float: [0, 0.5]}, hidden: {choice: [[64], [0]]}, batch_norm: {int: [0, 1]}}
split: {test: {float: [0.1, 0.2]}}
schedule: {choice: [cosine]}
augmentation: {zoom: {float: [1]}}
data: {horizon: {choice: [1, 2]}}
"""
    weight = "objective.class_weights.a"
    found = faults(
        text,
        ["seed={int: [0, 9]}", "optimizer.lr={log: [1e-3, 1e-1]}", "lr", f"{weight}={{float: [1, 2]}}"],
        ["device=cpu,cuda", "objective.task=regression", "optimizer.weight_decay=0,a]", "preprocessing.max_tokens=8"],
        "preprocessing.max_tokens=64",
        "model.name",
    )
    assert found == [
        '--space lr: expected KEY=VALUE, as in "optimizer.lr={log: [1e-4, 1e-2]}"',
        next(fault for fault in found if fault.startswith("--grid optimizer.weight_decay=0,a]: the value is not YAML")),
        "optimizer.lr: expected one space, found two: by --config and by --space",
        "augmentation.zoom: float: expected two numbers, the lower first, found the list [1]",
        "--set model.name: expected KEY=VALUE, as in training.epochs=20",
        "training.epochs: expected int >= 1, found -1",
        "training.metric: cannot vary, because trials are compared by the same metric",
        (
            "training.checkpoint_seconds: cannot vary, because the setting decides how often a trial is "
            "saved and not what it learns"
        ),
        "optimizer.momentum: expected float < 1.0, found 1.0",
        "optimizer.name: expected adamw, adam, sgd, muon (did you mean 'sgd'?), found 'sgdd'",
        "modle: unknown key (did you mean 'model'?)",
        "model.dropuot: unknown key (did you mean 'dropout'?)",
        "model.hidden[0]: expected int >= 1, found 0",
        "model.batch_norm: expected a choice, found a range, but this setting takes no numbers",
        "split.test: cannot vary, because trials are compared on the same validation rows",
        "schedule: expected a setting, found a section: give a space for the settings in it",
        "data.horizon: cannot vary, because trials learn from the same data",
        "seed: cannot vary, because trials are compared with the same split and the same random numbers",
        f"{weight}: expected a setting, found a part of objective.class_weights",
        "device: cannot vary, because the device decides where a trial runs and not what it learns",
        "objective.task: cannot vary, because all trials of a study have the same task",
        "preprocessing.max_tokens: expected a value or a space, found both",
    ]


def test_a_space_without_any_valid_point_is_refused_with_the_reason() -> None:
    (fault,) = faults("", [], ["model.transformer.width=30,50", "model.transformer.heads=4,8"])
    assert fault == (
        "none of 4 combinations tried is valid. The first fails because: "
        "model.transformer.width: expected a multiple of 4 heads, found 30"
    )
    (fault,) = faults("", ["optimizer.lr={log: [1e-4, 1e-2]}"], [], "model.batch_norm=true", "training.batch_size=1")
    assert fault.startswith(
        "none of 1,000 combinations tried is valid. The first fails because: training.batch_size: expected at"
    )
    _, space, _ = spaces.read({}, ["model.transformer.width={int: [50, 99]}"], ["model.transformer.heads=7,97"])
    spaces.check(space, {})


def test_a_grid_leaves_out_what_excludes_each_other() -> None:
    _, space, _ = spaces.read({}, [], ["model.transformer.heads=2,4", "model.transformer.width=30,64"])
    spaces.check(space, {})
    assert points.size(space) == 4
    assert points.grid(space, {}) == (
        {"model.transformer.heads": 2, "model.transformer.width": 30},
        {"model.transformer.heads": 2, "model.transformer.width": 64},
        {"model.transformer.heads": 4, "model.transformer.width": 64},
    )
    with pytest.raises(InputError, match="expected a multiple of 4 heads, found 30"):
        points.apply({}, {"model.transformer.heads": 4, "model.transformer.width": 30})


@pytest.mark.parametrize("function", [points.size, lambda space: points.grid(space, {})])
def test_a_range_has_no_grid(function: Any) -> None:
    with pytest.raises(InputError) as caught:
        function(Space(DIMENSIONS))
    assert [fault.split(":")[0] for fault in caught.value.details] == [
        "optimizer.lr",
        "model.dropout",
        "model.embedding_dim",
        "model.rnn.width",
    ]


def test_fixed_settings_stay_and_are_not_changed() -> None:
    fixed: Tree = {"model": {"rnn": {"layers": 2}}, "seed": 3}
    config = points.apply(fixed, {"model.rnn.width": 16, "model.hidden": [8, 8]})
    rnn = registry.section(config.model, FAMILIES["rnn"])
    assert (rnn.layers, rnn.width, config.model.hidden, config.seed) == (2, 16, (8, 8), 3)
    assert fixed == {"model": {"rnn": {"layers": 2}}, "seed": 3}


def test_a_study_suggests_points_of_the_space() -> None:
    """Through Optuna's own storage, in which there are no lists."""
    space = Space({**DIMENSIONS, "objective.class_weights": Choice((None, "balanced", {"a": 2.0}))})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    enqueued = {**dict.fromkeys(DIMENSIONS, 16), "model.hidden": [256, 256, 256], "objective.class_weights": {"a": 2.0}}
    enqueued |= {"optimizer.name": "sgd", "optimizer.lr": 1e-3, "model.dropout": 0.25}
    study.enqueue_trial(points.to_storable(enqueued))
    for number in range(20):
        trial = study.ask()
        point = points.suggest(space, trial)
        assert list(point) == list(space.dimensions)
        assert points.from_storable(space, trial.params) == point
        assert points.to_storable(point) == trial.params
        assert isinstance(points.apply({}, point), RunConfig)
        assert isinstance(point["model.rnn.width"], int)
        assert number or point == enqueued
        study.tell(trial, 0.0)
    grid = optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
    assert study.trials[0].distributions["optimizer.lr"] == grid


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=registry.joined)
def test_default_spaces_are_sound(chosen: dict[InputKind, str]) -> None:
    """For all models together, and for each kind of input alone."""
    for part in (chosen, *({kind: name} for kind, name in chosen.items())):
        space = defaults.space(part, {})
        spaces.check(space, {})
        for point in points.some(space, 50):
            points.apply({}, point)
        assert spaces.from_tree(yaml_text.parse(yaml_text.write(spaces.to_tree(space)))) == space


def test_default_spaces_hold_the_defaults() -> None:
    """So that a search starts from what a user has without one."""
    resolved = {
        "model.hidden": [256, 256, 256], "model.pack.width": 256, "model.pack.members": 8,
        "preprocessing.piecewise_bins": 32, "augmentation.shift": 0.08,
        "preprocessing.numeric": "standard",
    }  # fmt: skip
    for entry in FAMILIES.values():
        for key, dimension in entry.space.items():
            value: Any = RunConfig()
            for name in key.split("."):
                value = getattr(value, name)
            value = list(value) if isinstance(value, tuple) else value
            value = resolved.get(key, entry.dropout if key == "model.dropout" else value)
            if value is None:
                assert key in ("optimizer.lr", "optimizer.weight_decay", "optimizer.beta2")
            elif isinstance(dimension, Choice):
                assert value in dimension.values
            else:
                assert dimension.low <= value <= dimension.high


def test_dearer_encoders_go_first() -> None:
    space = defaults.space({"text": "bag", "table": "mlp"}, {}).dimensions
    assert space["model.dropout"] == FAMILIES["bag"].space["model.dropout"]
    assert space["optimizer.lr"] == FAMILIES["bag"].space["optimizer.lr"]
    assert "model.hidden" in space
    assert defaults.space({"table": "mlp"}, {}).dimensions["optimizer.lr"] == defaults.COMMON["optimizer.lr"]


def test_what_is_fixed_is_not_varied_by_default() -> None:
    fixed: Tree = {"optimizer": {"lr": 1e-3}, "model": {"hidden": [8]}}
    space = defaults.space({"table": "mlp"}, fixed)
    assert not {"optimizer.lr", "model.hidden"} & set(space.dimensions)
    spaces.check(space, fixed)


COLUMNS = {
    "a": Field(name="a", kind="numeric", required=True),
    "b": Field(name="b", kind="boolean", required=True),
    "c": Field(name="c", kind="categorical", required=True, categories=("x", "y")),
}


@pytest.mark.parametrize(
    ("columns", "limit", "gone"),
    [
        ("ac", 1, []),
        ("ac", 2, ["model.embedding_dim"]),
        ("a", 0, ["model.embedding_dim"]),
        ("bc", 0, ["preprocessing.numeric", "preprocessing.piecewise_bins"]),
    ],
)
def test_what_makes_no_difference_is_not_varied(columns: str, limit: int, gone: list[str]) -> None:
    schema = Schema(inputs=tuple(COLUMNS[name] for name in columns), outputs=Outputs(task="regression", target="y"))
    space = defaults.space({"table": "mlp"}, {})
    effective = defaults.effective(space, schema, PreprocessingConfig(one_hot_limit=limit))
    assert [key for key in space.dimensions if key not in effective.dimensions] == gone


def test_a_space_is_read_back_from_yaml() -> None:
    space = Space(DIMENSIONS)
    text = yaml_text.write(spaces.to_tree(space))
    read = spaces.from_tree(yaml_text.parse(text))
    assert read == space
    assert list(read.dimensions) == list(DIMENSIONS)
    assert read != Space({**DIMENSIONS, "optimizer.lr": Float(1e-4, 1e-1, log=True)})
    assert read != Space({**DIMENSIONS, "model.rnn.width": Float(8, 256, log=True)})
    with pytest.raises(InputError) as caught:
        spaces.from_tree({"optimizer.lr": {"log": [1]}, "model.name": "mlp"})
    assert len(caught.value.details) == 2
