"""`RunConfig`: all settings of a run as one typed value, which `config.yaml` holds and `--set` changes.

The JSON schema and the configuration reference are generated from the defaults, ranges and descriptions here.
`config/resolve.py` replaces a null by its value before training, so that the `config.yaml` of a run replays it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dle_bundle.errors import InputError
from dle_bundle.schema import Kind, TextFormat
from dle_training.augmentation.settings import AugmentationConfig
from dle_training.models.families import ModelConfig
from dle_training.models.family import Preset
from dle_training.optimization.optimizers import OptimizerConfig
from dle_training.optimization.schedules import ScheduleConfig
from dle_training.preprocessing.settings import PreprocessingConfig
from dle_training.scoring.metrics import MetricName
from dle_training.settings import yaml_text
from dle_training.settings.base import Count, Fraction, Positive, Settings


class DataConfig(Settings, frozen=True):
    """The source of the rows, and how its columns are read."""

    source: Annotated[
        str | tuple[str, ...] | None,
        Meta(
            description="File, pattern or list of files (.csv[.gz], .tsv, .txt, .json, .jsonl, .xlsx, .parquet, .npy, "
            ".npz, .zip with one of them), folder of images, sklearn:NAME, or '-' for standard input, which must be "
            "sent again to a command that reads the data again, such as --resume."
        ),
    ] = None
    target: Annotated[
        str | None,
        Meta(description="Column to predict; null: the source's own, or a column named target, label, class or y."),
    ] = None
    kinds: Annotated[
        dict[str, Kind],
        Meta(description="Kinds of columns whose inferred kind is wrong: {zip_code: categorical}."),
    ] = msgspec.field(default_factory=dict)
    drop: Annotated[tuple[str, ...], Meta(description="Columns to leave out.")] = ()
    na_values: Annotated[
        tuple[str, ...] | dict[str, tuple[str, ...]],
        Meta(
            description="Further spellings of a missing value: [-, unknown]; or all spellings of a column: "
            "{country: ['', '-']}, where the name '*' adds spellings for all other columns. Numbers, truth values and "
            "dates know NA, None, null and others; texts and categories know the empty cell alone.",
        ),
    ] = ()
    decimal: Annotated[
        Literal[".", ","] | None,
        Meta(description="Decimal mark of numbers in text files; null: found for each column."),
    ] = None
    thousands: Annotated[
        Literal["", ".", ",", " ", "'", "_"] | None,
        Meta(description="Mark between groups of three digits in text files; null: found for each column."),
    ] = None
    date_formats: Annotated[
        dict[str, str],
        Meta(description="strptime format of a date-time column that is not ISO 8601: {born: '%d.%m.%Y'}."),
    ] = msgspec.field(default_factory=dict)
    delimiter: Annotated[
        Annotated[str, Meta(min_length=1, max_length=1)] | None,
        Meta(description=r"Column separator of text files, such as '|' or '\t'; null: by the suffix and the file."),
    ] = None
    encoding: Annotated[
        str | None,
        Meta(description="Encoding of text files, such as cp1252; UTF-8, UTF-16 and UTF-32 are found by the bytes."),
    ] = None
    skip_rows: Annotated[
        int, Meta(ge=0, description="Lines of a text file, or rows of a sheet, before the header.")
    ] = 0
    comment: Annotated[
        Annotated[str, Meta(min_length=1)] | tuple[Annotated[str, Meta(min_length=1)], ...] | None,
        Meta(description="Lines of a text file that begin with this, or one of these, are left out; null: none."),
    ] = None
    header: Annotated[
        Literal["first", "none"] | None,
        Meta(
            description="Whether the first row of a text file has the names of the columns; none names them c1, c2, …; "
            "null: it has, and a row that looks like data is refused."
        ),
    ] = None
    sheet: Annotated[str | None, Meta(description="Sheet of an .xlsx workbook; null: the first one.")] = None
    skip_bad: Annotated[bool, Meta(description="Leave out rows with unreadable images instead of failing.")] = False
    image_memory: Annotated[
        Positive,
        Meta(description="GiB for decoded images; if they need more, worker processes decode them in every epoch."),
    ] = 2.0
    keep_rows: Annotated[
        int,
        Meta(
            ge=0,
            description="Most test and validation rows that a run keeps for evaluation; 0 keeps none. A row of more "
            "than 1,000 values, pixels, steps or characters counts as one row for each 1,000.",
        ),
    ] = 100_000
    sequence_id: Annotated[
        str | None,
        Meta(description="Column whose value identifies the series of each row in a long table."),
    ] = None
    time: Annotated[str | None, Meta(description="Column that orders the rows of a series.")] = None
    window: Annotated[
        Count | None,
        Meta(description="Forecasting: number of past steps that the model sees; needs data.time."),
    ] = None
    horizon: Annotated[Count, Meta(description="Forecasting: number of future steps, predicted together.")] = 1
    known: Annotated[
        tuple[str, ...],
        Meta(
            description="Forecasting: columns whose values are known for the horizon, such as promotions, holidays and "
            "prices. They are inputs for the steps of the window and of the horizon."
        ),
    ] = ()
    static: Annotated[
        tuple[str, ...],
        Meta(description="Forecasting: columns with one value for each series, which are inputs beside the window."),
    ] = ()
    season: Annotated[
        Count | None,
        Meta(
            description="Forecasting: steps after which the target repeats itself, for the seasonal baseline and MASE; "
            "null: the usual season with the strongest autocorrelation in training; 1: none."
        ),
    ] = None
    gaps: Annotated[
        Literal["missing", "refuse"],
        Meta(description="Forecasting: steps without a row are missing values of the windows, or are refused."),
    ] = "missing"

    @property
    def text_format(self) -> TextFormat:
        """How a source of delimited text is read."""
        return TextFormat(
            delimiter=self.delimiter,
            encoding=self.encoding,
            skip_rows=self.skip_rows,
            comment=self.comment,
            header=self.header,
            sheet=self.sheet,
        )


class SplitConfig(Settings, frozen=True):
    """Which rows are for training, validation and test."""

    by: Annotated[
        Annotated[str, Meta(pattern="^(random|stratified|(column|group|time):.+)$")] | None,
        Meta(
            description="random, stratified, column:NAME with the values train, validation and test, group:NAME to "
            "keep rows with the same value together, or time:NAME to test on the latest rows; null: the column split "
            "if the data has one, else stratified for classification, random for regression.",
        ),
    ] = None
    validation: Annotated[
        Fraction,
        Meta(description="Fraction of rows for choosing the best epoch and the temperature."),
    ] = 0.15
    test: Annotated[Fraction, Meta(description="Fraction of rows that only the evaluation reads.")] = 0.15
    folds: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        Meta(description="Cross-validation folds of training and validation rows, split by `by`; null: none."),
    ] = None

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation + split.test: expected less than 1, found {self.validation + self.test:g}: "
                "no rows would be left to train on"
            )


class ObjectiveConfig(Settings, frozen=True):
    """The task and the weights of its classes."""

    task: Annotated[
        Literal["classification", "regression"] | None, Meta(description="null: inferred from the target.")
    ] = None
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Positive] | None,
        Meta(
            description="Weight of each class in the loss: balanced (inverse frequency) or {label: weight}, 1 for "
            "other labels; null: all equal. Predicted probabilities still follow the true class frequencies."
        ),
    ] = None
    clamp: Annotated[
        bool | None,
        Meta(description="Keep the values of a regression within the range of training; null: only for realmlp."),
    ] = None


class TrainingConfig(Settings, frozen=True):
    """Epochs, batches, early stopping and checkpoints."""

    epochs: Annotated[
        Count | None,
        Meta(description="Most passes over the training part; null: 30 for mlp, else by model and rows."),
    ] = None
    stop_after: Annotated[
        Count | None,
        Meta(
            description="Last epoch that is trained, though the schedule is for training.epochs; null: none. "
            "dle-train sets it when --minutes ends training, so that the configuration trains the same model again."
        ),
    ] = None
    batch_size: Annotated[
        Count | None,
        Meta(
            description="Rows in a training step; null: 32 to 1024, growing with the number of training rows; for "
            "images, series and text at most 64, 128 or 256, by model; 256 for realmlp."
        ),
    ] = None
    metric: Annotated[
        MetricName | None,
        Meta(
            description="Validation metric that chooses the best epoch; null: log_loss, or rmse for regression; loss "
            "with class weights or window scaling."
        ),
    ] = None
    patience: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="Epochs without a better metric before training stops; 0: never stop early; null: 12 for pack, "
            "16 for tabm, 0 for realmlp, else 10, or a third of the epochs if that is more."
        ),
    ] = None
    ema: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="Decay of the exponential moving average of the weights, such as 0.99, after each step. The "
            "averaged weights are validated and become the model; 0: no average.",
        ),
    ] = 0.0
    refit: Annotated[
        bool,
        Meta(
            description="After training, train again up to the best epoch on training and validation rows together; "
            "validation scores and temperature stay those of the first training."
        ),
    ] = False
    baseline: Annotated[
        bool | None,
        Meta(
            description="Also train boosted trees and a linear model of scikit-learn on the same rows, and show their "
            "scores beside those of the model; null: for columns alone, if the trees take less than about a minute."
        ),
    ] = None
    max_latency: Annotated[
        Positive | None,
        Meta(
            description="Most milliseconds for a single row on one core, measured on the exported graph: a pack keeps "
            "the ensemble, fewer of its members or one distilled network, whichever validates best within the limit. "
            "Other models are measured only. The run's config.yaml has the choice in its place; null: no limit."
        ),
    ] = None
    distill: Annotated[
        bool | None,
        Meta(
            description="Of a pack: keep one network, which is trained on the ensemble's answers to training rows and "
            "to rows with shuffled columns; null: only if training.max_latency makes it the best choice."
        ),
    ] = None
    checkpoint_seconds: Annotated[
        float, Meta(ge=0, description="Seconds between checkpoints, which are also saved within an epoch.")
    ] = 30.0


class RunConfig(Settings, frozen=True):
    """All settings of a run."""

    preset: Annotated[
        Preset,
        Meta(
            description="Model for a table of columns alone if model.name is null. fast: mlp; default: pack; best: a "
            "pack of more networks. dle-tune has fast unless another preset is given."
        ),
    ] = "default"
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    seed: Annotated[int, Meta(ge=0, lt=2**32, description="Seed of split, weights, batches and dropout.")] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Meta(description="auto: CUDA if there is a device, else the CPU.")
    ] = "auto"

    def __post_init__(self) -> None:
        if self.model.batch_norm and self.training.batch_size == 1:
            raise ValueError("training.batch_size: expected at least 2 with model.batch_norm, found 1")
        if self.objective.task == "regression" and self.objective.class_weights is not None:
            raise ValueError("objective.class_weights: expected null for regression, which has no classes")


def load(
    path: Path | None = None,
    assignments: list[str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> RunConfig:
    """The defaults, changed by a YAML file, then by `KEY=VALUE` assignments, then by flags ({dotted key: value}).

    Raises InputError that lists the faults of all three.
    """
    tree = {} if path is None else read_tree(path)
    faults = yaml_text.settings(assignments or [], tree)
    for key, value in (flags or {}).items():
        yaml_text.assign(tree, key, value)
    return yaml_text.to_struct(tree, RunConfig, "The configuration", faults)


def read_tree(path: Path) -> yaml_text.Tree:
    """The mapping in a YAML file, not validated yet. Raises InputError if the file is not readable."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; expected a YAML file of settings") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a YAML file of settings, found a folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the configuration cannot be read: {error}") from None
    return yaml_text.read(str(path), text)


def dump(config: RunConfig) -> str:
    """YAML text from which `load` makes an equal configuration."""
    return yaml_text.write(msgspec.to_builtins(config))


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration, with descriptions, defaults and ranges."""
    return msgspec.json.schema(RunConfig)
