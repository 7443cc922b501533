"""Tokenises text with `tokenizer.json` and the `tokenizers` library, equally in training and serving.

The file is complete: the library alone tokenises a text with it as the model does. This module joins the text columns
of a row into one sequence: the tokens of each column, a separator after each column, then padding.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # set explicitly to avoid a warning at a later fork

from tokenizers import Encoding, models
from tokenizers import Tokenizer as LibraryTokenizer

from dle_bundle.errors import BundleError
from dle_bundle.groups import PADDING

UNKNOWN, SEPARATOR = 1, 2
SPECIALS = ("[PAD]", "[UNK]", "[SEP]")
"""The first tokens of every vocabulary, in order."""
CONTINUES = "##"
_BYTES_START = "Ġ"
"""Prefixes of the tokens that continue a word, and of those that begin one in byte-level models."""
_APART = 64
"""Number of texts from which on the tokenizer's threads pay off."""


class Tokenizer:
    """A vocabulary and its rules. Safe to share between threads. `content` is the content of its file.

    Example:
        >>> vocabulary = {"[PAD]": 0, "[UNK]": 1, "[SEP]": 2, "good": 3}
        >>> model = LibraryTokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        >>> model.enable_truncation(9)
        >>> tokenizer = Tokenizer.from_bytes(model.to_str().encode())
        >>> tokenizer.tokens(np.array([["good", "bad"], ["good", ""]], dtype=object)).tolist()
        [[3, 2, 1, 2], [3, 2, 2, 0]]
    """

    def __init__(self, model: LibraryTokenizer, content: bytes) -> None:
        self._model = model
        self.content = content
        self.vocabulary: int = model.get_vocab_size()
        self.max_tokens: int = (model.truncation or {})["max_length"]
        pieces = model.get_vocab()
        marked = isinstance(model.model, models.BPE)
        self._starts = np.ones(self.vocabulary, dtype=bool)
        """For each token, whether it begins a word."""
        for piece, place in pieces.items():
            self._starts[place] = piece.startswith(_BYTES_START) if marked else not piece.startswith(CONTINUES)
        self._starts[: len(SPECIALS)] = True

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load the tokenizer from a file; raises BundleError when it is missing or not a tokenizer of this kind."""
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: cannot read the tokenizer: {error}") from error
        except BundleError as error:
            raise BundleError(f"{path}: {error.message}") from error

    @classmethod
    def from_bytes(cls, content: bytes) -> "Tokenizer":
        """The tokenizer from the content of its file; raises BundleError."""
        try:
            model = LibraryTokenizer.from_str(content.decode())
        except Exception as error:  # the library's errors share no base
            raise BundleError(f"cannot read the tokenizer: {error}") from error
        if model.truncation is None or [model.id_to_token(place) for place in range(3)] != list(SPECIALS):
            raise BundleError(
                f"not a tokenizer of dle: expected {', '.join(SPECIALS)} as its first tokens, and a truncation length"
            )
        return cls(model, content)

    def tokens(self, text: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
        """Tokenise texts (N, X), `""` = missing, into (N, L): the columns with a separator after each, then padding."""
        return _joined(self._encode(text), *text.shape)

    def tokens_and_lengths(self, text: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """As `tokens`, and the number of tokens (N, X) that each text has before it is cut."""
        found = self._encode(text)
        counts = [len(encoding) + sum(map(len, encoding.overflowing)) for encoding in found]
        return _joined(found, *text.shape), np.array(counts, dtype=np.int64).reshape(text.shape)

    def statistics(
        self, text: npt.NDArray[np.object_], tokens: npt.NDArray[np.int64]
    ) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """For each column the length in characters (N,) and the share of words out of the vocabulary (N,).

        `tokens` (N, L) are the tokens of `text` (N, X). A word is out of the vocabulary when no single token covers
        it. Both are NaN where the text is missing.
        """
        rows, columns = text.shape
        separators = tokens == SEPARATOR
        column = np.cumsum(separators, axis=1) - separators  # the column that each token belongs to
        real = (tokens != PADDING) & ~separators
        starts = self._starts[tokens] & real
        following = np.pad(real & ~starts, ((0, 0), (0, 1)))[:, 1:]
        unknown = starts & (following | (tokens == UNKNOWN))
        found = []
        for index in range(columns):
            own = column == index
            words = (starts & own).sum(axis=1)
            missing = text[:, index] == ""
            lengths = np.fromiter(map(len, text[:, index]), dtype=np.float32, count=rows)
            share = ((unknown & own).sum(axis=1) / np.maximum(words, 1)).astype(np.float32)
            found.append((np.where(missing, np.float32(np.nan), lengths), np.where(missing, np.float32(np.nan), share)))
        return found

    def _encode(self, text: npt.NDArray[np.object_]) -> Sequence[Encoding]:
        texts = text.ravel().tolist()
        if len(texts) < _APART:
            return [self._model.encode(one) for one in texts]
        return self._model.encode_batch_fast(texts)


def _joined(encodings: Sequence[Encoding], rows: int, columns: int) -> npt.NDArray[np.int64]:
    """The tokens of each row's texts (N · X) after one another, a separator after each text, then padding: (N, L)."""
    found = [encoding.ids for encoding in encodings]
    counts = np.fromiter(map(len, found), dtype=np.int64, count=len(found)).reshape(rows, columns) + 1
    whole = np.full((rows, int(counts.sum(axis=1).max(initial=1))), PADDING, dtype=np.int64)
    flat = [token for ids in found for token in (*ids, SEPARATOR)]
    whole[np.arange(whole.shape[1]) < counts.sum(axis=1)[:, None]] = flat
    return whole
