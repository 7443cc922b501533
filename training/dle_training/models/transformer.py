"""The model family `transformer`: self-attention over series and text.

Each block normalises its input first (Xiong et al., 2020). A strided convolution cuts long series into patches, because
the cost of attention grows with the square of the number of steps.
"""

import math
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models._base import Encoder, matrices
from dle_training.models.dropout import Dropout
from dle_training.models.family import ModelFamily, Recipe
from dle_training.models.steps import STEPS_INPUTS, Pool, Steps, StepsInput, within
from dle_training.preprocessing.shape import Inputs, InputShape
from dle_training.settings.base import Count, Settings
from dle_training.settings.dimensions import Choice, Float, Int


class TransformerConfig(Settings, frozen=True):
    """`transformer`: an encoder with self-attention, over series or tokens."""

    width: Annotated[Count, Meta(description="Width of each step's vector; a multiple of heads.")] = 128
    heads: Annotated[Count, Meta(description="Number of attention heads.")] = 4
    layers: Annotated[Count, Meta(description="Number of stacked layers.")] = 2
    positions: Annotated[
        Literal["sinusoidal", "learned"],
        Meta(description="Encoding of positions: fixed waves, or learnt vectors."),
    ] = "sinusoidal"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"model.transformer.width: expected a multiple of {self.heads} heads, found {self.width}")


MOST_PATCHES = 128
"""If the longest training series has more steps, series are cut into patches: at most this many for that series."""
_LONGEST_WAVE = 10_000.0


class TransformerEncoder(Encoder):
    """Blocks of attention and feed-forward networks over the real steps, then the mean of the steps.

    Shape: {"sequence": (N, T, C), "lengths": (N,)} or {"tokens": (N, T)} → (N, transformer.width).

    Example:
        >>> from dle_training.preprocessing.shape import Tokens
        >>> shape = InputShape(tokens=Tokens(vocabulary=100, longest=9))
        >>> encoder = TransformerEncoder(TransformerConfig(width=16), shape, "tokens", dropout=0.2)
        >>> encoder({"tokens": torch.tensor([[7, 5, 2, 0]])}).shape
        torch.Size([1, 16])
    """

    def __init__(self, settings: TransformerConfig, shape: InputShape, source: StepsInput, dropout: float) -> None:
        super().__init__()
        self.width = settings.width
        self.patch = 1
        if source == "sequence" and shape.sequence is not None:
            self.patch = -(-shape.sequence.steps // MOST_PATCHES)
        self.steps = Steps(shape, source, settings.width)
        self.patches = (
            nn.Conv1d(settings.width, settings.width, self.patch, self.patch) if self.patch > 1 else nn.Identity()
        )
        if settings.positions == "learned":
            longest = (shape.sequence.steps if source == "sequence" and shape.sequence else 0) or (
                shape.tokens.longest if shape.tokens else 1
            )
            self.positions: nn.Module = LearnedPositions(-(-longest // self.patch), settings.width)
        else:
            self.positions = SinusoidalPositions(settings.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(settings.width, settings.heads, dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width)
        self.dropout = Dropout(dropout)
        self.pool = Pool(settings.width, "mean")

    def forward(self, inputs: Inputs) -> Tensor:
        vectors, real = self.steps(inputs)  # (N, T, width), (N, T)
        if self.patch > 1:
            vectors, real = self._patched(vectors, real)
        vectors = self.dropout(vectors + self.positions(vectors))
        for block in self.blocks:
            vectors = block(vectors, real)
        pooled: Tensor = self.dropout(self.pool(self.norm(vectors), real))
        return pooled

    def hidden_matrices(self) -> list[nn.Parameter]:
        return matrices(self.blocks)

    def _patched(self, vectors: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Cut into patches of `patch` steps; a patch is real if one of its steps is. Zeros complete the last patch."""
        filled = F.pad(vectors, (0, 0, 0, self.patch - 1))
        cut = self.patches(filled.transpose(1, 2)).transpose(1, 2)  # (N, ceil(T / patch), width)
        lengths = real.to(torch.int64).sum(dim=1)
        return cut, within((lengths + self.patch - 1) // self.patch, cut.shape[1])


class TransformerBlock(nn.Module):
    """Attention among real steps, then a feed-forward network; the input of each is added to its output.

    Shape: (N, T, width), mask (N, T) → (N, T, width).

    Example:
        >>> block = TransformerBlock(width=16, heads=4, dropout=0.1)
        >>> block(torch.zeros(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)

    def forward(self, vectors: Tensor, real: Tensor) -> Tensor:
        rows, steps, width = vectors.shape
        # (N, T, 3 · width) → (N, T, 3, heads, width / heads)
        parts = self.project(self.before_attention(vectors)).view(rows, steps, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, T, width / heads)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
        # (N, heads, T, width / heads) → (N, T, width)
        vectors = vectors + self.dropout(self.join(attended.transpose(1, 2).reshape(rows, steps, width)))
        fed: Tensor = vectors + self.dropout(self.feed(self.before_feed(vectors)))
        return fed


class SinusoidalPositions(nn.Module):
    """Sine and cosine waves of many lengths (Vaswani et al., 2017), for any number of steps.

    Shape: (N, T, width) → (T, width).

    Example:
        >>> SinusoidalPositions(4)(torch.zeros(1, 2, 4))[0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        places = torch.arange(0, width, 2, dtype=torch.float32)
        self.register_buffer("frequencies", torch.exp(-math.log(_LONGEST_WAVE) * places / width), persistent=False)
        self.odd = width % 2

    def forward(self, vectors: Tensor) -> Tensor:
        steps = torch.arange(vectors.shape[1], device=vectors.device).to(vectors.dtype)
        angles = steps.unsqueeze(1) * self.frequencies  # (T, ⌈width / 2⌉)
        waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)  # (T, width), or one more if width is odd
        return waves[:, :-1] if self.odd else waves


class LearnedPositions(nn.Module):
    """A learnt vector for each position; positions beyond the last one share its vector.

    Shape: (N, T, width) → (T, width).

    Example:
        >>> positions = LearnedPositions(longest=2, width=4)(torch.zeros(1, 3, 4))
        >>> positions.shape, torch.equal(positions[1], positions[2])
        (torch.Size([3, 4]), True)
    """

    def __init__(self, longest: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(longest, width) * 0.02)

    def forward(self, vectors: Tensor) -> Tensor:
        places = torch.arange(vectors.shape[1], device=vectors.device)
        return self.table[torch.clamp(places, max=len(self.table) - 1)]


FAMILY = ModelFamily(
    name="transformer",
    description="Encoder with self-attention over steps or tokens.",
    reads=("sequence", "text"),
    section="transformer",
    settings=TransformerConfig,
    build=lambda settings, shape, slot: TransformerEncoder(settings, shape, STEPS_INPUTS[slot.kind], slot.dropout),
    dropout=0.2,
    recipe=Recipe(lr=5e-4, epochs=10, least_steps=600, largest_batch=64),
    space={
        "model.transformer.width": Choice((64, 128, 256)),
        "model.transformer.heads": Choice((2, 4, 8)),
        "model.transformer.layers": Int(1, 4),
        "model.dropout": Float(0.0, 0.5),
        "optimizer.lr": Float(1e-4, 3e-3, log=True),
    },
)
