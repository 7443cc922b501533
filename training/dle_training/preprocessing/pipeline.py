"""The preprocessing pipeline: turns groups of raw rows into the input tensors of a network.

It is fitted on the training part alone. A readable JSON file holds the fitted numbers, and `load` makes exactly the
same module from it. The exporter puts this module in front of the network.
"""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dle_bundle import documents
from dle_bundle.errors import InputError
from dle_bundle.groups import Groups
from dle_bundle.schema import Schema
from dle_bundle.text import Tokenizer
from dle_training.preprocessing import categories, dates, numeric, piecewise, pixels, quantiles, series, tokens
from dle_training.preprocessing._base import Step
from dle_training.preprocessing.categories import CategoryFit, OneHot
from dle_training.preprocessing.dates import DateFit, Dates
from dle_training.preprocessing.numeric import Numeric, NumericFit
from dle_training.preprocessing.piecewise import Piecewise, PiecewiseFit
from dle_training.preprocessing.pixels import PixelFit
from dle_training.preprocessing.quantiles import QuantileFit, Quantiles
from dle_training.preprocessing.series import SeriesFit, StandardSeries, WindowSeries
from dle_training.preprocessing.settings import PreprocessingConfig
from dle_training.preprocessing.shape import WINDOW, Bins, Images, InputShape, Known, Series, Tokens
from dle_training.settings.base import chosen

_CHUNK = 16_384
_LENGTHS = 1_000
"""Number of texts whose lengths are stored for the report."""


class TokenFit(msgspec.Struct, frozen=True, kw_only=True):
    """`vocabulary` is the number of tokens in tokenizer.json, and `max_tokens` the limit for each text column.

    `truncated` is the share of training texts with more tokens. `lengths` holds the number of tokens, before the cut,
    of some training texts, evenly spaced over the training part.
    """

    vocabulary: int
    max_tokens: int
    truncated: float
    lengths: tuple[int, ...]


class PreprocessingState(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `preprocessing.json`. An optional group without columns is None."""

    numeric: NumericFit
    piecewise: PiecewiseFit
    quantiles: QuantileFit
    categorical: CategoryFit
    datetime: DateFit
    image: PixelFit | None = None
    sequence: SeriesFit | None = None
    known: SeriesFit | None = None
    tokens: TokenFit | None = None


class Preprocessing(nn.Module):
    """Turns the groups of the graph into the inputs of the network. It is deterministic and has no trainable weights.

    A group without columns is left out of the inputs, and an output of width 0 is left out of the outputs. Images and
    tokens pass unchanged, because the encoders scale and embed them.

    Shape: {"numeric": (N, F) float64, "codes": (N, C) int64, "datetime": (N, D) int64, "image": (N, I, H, W) uint8,
    "sequence": (N, T, C) float64, "lengths": (N,) int64, "known": (N, H, K) float64, "tokens": (N, L) int64} →
    {"dense": (N, P) float32, "codes": (N, E) int64, "sequence": (N, T, C') float32, "known": (N, H, K') float32}, and
    "image", "lengths" and "tokens" unchanged. With scaling by window or series there is also "window": (N, 2) float64,
    the mean and spread by which the objective scales the target.

    Example:
        >>> from dle_bundle.schema import Field, Outputs
        >>> inputs = (Field(name="x", kind="numeric", required=True),)
        >>> schema = Schema(inputs=inputs, outputs=Outputs(target="y", task="regression"))
        >>> rows = Groups(
        ...     numeric=np.array([[1.0], [3.0]]),
        ...     categorical=np.empty((2, 0), object),
        ...     datetime=np.empty((2, 0), np.int64),
        ... )
        >>> config = PreprocessingConfig(numeric="standard", signs=False, piecewise_bins=0, quantiles=False)
        >>> preprocessing, _ = fit(schema, rows, config)
        >>> preprocessing(preprocessing.tensors(rows))["dense"].tolist()
        [[-1.0], [1.0]]
    """

    def __init__(self, schema: Schema, fitted: PreprocessingState, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.fitted = fitted
        self.tokenizer = tokenizer
        self._schema = schema
        self._vocabularies = _vocabularies(schema)
        self.numeric, self.piecewise = Numeric(fitted.numeric), Piecewise(fitted.piecewise)
        self.quantiles = Quantiles(fitted.quantiles)
        self.one_hot, self.dates = OneHot(fitted.categorical), Dates(fitted.datetime)
        self.series: StandardSeries | WindowSeries | None = None
        if fitted.sequence is not None:
            windows = fitted.sequence.windows
            if windows is None:
                self.series = StandardSeries(fitted.sequence)
            else:
                self.series = WindowSeries(fitted.sequence, windows)
        self.known = None if fitted.known is None else StandardSeries(fitted.known)
        steps: tuple[Step, ...] = (self.numeric, self.piecewise, self.one_hot, self.dates, self.quantiles)
        self._dense = sum(step.width for step in steps)
        columns = torch.tensor(fitted.categorical.embedded, dtype=torch.int64)
        self.register_buffer("embedded", columns, persistent=False)

    embedded: Tensor

    def forward(self, groups: dict[str, Tensor]) -> dict[str, Tensor]:
        steps: tuple[tuple[Step, str], ...] = (
            (self.numeric, "numeric"),
            (self.piecewise, "numeric"),
            (self.one_hot, "codes"),
            (self.dates, "datetime"),
            (self.quantiles, "numeric"),
        )
        dense = [step(groups[name]) for step, name in steps if step.width]
        outputs = {"dense": torch.cat(dense, dim=1)} if dense else {}
        if len(self.embedded):
            outputs["codes"] = torch.index_select(groups["codes"], 1, self.embedded)  # (N, C) → (N, E)
        if isinstance(self.series, WindowSeries):
            outputs["sequence"] = self.series(groups["sequence"], groups["lengths"], groups.get("codes"))
            outputs[WINDOW] = self.series.scale(groups["sequence"], groups["lengths"], groups.get("codes"))
        elif self.series is not None:
            outputs["sequence"] = self.series(groups["sequence"], groups["lengths"])
        if self.known is not None:
            outputs["known"] = self.known.scaled(groups["known"])
        outputs |= {name: groups[name] for name in ("lengths", "image", "tokens") if name in groups}
        return outputs

    def tokenise(self, groups: Groups) -> Groups:
        """Return the same rows with their text as tokens, unless they have tokens already."""
        if groups.text is None or groups.tokens is not None or self.tokenizer is None:
            return groups
        return groups.with_tokens(self.tokenizer.tokens(groups.text))

    def tensors(self, groups: Groups) -> dict[str, Tensor]:
        """Return these rows as the argument of `forward`, in the order of the inputs. Images must be in memory."""
        arrays = self.tokenise(groups).feeds()
        if "categorical" in arrays:
            arrays["categorical"] = categories.encode(arrays["categorical"], self._vocabularies)
        return {
            "codes" if name == "categorical" else name: torch.from_numpy(array).to(self.embedded.device)
            for name, array in arrays.items()
        }

    @torch.no_grad()
    def prepare(self, groups: Groups) -> dict[str, Tensor]:
        """Return the network's inputs for all rows of `groups`, without images, on the module's device.

        The rows are processed in chunks.
        """
        rows = self.tokenise(replace(groups, image=None))
        chunks = [
            self(self.tensors(rows.take(slice(start, start + _CHUNK)))) for start in range(0, max(len(rows), 1), _CHUNK)
        ]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def shape(self, *, frequencies: bool) -> InputShape:
        """Return the shapes of the network's inputs. Set `frequencies` unless weights are loaded next."""
        fitted, schema = self.fitted, self._schema
        columns = [fitted.categorical.frequencies[column] for column in fitted.categorical.embedded]
        images = sequence = known = text = None
        if fitted.image is not None and (form := schema.image[0].image) is not None:
            images = Images(
                len(schema.image), form.channels, form.height, form.width, fitted.image.mean, fitted.image.std
            )
        if self.series is not None and fitted.sequence is not None:
            levels = 0 if fitted.sequence.windows is None else 2 * len(fitted.sequence.means)
            sequence = Series(self.series.width, fitted.sequence.steps, len(fitted.sequence.indicators), levels)
        if self.known is not None and fitted.known is not None:
            known = Known(self.known.width, fitted.known.steps)
        if fitted.tokens is not None:
            # a separator follows each column
            text = Tokens(fitted.tokens.vocabulary, len(schema.text) * (fitted.tokens.max_tokens + 1))
        return InputShape(
            dense=self._dense,
            numbers=len(fitted.numeric.medians),
            quantiles=self.quantiles.width,
            discrete=self.quantiles.discrete,
            bins=self._bins(),
            cardinalities=tuple(map(len, columns)),
            frequencies=tuple(columns) if frequencies else (),
            image=images,
            sequence=sequence,
            known=known,
            tokens=text,
        )

    def _bins(self) -> tuple[Bins, ...]:
        """Where `forward` puts the bins of each number: behind the numbers and their indicators."""
        columns = self.fitted.piecewise.columns
        return tuple(
            Bins(column, self.numeric.width + columns.index(column), columns.count(column))
            for column in dict.fromkeys(columns)
        )


def fit(schema: Schema, training: Groups, config: PreprocessingConfig) -> tuple[Preprocessing, Groups]:
    """Fit all steps on the rows of the training part. Returns them, and these rows with their text as tokens."""
    vocabularies = _vocabularies(schema)
    codes = categories.encode(training.categorical, vocabularies)
    boolean = np.array([field.kind == "boolean" for field in schema.numeric], dtype=bool)
    cardinalities = tuple(categories.FIRST + len(vocabulary) for vocabulary in vocabularies)
    numbers = numeric.fit(training.numeric, boolean, chosen(config.numeric))
    image = sequence = known = tokenizer = text = None
    if training.image is not None and (form := schema.image[0].image) is not None:
        image = pixels.fit(training.image, form.channels)
    if training.sequence is not None and training.lengths is not None:
        sequence = series.fit(training.sequence, training.lengths)
        if config.window_scaling in ("window", "series"):
            windows = series.fit_windows(training.sequence, _target_channel(schema))
            if config.window_scaling == "series" and (column := _series_column(schema)) is not None:
                own = series.fit_series(training.sequence, codes[:, column], column, cardinalities[column], windows)
                windows = msgspec.structs.replace(windows, series=own)
            sequence = msgspec.structs.replace(sequence, windows=windows)
    if training.known is not None:
        known = series.fit(training.known, np.full(len(training), training.known.shape[1]))
    if training.text is not None:
        tokenizer = Tokenizer.from_bytes(tokens.fit(training.text, config))
        tokenised, lengths = tokenizer.tokens_and_lengths(training.text)
        text = _token_fit(tokenizer, lengths[training.text != ""])
        training = training.with_tokens(tokenised)
    fitted = PreprocessingState(
        numeric=numbers,
        piecewise=piecewise.fit(training.numeric, boolean, numbers.medians, chosen(config.piecewise_bins)),
        quantiles=quantiles.fit(training.numeric, boolean, numbers.medians, wanted=chosen(config.quantiles)),
        categorical=categories.fit(
            codes, cardinalities, config.one_hot_limit, apart=_series_column(schema), signs=chosen(config.signs)
        ),
        datetime=dates.fit(training.datetime),
        image=image,
        sequence=sequence,
        known=known,
        tokens=text,
    )
    return Preprocessing(schema, fitted, tokenizer).eval(), training


def _target_channel(schema: Schema) -> int:
    """Return the channel of a forecast's target among the channels of all series."""
    names = [name for field in schema.sequence if field.sequence for name in field.sequence.channels]
    return names.index(schema.outputs.target)


def _series_column(schema: Schema) -> int | None:
    """Return the column, among the categorical ones, of the series that scales a window."""
    return None if schema.scaled_by is None else schema.categorical.index(schema.scaled_by)


def _token_fit(tokenizer: Tokenizer, lengths: npt.NDArray[np.int64]) -> TokenFit:
    """Return the facts about the training texts, whose numbers of tokens before the cut are `lengths` (M,)."""
    return TokenFit(
        vocabulary=tokenizer.vocabulary,
        max_tokens=tokenizer.max_tokens,
        truncated=float((lengths > tokenizer.max_tokens).mean()) if len(lengths) else 0.0,
        lengths=tuple(lengths[:: max(-(-len(lengths) // _LENGTHS), 1)].tolist()),
    )


def load(path: Path, schema: Schema, tokenizer: Path) -> Preprocessing:
    """Load the module whose `fitted` was written to `path`. `tokenizer` is the tokenizer's file, read if there is text.

    Raises InputError if a file is not readable or does not belong to the schema.
    """
    fitted = documents.read(path, PreprocessingState)
    expected = tuple(categories.FIRST + len(vocabulary) for vocabulary in _vocabularies(schema))
    found = tuple(len(column) for column in fitted.categorical.frequencies)
    widths = (len(fitted.numeric.medians), len(fitted.datetime.centres))
    present = tuple(part is not None for part in (fitted.image, fitted.sequence, fitted.known, fitted.tokens))
    groups = (bool(schema.image), bool(schema.sequence), bool(schema.known), bool(schema.text))
    if (found, *widths, *present) != (expected, len(schema.numeric), len(schema.datetime), *groups):
        raise InputError(f"{path} does not belong to the schema: their columns differ")
    return Preprocessing(schema, fitted, Tokenizer.load(tokenizer) if fitted.tokens is not None else None).eval()


def _vocabularies(schema: Schema) -> tuple[tuple[str, ...], ...]:
    return tuple(field.categories or () for field in schema.categorical)
