"""The trained tokenizer: the same bytes every time, whatever the corpus is."""

import os
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Model

from dle_bundle.groups import PADDING
from dle_bundle.text import SEPARATOR, SPECIALS, UNKNOWN, Tokenizer
from dle_training.preprocessing import tokens
from dle_training.preprocessing.settings import PreprocessingConfig

KINDS = ("word_piece", "bpe")
CORPUS = ("The shirt fits well.", "the shirt is too small", "Shirts fit, shirts don't!", "", "A café in Zürich, well")
SCRIPTS = (
    "日本語のテスト",
    "日本語です",
    "हिन्दी में लिखा",
    "हिन्दी भाषा",
    "كتاب جيد",
    "كتاب",
    "😀😀 👍🏽",
    "😀 да, хорошо",
    "хорошо",
)


def column(*texts: str) -> npt.NDArray[np.object_]:
    return np.array([[text] for text in texts], dtype=object)


def fitted(*texts: str, **settings: object) -> Tokenizer:
    config = PreprocessingConfig(**settings)  # type: ignore[arg-type]
    return Tokenizer.from_bytes(tokens.fit(column(*texts), config))


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    model = Model.from_str(tokenizer.content.decode())
    return [str(model.id_to_token(place)) for place in tokenizer.tokens(column(text))[0]]


def words(count: int) -> list[str]:
    """Texts with many ties between equally frequent pairs."""
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzäöüß日本"))
    vocabulary = ["".join(generator.choice(letters, size=size)) for size in generator.integers(2, 9, size=400)]
    return [" ".join(generator.choice(vocabulary, size=12)) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_same_texts_same_bytes_in_every_process(kind: str) -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from tests.unit.training import test_tokens as own\n"
        f"content = own.tokens.fit(own.column(*own.words(300)), own.PreprocessingConfig(tokenizer={kind!r}))\n"
        "print(hashlib.sha256(content).hexdigest())\n"
    )
    found = set()
    for threads in ("1", "3"):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_specials_come_first_and_stand_for_nothing_else(kind: str) -> None:
    tokenizer = fitted(*CORPUS, "[PAD] [UNK] [SEP] pad unk sep", "[PAD] [UNK] [SEP]", tokenizer=kind, lowercase=False)
    model = Model.from_str(tokenizer.content.decode())
    assert [model.id_to_token(place) for place in range(3)] == list(SPECIALS)
    found = tokenizer.tokens(column("[PAD] well [UNK] [SEP] [SEP]"))[0]
    assert (found == SEPARATOR).sum() == 1
    assert PADDING not in found
    assert UNKNOWN not in found


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_without_gaps(kind: str) -> None:
    tokenizer = fitted(*words(50), tokenizer=kind)
    model = Model.from_str(tokenizer.content.decode())
    assert sorted(model.get_vocab().values()) == list(range(tokenizer.vocabulary))


@pytest.mark.parametrize(("kind", "least"), [("word_piece", 0), ("bpe", 256 + len(SPECIALS))])
@pytest.mark.parametrize("size", [100, 300, 5_000])
def test_vocabulary_has_a_most(kind: str, least: int, size: int) -> None:
    found = fitted(*words(200), tokenizer=kind, vocabulary=size).vocabulary
    assert found <= max(size, least)
    assert found > min(size, 300) // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("corpus", [("",), ("", ""), ("a",), (" \n\t",), ("😀",), CORPUS, SCRIPTS])
def test_any_corpus_will_do(kind: str, corpus: tuple[str, ...]) -> None:
    tokenizer = fitted(*corpus, tokenizer=kind)
    assert tokenizer.vocabulary >= len(SPECIALS)
    found = tokenizer.tokens(column(*corpus, "and what never occurred: 漢字"))
    assert found.max() < tokenizer.vocabulary
    assert ((found == SEPARATOR).sum(axis=1) == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_frequent_words_stay_whole(kind: str) -> None:
    tokenizer = fitted(*CORPUS, *SCRIPTS, tokenizer=kind)
    mark = "Ġ" if kind == "bpe" else ""
    assert pieces(tokenizer, "Shirt") == [f"{mark}shirt", "[SEP]"]
    for text in ("the shirt", "well", "shirts fit", "WELL", "хорошо", "😀"):
        given = column(text)
        [(_, unknown)] = tokenizer.statistics(given, tokenizer.tokens(given))
        assert unknown == 0, text
    for text in ("unheard", "zzz", "日本国", "漢"):
        given = column(text)
        [(_, unknown)] = tokenizer.statistics(given, tokenizer.tokens(given))
        assert unknown > 0, text


def test_bytes_cut_any_text_without_an_unknown_token() -> None:
    tokenizer = fitted(*CORPUS, tokenizer="bpe")
    found = tokenizer.tokens(column("漢字 ☃ \x7f é"))
    assert UNKNOWN not in found


@pytest.mark.parametrize("kind", KINDS)
def test_case_and_accents(kind: str) -> None:
    without, kept = (fitted(*CORPUS, tokenizer=kind, lowercase=lower) for lower in (True, False))
    spellings = column("CAFÉ", "cafe\u0301", "Cafe", "café")
    assert len({tuple(row) for row in without.tokens(spellings).tolist()}) == 1
    assert len({tuple(row) for row in kept.tokens(spellings).tolist()}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_is_in_the_file(kind: str) -> None:
    tokenizer = fitted(*CORPUS, tokenizer=kind, max_tokens=8)
    assert tokenizer.max_tokens == 8
    assert tokenizer.tokens(column("well " * 50)).shape == (1, 9)


def test_columns_share_one_vocabulary() -> None:
    texts = np.array([["red red", "blue"], ["", "blue"]], dtype=object)
    tokenizer = Tokenizer.from_bytes(tokens.fit(texts, PreprocessingConfig()))
    found = tokenizer.tokens(np.array([["blue", "red"]], dtype=object))[0]
    assert len(found) == 4
    assert UNKNOWN not in found


_ANY = {kind: fitted(*CORPUS, *SCRIPTS, tokenizer=kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_has_tokens_of_the_vocabulary(kind: str, text: str) -> None:
    tokenizer = _ANY[kind]
    given = column(text)
    found = tokenizer.tokens(given)
    assert ((found > PADDING) & (found < tokenizer.vocabulary)).all()
    assert (found == SEPARATOR).sum() == 1
    [(_, unknown)] = tokenizer.statistics(given, found)
    assert text == "" or 0 <= unknown[0] <= 1


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=6), kind=st.sampled_from(KINDS))
def test_any_texts_train(texts: list[str], kind: str) -> None:
    tokenizer = fitted(*texts, tokenizer=kind)
    assert tokenizer.tokens(column(*texts)).max() < tokenizer.vocabulary
    assert tokens.fit(column(*texts), PreprocessingConfig(tokenizer=kind)) == tokenizer.content  # type: ignore[arg-type]
