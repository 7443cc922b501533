"""Tokenises text with `tokenizer.json` and the `tokenizers` library, equally in training and serving.

The file is complete: the library alone tokenises a text with it as the model does. This module joins the text columns
of a row into one sequence: the tokens of each column, a separator after each column, then padding.

The library makes the tokens of a whole text and then cuts them. This module cuts the text first, so that a long text
costs no more than its first words. The tokens stay the same for words of up to `LONGEST_WORD` characters with single
spaces between them. Of longer words or gaps, fewer tokens may remain.
"""

import os
from collections.abc import Iterator, Sequence
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
LONGEST_WORD = 100
"""A longer word is one unknown word piece."""
_SPACES = " \t\n\r"
"""Characters at which words always end."""
_APART, _APART_CHARACTERS = 64, 4096
"""Number of texts, or of their characters, from which on the tokenizer's threads pay off; they release the GIL."""
_CHARACTERS_TOGETHER = 1 << 17
"""Number of characters that are tokenised at once, since the library takes up to 400 bytes for each."""


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
        self._most_characters = (self.max_tokens + 1) * (LONGEST_WORD + 1)  # one more word shows that text was cut
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
        return _joined([_ids(encoding) for encoding in self._encodings(text)], *text.shape)

    def tokens_and_lengths(self, text: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """As `tokens`, and the number of tokens (N, X) that each text has before its tokens are cut to `max_tokens`."""
        found, counts = [], []
        for encoding in self._encodings(text):
            found.append(_ids(encoding))
            counts.append(len(encoding) + sum(map(len, encoding.overflowing)))
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

    def _encodings(self, text: npt.NDArray[np.object_]) -> Iterator[Encoding]:
        for texts in _together([self._cut(one) for one in text.ravel().tolist()]):
            if len(texts) < _APART and sum(map(len, texts)) < _APART_CHARACTERS:
                yield from map(self._model.encode, texts)
            else:
                yield from self._model.encode_batch_fast(texts)

    def _cut(self, text: str) -> str:
        """The first words of a text, more than the model takes; a word is cut only if it is longer than any known."""
        if len(text) <= self._most_characters:
            return text
        text = text[: self._most_characters]
        end = max(text.rfind(space, -LONGEST_WORD - 1) for space in _SPACES)
        return text if end < 0 else text[:end]


def _ids(encoding: Encoding) -> npt.NDArray[np.int64]:
    return np.array(encoding.ids, dtype=np.int64)


def _together(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split texts into parts of at most `_CHARACTERS_TOGETHER` characters, or of one text."""
    start = characters = 0
    for place, text in enumerate(texts):
        characters += len(text)
        if characters > _CHARACTERS_TOGETHER and place > start:
            yield texts[start:place]
            start, characters = place, len(text)
    if texts:
        yield texts[start:]


def _joined(found: Sequence[npt.NDArray[np.int64]], rows: int, columns: int) -> npt.NDArray[np.int64]:
    """The tokens of each row's texts (N · X) after one another, a separator after each text, then padding: (N, L)."""
    counts = np.fromiter(map(len, found), dtype=np.int64, count=len(found)).reshape(rows, columns) + 1
    whole = np.full((rows, int(counts.sum(axis=1).max(initial=1))), PADDING, dtype=np.int64)
    flat = np.full(int(counts.sum()), SEPARATOR, dtype=np.int64)
    ends = np.cumsum(counts.ravel())
    for tokens, end in zip(found, ends.tolist(), strict=True):
        flat[end - 1 - len(tokens) : end - 1] = tokens
    whole[np.arange(whole.shape[1]) < counts.sum(axis=1)[:, None]] = flat
    return whole
