"""The settings of preprocessing."""

from typing import Annotated, Literal

from msgspec import Meta

from dle_bundle.schema import ImageFit
from dle_training.settings.base import Count, Settings

NumericScaling = Literal["standard", "min_max", "unit_norm", "robust"]
Scaling = Literal["window", "series", "none"]
"""What the windows of a forecast are scaled by: mean and spread of their own steps, of their series, or of all."""

LARGEST_SIDE = 1024
Side = Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]


class PreprocessingConfig(Settings, frozen=True):
    """How columns become numbers. Everything is fitted on the training part."""

    numeric: Annotated[
        NumericScaling | None,
        Meta(
            description="Scaling of numbers: z-score; to [0, 1]; each row to Euclidean norm 1; or from the median in "
            "units of the interquartile range, bent smoothly to stay within ±3; null: robust for realmlp, else "
            "standard."
        ),
    ] = None
    piecewise_bins: Annotated[
        Annotated[int, Meta(ge=0, le=256)] | None,
        Meta(
            description="Quantile bins of the piecewise-linear encoding beside each scaled number; 0: none; null: 32 "
            "with standard scaling from 10,000 training rows on, else none.",
        ),
    ] = None
    quantiles: Annotated[
        bool | None,
        Meta(
            description="Add to each scaled number its rank in training, mapped to a normal distribution; null: only "
            "for model families that embed numbers."
        ),
    ] = None
    window_scaling: Annotated[
        Scaling | None,
        Meta(
            description="Forecasts: scale each window by the mean and spread of its own steps, of its series in "
            "training, or of all training windows; null: as a linear model forecasts the validation part best."
        ),
    ] = None
    one_hot_limit: Annotated[
        int,
        Meta(ge=0, description="Columns with up to this many categories are one-hot, others get an embedding."),
    ] = 9
    signs: Annotated[
        bool | None,
        Meta(
            description="A one-hot column of two categories becomes a single number: -1 or 1, and 0 if the value is "
            "missing or was not in training; null: only for realmlp."
        ),
    ] = None
    max_categories: Annotated[
        Count, Meta(description="Largest number of categories of a column; less frequent ones count as unseen.")
    ] = 10_000
    image_size: Annotated[
        Side | Annotated[tuple[Side, ...], Meta(min_length=2, max_length=2)] | None,
        Meta(
            description="Pixels of both sides, or [height, width], to which images are resized; null: their own size "
            "if all images have the same size of at most 96, else 64."
        ),
    ] = None
    image_fit: Annotated[
        ImageFit | None,
        Meta(
            description="Images whose sides have another ratio than image_size: crop cuts out their centre, pad keeps "
            "them whole between grey (level 128), stretch distorts them; null: pad if more than one image in ten is "
            "more than 1.6 times too wide or too high, else crop."
        ),
    ] = None
    tokenizer: Annotated[
        Literal["word_piece", "bpe"],
        Meta(
            description="word_piece keeps frequent words whole and cuts rare words; bpe merges frequent pairs of bytes."
        ),
    ] = "word_piece"
    vocabulary: Annotated[int, Meta(ge=100, le=200_000, description="Largest number of different tokens.")] = 20_000
    lowercase: Annotated[bool, Meta(description="Remove case and accents from text.")] = True
    max_tokens: Annotated[
        int,
        Meta(ge=8, le=4096, description="Largest number of tokens of a text column; longer text is cut at its end."),
    ] = 256
