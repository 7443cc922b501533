"""Trains the tokenizer on the texts of the training part; equal texts give an equal tokenizer.

Word pieces keep frequent words whole and cut rare words. Byte pairs can cut any text and need no unknown token. When
the library trains word pieces, it numbers the tokens in an order that changes from one process to the next. The numbers
also decide which of several equally frequent pairs is merged. This module therefore numbers the pieces of one character
before training.
"""

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from dle_bundle.text import CONTINUES, LONGEST_WORD, SPECIALS
from dle_training.preprocessing.settings import PreprocessingConfig

LEAST_FREQUENCY = 2
"""A piece that occurs only once in training cannot be learnt."""
_LARGEST_ALPHABET = 1_000


def fit(text: npt.NDArray[np.object_], config: PreprocessingConfig) -> bytes:
    """Train on the training part's texts (N, X), `""` = missing, and return the content of `tokenizer.json`."""
    texts = [one for one in text.ravel().tolist() if one]
    model = _word_piece(texts, config) if config.tokenizer == "word_piece" else _byte_pairs(texts, config)
    model.enable_truncation(config.max_tokens)
    return model.to_str().encode()


def _word_piece(texts: list[str], config: PreprocessingConfig) -> Tokenizer:
    model = _rules(Tokenizer(models.WordPiece(unk_token=SPECIALS[1])), config)
    alphabet = _alphabet(model, texts, min(_LARGEST_ALPHABET, config.vocabulary // 4))
    numbered = [*SPECIALS, *alphabet, *(CONTINUES + letter for letter in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocabulary,
        special_tokens=numbered,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        min_frequency=LEAST_FREQUENCY,
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    # built again without special tokens, so that a text that contains "[PAD]" does not become padding
    vocabulary = dict(sorted(model.get_vocab().items(), key=lambda item: item[1]))
    pieces = models.WordPiece(vocabulary, unk_token=SPECIALS[1], max_input_chars_per_word=LONGEST_WORD)
    return _rules(Tokenizer(pieces), config)


def _byte_pairs(texts: list[str], config: PreprocessingConfig) -> Tokenizer:
    model = _rules(Tokenizer(models.BPE()), config)
    # every word begins with a mark, and so does every punctuation sign
    words = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    model.pre_tokenizer = pre_tokenizers.Sequence([model.pre_tokenizer, words])
    trainer = trainers.BpeTrainer(
        vocab_size=max(config.vocabulary, 256 + len(SPECIALS)),
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=LEAST_FREQUENCY,
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    # without special tokens, so that a text that contains "[PAD]" does not become padding
    return Tokenizer.from_str(json.dumps(json.loads(model.to_str()) | {"added_tokens": []}))


def _rules(model: Tokenizer, config: PreprocessingConfig) -> Tokenizer:
    """Add normalization and splitting to the model, and return it.

    The text is cleaned, case and accents are removed if `config.lowercase` is on, and words end at spaces and signs.
    """
    model.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return model


def _alphabet(model: Tokenizer, texts: list[str], most: int) -> list[str]:
    """Return the `most` frequent characters of the normalized texts, sorted by character."""
    counts = Counter(letter for text in _normal(model, texts) for letter in text if not letter.isspace())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return sorted(letter for letter, _ in ranked[:most])


def _normal(model: Tokenizer, texts: list[str]) -> Iterator[str]:
    return (model.normalizer.normalize_str(text) for text in texts)
