"""The list of model families, and the section `model` of the configuration, which follows from the list."""

from typing import TYPE_CHECKING

import msgspec

from dle_training.models import backbone, bag, cnn, dlinear, linear, mlp, pack, realmlp, rnn, tabm, tcn, transformer
from dle_training.models.family import InputKind
from dle_training.models.mlp import MlpConfig

FAMILIES = {
    family.name: family
    for family in (
        mlp.FAMILY,
        pack.FAMILY,
        linear.FAMILY,
        realmlp.FAMILY,
        tabm.FAMILY,
        cnn.FAMILY,
        rnn.FAMILY,
        tcn.FAMILY,
        transformer.FAMILY,
        dlinear.FAMILY,
        bag.FAMILY,
        backbone.FAMILY,
    )
}
DEFAULTS: dict[InputKind, str] = {"image": "cnn", "sequence": "tcn", "text": "bag", "table": "mlp"}
"""The family that reads each kind of input if `model.name` names no family for it."""
DEFAULTS_ALONE: dict[InputKind, str] = {"table": "pack"}
"""The family of a kind of input that is the only one of the data, unless the preset is fast."""

_MODEL_SAYS = """The network: an encoder for each kind of input, then a linear head.

The settings of `mlp`, which reads columns, are in `model` itself; every other family has its own section.
"""

if TYPE_CHECKING:
    ModelConfig = MlpConfig  # type checkers do not see the sections; `registry.section` reads them
else:
    ModelConfig = msgspec.defstruct(
        "ModelConfig",
        [
            (family.section, family.settings, family.settings())
            for family in FAMILIES.values()
            if family.section is not None
        ],
        bases=(MlpConfig,),
        namespace={"__doc__": _MODEL_SAYS},
        module=__name__,  # pickle finds the class by it
        frozen=True,
    )
