"""Trains M networks of one architecture as one: a matrix has their weights as rows, and layers multiply in batches.

The network of a member keeps its modules, and the tensors of these modules become views of the member's row. Each
member therefore validates and is saved as if it were trained alone, and no weights are copied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dle_training.models import dropout, norm
from dle_training.models._base import EncoderNetwork, Network
from dle_training.models.dropout import Dropout
from dle_training.models.mlp import TableEncoder
from dle_training.preprocessing.shape import Inputs


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """The sizes of the M members' batches in a step, which has B rows for each member.

    The first `counts` rows of a member are its batch, and its other rows are filler. `share`
    (M, B) float32 is 1 / count, and 0 for filler rows. `numbers` (M, 1) float32 holds the counts.
    """

    share: Tensor
    counts: Sequence[int]
    numbers: Tensor


class ParameterLayout:
    """The positions of the n parameters of a network in a row of the matrix.

    Weights of linear layers are stored transposed, so that neither the forward nor the backward product copies them.
    """

    def __init__(self, network: Network) -> None:
        self._transposed = [name.endswith(".weight") for name, _ in network.named_parameters()]
        self._shapes = [tuple(tensor.shape) for tensor in self._turned(network.parameters())]
        self._sizes = [tensor.numel() for tensor in network.parameters()]

    def row(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return tensors in the shapes of the parameters as one row (n,)."""
        return torch.cat([tensor.reshape(-1) for tensor in self._turned(tensors)])

    def parameters(self, row: Tensor) -> list[Tensor]:
        """Return views of a row (n,) in the shapes of the parameters."""
        pieces = zip(torch.split(row, self._sizes), self._shapes, strict=True)
        return self._turned([piece.view(shape) for piece, shape in pieces])

    def stacked(self, rows: Tensor) -> list[Tensor]:
        """Return views (M, …) of rows (M, n), one for each parameter, in the form in which the rows store it."""
        pieces = zip(torch.split(rows, self._sizes, dim=1), self._shapes, strict=True)
        return [piece.view(len(rows), *shape) for piece, shape in pieces]

    def _turned(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        pairs = zip(tensors, self._transposed, strict=True)
        return [tensor.detach().t() if transposed else tensor.detach() for tensor, transposed in pairs]


class PackedNetwork:
    """Networks with a `TableEncoder` and a head, in training mode. Their tensors become views of `weights` (M, n).

    `generators` has one random generator for the dropout of each member.

    Shape: {"dense": (M, B, P), "codes": (M, B, E)} → (M, B, K).
    """

    def __init__(
        self, networks: Sequence[Network], layout: ParameterLayout, generators: Sequence[torch.Generator]
    ) -> None:
        self._layout = layout
        self.weights = torch.stack([layout.row(network.parameters()) for network in networks])
        for network, row in zip(networks, self.weights, strict=True):
            for parameter, view in zip(network.parameters(), layout.parameters(row), strict=True):
                parameter.data = view
        self.weights.requires_grad_()
        encoders = [_encoder(network) for network in networks]
        self._dense, self._embeddings = bool(encoders[0].dense), encoders[0].embeddings
        self._layers = _packed(encoders, generators)
        self._head = _Linear(biased=True)

    def __call__(self, inputs: Inputs, sizes: BatchSizes) -> Tensor:
        weights = iter(self._layout.stacked(self.weights))
        features = [inputs["dense"]] if self._dense else []
        if self._embeddings is not None:
            features.append(_embedded(inputs["codes"] + self._embeddings.offsets, next(weights)))
        for layer in self._layers:
            match layer:
                case _Linear():
                    units = layer(features, next(weights), next(weights) if layer.biased else None)
                case nn.ReLU():
                    units = units.relu_()
                case _BatchNorm():
                    units = layer(units, next(weights), next(weights), sizes)
                case _PackedDropout():
                    units = layer(units, sizes)
            features = [units]
        return self._head(features, next(weights), next(weights))


def release(network: Network) -> None:
    """Replace the views in a network by tensors of its own."""
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)


class _Linear:
    """A linear layer with an optional bias, and an optional ReLU after it."""

    def __init__(self, *, biased: bool) -> None:
        self.biased = biased
        self.rectified = False

    def __call__(self, features: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
        """Features (M, B, in_i), weight (M, sum of in_i, out), bias (M, out) → (M, B, out)."""
        units: Tensor = _LinearFunction.apply(self.rectified, weight, bias, *features)  # type: ignore[no-untyped-call]
        return units


class _LinearFunction(torch.autograd.Function):
    """The arithmetic of `_Linear`, with as few passes over memory as possible, because memory bounds a step.

    The groups of features stay separate: dense inputs, which are the widest group, need no gradient.
    """

    @staticmethod
    def forward(ctx: Any, rectified: bool, weight: Tensor, bias: Tensor | None, *features: Tensor) -> Tensor:
        first, *others = zip(features, _split(weight, features), strict=True)
        units = torch.bmm(*first)
        for each, own in others:
            units.baddbmm_(each, own)
        if bias is not None:
            units.add_(bias.unsqueeze(1))
        if rectified:
            units.relu_()
        ctx.save_for_backward(units if rectified else None, weight, *features)
        return units

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient (M, B, out), which is overwritten because nothing else uses it."""
        rectified, weight, *features = ctx.saved_tensors
        if rectified is not None:
            torch.ops.aten.threshold_backward.grad_input(gradient, rectified, 0, grad_input=gradient)
        weights = [torch.bmm(each.transpose(1, 2), gradient) for each in features]
        biased, *wanted = ctx.needs_input_grad[2:]
        back = [
            _times_transposed(gradient, own) if needed else None
            for own, needed in zip(_split(weight, features), wanted, strict=True)
        ]
        whole = weights[0] if len(weights) == 1 else torch.cat(weights, dim=1)
        return None, whole, gradient.sum(dim=1) if biased else None, *back


def _split(weight: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """(M, in, out) → the rows of the weight that belong to each group of features."""
    return torch.split(weight, [each.shape[2] for each in features], dim=1)


def _times_transposed(gradient: Tensor, weight: Tensor) -> Tensor:
    """(M, B, out), (M, in, out) → (M, B, in)."""
    turned = weight.transpose(1, 2)
    # matrix libraries are slow for products over a single column
    return gradient * turned if weight.shape[2] == 1 else torch.bmm(gradient, turned)


class _BatchNorm:
    """Like `norm.BatchNorm1d`, but without the filler rows."""

    def __init__(self, members: Sequence[norm.BatchNorm1d]) -> None:
        self._eps = members[0].eps
        self._mean, self._variance, self._seen = (
            _shared([getattr(member, name) for member in members])
            for name in ("running_mean", "running_var", "num_batches_tracked")
        )  # (M, C), (M, C), (M,)

    def __call__(self, units: Tensor, weight: Tensor, bias: Tensor, sizes: BatchSizes) -> Tensor:
        share = sizes.share.unsqueeze(1)  # (M, 1, B)
        mean = share @ units  # (M, 1, C)
        centred = units - mean
        variance = share @ centred.square()
        with torch.no_grad():
            momentum = (1 / (self._seen + 1)).clamp(min=norm.SHARE).unsqueeze(1)
            self._mean.lerp_(mean.squeeze(1), momentum)
            self._variance.lerp_(variance.squeeze(1) * (sizes.numbers / (sizes.numbers - 1)), momentum)
            self._seen.add_(1)
        return torch.addcmul(bias.unsqueeze(1), centred, weight.unsqueeze(1) * (variance + self._eps).rsqrt())


class _PackedDropout:
    """Like `dropout.Dropout`, but each member has its own probability and generator."""

    def __init__(self, members: Sequence[Dropout], generators: Sequence[torch.Generator]) -> None:
        self._generators = [g if member.dropped else None for member, g in zip(members, generators, strict=True)]
        device = generators[0].device
        self._least = torch.tensor([member.least for member in members], dtype=torch.int16, device=device)
        self._scale = torch.tensor([member.scale for member in members], device=device)

    def __call__(self, units: Tensor, sizes: BatchSizes) -> Tensor:
        members, size, width = units.shape
        if not any(self._generators):
            return units
        words = torch.empty(members, dropout.words_for(size * width), dtype=torch.int64, device=units.device)
        for row, count, generator in zip(words, sizes.counts, self._generators, strict=True):
            if generator is not None:
                dropout.draw(row[: dropout.words_for(count * width)], generator)
        return units * dropout.multipliers(words, units.shape, self._least.view(-1, 1, 1), self._scale.view(-1, 1, 1))


def _encoder(network: Network) -> TableEncoder:
    assert isinstance(network, EncoderNetwork)
    encoder = network.encoders["table"]
    assert isinstance(encoder, TableEncoder)
    return encoder


def _packed(
    encoders: Sequence[TableEncoder], generators: Sequence[torch.Generator]
) -> list[_Linear | _BatchNorm | _PackedDropout | nn.ReLU]:
    """Return the packed forms of the members' layers, without their weights.

    Raises NotImplementedError for a layer that has no packed form.
    """
    packed: list[_Linear | _BatchNorm | _PackedDropout | nn.ReLU] = []
    for layers in zip(*(encoder.layers for encoder in encoders), strict=True):
        match layers[0]:
            case nn.Linear() as linear:
                packed.append(_Linear(biased=linear.bias is not None))
            case nn.ReLU() if isinstance(packed[-1], _Linear):
                packed[-1].rectified = True
            case nn.ReLU():
                packed.append(layers[0])
            case norm.BatchNorm1d():
                packed.append(_BatchNorm([layer for layer in layers if isinstance(layer, norm.BatchNorm1d)]))
            case Dropout():
                packed.append(_PackedDropout([layer for layer in layers if isinstance(layer, Dropout)], generators))
            case layer:
                raise NotImplementedError(f"no packed form of {type(layer).__name__}")
    return packed


def _embedded(indices: Tensor, tables: Tensor) -> Tensor:
    """Rows (M, B, E) of each member's table (M, R, D) → (M, B, E · D)."""
    members, length, _ = tables.shape
    shifted = indices + torch.arange(0, members * length, length, device=indices.device).view(-1, 1, 1)
    # the gradient of index_select takes half the time of F.embedding's
    return tables.flatten(0, 1).index_select(0, shifted.flatten()).view(*indices.shape[:2], -1)


def _shared(tensors: Sequence[Tensor]) -> Tensor:
    """Return M tensors stacked into (M, …). The tensors become views of the result."""
    together = torch.stack(list(tensors))
    for tensor, view in zip(tensors, together, strict=True):
        tensor.data = view
    return together
