"""The run folder: the paths of its files, and their contents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.files import refuse_impossible, write_atomic
from dle_training.config import run_config
from dle_training.config.run_config import RunConfig
from dle_training.data.dataset import Dataset
from dle_training.fitting.listeners import HISTORY
from dle_training.runs import kept_rows
from dle_training.settings import proposals

CONFIG, STUDY = "config.yaml", "study.yaml"
"""The file that marks a folder as a run, and the file that marks it as a study."""
SELECTED = "selected"
"""The folder of a study's selected run, within the study."""


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `data.json`: facts about the data when the run began.

    `digest` is the SHA-256 of the source's content. `rows` is the number of rows in each part. `kept` is the number of
    test and validation rows that the finished run keeps. `dropped` gives the reason for each column that is not an
    input. `notes` are remarks on the data.
    """

    digest: str
    rows: dict[str, int]
    kept: dict[str, int]
    dropped: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def workers(self) -> Path:
        """Files that the workers of a Ray cluster share while they train."""
        return self.path / "workers"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def schema(self) -> Path:
        return self.path / "schema.json"

    @property
    def split(self) -> Path:
        return self.path / "split.npz"

    @property
    def preprocessing(self) -> Path:
        return self.path / "preprocessing.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def objective(self) -> Path:
        return self.path / "objective.json"

    @property
    def history(self) -> Path:
        return self.path / HISTORY

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def refitted(self) -> Path:
        return self.path / "checkpoints" / "refit"

    @property
    def distilled(self) -> Path:
        return self.path / "checkpoints" / "distilled"

    @property
    def choices(self) -> Path:
        """The models that the run could have kept: see `ModelChoices`."""
        return self.path / "choices.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def training_sample(self) -> Path:
        """Some training rows: see `training_sample`."""
        return self.path / "rows" / "training_sample.parquet"

    @property
    def validation_answers(self) -> Path:
        """The row number, the target and the answer of each validation row."""
        return self.path / "rows" / "validation_answers.parquet"

    @property
    def forecast_baselines(self) -> Path:
        """The baselines of a forecast: their fitted numbers, and their forecasts for the test rows that are kept."""
        return self.path / "rows" / "baselines.npz"

    @property
    def baseline_answers(self) -> Path:
        """The answers of a table's baselines to the test rows that are kept."""
        return self.path / "rows" / "baseline_answers.npz"

    @property
    def trained_rows(self) -> Path:
        """Hashes of the rows that were trained on: see `trained_rows`."""
        return self.path / "rows" / "trained_rows.npz"

    @property
    def reference(self) -> Path:
        return self.path / "reference.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def latency(self) -> Path:
        return self.path / "latency.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def part(self, name: str) -> Path:
        """The rows of the `test` or the `validation` part."""
        return self.path / "rows" / f"{name}.parquet"

    def read_config(self) -> RunConfig:
        """The configuration of the run. Raises InputError if there is no run."""
        if is_study(self.path):
            raise InputError(f"{self.path}: this is a study, not a run: {proposals.resuming_study(self.path)}")
        if not self.config.is_file():
            raise InputError(f"{self.path}: this is not a run (expected a folder with a config.yaml)")
        return run_config.load(self.config)


def found(path: Path) -> RunFolder:
    """Return the run at `path`, or the selected run if `path` is a study.

    Raises InputError for a study without a selected run, and for a trial.
    """
    if not is_study(path):
        refuse_trial(path)
        return RunFolder(path)
    selected = RunFolder(path / SELECTED)
    if not selected.metrics.is_file():
        raise InputError(f"{path}: the study has not finished: {proposals.resuming_study(path)}")
    return selected


def is_study(path: Path) -> bool:
    """Whether `path` is a study: a folder with a study.yaml."""
    return (path / STUDY).is_file()


def refuse_trial(path: Path) -> None:
    """Raise InputError for a trial of a study, because it shares the study's data and keeps no rows."""
    study = next((folder for folder in path.absolute().parents if is_study(folder)), None)
    config = RunFolder(path).config
    if study is not None and config.is_file() and path.absolute() != study / SELECTED:
        again = proposals.training(config, Path(f"{study}-{path.absolute().name}"))
        raise InputError(
            f"{path}: a trial of a study keeps no rows. Name the study, {study}, or train the trial as a run: {again}"
        )


def facts(dataset: Dataset, keep_rows: int) -> DataFacts:
    """Return the content of `data.json` for a data set. `keep_rows` is the setting `data.keep_rows`."""
    return DataFacts(
        digest=dataset.digest,
        rows=dataset.split.sizes(),
        kept=kept_rows.count(dataset, keep_rows),
        dropped=dataset.dropped,
        notes=(*dataset.warnings, *dataset.notes),
    )


def is_finished(run: RunFolder) -> bool:
    """Whether the training is finished, with the cross-validation and the baselines that the configuration asks for.

    Raises InputError if there is no run.
    """
    config = run.read_config()
    if not run.metrics.is_file():
        return False
    known = read_metrics(run)
    return (config.split.folds is None or "cross_validation" in known) and (
        not config.training.baseline or "baselines" in known
    )


def refuse_existing(folder: Path) -> None:
    """Raise InputError if `folder` exists already, or cannot be created."""
    if folder.exists():
        run = RunFolder(folder)
        if run.metrics.is_file() and not is_study(folder) and is_finished(run):
            raise InputError(
                f"{folder} exists already and its run is finished: {proposals.evaluating(folder)}, or "
                f"{proposals.another_folder()}"
            )
        resuming = proposals.resuming_study(folder) if is_study(folder) else proposals.resuming(folder)
        what = "study" if is_study(folder) else "run"
        known = is_study(folder) or run.config.is_file()
        further = f"continue that {what} with {resuming}, or " if known else ""
        raise InputError(f"{folder} exists already: {further}{proposals.another_folder()}")
    refuse_impossible(folder)


def read_facts(run: RunFolder) -> DataFacts:
    """Return the content of data.json."""
    return documents.read(run.data, DataFacts)


def read_metrics(run: RunFolder) -> dict[str, Any]:
    """Return the content of metrics.json: the scores of each part, by the name of the part."""
    return documents.read(run.metrics, dict)


def write_metrics(run: RunFolder, **parts: object) -> None:
    """Add or replace parts in metrics.json."""
    known = read_metrics(run) if run.metrics.exists() else {}
    write_atomic(run.metrics, documents.encode({**known, **parts}))
