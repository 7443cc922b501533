"""Muon: each step of a matrix goes along the orthogonal matrix that is nearest to its momentum.

All singular values of such a step are equal, so directions with small gradients are learnt as fast as the others. It
suits matrices from one hidden layer to the next; AdamW trains everything else (Jordan et al., "Muon: An optimizer for
hidden layers in neural networks", 2024).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn, optim

from dle_training.optimization import adamw

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Coefficients of the Newton–Schulz iteration, which moves singular values from (0, 1] close to 1 in a few steps."""


@dataclass(frozen=True, slots=True)
class MuonOptions:
    """Hyperparameters, with the names and the meaning that they have in `torch.optim.Muon`."""

    momentum: float = 0.95
    nesterov: bool = True
    ns_steps: int = 5
    eps: float = 1e-7
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "match_rms_adamw"


class MuonAdamW(optim.Optimizer):
    """Muon for the matrices `hidden`, and AdamW for `others`, with one learning rate and one weight decay.

    The steps of Muon are as long as those of AdamW, so that one learning rate suits both.
    """

    def __init__(
        self,
        hidden: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        lr: float,
        weight_decay: float,
        beta2: float,
    ) -> None:
        groups = [{"params": list(hidden)}, {"params": list(others)}]
        shared = {"lr": lr, "weight_decay": weight_decay, "beta2": beta2, "rate": 1.0, "decays": True, "fused": True}
        super().__init__(groups, shared)
        for weight in hidden:
            self.state[weight] = {"momentum": torch.zeros_like(weight)}
        for weight in others:
            self.state[weight] = adamw.state(weight, torch.zeros((), device=weight.device))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make a step."""
        hidden, others = self.param_groups
        for weight in hidden["params"]:
            weights, gradients, momenta = (
                each.mT.unsqueeze(0) for each in (weight, weight.grad, self.state[weight]["momentum"])
            )
            step(weights, gradients, momenta, hidden["lr"], hidden["weight_decay"], MuonOptions())
        weights = others["params"]
        states = [[self.state[weight][name] for weight in weights] for name in ("exp_avg", "exp_avg_sq", "step")]
        gradients = [weight.grad for weight in weights]
        adamw.step(
            weights, gradients, *states, lr=others["lr"], weight_decay=others["weight_decay"], beta2=others["beta2"]
        )


def step(
    weights: Tensor,
    gradients: Tensor,
    momenta: Tensor,
    rates: float | Tensor,
    decays: float | Tensor,
    options: MuonOptions,
) -> None:
    """Make a step of M matrices at once in place, and update their `momenta`.

    `rates` and `decays` are learning rates and weight decays: one for all matrices, or (M, 1, 1).

    Shape: `weights`, `gradients` and `momenta` are (M, d_in, d_out).
    """
    momenta.lerp_(gradients, 1 - options.momentum)
    directions = gradients.lerp(momenta, options.momentum) if options.nesterov else momenta
    rows, columns = weights.shape[1:]
    if options.adjust_lr_fn == "original":
        factor = math.sqrt(max(1, columns / rows))
    else:
        factor = 0.2 * math.sqrt(max(rows, columns))
    steps = orthogonal(directions, options.ns_steps, options.eps)
    weights.mul_(1 - rates * decays).sub_(steps.mul_(factor * rates))


def orthogonal(matrices: Tensor, ns_steps: int, eps: float) -> Tensor:
    """Matrices with the singular vectors of `matrices` (M, d_in, d_out), and singular values of about 1."""
    tall = matrices.shape[1] >= matrices.shape[2]
    each = (matrices.mT if tall else matrices).to(_precision(matrices.device))
    each = each / each.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(ns_steps):
        gram = each @ each.mT
        each = torch.baddbmm(each, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), each, beta=_A)
    return (each.mT if tall else each).to(matrices.dtype)


def _precision(device: torch.device) -> torch.dtype:
    """bfloat16, as in `torch.optim.Muon`, but not on a CPU that multiplies it many times more slowly than float32."""
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - nothing public says it
    return torch.bfloat16 if fast else torch.float32
