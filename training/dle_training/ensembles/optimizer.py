"""AdamW for the members of a pack, each with its own learning rate and weight decay."""

from typing import Any

import torch
from torch import Tensor, optim
from torch.optim.adamw import adamw

from dle_training.models.pack import Members

_BETAS, _EPS = (0.9, 0.999), 1e-8


class MemberAdamW(optim.Optimizer):
    """AdamW (Loshchilov and Hutter, 2019) over members, whose tensors have the members as their first dimension.

    The learning rate of a member is `lr` times what it drew, and so is its weight decay, which applies to the weights
    of layers alone. PyTorch's fused kernel makes the step of each member: separate operations on the tensors of all
    members would read and write them eight times.
    """

    def __init__(self, groups: list[Members], lr: float, weight_decay: float) -> None:
        super().__init__([{"params": list(group.parameters())} for group in groups], {"lr": lr})
        self._groups, self._decay = groups, weight_decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make a step of all members."""
        for members, options in zip(self._groups, self.param_groups, strict=True):
            if not len(members):
                continue
            rates = (options["lr"] * members.lr).tolist()
            decays = (self._decay * members.weight_decay).tolist()
            named = list(members.named_parameters())
            for decayed in (True, False):
                chosen = [parameter for name, parameter in named if members.decays(name) is decayed]
                if not chosen:
                    continue
                tensors = [self._tensors(parameter) for parameter in chosen]  # each (weights, gradients, mean, …)
                for place, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
                    own = [[tensor[place] for tensor in kind] for kind in zip(*tensors, strict=True)]
                    weights, gradients, means, squares, steps = own
                    adamw(
                        weights,
                        gradients,
                        means,
                        squares,
                        [],
                        steps,
                        fused=True,
                        amsgrad=False,
                        beta1=_BETAS[0],
                        beta2=_BETAS[1],
                        lr=rate,
                        weight_decay=decay if decayed else 0.0,
                        eps=_EPS,
                        maximize=False,
                    )

    def keep(self, members: Members, places: Tensor) -> None:
        """Keep only the members at `places`, and their states."""
        before = list(members.parameters())
        members.keep(places)
        after = list(members.parameters())
        for old, new in zip(before, after, strict=True):
            if state := self.state.pop(old, None):
                self.state[new] = {name: value.index_select(0, places) for name, value in state.items()}
        self.param_groups[self._groups.index(members)]["params"] = after

    def _tensors(self, parameter: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Weights, gradients, means, means of squares, and numbers of steps of a parameter, each by member."""
        state = self.state[parameter]
        if not state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] = torch.zeros(len(parameter), device=parameter.device)
        assert parameter.grad is not None
        each = (parameter.detach(), parameter.grad, state["exp_avg"], state["exp_avg_sq"], state["step"])
        return tuple(tensor.unbind() for tensor in each)
