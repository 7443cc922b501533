"""A step of AdamW (Loshchilov and Hutter, 2019), for optimizers that are more than AdamW."""

import torch
from torch import Tensor
from torch.optim import adamw


def state(weight: Tensor, steps: Tensor) -> dict[str, Tensor]:
    """The state of a weight before the first step; `steps` is zero."""
    return {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight), "step": steps}


def step(
    weights: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    beta2: float = 0.999,
) -> None:
    """Make a step in place, by the fused kernel of PyTorch."""
    adamw.adamw(
        weights,
        gradients,
        means,
        squares,
        [],
        steps,
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=beta2,
        lr=lr,
        weight_decay=weight_decay,
        eps=1e-8,
        maximize=False,
    )
