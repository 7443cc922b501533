"""AdamW and Muon for the members of a pack, each with its own learning rates and weight decay."""

from typing import Any

import torch
from torch import Tensor, optim

from dle_training.models.pack import Members
from dle_training.optimization import adamw, muon

_MUON = muon.MuonOptions(adjust_lr_fn="original")


class MemberOptimizer(optim.Optimizer):
    """AdamW and Muon over members, whose tensors have the members as their first dimension.

    The learning rates of a member are `lr` times what it drew, and so is its weight decay, which applies to the weights
    of layers alone. Muon trains what `Members.by_muon` names, and AdamW everything else. For AdamW, PyTorch's fused
    kernel makes the step of each member: separate operations on the tensors of all members would read and write them
    eight times.
    """

    def __init__(self, groups: list[Members], lr: float, weight_decay: float) -> None:
        super().__init__([{"params": list(group.parameters())} for group in groups], {"lr": lr, "fused": True})
        self._groups, self._decay = groups, weight_decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make a step of all members."""
        for members, options in zip(self._groups, self.param_groups, strict=True):
            if not len(members):
                continue
            decays = self._decay * members.weight_decay
            self._step_by_adamw(members, options["lr"] * members.lr, decays)
            self._step_by_muon(members, options["lr"] * members.muon_lr, decays)

    def _step_by_adamw(self, members: Members, rates: Tensor, decays: Tensor) -> None:
        named = [each for each in members.named_parameters() if not members.by_muon(each[0])]
        for decayed in (True, False):
            chosen = [parameter for name, parameter in named if members.decays(name) is decayed]
            if not chosen:
                continue
            tensors = [self._tensors(parameter) for parameter in chosen]  # each (weights, gradients, mean, …)
            for place, (rate, decay) in enumerate(zip(rates.tolist(), decays.tolist(), strict=True)):
                own = [[tensor[place] for tensor in kind] for kind in zip(*tensors, strict=True)]
                adamw.step(*own, lr=rate, weight_decay=decay if decayed else 0.0)

    def _step_by_muon(self, members: Members, rates: Tensor, decays: Tensor) -> None:
        for parameter in (parameter for name, parameter in members.named_parameters() if members.by_muon(name)):
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            own_rates, own_decays = (
                each.view(-1, 1, 1).to(parameter.device, non_blocking=True) for each in (rates, decays)
            )
            muon.step(parameter, parameter.grad, state["momentum"], own_rates, own_decays, _MUON)

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
            state |= adamw.state(parameter, torch.zeros(len(parameter), device=parameter.device))
        assert parameter.grad is not None
        each = (parameter.detach(), parameter.grad, state["exp_avg"], state["exp_avg_sq"], state["step"])
        return tuple(tensor.unbind() for tensor in each)
