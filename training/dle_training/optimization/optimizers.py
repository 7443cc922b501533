"""The optimizers, one entry for each, with its default learning rate.

`fused=True` is the fastest implementation on CPU and GPU: one kernel per parameter instead of several. Weight decay
applies to every parameter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta
from torch import nn, optim

from dle_training.models._base import Network
from dle_training.optimization.muon import MuonAdamW
from dle_training.settings.base import Positive, Settings, chosen


@dataclass(frozen=True, slots=True)
class OptimizerEntry:
    """An optimizer that `optimizer.name` can choose.

    `lr` is the default peak learning rate; None if each model family has its own. `build(network, config)` makes the
    optimizer of the weights that `trained` names.
    """

    name: str
    description: str
    lr: float | None
    build: Callable[[Network, "OptimizerConfig"], optim.Optimizer]


def trained(network: Network) -> list[nn.Parameter]:
    """The weights that are not frozen."""
    return [weight for weight in network.parameters() if weight.requires_grad]


def _adamw(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    return optim.AdamW(trained(network), lr=chosen(config.lr), weight_decay=config.weight_decay, fused=True)


def _adam(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    return optim.Adam(trained(network), lr=chosen(config.lr), weight_decay=config.weight_decay, fused=True)


def _sgd(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    return optim.SGD(
        trained(network), lr=chosen(config.lr), momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )


def _muon(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    hidden = [weight for weight in network.hidden_matrices() if weight.requires_grad]
    others = [weight for weight in trained(network) if not any(weight is each for each in hidden)]
    return MuonAdamW(hidden, others, chosen(config.lr), config.weight_decay)


OPTIMIZERS = {
    entry.name: entry
    for entry in (
        OptimizerEntry("adamw", "Adam with weight decay applied to the weights directly (decoupled).", None, _adamw),
        OptimizerEntry("adam", "Adaptive moment estimation; weight decay is added to the gradient.", 1e-3, _adam),
        OptimizerEntry("sgd", "Stochastic gradient descent with momentum.", 0.05, _sgd),
        OptimizerEntry(
            "muon", "Orthogonalised momentum for the matrices between hidden layers, adamw for the rest.", None, _muon
        ),
    )
}


if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]


class OptimizerConfig(Settings, frozen=True):
    """How gradients change the weights."""

    name: Annotated[OptimizerName, Meta(description="The optimizer; `dle-train --list optimizers` lists them.")] = (
        "adamw"
    )
    lr: Annotated[
        Positive | None,
        Meta(description="Peak learning rate; null: the optimizer's default, or the model family's if it has none."),
    ] = None
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Momentum of sgd.")] = 0.9
    weight_decay: Annotated[
        float,
        Meta(
            ge=0,
            description="L2 penalty: added to the gradient (sgd, adam), or applied to the weights directly (adamw, "
            "muon).",
        ),
    ] = 1e-4


def build(config: OptimizerConfig, network: Network) -> optim.Optimizer:
    """The optimizer that a resolved `config` names, at its peak learning rate."""
    return OPTIMIZERS[config.name].build(network, config)
