"""The configuration: what it takes, what it refuses, and that a dumped one replays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from dle_bundle.errors import InputError
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.models.families import FAMILIES
from dle_training.optimization.losses import LOSSES
from dle_training.optimization.optimizers import OPTIMIZERS
from dle_training.optimization.schedules import SCHEDULES
from dle_training.scoring.metrics import METRICS, MetricName
from dle_training.settings.base import Settings


def faults(*assignments: str, **flags: object) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        run_config.load(None, list(assignments), flags)
    assert caught.value.exit_code == 2
    return caught.value.details


def test_defaults() -> None:
    assert run_config.load() == RunConfig()


def test_file_then_settings_then_flags(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\ntraining: {epochs: 5, batch_size: 64}\nmodel:\n  hidden: [8, 4]\n")
    config = run_config.load(path, ["training.epochs=6", "seed=2"], {"seed": 3, "data.source": "1.csv"})
    assert (config.training.epochs, config.training.batch_size, config.seed) == (6, 64, 3)
    assert config.model.hidden == (8, 4)
    assert config.data.source == "1.csv"


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("# nothing yet\n")
    assert run_config.load(path) == RunConfig()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("2E+1", 20.0), (".5", 0.5), ("3", 3.0), ("1_000", None), ("0x10", None), ("no", None)],
)
def test_numbers_are_what_they_look_like(text: str, value: float | None) -> None:
    if value is None:
        assert faults(f"optimizer.lr={text}") == (f"optimizer.lr: expected float | null, found '{text}'",)
    else:
        assert run_config.load(None, [f"optimizer.lr={text}"]).optimizer.lr == value


def test_words_stay_words() -> None:
    config = run_config.load(None, ["data.na_values=[no, off, '-', '1e-3', 12:30, 2020-01-01, '']"])
    assert config.data.na_values == ("no", "off", "-", "1e-3", "12:30", "2020-01-01", "")


def test_labels_are_keys_as_written() -> None:
    config = run_config.load(None, ["objective.class_weights={0: 1, 1: 3.5, true: 2, a b: 1e-1}"])
    assert config.objective.class_weights == {"0": 1.0, "1": 3.5, "true": 2.0, "a b": 0.1}


def test_a_dumped_configuration_replays(tmp_path: Path) -> None:
    config = run_config.load(
        None,
        [
            "data.na_values=[no, '1e-3', '~', 'null', '12', '.5', 'é', '']",
            "data.kinds={yes: numeric, '1': categorical}",
            "objective.class_weights={1: 2, true: 3}",
            "optimizer.lr=1e-22",
            "training.patience=0",
            "split.by=column:on",
        ],
    )
    path = tmp_path / "config.yaml"
    path.write_text(run_config.dump(config))
    assert run_config.load(path) == config


def test_every_fault_at_once() -> None:
    found = faults(
        "training.epoch=3",
        "epochs",
        "a={",
        "model.hidden=[64, -1, x]",
        "model.dropout=1",
        "data.kinds={age: number, zip: words}",
        "objective.class_weights={a: 0}",
        "split.by=sorted",
        "optimizer=adam",
        seed="x",
    )
    assert [fault.split(":")[0] for fault in found] == [
        "--set epochs",
        "--set a={",
        "training.epoch",
        "model.hidden[1]",
        "model.hidden[2]",
        "model.dropout",
        "data.kinds.age",
        "data.kinds.zip",
        "objective.class_weights.a",
        "split.by",
        "optimizer",
        "seed",
    ]
    assert found[2] == "training.epoch: unknown key (did you mean 'epochs'?)"
    assert found[3] == "model.hidden[1]: expected int >= 1, found -1"
    assert found[6].endswith("(did you mean 'numeric'?), found 'number'")
    settings = "name, lr, momentum, beta2, weight_decay"
    assert found[10] == f"optimizer: expected a mapping of {settings}, found 'adam' (did you mean 'optimizer.name'?)"


def test_unknown_sections_list_the_known_ones() -> None:
    assert faults("zzz=1")[0].startswith("zzz: unknown key (known here: preset, data, split, preprocessing,")


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["split.validation=0.6", "split.test=0.4"], "split.validation + split.test: expected less than 1"),
        (["model.batch_norm=true", "training.batch_size=1"], "training.batch_size: expected at least 2"),
        (["objective.task=regression", "objective.class_weights=balanced"], "objective.class_weights: expected null"),
    ],
)
def test_settings_that_exclude_each_other(assignments: list[str], words: str) -> None:
    assert faults(*assignments)[0].startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n", "expected a mapping"),
        ("seed: 1\nseed: 2\n", "seed is given twice"),
        ("a: [\n", "not readable as YAML"),
        ("? [1, 2]\n: 3\n", "a key must be a word"),
        ("!!python/object:os.system {}\n", "not readable as YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        run_config.load(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file; expected a YAML file of settings"):
        run_config.load(tmp_path / "none.yaml")


def test_names_are_those_of_the_registries() -> None:
    schema = run_config.json_schema()["$defs"]
    assert set(schema["OptimizerConfig"]["properties"]["name"]["enum"]) == set(OPTIMIZERS)
    names, null = schema["ScheduleConfig"]["properties"]["name"]["anyOf"]
    assert set(names["enum"]) == set(SCHEDULES)
    assert null == {"type": "null"}
    assert get_args(MetricName) == tuple(METRICS)
    for entries in (FAMILIES, LOSSES, OPTIMIZERS, SCHEDULES, METRICS):
        assert all(entry.description for entry in entries.values())


def test_every_setting_is_described_and_has_its_default_in_the_schema() -> None:
    definitions: dict[str, Any] = run_config.json_schema()["$defs"]
    kinds = {type(section).__name__: type(section) for section in _sections(RunConfig())}
    for name, definition in definitions.items():
        kind = kinds[name]
        assert definition["additionalProperties"] is False
        assert definition["description"]
        for field in msgspec.structs.fields(kind):
            entry = definition["properties"][field.encode_name]
            assert "default" in entry
            assert "$ref" in str(entry) or entry["description"]


def _sections(config: Settings) -> Iterator[Settings]:
    yield config
    for name in config.__struct_fields__:
        if isinstance(section := getattr(config, name), Settings):
            yield from _sections(section)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("data.known=promo", r"data\.known: expected a list, such as \[promo\], found 'promo'"),
        ("model.pack.lr=[1]", r"model\.pack\.lr: expected a list of length >= 2, found the list \[1\]"),
        ("data.drop=7", r"data\.drop: expected a list, found 7"),
        ("model.hidden=8", r"model\.hidden: expected a list, such as \[8\], found 8"),
        ("data.kinds=numeric", r"data\.kinds: expected a mapping, found 'numeric'"),
    ],
)
def test_lists_and_mappings_are_asked_for_in_words(assignment: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        run_config.load(None, [assignment])
