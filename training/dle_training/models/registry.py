"""The models that `model.name` can choose: encoders by the kind of input that they read.

A model has one encoder for each kind of input that there is. A name in `model.name` stands for every kind that its
encoder reads and that no other name is given for; kinds that no name reads get their default.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from dle_bundle.errors import InputError, nearest
from dle_bundle.schema import Schema
from dle_training.models import backbone, bag, cnn, mlp, rnn, tcn, transformer
from dle_training.models._base import Encoder, Network
from dle_training.models.settings import ModelConfig
from dle_training.preprocessing.shape import InputShape
from dle_training.settings.dimensions import Choice, Dimension, Float, Int

Input = Literal["image", "sequence", "text", "table"]
INPUTS: tuple[Input, ...] = ("image", "sequence", "text", "table")
DEFAULTS: dict[Input, str] = {"image": "cnn", "sequence": "tcn", "text": "bag", "table": "mlp"}
BACKBONE = "timm:"
_STEPS: dict[Input, Literal["sequence", "tokens"]] = {"sequence": "sequence", "text": "tokens"}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be chosen by name, and the kinds of input that it reads.

    `dropout` is its own default for `model.dropout`. `build(config, shape, kind, name, fresh)` makes the encoder of one
    of these kinds with weights from torch's global generator; `fresh` is False where the weights of a run are about to
    be loaded. `space` is what a search varies, by dotted key, where the user gives no space.
    """

    name: str
    description: str
    reads: tuple[Input, ...]
    dropout: float
    build: Callable[[ModelConfig, InputShape, Input, str, bool], Encoder]
    space: Mapping[str, Dimension]


MODELS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            "mlp",
            "Fully connected layers over scaled numbers, one-hot and embedded categories.",
            ("table",),
            0.1,
            lambda config, shape, kind, name, fresh: mlp.TableEncoder(config, shape),
            {
                "model.hidden": Choice(([64], [64, 64], [128, 128], [256, 256], [256, 256, 256], [512, 512])),
                "model.dropout": Float(0.0, 0.5),
                "model.batch_norm": Choice((False, True)),
                "model.embedding_dim": Int(4, 32, log=True),
                "preprocessing.numeric": Choice(("standard", "min_max")),
                "preprocessing.piecewise_bins": Choice((0, 16, 32, 64)),
            },
        ),
        ModelEntry(
            "cnn",
            "Small residual network with batch normalisation.",
            ("image",),
            0.1,
            lambda config, shape, kind, name, fresh: cnn.CnnEncoder(config, shape),
            {
                "model.cnn.width": Choice((16, 32, 64)),
                "model.cnn.blocks": Choice(([1, 1], [1, 1, 1], [2, 2, 2], [1, 1, 1, 1])),
                "model.dropout": Float(0.0, 0.5),
                "augmentation.shift": Float(0.0, 0.2),
            },
        ),
        ModelEntry(
            "rnn",
            "Recurrent network (GRU or LSTM, both directions), pooled by last step, mean or attention.",
            ("sequence", "text"),
            0.2,
            lambda config, shape, kind, name, fresh: rnn.RnnEncoder(config, shape, _STEPS[kind]),
            {
                "model.rnn.cell": Choice(("gru", "lstm")),
                "model.rnn.width": Choice((32, 64, 128, 256)),
                "model.rnn.layers": Int(1, 3),
                "model.rnn.pooling": Choice(("last", "mean", "attention")),
                "model.dropout": Float(0.0, 0.5),
            },
        ),
        ModelEntry(
            "tcn",
            "Convolutions of several widths side by side with residual shortcuts, in the manner of InceptionTime.",
            ("sequence",),
            0.1,
            lambda config, shape, kind, name, fresh: tcn.TcnEncoder(config, shape),
            {
                "model.tcn.width": Choice((8, 16, 32)),
                "model.tcn.depth": Choice((3, 6, 9)),
                "model.tcn.kernel": Choice((9, 19, 39, 79)),
                "model.dropout": Float(0.0, 0.5),
            },
        ),
        ModelEntry(
            "transformer",
            "Encoder with self-attention over steps or tokens.",
            ("sequence", "text"),
            0.2,
            lambda config, shape, kind, name, fresh: transformer.TransformerEncoder(config, shape, _STEPS[kind]),
            {
                "model.transformer.width": Choice((64, 128, 256)),
                "model.transformer.heads": Choice((2, 4, 8)),
                "model.transformer.layers": Int(1, 4),
                "model.dropout": Float(0.0, 0.5),
                "optimizer.lr": Float(1e-4, 3e-3, log=True),
            },
        ),
        ModelEntry(
            "bag",
            "Weighted sum of embedded tokens and n-grams: fast, and hard to beat on short text.",
            ("text",),
            0.5,
            lambda config, shape, kind, name, fresh: bag.BagEncoder(config, shape),
            {
                "model.bag.width": Choice((32, 64, 128, 256)),
                "model.bag.ngrams": Int(1, 3),
                "model.dropout": Float(0.0, 0.8),
                "optimizer.lr": Float(1e-3, 3e-2, log=True),
            },
        ),
        ModelEntry(
            f"{BACKBONE}NAME",
            "Any backbone of the timm library, pretrained where the weights can be had (extra `vision`).",
            ("image",),
            0.0,
            lambda config, shape, kind, name, fresh: backbone.BackboneEncoder(
                config, shape, architecture=name.removeprefix(BACKBONE), pretrained=fresh and config.timm.pretrained
            ),
            {
                "model.timm.frozen": Choice((False, True)),
                "model.dropout": Float(0.0, 0.5),
                "augmentation.shift": Float(0.0, 0.2),
                "optimizer.lr": Float(3e-5, 3e-3, log=True),
            },
        ),
    )
}


def inputs(schema: Schema) -> tuple[Input, ...]:
    """The kinds of input that there are, in the order of `INPUTS`."""
    present = {
        "image": schema.image,
        "sequence": schema.sequence,
        "text": schema.text,
        "table": (*schema.numeric, *schema.categorical, *schema.datetime),
    }
    return tuple(kind for kind in INPUTS if present[kind])


def choose(name: str | None, kinds: Iterable[Input]) -> dict[Input, str]:
    """The name of the encoder for each of `kinds`. Raises InputError with every name that cannot be used."""
    present = tuple(kinds)
    asked = [part.strip() for part in (name or "").split("+") if part.strip()]
    faults = [_unknown(part) for part in asked if not _reads(part)]
    chosen: dict[Input, str] = {}
    # those who read one kind only come first, then each takes one, so that two who read both can share them
    for part in sorted((part for part in asked if _reads(part)), key=lambda part: len(_reads(part))):
        own = next((kind for kind in _reads(part) if kind in present and kind not in chosen), None)
        if own is None:
            faults.append(_idle(part, present))
        else:
            chosen[own] = part
    for kind in present:
        chosen.setdefault(kind, next((part for part in asked if kind in _reads(part)), DEFAULTS[kind]))
    if faults:
        raise InputError("The model must change" if len(faults) > 1 else faults.pop(), faults)
    return {kind: chosen[kind] for kind in INPUTS if kind in chosen}


def joined(chosen: dict[Input, str]) -> str:
    """One name from which `choose` makes the same choice."""
    return "+".join(dict.fromkeys(chosen.values()))


def space(chosen: Mapping[Input, str]) -> dict[str, Dimension]:
    """What a search varies by default in encoders `chosen` by kind of input.

    Where two vary one setting, the encoder of images goes before that of series, text and columns: it costs most.
    """
    merged: dict[str, Dimension] = {}
    for kind in INPUTS:
        entry = _entry(chosen[kind]) if kind in chosen else None
        merged = {**(entry.space if entry else {}), **merged}
    return merged


def resolve(config: ModelConfig, chosen: Mapping[Input, str]) -> ModelConfig:
    """The configuration with the settings of a search that encoders choose by themselves; see `space` for several."""
    dropout = next(entry.dropout for kind in INPUTS if kind in chosen and (entry := _entry(chosen[kind])))
    return replace(
        config,
        hidden=mlp.hidden_layers(config, alone=set(chosen) == {"table"}),
        dropout=dropout if config.dropout is None else config.dropout,
    )


def build(config: ModelConfig, shape: InputShape, outputs: int, *, fresh: bool = True) -> Network:
    """The network that `config` names, with weights from torch's global generator: (N, outputs) for N rows."""
    present: dict[Input, bool] = {
        "image": shape.image is not None,
        "sequence": shape.sequence is not None,
        "text": shape.tokens is not None,
        "table": bool(shape.dense or shape.cardinalities),
    }
    chosen = choose(config.name, [kind for kind in INPUTS if present[kind]])
    encoders: dict[str, Encoder] = {}
    for kind, name in chosen.items():
        entry = _entry(name)
        assert entry is not None
        own = config if config.dropout is not None else replace(config, dropout=entry.dropout)
        encoders[kind] = entry.build(own, shape, kind, name, fresh)
    return Network(encoders, outputs)


_WORDS = {"image": "images", "sequence": "series", "text": "text", "table": "columns"}


def _entry(name: str) -> ModelEntry | None:
    if name.startswith(BACKBONE):
        return MODELS[f"{BACKBONE}NAME"] if name != BACKBONE else None
    return MODELS.get(name)


def _reads(name: str) -> tuple[Input, ...]:
    entry = _entry(name)
    return () if entry is None else entry.reads


def _unknown(name: str) -> str:
    known = f" (known: {', '.join(MODELS)})"
    return f"model.name: no model {name!r}{nearest(name, MODELS) or known}"


def _idle(name: str, present: tuple[Input, ...]) -> str:
    fitting = ", ".join(entry.name for entry in MODELS.values() if set(entry.reads) & set(present))
    words = " or ".join(_WORDS[kind] for kind in _reads(name))
    why = "which another encoder reads already" if set(_reads(name)) & set(present) else "and there are none here"
    return f"model.name: {name} reads {words}, {why}; choose from {fitting}"
