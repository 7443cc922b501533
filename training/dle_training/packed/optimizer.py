"""The optimizers of M members as arithmetic on matrices (M, n); each member has its own learning rate and decay.

The members' own optimizers hold views of these matrices, so their states are saved as for a single network.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, optim

from dle_training.packed.network import ParameterLayout


class PackedOptimizer:
    """Makes a step of all members; it continues from the states of the members' own optimizers."""

    def step(self, weights: Tensor, gradients: Tensor, rates: Tensor) -> None:
        """Change `weights` (M, n) in place by `gradients` (M, n), with learning rates `rates` (M, 1)."""
        raise NotImplementedError


class _Adam(PackedOptimizer):
    """AdamW if weight decay is `decoupled`, else Adam, as in PyTorch (Loshchilov and Hutter, 2019)."""

    def __init__(self, members: Sequence[optim.Optimizer], layout: ParameterLayout, *, decoupled: bool) -> None:
        self._decoupled = decoupled
        (self._beta1, self._beta2), self._eps = (members[0].param_groups[0][name] for name in ("betas", "eps"))
        self._decay = _column(members, "weight_decay")
        self._steps = _steps(members)
        self._mean, self._square = (_matrix(members, layout, name) for name in ("exp_avg", "exp_avg_sq"))

    def step(self, weights: Tensor, gradients: Tensor, rates: Tensor) -> None:
        if self._decoupled:
            weights.mul_(1 - rates * self._decay)
        else:
            gradients = torch.addcmul(gradients, weights, self._decay)
        self._steps.add_(1)
        self._mean.lerp_(gradients, 1 - self._beta1)
        self._square.mul_(self._beta2).addcmul_(gradients, gradients, value=1 - self._beta2)
        steps = self._steps[:, :1].double()  # in single precision, 1 - 0.999 keeps only four digits
        warm = (1 - self._beta2**steps).sqrt()
        scale = (rates * warm / (1 - self._beta1**steps)).float()
        weights.addcdiv_(self._mean * scale, self._square.sqrt().add_((self._eps * warm).float()), value=-1)


class _Sgd(PackedOptimizer):
    """Stochastic gradient descent with momentum, as in PyTorch."""

    def __init__(self, members: Sequence[optim.Optimizer], layout: ParameterLayout) -> None:
        self._decay, self._momentum = (_column(members, name) for name in ("weight_decay", "momentum"))
        self._velocity = _matrix(members, layout, "momentum_buffer")
        for member in members:
            if not member.param_groups[0]["momentum"]:  # then PyTorch keeps no buffer
                member.state.clear()

    def step(self, weights: Tensor, gradients: Tensor, rates: Tensor) -> None:
        self._velocity.mul_(self._momentum).add_(gradients).addcmul_(weights, self._decay)
        weights.addcmul_(self._velocity, rates, value=-1)


PACKED: dict[str, Callable[[Sequence[optim.Optimizer], ParameterLayout], PackedOptimizer]] = {
    "adamw": lambda members, layout: _Adam(members, layout, decoupled=True),
    "adam": lambda members, layout: _Adam(members, layout, decoupled=False),
    "sgd": _Sgd,
}
"""The optimizers that have a packed form, by their names in `optimizers.OPTIMIZERS`."""


def _column(members: Sequence[optim.Optimizer], setting: str) -> Tensor:
    """A setting of each member, as a column (M, 1)."""
    device = members[0].param_groups[0]["params"][0].device
    return torch.tensor([[member.param_groups[0][setting]] for member in members], device=device)


def _matrix(members: Sequence[optim.Optimizer], layout: ParameterLayout, name: str) -> Tensor:
    """The members' optimizer state `name` as a matrix (M, n), 0 where there is none yet; the members keep views."""
    rows = torch.stack(
        [
            layout.row([member.state[weight].get(name, torch.zeros_like(weight)) for weight in _weights(member)])
            for member in members
        ]
    )
    for member, row in zip(members, rows, strict=True):
        for weight, view in zip(_weights(member), layout.parameters(row), strict=True):
            member.state[weight][name] = view
    return rows


def _steps(members: Sequence[optim.Optimizer]) -> Tensor:
    """The numbers of steps done (M, parameters); the members keep one view per parameter, as PyTorch does."""
    device = _weights(members[0])[0].device
    steps = torch.tensor(
        [[float(member.state[weight].get("step", 0)) for weight in _weights(member)] for member in members],
        device=device,
    )
    for member, row in zip(members, steps, strict=True):
        for weight, view in zip(_weights(member), row, strict=True):
            member.state[weight]["step"] = view
    return steps


def _weights(member: optim.Optimizer) -> list[Tensor]:
    weights: list[Tensor] = member.param_groups[0]["params"]
    return weights
