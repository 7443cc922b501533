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

Kind = Literal["numeric", "categorical", "boolean", "datetime", "image", "sequence", "text"]
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
        Meta(description="File (.csv, .csv.gz, .tsv, .txt, .parquet, .npy, .npz), folder of images or sklearn:NAME."),
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
    skip_bad: Annotated[bool, Meta(description="Leave out rows whose image cannot be read, instead of refusing.")] = (
        False
    )
    image_memory: Annotated[
        Positive,
        Meta(description="GiB that decoded images may take; beyond, worker processes decode them in every epoch."),
    ] = 2.0
    sequence_id: Annotated[
        str | None,
        Meta(description="Column that tells which rows of a long table are one series."),
    ] = None
    time: Annotated[str | None, Meta(description="Column that orders the rows of a series.")] = None
    window: Annotated[
        Count | None,
        Meta(description="Forecasting: steps that the model sees; needs data.time."),
    ] = None
    horizon: Annotated[Count, Meta(description="Forecasting: steps ahead that are predicted, all at once.")] = 1


class SplitConfig(_Settings, frozen=True):
    """Which rows train, validate and test."""

    by: Annotated[
        Annotated[str, Meta(pattern="^(random|stratified|(column|group|time):.+)$")] | None,
        Meta(
            description="random, stratified, column:NAME with the values train, validation and test, group:NAME to "
            "keep rows of one value together, or time:NAME to test on the latest rows; null: a column named split "
            "where there is one, else stratified for classification, random for regression.",
        ),
    ] = None
    validation: Annotated[
        Fraction,
        Meta(description="Fraction of rows that choose the best epoch and the temperature."),
    ] = 0.15
    test: Annotated[Fraction, Meta(description="Fraction of rows that nothing but the evaluation reads.")] = 0.15
    folds: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        Meta(description="Folds of training and validation rows for cross-validation, made as `by` says; null: none."),
    ] = None

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
    image_size: Annotated[
        Annotated[int, Meta(ge=8, le=1024)] | None,
        Meta(
            description="Pixels of each side: images are resized by their shorter side, then cropped at the centre; "
            "null: their own size where all have one of at most 96, else 64."
        ),
    ] = None
    tokenizer: Annotated[
        Literal["word_piece", "bpe"], Meta(description="Pieces of words by likelihood, or by frequent pairs of bytes.")
    ] = "word_piece"
    vocabulary: Annotated[int, Meta(ge=100, le=200_000, description="Most tokens that text is cut into.")] = 20_000
    lowercase: Annotated[bool, Meta(description="Whether text loses case and accents.")] = True
    max_tokens: Annotated[
        int, Meta(ge=8, le=4096, description="Tokens of each text column; longer text loses its end.")
    ] = 256


class CnnConfig(_Settings, frozen=True):
    """`cnn`: a residual network with batch normalisation, over images."""

    width: Annotated[Count, Meta(description="Channels of the first stage; each further stage has twice as many.")] = 16
    blocks: Annotated[
        tuple[Count, ...],
        Meta(description="Residual blocks of each stage; each stage halves the resolution, down to 2."),
    ] = (1, 1, 1)


class RnnConfig(_Settings, frozen=True):
    """`rnn`: a recurrent network, over series or tokens."""

    cell: Annotated[Literal["gru", "lstm"], Meta(description="Gated recurrent units, or long short-term memory.")] = (
        "gru"
    )
    width: Annotated[Count, Meta(description="Units of each layer and direction.")] = 64
    layers: Annotated[Count, Meta(description="Layers on top of each other.")] = 1
    bidirectional: Annotated[bool, Meta(description="Whether a second network reads from the end.")] = True
    pooling: Annotated[
        Literal["last", "mean", "attention"],
        Meta(description="What becomes of the steps: the last one, their mean, or a learnt weighted mean."),
    ] = "attention"


class TcnConfig(_Settings, frozen=True):
    """`tcn`: convolutions of several widths side by side, in residual groups, over series."""

    width: Annotated[Count, Meta(description="Channels of each branch; a layer has four branches.")] = 16
    depth: Annotated[Count, Meta(description="Layers; every third one is bridged by a shortcut.")] = 6
    kernel: Annotated[int, Meta(ge=3, description="Steps that the widest branch sees.")] = 39


class TransformerConfig(_Settings, frozen=True):
    """`transformer`: an encoder with self-attention, over series or tokens."""

    width: Annotated[Count, Meta(description="Width of each step; a multiple of heads.")] = 128
    heads: Annotated[Count, Meta(description="Attention heads.")] = 4
    layers: Annotated[Count, Meta(description="Layers on top of each other.")] = 2
    positions: Annotated[
        Literal["sinusoidal", "learned"], Meta(description="How a step's place is told: by fixed waves, or learnt.")
    ] = "sinusoidal"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"model.transformer.width: expected a multiple of {self.heads} heads, found {self.width}")


class BagConfig(_Settings, frozen=True):
    """`bag`: the weighted sum of embedded tokens and neighbours, divided by the root of the weights, over text."""

    width: Annotated[Count, Meta(description="Width of the vector of each n-gram.")] = 64
    ngrams: Annotated[Annotated[int, Meta(ge=1, le=4)], Meta(description="Most neighbours taken together.")] = 2
    buckets: Annotated[Count, Meta(description="Vectors that n-grams of two and more tokens share, by hash.")] = 30_000


class BackboneConfig(_Settings, frozen=True):
    """`timm:NAME`: a backbone of the timm library, over images (extra `vision`)."""

    pretrained: Annotated[bool, Meta(description="Start from published weights, which are downloaded.")] = True
    frozen: Annotated[bool, Meta(description="Keep these weights as they are and train the head alone.")] = False


class ModelConfig(_Settings, frozen=True):
    """The network: an encoder for each kind of input, side by side, then a linear head."""

    name: Annotated[
        str | None,
        Meta(
            description="Entry of the model registry, or several joined by +, one for a kind of input: cnn+bag; null: "
            "what suits each kind. `dle-train --list models` tells them."
        ),
    ] = None
    hidden: Annotated[
        tuple[Count, ...] | None,
        Meta(
            description="Width of each hidden layer over columns; none makes a linear model; null: [256, 256, 256] "
            "where there are columns alone, [64, 64] beside images, series or text."
        ),
    ] = None
    dropout: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(
            description="Fraction of hidden units switched off in each training step; null: what suits each encoder, "
            "0.1 for columns."
        ),
    ] = None
    batch_norm: Annotated[bool, Meta(description="Batch normalisation before each activation.")] = False
    embedding_dim: Annotated[Count, Meta(description="Width of the vector learnt per category.")] = 8
    cnn: CnnConfig = CnnConfig()
    rnn: RnnConfig = RnnConfig()
    tcn: TcnConfig = TcnConfig()
    transformer: TransformerConfig = TransformerConfig()
    bag: BagConfig = BagConfig()
    timm: BackboneConfig = BackboneConfig()


class AugmentationConfig(_Settings, frozen=True):
    """How training examples are varied, anew in each epoch; null: what suits the kind of input."""

    flip: Annotated[bool | None, Meta(description="Images: mirror left and right, every second one.")] = None
    shift: Annotated[
        Annotated[float, Meta(ge=0, le=0.5)] | None,
        Meta(description="Images: move by up to this fraction of the size, both ways."),
    ] = None
    rotation: Annotated[float, Meta(ge=0, le=180, description="Images: turn by up to so many degrees.")] = 0.0
    zoom: Annotated[float, Meta(ge=0, lt=1, description="Images: enlarge or shrink by up to this fraction.")] = 0.0
    shear: Annotated[float, Meta(ge=0, le=45, description="Images: slant by up to so many degrees.")] = 0.0
    brightness: Annotated[float, Meta(ge=0, lt=1, description="Images: brighten or darken by up to this fraction.")] = (
        0.0
    )
    contrast: Annotated[float, Meta(ge=0, lt=1, description="Images: change the contrast by up to this fraction.")] = (
        0.0
    )
    erasing: Annotated[
        float, Meta(ge=0, le=1, description="Images: chance that a rectangle of the image is blotted out.")
    ] = 0.0
    jitter: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Series: standard deviation of noise added to the standardised values."),
    ] = None
    scaling: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Series: standard deviation of the factor, about 1, on each channel."),
    ] = None
    slicing: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(description="Series: fraction that may be cut off at the ends, the rest stretched to the whole."),
    ] = None


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
    lr: Annotated[
        Positive | None,
        Meta(
            description="Peak learning rate; null: what suits the model with adamw, else the optimizer's own default."
        ),
    ] = None
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

    epochs: Annotated[
        Count | None,
        Meta(description="Most passes over the training part; null: 30 for tables, else what suits model and rows."),
    ] = None
    batch_size: Annotated[
        Count | None,
        Meta(
            description="Rows in a training step; null: 32 to 1024, the more training rows the larger; for images, "
            "series and text at most 64, 128 or 256, by model."
        ),
    ] = None
    metric: Annotated[
        MetricName | None,
        Meta(description="Validation metric that chooses the best epoch; null: log_loss, or rmse for regression."),
    ] = None
    patience: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="Epochs without a better metric before stopping; 0: never stop; null: 10, or a third of the "
            "epochs where that is more."
        ),
    ] = None
    refit: Annotated[
        bool,
        Meta(
            description="Once the best epoch is known, train anew for as many epochs on training and validation rows "
            "together; validation scores and temperature stay those of the first training."
        ),
    ] = False
    checkpoint_seconds: Annotated[
        float, Meta(ge=0, description="Seconds between checkpoints, also within an epoch.")
    ] = 30.0


class RunConfig(_Settings, frozen=True):
    """A whole run."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
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
    tree = {} if path is None else read_tree(path)
    faults = config_text.settings(assignments or [], tree)
    for key, value in (flags or {}).items():
        config_text.assign(tree, key, value)
    return config_text.to_struct(tree, RunConfig, "The configuration", faults)


def read_tree(path: Path) -> config_text.Tree:
    """The mapping in a YAML file, not yet checked. Raises InputError where it is not readable."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no readable configuration: {error}") from None
    return config_text.read(str(path), text)


def dump(config: RunConfig) -> str:
    """YAML text from which `load` makes an equal configuration."""
    return config_text.write(msgspec.to_builtins(config))


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration, with descriptions, defaults and ranges."""
    return msgspec.json.schema(RunConfig)
