"""The list of model families, and the section `model` of the configuration; a new family adds a line to each."""

from dle_training.models import backbone, bag, cnn, mlp, rnn, tcn, transformer
from dle_training.models.backbone import BackboneConfig
from dle_training.models.bag import BagConfig
from dle_training.models.cnn import CnnConfig
from dle_training.models.family import InputKind
from dle_training.models.mlp import MlpConfig
from dle_training.models.rnn import RnnConfig
from dle_training.models.tcn import TcnConfig
from dle_training.models.transformer import TransformerConfig

FAMILIES = {
    family.name: family
    for family in (
        mlp.FAMILY,
        cnn.FAMILY,
        rnn.FAMILY,
        tcn.FAMILY,
        transformer.FAMILY,
        bag.FAMILY,
        backbone.FAMILY,
    )
}
DEFAULTS: dict[InputKind, str] = {"image": "cnn", "sequence": "tcn", "text": "bag", "table": "mlp"}
"""The family that reads each kind of input if `model.name` names no family for it."""


class ModelConfig(MlpConfig, frozen=True):
    """The network: an encoder for each kind of input, then a linear head.

    The settings of `mlp`, which reads columns, are in `model` itself; every other family has its own section.
    """

    cnn: CnnConfig = CnnConfig()
    rnn: RnnConfig = RnnConfig()
    tcn: TcnConfig = TcnConfig()
    transformer: TransformerConfig = TransformerConfig()
    bag: BagConfig = BagConfig()
    timm: BackboneConfig = BackboneConfig()
