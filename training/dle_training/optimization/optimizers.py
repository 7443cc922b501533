"""The optimizers, one entry for each, with its default learning rate.

`fused=True` is the fastest implementation on CPU and GPU: one kernel per parameter instead of several. Weight decay
applies to every parameter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta
from torch import optim

from dle_training.models._base import Network
from dle_training.optimization.muon import MuonAdamW
from dle_training.settings.base import Positive, Settings, chosen

_BETA1 = 0.9


@dataclass(frozen=True, slots=True)
class OptimizerEntry:
    """An optimizer that `optimizer.name` can choose.

    `lr` is the default peak learning rate; None if each model family has its own. `build(network, config)` makes the
    optimizer of the groups of weights that `trained` lists.
    """

    name: str
    description: str
    lr: float | None
    build: Callable[[Network, "OptimizerConfig"], optim.Optimizer]


def trained(network: Network) -> list[dict[str, Any]]:
    """PyTorch's groups of the parameters that training changes: `rate` times the learning rate, decayed if it `decays`.

    The loop sets learning rate and weight decay before each step.
    """
    return [
        {"params": group.parameters, "rate": group.rate, "decays": group.decays} for group in network.parameter_groups()
    ]


def _adamw(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    betas, weight_decay = (_BETA1, chosen(config.beta2)), chosen(config.weight_decay)
    return optim.AdamW(trained(network), lr=chosen(config.lr), betas=betas, weight_decay=weight_decay, fused=True)


def _adam(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    betas, weight_decay = (_BETA1, chosen(config.beta2)), chosen(config.weight_decay)
    return optim.Adam(trained(network), lr=chosen(config.lr), betas=betas, weight_decay=weight_decay, fused=True)


def _sgd(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    return optim.SGD(
        trained(network),
        lr=chosen(config.lr),
        momentum=config.momentum,
        weight_decay=chosen(config.weight_decay),
        fused=True,
    )


def _muon(network: Network, config: "OptimizerConfig") -> optim.Optimizer:
    hidden = [weight for weight in network.hidden_matrices() if weight.requires_grad]
    if not hidden:
        return _adamw(network, config)
    (group,) = trained(network)  # weights that learn at different rates have no hidden matrices
    others = [weight for weight in group["params"] if not any(weight is each for each in hidden)]
    return MuonAdamW(hidden, others, chosen(config.lr), chosen(config.weight_decay), chosen(config.beta2))


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
    beta2: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(
            description="Decay of the mean of squared gradients (adamw, adam, muon); null: 0.999, or 0.95 for realmlp."
        ),
    ] = None
    weight_decay: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="L2 penalty: added to the gradient (sgd, adam) or applied to the weights directly (adamw, "
            "muon); null: 0.0001, or 0.02 for realmlp."
        ),
    ] = None


def build(config: OptimizerConfig, network: Network) -> optim.Optimizer:
    """The optimizer that a resolved `config` names, at its peak learning rate."""
    return OPTIMIZERS[config.name].build(network, config)
