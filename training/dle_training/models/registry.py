"""Chooses the model family for each kind of input, and builds the network from them.

A network has one encoder for each kind of input in the data. A name in `model.name` stands for every kind of input that
its family reads, unless another name is given for that kind. Other kinds of input get their default family.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from dle_bundle.errors import InputError, combined, nearest
from dle_bundle.schema import Schema
from dle_training.models import pack
from dle_training.models._base import Encoder, EncoderNetwork, Network
from dle_training.models.backbone import BACKBONE
from dle_training.models.families import DEFAULTS, DEFAULTS_ALONE, FAMILIES, ModelConfig
from dle_training.models.family import INPUT_KINDS, Facts, InputKind, ModelFamily, Preset, SharedConfig, Slot
from dle_training.models.known import KnownEncoder
from dle_training.models.pack import PackConfig
from dle_training.preprocessing.shape import InputShape
from dle_training.settings import base
from dle_training.settings.dimensions import Dimension
from dle_training.settings.proposals import setting

KIND_NAMES: dict[InputKind, str] = {"image": "images", "sequence": "series", "text": "text", "table": "columns"}
"""The kinds of input in the plural, for messages and documents."""


def inputs(schema: Schema) -> tuple[InputKind, ...]:
    """The kinds of input of a schema, in the order of `INPUT_KINDS`."""
    present = {
        "image": schema.image,
        "sequence": schema.sequence,
        "text": schema.text,
        "table": [
            field for field in (*schema.numeric, *schema.categorical, *schema.datetime) if field != schema.scaled_by
        ],
    }
    return tuple(kind for kind in INPUT_KINDS if present[kind])


def choose(name: str | None, kinds: Iterable[InputKind], preset: Preset = "default") -> dict[InputKind, str]:
    """The name of the family that reads each of `kinds`. Raises InputError that lists all unusable names.

    The `preset` decides about kinds that no family in `name` reads.
    """
    present = tuple(kinds)
    asked = [part.strip() for part in (name or "").split("+") if part.strip()]
    faults = [_unknown(part) for part in asked if _find(part) is None]
    known = {part: family for part in asked if (family := _find(part)) is not None}
    chosen: dict[InputKind, str] = {}
    # families that read a single kind choose first; each takes one kind, so that two that read both can share them
    for part in sorted((part for part in asked if part in known), key=lambda part: len(known[part].reads)):
        own = next((kind for kind in known[part].reads if kind in present and kind not in chosen), None)
        if own is None:
            faults.append(_idle(part, known[part].reads, present))
        else:
            chosen[own] = part
    if len(present) > 1:
        faults += [_beside(part, present) for part, own in known.items() if own.alone and part in chosen.values()]
    defaults = DEFAULTS | DEFAULTS_ALONE if len(present) == 1 and preset != "fast" else DEFAULTS
    for kind in present:
        chosen.setdefault(kind, next((part for part in known if kind in known[part].reads), defaults[kind]))
    if faults:
        raise combined("model.name cannot be used", faults)
    return {kind: chosen[kind] for kind in INPUT_KINDS if kind in chosen}


def joined(chosen: Mapping[InputKind, str]) -> str:
    """One name from which `choose` makes the same choice again."""
    return "+".join(dict.fromkeys(chosen.values()))


def family(name: str) -> ModelFamily:
    """The family of this name, which must come from `choose`."""
    found = _find(name)
    assert found is not None
    return found


def space(chosen: Mapping[InputKind, str]) -> dict[str, Dimension]:
    """The default search space of families `chosen` by kind of input.

    If two families vary the same setting, the range of the family that costs more to train applies; see `INPUT_KINDS`.
    """
    merged: dict[str, Dimension] = {}
    for kind in INPUT_KINDS:
        if kind in chosen:
            merged = {**family(chosen[kind]).space, **merged}
    return merged


def dropouts(config: ModelConfig, chosen: Mapping[InputKind, str]) -> dict[str, float]:
    """The dropout of each chosen family, by name: the configured value, or else the family's default.

    Raises InputError if `model.dropout` names families that are not chosen.
    """
    names = tuple(dict.fromkeys(chosen.values()))
    given = config.dropout if isinstance(config.dropout, dict) else dict.fromkeys(names, config.dropout)
    if unknown := [name for name in given if name not in names]:
        known = f" (this model has {', '.join(names)})"
        raise InputError(
            "model.dropout names model families that this model does not have",
            [f"{name}{nearest(name, names) or known}" for name in unknown],
        )
    own = {name: family(name).dropout for name in names}
    return own | {name: value for name, value in given.items() if value is not None}


def section(config: ModelConfig, own: ModelFamily) -> Any:
    """The settings of a family, of its class `settings`: a section of `config`, or `config` itself."""
    return config if own.section is None else getattr(config, own.section)


def pack_settings(config: ModelConfig) -> PackConfig:
    """The settings of a pack, whether or not it is chosen."""
    settings: PackConfig = section(config, pack.FAMILY)
    return settings


def folds(config: ModelConfig) -> int:
    """The number of folds inside the model that a resolved `config` describes; 1 for every family but a pack."""
    return base.chosen(pack_settings(config).folds) if config.name == pack.FAMILY.name else 1


def refuse_unread(config: ModelConfig, chosen: Mapping[InputKind, Collection[str]], facts: Facts) -> None:
    """Raise InputError for settings in `config` that no family reads; `chosen` has the families of each kind of input.

    A setting with its default value is never refused.
    """
    names = list(dict.fromkeys(name for each in chosen.values() for name in each))
    read, faults = {family(name).name for name in names}, list[str]()
    for own in (own for own in FAMILIES.values() if own.name not in read):
        found, default = section(config, own), own.settings()
        usual = [default, own.complete(default, facts)]
        keys = [key for key in own.settings.__struct_fields__ if key not in SharedConfig.__struct_fields__]
        given = [key for key in keys if all(getattr(found, key) != getattr(each, key) for each in usual)]
        usable = set(own.reads) & set(chosen) and not own.name.startswith(BACKBONE)
        cure = f": set {setting('model.name', own.name)}, which reads it" if usable else ""
        faults += [f"{'.'.join(filter(None, ('model', own.section, key)))}{cure}" for key in given]
    if faults:
        raise InputError(f"the model {', '.join(names)} does not read these settings", faults)


def complete(config: ModelConfig, facts: Facts) -> ModelConfig:
    """`config` with every family's defaults that depend on the data, whether or not the family is chosen."""
    for own in FAMILIES.values():
        settings = own.complete(section(config, own), facts)
        config = settings if own.section is None else replace(config, **{own.section: settings})
    return config


def build(
    config: ModelConfig, shape: InputShape, outputs: int, *, regression: bool = False, fresh: bool = True
) -> Network:
    """The network that a resolved `config` describes, with weights from torch's global generator.

    Shape of the network: inputs of N rows as in `shape` → (N, outputs), which are values of a `regression` or logits.
    `fresh` is False if weights are loaded next.
    """
    present: dict[InputKind, bool] = {
        "image": shape.image is not None,
        "sequence": shape.sequence is not None,
        "text": shape.tokens is not None,
        "table": bool(shape.dense or shape.cardinalities),
    }
    families = choose(config.name, [kind for kind in INPUT_KINDS if present[kind]])
    encoders: dict[str, Encoder] = {}
    for kind, name in families.items():
        own = family(name)
        dropout = config.dropout[name] if isinstance(config.dropout, dict) else base.chosen(config.dropout)
        built = own.build(section(config, own), shape, Slot(kind, name, dropout, outputs, regression, fresh))
        if isinstance(built, Network):
            return built
        encoders[kind] = built
    if shape.known is not None:  # beside any family of the series
        encoders["known"] = KnownEncoder(shape.known)
    return EncoderNetwork(encoders, outputs)


def _find(name: str) -> ModelFamily | None:
    if name.startswith(BACKBONE):
        return FAMILIES[f"{BACKBONE}NAME"] if name != BACKBONE else None
    return FAMILIES.get(name)


def _unknown(name: str) -> str:
    known = f" (known: {', '.join(FAMILIES)})"
    return f"model.name: no model {name!r}{nearest(name, FAMILIES) or known}"


def _beside(name: str, present: tuple[InputKind, ...]) -> str:
    words = " and ".join(KIND_NAMES[kind] for kind in present)
    return f"model.name: {name} reads columns alone, but the data has {words}; set {setting('model.name', 'mlp')}"


def _idle(name: str, reads: tuple[InputKind, ...], present: tuple[InputKind, ...]) -> str:
    fitting = ", ".join(each.name for each in FAMILIES.values() if set(each.reads) & set(present))
    words = " or ".join(KIND_NAMES[kind] for kind in reads)
    why = "but another chosen model already reads them" if set(reads) & set(present) else "but the data has none"
    return f"model.name: {name} reads {words}, {why}; choose from {fitting}"
