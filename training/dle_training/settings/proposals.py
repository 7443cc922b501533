"""What messages of training propose: settings, options and calls, as a shell or Python takes them."""

import shlex
from pathlib import Path

from dle_bundle.proposals import argument, for_python
from dle_bundle.proposals import flag as flag
from dle_bundle.proposals import setting as setting
from dle_bundle.proposals import together as together
from dle_bundle.schema import Schema

SETTINGS = {
    "SOURCE": "data.source", "--target": "data.target", "--split": "split.by", "--folds": "split.folds",
    "--preset": "preset", "--max-latency": "training.max_latency", "--seed": "seed", "--device": "device",
    "--baseline": "training.baseline", "--search": "study.search", "--trials": "study.trials", "--jobs": "study.jobs",
    "--engine": "study.engine", "--timeout": "study.timeout",
}  # fmt: skip
"""The setting that each option of a command stands for, by its dotted key."""
_OPTIONS = {key: name for name, key in SETTINGS.items()}


def option(key: str, value: str | bool) -> str:
    """Return the setting `key`, which has an option: `--split time:day`, or in Python `split={'by': 'time:day'}`.

    The option of a truth value is alone: `--baseline`, or `--no-baseline`.
    """
    if for_python():
        return argument(key, value)
    if isinstance(value, bool):
        return switch(_OPTIONS[key], on=value)
    return f"{_OPTIONS[key]} {shlex.quote(value)}"


def switch(name: str, *, on: bool) -> str:
    """Return an option without a value, such as `--baseline`, or the one that turns it off."""
    return name if on else f"--no-{name.removeprefix('--')}"


def another_folder() -> str:
    """Return how a user chooses another folder for a run."""
    return f"choose another folder with {flag('out')}"


def resuming(run: Path) -> str:
    """Return what continues the run in this folder."""
    if for_python():
        return f"dle_training.train(…, out={str(run)!r}, resume=True)"
    return f"dle-train --resume --out {shlex.quote(str(run))}"


def evaluating(run: Path) -> str:
    """Return what evaluates the run in this folder on its test part."""
    if for_python():
        return f"dle_training.Run({str(run)!r}).evaluate()"
    return f"dle-evaluate {shlex.quote(str(run))}"


def resuming_study(study: Path) -> str:
    """Return what continues the study in this folder, for which Python has no call."""
    return f"dle-tune --resume --out {shlex.quote(str(study))}"


def training(config: Path, run: Path) -> str:
    """Return what trains a run in this folder by the settings in the file `config`, and on their source."""
    if for_python():
        return f"dle_training.train(SOURCE, config={str(config)!r}, out={str(run)!r})"
    return f"dle-train --config {shlex.quote(str(config))} --out {shlex.quote(str(run))}"


def predicting(bundle: Path | str, schema: Schema) -> str:
    """Return what predicts new rows with this bundle. Images without other inputs are the files of a folder."""
    only_images = [field.kind for field in schema.inputs] == ["image"]
    source = "images/" if only_images else "rows.csv"
    return f"dle-predict {shlex.quote(str(bundle))} {source} --out predictions.csv"
