"""The model family `pack`: small networks with different hyperparameters that are trained at once, over a table.

Boosted trees lead on tables because they cut each number where it matters, and because they are many. Here each member
embeds numbers by cosines, some of which are short enough to cut, and the answers of the best members are averaged
(Gorishniy et al., "TabPack", 2026; the loop and the choice are in `dle_training.ensembles`).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Self

import torch
from msgspec import Meta
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models import dropout as dropouts
from dle_training.models._base import Network, mean_answer, parts
from dle_training.models.family import Facts, ModelFamily, Recipe
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Positive, Settings, chosen
from dle_training.settings.dimensions import Choice

Range = Annotated[tuple[Positive, ...], Meta(min_length=2, max_length=2)]
_LONGEST = 3.0
"""Frequencies are drawn from a normal distribution that is cut here, in standard deviations."""
_WITHOUT_DROPOUT = 0.5
"""The share of members without dropout; the others draw it evenly up to `model.dropout`."""
_LINEAR_RATE = 3.0
"""Linear models learn with so many times the learning rate that they draw."""
_READ_IN_STEPS = ("lr", "weight_decay", "dropout", "muon_lr")
"""Hyperparameters that stay on the host, where a training step reads them without waiting for the device."""
_MEMBERS, _BEST_MEMBERS = 8, 32
_FEW_ROWS, _FOLDS = 3_500, 5
"""Below so many training rows, which are 70 % of 5,000, one validation part says too little."""


class PackConfig(Settings, frozen=True):
    """`pack`: small networks with different hyperparameters, trained at once and chosen by validation; over columns.

    A range [low, high] holds the values that members draw, evenly on a logarithmic scale.
    """

    members: Annotated[
        Count | None,
        Meta(description="Number of networks that are trained at once; null: 8, or 32 with the preset best."),
    ] = None
    folds: Annotated[
        Count | None,
        Meta(
            description="1: members train on the training part and are chosen by the validation part. More: each "
            "member is trained once for each fold of both parts, without it, and is chosen by its answers to the rows "
            "that did not train it; null: 5 below 3,500 training rows (70 % of 5,000) that are split at random, "
            "else 1, and 1 with split.folds."
        ),
    ] = None
    blocks: Annotated[
        Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)] | None,
        Meta(
            description="Numbers of hidden layers, among which the members are shared out; 0 is a linear model; null: "
            "[1, 2], or [1, 2, 3] for a regression without folds and with the preset best; and 0 with folds."
        ),
    ] = None
    width: Annotated[Count | None, Meta(description="Units in a hidden layer; null: 256, or 128 with folds.")] = None
    cosines: Annotated[
        Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)] | None,
        Meta(description="Range of the number of cosines of each number; null: [12, 12], or [8, 8] with folds."),
    ] = None
    frequency: Annotated[
        Range, Meta(description="Range of the spread of the cosines' frequencies, for numbers of many distinct values.")
    ] = (0.05, 8.0)
    discrete_frequency: Annotated[
        Range,
        Meta(
            description="Range of the spread of the cosines' frequencies, for numbers of few distinct values: one for "
            "200 training rows at most."
        ),
    ] = (2.0, 64.0)
    embedding_dim: Annotated[Count, Meta(description="Width of the vector that is learnt for each category.")] = 8
    lr: Annotated[Range, Meta(description="Range of the learning rate, as a factor of optimizer.lr.")] = (0.3, 4.0)
    weight_decay: Annotated[
        Range,
        Meta(description="Range of the decay of the weights of layers, as a factor of optimizer.weight_decay."),
    ] = (30.0, 3000.0)
    muon_lr: Annotated[
        tuple[Positive, ...],
        Meta(
            max_length=2,
            description="Range of the learning rate of Muon, as a factor of optimizer.lr; Muon then trains the weights "
            "of hidden layers; []: AdamW trains all weights.",
        ),
    ] = (1.0, 50.0)
    patience: Annotated[
        Count, Meta(description="Epochs without a better loss on validation after which a member is left alone.")
    ] = 8
    most: Annotated[Count, Meta(description="Most members, each with the weights of an epoch, in the ensemble.")] = 32
    keep: Annotated[
        Count | None,
        Meta(
            description="Members of the ensemble that the model keeps after training, the best ones; null: all. "
            "training.max_latency chooses it."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.muon_lr and len(self.muon_lr) != 2:
            raise ValueError(f"model.pack.muon_lr: expected a range [low, high] or [], found {list(self.muon_lr)}")
        for name in ("cosines", "frequency", "discrete_frequency", "lr", "weight_decay", "muon_lr"):
            low, high = getattr(self, name) or (1, 1)
            if low > high:
                raise ValueError(f"model.pack.{name}: expected a range [low, high], found [{low:g}, {high:g}]")


class Members(nn.Module):
    """M networks with the same number of hidden layers; the first dimension of every tensor is M.

    A number x becomes [x; cos 2π(w·x + b)] · g + h, with weights of its own; a linear model has the scaled number.
    `lr`, `weight_decay`, `dropout` and `muon_lr` hold what each member drew; without Muon, `muon_lr` is 0. `number`
    tells the members of a pack apart. With folds, the copies of a member follow each other, and a copy does not train
    on the rows of its `fold`.

    Shape: {"dense": (N, P), "codes": (N, E)} → (M, N, K).

    Example:
        >>> settings = PackConfig(width=16, cosines=(2, 4), folds=1)
        >>> members = Members(settings, InputShape(dense=3, quantiles=2), outputs=1, blocks=1)
        >>> members.draw([0, 1], dropout=0.5)
        >>> members({"dense": torch.zeros(5, 3)}).shape
        torch.Size([2, 5, 1])
    """

    number: Tensor
    fold: Tensor
    lr: Tensor
    weight_decay: Tensor
    dropout: Tensor
    muon_lr: Tensor
    frequency: Tensor
    phase: Tensor
    gain: Tensor
    shift: Tensor
    table: Tensor
    offsets: Tensor

    def __init__(self, settings: PackConfig, shape: InputShape, outputs: int, blocks: int) -> None:
        super().__init__()
        self._settings, self._plain = settings, shape.dense - shape.quantiles
        self._numbers = shape.quantiles if blocks else 0
        self._discrete = torch.tensor(shape.discrete or (False,) * shape.quantiles)
        self._cosines, self._folds = max(chosen(settings.cosines)), chosen(settings.folds)
        self._cardinalities, self._frequencies = shape.cardinalities, shape.frequencies
        embedded = self._numbers * (self._cosines + 1)
        inputs = embedded + self._plain + len(shape.cardinalities) * settings.embedding_dim
        self._widths = (inputs, *[chosen(settings.width)] * blocks, outputs)
        for name, value in self._fresh(0, torch.Generator()).items():
            self.register_parameter(name, nn.Parameter(value))
        for name in _READ_IN_STEPS:
            self.register_buffer(name, torch.empty(0))
        for name in ("number", "fold"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        sizes = torch.tensor(shape.cardinalities, dtype=torch.int64)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)

    def __len__(self) -> int:
        return len(self.number)

    @property
    def layers(self) -> int:
        """Hidden layers and the output layer."""
        return len(self._widths) - 1

    def decays(self, name: str) -> bool:
        """Whether weight decay applies to the parameter `name`: to the weights of layers alone."""
        return name.startswith("weight")

    def by_muon(self, name: str) -> bool:
        """Whether Muon trains the parameter `name`: the weights of hidden layers, if it is chosen."""
        return bool(self._settings.muon_lr) and self.decays(name) and name != f"weight{self.layers - 1}"

    def draw(self, numbers: Sequence[int], dropout: float) -> None:
        """Draw the weights and hyperparameters of members with these `numbers` from torch's global generator.

        Each member has a generator of its own, so its weights do not depend on the other members.
        """
        settings, count = self._settings, len(numbers)
        frequency, discrete_frequency, lr, weight_decay = (
            _between(bounds, _spread(count))
            for bounds in (settings.frequency, settings.discrete_frequency, settings.lr, settings.weight_decay)
        )
        dropped = ((_spread(count) - _WITHOUT_DROPOUT) / (1 - _WITHOUT_DROPOUT)).clamp(min=0) * dropout
        drawn = {
            "number": torch.tensor(numbers, dtype=torch.int64),
            "lr": lr if self.layers > 1 else lr * _LINEAR_RATE,
            "weight_decay": weight_decay,
            "dropout": dropped,
            "muon_lr": _between(settings.muon_lr, _spread(count)) if settings.muon_lr else torch.zeros(count),
        }
        for name, values in drawn.items():
            setattr(self, name, values.repeat_interleave(self._folds))
        self.fold = torch.arange(self._folds).repeat(count)
        seeds = torch.randint(2**62, (len(self),)).tolist()
        weights = [self._fresh(1, torch.Generator().manual_seed(seed)) for seed in seeds]
        for name, parameter in self.named_parameters():
            parameter.data = torch.cat([each[name] for each in weights]) if weights else parameter.data[:0]
        if self._numbers:
            spread = torch.where(self._discrete, discrete_frequency.view(-1, 1), frequency.view(-1, 1))  # (count, F)
            self.frequency.data *= spread.repeat_interleave(self._folds, dim=0).unsqueeze(2)
            if min(chosen(settings.cosines)) < self._cosines:
                self._narrow(_between(chosen(settings.cosines), _spread(count)).round())

    def _narrow(self, cosines: Tensor) -> None:
        """Leave each member (M,) so many cosines of each number.

        The others have the frequency and phase 0. So they are constant, and stay so: both of their gradients are 0.
        """
        used = torch.arange(self._cosines) < cosines.repeat_interleave(self._folds).view(-1, 1, 1)
        self.frequency.data *= used

    def _fresh(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """New parameters of `count` members."""
        cosines, drawn = self._cosines, dict[str, Tensor]()
        if self._numbers:
            shape = (count, self._numbers, cosines)
            drawn["frequency"] = torch.randn(shape, generator=generator).clamp(-_LONGEST, _LONGEST)
            drawn["phase"] = torch.zeros(shape)
            drawn["gain"] = torch.zeros(count, self._numbers, cosines + 1)
            drawn["shift"] = torch.zeros(count, self._numbers, cosines + 1)
        if self._cardinalities:
            rows, width = sum(self._cardinalities), self._settings.embedding_dim
            drawn["table"] = torch.randn((count, rows, width), generator=generator) / width**0.5
        for layer, (wide, narrow) in enumerate(zip(self._widths, self._widths[1:], strict=False)):
            bound = 1 / math.sqrt(wide)
            drawn[f"weight{layer}"] = torch.empty(count, wide, narrow).uniform_(-bound, bound, generator=generator)
            drawn[f"bias{layer}"] = torch.empty(count, 1, narrow).uniform_(-bound, bound, generator=generator)
        drawn[f"bias{len(self._widths) - 2}"].zero_()
        return drawn

    def forward(self, inputs: Inputs) -> Tensor:
        together = [] if self.training else parts(len(self), self._widths)
        if len(together) < 2:
            return self._outputs(inputs, slice(None))
        return torch.cat([self._outputs(inputs, part) for part in together])

    def _outputs(self, inputs: Inputs, part: slice) -> Tensor:
        """The outputs (m, N, K) of the members in `part`."""
        weights = {name: parameter[part] for name, parameter in self.named_parameters()}
        features: list[Tensor] = []
        if self._numbers:
            features.append(self._embedded(inputs["dense"][:, self._plain :], weights))
        if self._plain:
            count = len(weights["bias0"])
            features.append(inputs["dense"][:, : self._plain].unsqueeze(0).expand(count, -1, -1))
        if self._cardinalities:
            features.append(self._looked_up(inputs["codes"], weights["table"]))
        units = features[0] if len(features) == 1 else torch.cat(features, dim=2)  # (m, N, inputs)
        for layer in range(self.layers):
            units = torch.baddbmm(weights[f"bias{layer}"], units, weights[f"weight{layer}"])
            if layer < self.layers - 1:
                units = self._dropped(F.relu(units))
        return units

    def _embedded(self, numbers: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """(N, F) → (m, N, F · (cosines + 1))."""
        frequency, phase, gain, shift = (
            weights[name].unsqueeze(1) for name in ("frequency", "phase", "gain", "shift")
        )  # each (m, 1, F, …)
        each = numbers.unsqueeze(0).unsqueeze(3)  # (1, N, F, 1)
        waves = torch.cos(2 * math.pi * (each * frequency + phase))
        both = torch.cat([each.expand(len(frequency), -1, -1, 1), waves], dim=3)
        return (both * gain + shift).flatten(2)

    def _looked_up(self, codes: Tensor, table: Tensor) -> Tensor:
        """(N, E) → (m, N, E · embedding_dim)."""
        rows = table.index_select(1, (codes + self.offsets).flatten())  # (m, N · E, D)
        return rows.view(len(table), codes.shape[0], codes.shape[1] * self._settings.embedding_dim)

    def _dropped(self, units: Tensor) -> Tensor:
        if not self.training or not bool((self.dropout > 0).any()):
            return units
        members, rows, width = units.shape
        levels = torch.round(self.dropout * dropouts.LEVELS).view(-1, 1, 1)
        least, scale = (
            each.to(units.device, non_blocking=True)
            for each in ((levels - dropouts.LEVELS // 2).to(torch.int16), dropouts.LEVELS / (dropouts.LEVELS - levels))
        )
        words = torch.empty(members, dropouts.words_for(rows * width), dtype=torch.int64, device=units.device)
        return units * dropouts.multipliers(dropouts.draw(words), units.shape, least, scale)

    @torch.no_grad()
    def fill_untrained(self) -> None:
        """Set the vectors of categories without training rows to the mean of their column, weighted by frequency."""
        if not self._cardinalities or not self._frequencies:
            return
        start = 0
        for counts in self._frequencies:
            count = torch.tensor(counts, dtype=torch.float32, device=self.table.device)
            share = count / count.sum().clamp(min=1)
            rows = self.table[:, start : start + len(counts)]
            rows[:, share == 0] = torch.einsum("r,mrd->md", share, rows).unsqueeze(1)
            start += len(counts)

    @torch.no_grad()
    def keep(self, places: Tensor) -> None:
        """Keep only the members at these places (M',) int64."""
        for name, parameter in list(self.named_parameters()):
            # a new one, because autograd remembers the shape of a parameter
            setattr(self, name, nn.Parameter(parameter.index_select(0, places)))
        for name in ("number", "fold", *_READ_IN_STEPS):
            tensor = getattr(self, name)
            setattr(self, name, tensor.index_select(0, places.to(tensor.device)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the members to a device, except for what stays on the host."""
        host = {name: getattr(self, name) for name in _READ_IN_STEPS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in host.items():
            setattr(self, name, tensor)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take over as many members as the state has."""
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            found = state_dict.get(prefix + name)
            if found is not None and found.shape[1:] == tensor.shape[1:]:
                tensor.data = tensor.data.new_empty(found.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Ensemble(Network):
    """Members with different numbers of hidden layers, and the mean of their answers.

    Probabilities are averaged, not logits, so `forward` returns the logits of the mean.

    Shape: as `Members`; {"dense": (N, P), "codes": (N, E)} → (N, K).

    Example:
        >>> settings = PackConfig(width=16, cosines=(2, 4), members=4, blocks=(1,), folds=1)
        >>> pack = Ensemble(settings, InputShape(dense=3, quantiles=2), outputs=1, dropout=0.5)
        >>> pack({"dense": torch.zeros(5, 3)}).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        settings: PackConfig,
        shape: InputShape,
        outputs: int,
        dropout: float,
        *,
        probabilities: bool = True,
        fresh: bool = True,
    ) -> None:
        super().__init__()
        self.settings, self._probabilities = settings, probabilities
        groups = [Members(settings, shape, outputs, blocks) for blocks in chosen(settings.blocks)]
        if fresh:
            for index, group in enumerate(groups):
                group.draw(range(index, chosen(settings.members), len(groups)), dropout)
        self.groups = nn.ModuleList(groups)

    def __len__(self) -> int:
        return sum(map(len, self.running))

    @property
    def copies(self) -> int:
        """Copies of each member: one for each fold."""
        return chosen(self.settings.folds)

    @property
    def running(self) -> list[Members]:
        """The groups that have members."""
        return [group for group in self.groups if isinstance(group, Members) and len(group)]

    def keep(self, places: Collection[int]) -> None:
        """Keep only the members at these places, counted over the groups, with all their copies."""
        start = 0
        for members in self.running:
            stop = start + len(members) // self.copies
            own = [place - start for place in sorted(places) if start <= place < stop]
            copies = torch.arange(self.copies).repeat(len(own))
            firsts = torch.tensor(own, dtype=torch.int64).repeat_interleave(self.copies) * self.copies
            members.keep((firsts + copies).to(members.number.device))
            start = stop

    def forward(self, inputs: Inputs) -> Tensor:
        return self.mean(torch.cat([members(inputs) for members in self.running]))

    def mean(self, outputs: Tensor) -> Tensor:
        """The output (N, K) for the mean answer of M members with these outputs (M, N, K)."""
        return mean_answer(outputs, probabilities=self._probabilities)

    def before_evaluation(self) -> None:
        for group in self.running:
            group.fill_untrained()


def _spread(count: int) -> Tensor:
    """Random places in [0, 1), one in each of `count` equal parts, in random order."""
    return (torch.randperm(count) + torch.rand(count)) / max(count, 1)


def _between(bounds: tuple[float, ...], places: Tensor) -> Tensor:
    """Points of a range on a logarithmic scale, by their places in [0, 1]."""
    low, high = map(math.log, bounds)
    return torch.exp(low + (high - low) * places)


def _complete(settings: PackConfig, facts: Facts) -> PackConfig:
    folds = settings.folds or (min(_FOLDS, facts.rows) if facts.rows < _FEW_ROWS else 1)
    best = facts.preset == "best"
    blocks = (1, 2, 3) if best or (facts.regression and folds == 1) else (1, 2)
    return replace(
        settings,
        members=settings.members or (_BEST_MEMBERS if best else _MEMBERS),
        folds=folds,
        blocks=settings.blocks or ((*blocks, 0) if folds > 1 else blocks),
        width=settings.width or (128 if folds > 1 else 256),
        cosines=settings.cosines or ((8, 8) if folds > 1 else (12, 12)),
    )


FAMILY = ModelFamily(
    name="pack",
    description="Small networks that embed numbers by cosines, trained at once; the mean of the best ones answers.",
    reads=("table",),
    section="pack",
    settings=PackConfig,
    build=lambda settings, shape, slot: Ensemble(
        settings, shape, slot.outputs, slot.dropout, probabilities=not slot.regression, fresh=slot.fresh
    ),
    dropout=0.5,
    recipe=Recipe(
        lr=1e-3, epochs=50, least_steps=3_000, patience=12, schedule="constant", quantiles=True, piecewise_bins=0
    ),
    alone=True,
    complete=_complete,
    space={"model.pack.width": Choice((128, 256, 384)), "model.pack.members": Choice((8, 16, 32))},
)
