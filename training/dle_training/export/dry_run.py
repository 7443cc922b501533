"""A check before training that a model can be exported.

The project's own encoders can be exported, as tests prove. Architectures of another library are tried out: this module
exports an encoder with random weights for two empty images. That takes about as long as the export itself.
"""

from msgspec.structs import replace

from dle_bundle.errors import InputError
from dle_bundle.schema import Schema
from dle_training.config.run_config import RunConfig
from dle_training.export import graph
from dle_training.models import registry
from dle_training.models.backbone import BACKBONE
from dle_training.preprocessing.shape import Images, InputShape


def check(config: RunConfig, schema: Schema) -> None:
    """Raise InputError, with the reason, for a model that can be trained but not exported."""
    chosen = registry.choose(config.model.name, registry.inputs(schema)).get("image", "")
    if not chosen.startswith(BACKBONE):
        return
    form = schema.image[0].image
    assert form is not None
    channels = form.channels
    shape = InputShape(
        image=Images(len(schema.image), channels, form.height, form.width, (0.5,) * channels, (0.25,) * channels)
    )
    network = registry.build(replace(config.model, name=chosen, dropout=0.0), shape, 1, fresh=False)
    try:
        graph.try_images(network, shape)
    except Exception as error:  # the exporter's errors have no common base class
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"model.name: {chosen} cannot be exported, so it is not trained: {reason[0]:.300}") from error
