"""Text to tokens, the same in training and in serving: `tokenizer.json`, applied by the `tokenizers` library.

The file is complete: whoever reads it with that library cuts text as the model does. What is added here is how the text
columns of a row become one sequence: the tokens of each column, a separator after each, then padding.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said outright, or a later fork is warned of

from tokenizers import Encoding, models
from tokenizers import Tokenizer as LibraryTokenizer

from dle_bundle.errors import BundleError
from dle_bundle.groups import PADDING

UNKNOWN, SEPARATOR = 1, 2
SPECIALS = ("[PAD]", "[UNK]", "[SEP]")
"""The first tokens of every vocabulary, in this order."""
_CONTINUES = "##"
_BYTES_START = "Ġ"
"""How pieces of words and, in byte-level models, beginnings of words are marked."""
_APART = 64
"""Rows from which on the tokenizer's own threads are worth their start."""


class Tokenizer:
    """A vocabulary and its rules. Safe to share between threads.

    Example::

        Tokenizer.load(Path("tokenizer.json")).tokens(np.array([["It fits well."]], dtype=object))
    """

    def __init__(self, model: LibraryTokenizer, content: bytes) -> None:
        self._model = model
        self.content = content
        self.vocabulary: int = model.get_vocab_size()
        self.max_tokens: int = (model.truncation or {})["max_length"]
        pieces = model.get_vocab()
        marked = isinstance(model.model, models.BPE)
        self._starts = np.ones(self.vocabulary, dtype=bool)
        """Whether a token is the first of its word."""
        for piece, place in pieces.items():
            self._starts[place] = piece.startswith(_BYTES_START) if marked else not piece.startswith(_CONTINUES)
        self._starts[: len(SPECIALS)] = True

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """The tokenizer of a file; raises BundleError for one that is not there or not of this kind."""
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: no readable tokenizer: {error}") from error
        except BundleError as error:
            raise BundleError(f"{path}: {error.message}") from error

    @classmethod
    def from_bytes(cls, content: bytes) -> "Tokenizer":
        """The tokenizer that the content of a file describes; raises BundleError."""
        try:
            model = LibraryTokenizer.from_str(content.decode())
        except Exception as error:  # the library's errors share no base
            raise BundleError(f"no readable tokenizer: {error}") from error
        if model.truncation is None or [model.id_to_token(place) for place in range(3)] != list(SPECIALS):
            raise BundleError(f"no tokenizer of this kind: expected {', '.join(SPECIALS)} first, and a most length")
        return cls(model, content)

    def tokens(self, text: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
        """Tokens (N, L) of the texts (N, X), `""` = missing: each column's, a separator after each, then padding."""
        rows, columns = text.shape
        found = [encoding.ids for encoding in self._encode(text)]
        counts = np.fromiter(map(len, found), dtype=np.int64, count=len(found)).reshape(rows, columns) + 1
        whole = np.full((rows, int(counts.sum(axis=1).max(initial=1))), PADDING, dtype=np.int64)
        flat = [token for ids in found for token in (*ids, SEPARATOR)]
        whole[np.arange(whole.shape[1]) < counts.sum(axis=1)[:, None]] = flat
        return whole

    def truncated(self, text: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
        """Which of the texts (N, X) lose their end."""
        found = [bool(encoding.overflowing) for encoding in self._model.encode_batch(text.ravel().tolist())]
        return np.array(found, dtype=bool).reshape(text.shape)

    def statistics(
        self, text: npt.NDArray[np.object_], tokens: npt.NDArray[np.int64]
    ) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        """For each column its length in characters (N,) and the share of its words that are out of the vocabulary (N,).

        `tokens` are those of `text` (N, X). Out of the vocabulary is a word that is known in pieces only, or not at
        all. NaN where the text is missing.
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
