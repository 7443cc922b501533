"""The settings of the network."""

from typing import Annotated, Literal

from msgspec import Meta

from dle_training.settings.base import Count, Settings


class CnnConfig(Settings, frozen=True):
    """`cnn`: a residual network with batch normalisation, over images."""

    width: Annotated[Count, Meta(description="Channels of the first stage; each further stage has twice as many.")] = 16
    blocks: Annotated[
        tuple[Count, ...],
        Meta(description="Residual blocks of each stage; each stage halves the resolution, down to 2."),
    ] = (1, 1, 1)


class RnnConfig(Settings, frozen=True):
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


class TcnConfig(Settings, frozen=True):
    """`tcn`: convolutions of several widths side by side, in residual groups, over series."""

    width: Annotated[Count, Meta(description="Channels of each branch; a layer has four branches.")] = 16
    depth: Annotated[Count, Meta(description="Layers; every third one is bridged by a shortcut.")] = 6
    kernel: Annotated[int, Meta(ge=3, description="Steps that the widest branch sees.")] = 39


class TransformerConfig(Settings, frozen=True):
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


class BagConfig(Settings, frozen=True):
    """`bag`: the weighted sum of embedded tokens and neighbours, divided by the root of the weights, over text."""

    width: Annotated[Count, Meta(description="Width of the vector of each n-gram.")] = 64
    ngrams: Annotated[Annotated[int, Meta(ge=1, le=4)], Meta(description="Most neighbours taken together.")] = 2
    buckets: Annotated[Count, Meta(description="Vectors that n-grams of two and more tokens share, by hash.")] = 30_000


class BackboneConfig(Settings, frozen=True):
    """`timm:NAME`: a backbone of the timm library, over images (extra `vision`)."""

    pretrained: Annotated[bool, Meta(description="Start from published weights, which are downloaded.")] = True
    frozen: Annotated[bool, Meta(description="Keep these weights as they are and train the head alone.")] = False


class ModelConfig(Settings, frozen=True):
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
