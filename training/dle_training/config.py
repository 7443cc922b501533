"""Everything that decides a run, as one typed value: what `config.yaml` holds and `--set` changes.

Defaults, ranges and words of help stand here once; the JSON schema and the configuration reference come from them.
A null default is chosen from the data by the code that knows it, and the run directory gets the chosen value, so that
its `config.yaml` replays the run. Nothing heavy is imported: the command line reads this before torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dle_bundle.errors import InputError
from dle_training import config_text

Kind = Literal["numeric", "categorical", "boolean", "datetime"]
MetricName = Literal[
    "accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_weighted", "roc_auc",
    "average_precision", "log_loss", "ece", "mae", "rmse", "r2",
]  # fmt: skip


Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(gt=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections share: read-only, named arguments, no unknown keys."""


class DataConfig(_Settings, frozen=True):
    """Where the rows come from and how their columns are read."""

    source: Annotated[
        str | None,
        Meta(description="File (.csv, .csv.gz, .tsv, .txt, .parquet, .npy, .npz) or sklearn:NAME."),
    ] = None
    target: Annotated[
        str | None,
        Meta(description="Column to predict; null: the source's own, or the one called target, label, class or y."),
    ] = None
    kinds: Annotated[
        dict[str, Kind],
        Meta(description="Kind of a column, where the inferred one is wrong: {zip_code: categorical}."),
    ] = {}
    drop: Annotated[tuple[str, ...], Meta(description="Columns that are not used.")] = ()
    na_values: Annotated[tuple[str, ...], Meta(description="Spellings of a missing value, beside the usual ones.")] = ()
    date_formats: Annotated[
        dict[str, str],
        Meta(description="strptime format of a date-time column that is not ISO 8601: {born: '%d.%m.%Y'}."),
    ] = {}
    delimiter: Annotated[
        Annotated[str, Meta(min_length=1, max_length=1)] | None,
        Meta(description="Column separator of text files; null: the suffix's own, found out in .txt."),
    ] = None


class SplitConfig(_Settings, frozen=True):
    """Which rows train, validate and test."""

    by: Annotated[
        Annotated[str, Meta(pattern="^(random|stratified|column:.+)$")] | None,
        Meta(
            description="random, stratified, or column:NAME with the values train, validation and test; null: a "
            "column named split where there is one, else stratified for classification, random for regression.",
        ),
    ] = None
    validation: Annotated[
        Fraction,
        Meta(description="Fraction of rows that choose the best epoch and the temperature."),
    ] = 0.15
    test: Annotated[Fraction, Meta(description="Fraction of rows that nothing but the evaluation reads.")] = 0.15

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation + split.test: expected less than 1, found {self.validation + self.test:g}: "
                "no rows would be left to train on"
            )


class PreprocessingConfig(_Settings, frozen=True):
    """How columns become numbers; everything is fitted on the training part."""

    numeric: Annotated[
        Literal["standard", "min_max", "unit_norm"],
        Meta(description="Scaling: z-score, to [0, 1], or each row to Euclidean norm 1."),
    ] = "standard"
    piecewise_bins: Annotated[
        Annotated[int, Meta(ge=0, le=256)] | None,
        Meta(
            description="Quantile bins of the piecewise-linear encoding beside each scaled number; 0: none; null: 32 "
            "with standard scaling from 10,000 training rows on, else none.",
        ),
    ] = None
    one_hot_limit: Annotated[
        int,
        Meta(ge=0, description="Columns with up to this many categories are one-hot, others get an embedding."),
    ] = 9
    max_categories: Annotated[
        Count, Meta(description="Most frequent categories of a column that are kept; the rest is unseen.")
    ] = 10_000


class ModelConfig(_Settings, frozen=True):
    """The network."""

    name: Annotated[Literal["mlp"], Meta(description="Entry of the model registry.")] = "mlp"
    hidden: Annotated[
        tuple[Count, ...],
        Meta(description="Width of each hidden layer; none makes a linear model."),
    ] = (256, 256, 256)
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="Fraction of hidden units switched off in each training step.")
    ] = 0.1
    batch_norm: Annotated[bool, Meta(description="Batch normalisation before each activation.")] = False
    embedding_dim: Annotated[Count, Meta(description="Width of the vector learnt per category.")] = 8


class ObjectiveConfig(_Settings, frozen=True):
    """What is learnt."""

    task: Annotated[
        Literal["classification", "regression"] | None, Meta(description="null: inferred from the target.")
    ] = None
    class_weights: Annotated[
        Literal["balanced"] | dict[str, Positive] | None,
        Meta(
            description="Weight of each class in the loss: balanced (inverse frequency) or {label: weight}, 1 for "
            "labels left out; null: all equal."
        ),
    ] = None


class OptimizerConfig(_Settings, frozen=True):
    """How gradients change the weights."""

    name: Annotated[Literal["adamw", "adam", "sgd"], Meta(description="Entry of the optimizer registry.")] = "adamw"
    lr: Annotated[Positive | None, Meta(description="Peak learning rate; null: the optimizer's own default.")] = None
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Momentum of sgd.")] = 0.9
    weight_decay: Annotated[
        float,
        Meta(
            ge=0,
            description="L2 penalty: added to the gradient (sgd, adam) or applied to the weights directly (adamw).",
        ),
    ] = 1e-4


class ScheduleConfig(_Settings, frozen=True):
    """How the learning rate changes in the course of training."""

    name: Annotated[
        Literal["cosine", "constant", "step", "exponential"],
        Meta(description="Entry of the schedule registry."),
    ] = "cosine"
    gamma: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description="Decay factor: of each stage (step) or epoch (exponential); null: the schedule's default.",
        ),
    ] = None
    step_epochs: Annotated[Count, Meta(description="Epochs in a stage of step.")] = 10
    final_fraction: Annotated[
        float, Meta(ge=0, le=1, description="Where cosine ends, as a fraction of the peak learning rate.")
    ] = 0.0


class TrainingConfig(_Settings, frozen=True):
    """The loop."""

    epochs: Annotated[Count, Meta(description="Most passes over the training part.")] = 30
    batch_size: Annotated[
        Count | None, Meta(description="Rows in a training step; null: 32 to 1024, the more training rows the larger.")
    ] = None
    metric: Annotated[
        MetricName | None,
        Meta(description="Validation metric that chooses the best epoch; null: log_loss, or rmse for regression."),
    ] = None
    patience: Annotated[
        Count | None, Meta(description="Epochs without a better metric before stopping; null: never stop.")
    ] = 10
    checkpoint_seconds: Annotated[
        float, Meta(ge=0, description="Seconds between checkpoints, also within an epoch.")
    ] = 30.0


class RunConfig(_Settings, frozen=True):
    """A whole run."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    seed: Annotated[int, Meta(ge=0, lt=2**32, description="Of the split, the first weights, batches and dropout.")] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Meta(description="auto: CUDA where there is a device, else the CPU.")
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

    Raises InputError with every fault of all three.
    """
    tree: config_text.Tree = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: no readable configuration: {error}") from None
        tree = config_text.read(str(path), text)
    faults = config_text.settings(assignments or [], tree)
    for key, value in (flags or {}).items():
        config_text.assign(tree, key, value)
    return config_text.to_struct(tree, RunConfig, "The configuration", faults)


def dump(config: RunConfig) -> str:
    """YAML text from which `load` makes an equal configuration."""
    return config_text.write(msgspec.to_builtins(config))


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration, with descriptions, defaults and ranges."""
    return msgspec.json.schema(RunConfig)
