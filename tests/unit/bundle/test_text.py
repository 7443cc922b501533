"""Text to tokens: several columns in one row, the cap, what is missing, and how much of a text is known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Encoding, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Model

from dle_bundle.errors import BundleError
from dle_bundle.groups import PADDING
from dle_bundle.text import SEPARATOR, SPECIALS, UNKNOWN, Tokenizer

PIECES = (*SPECIALS, "it", "fits", "well", ".", "shirt", "##s", "x", "##x")
IT, FITS, WELL, DOT, SHIRT, S, X, XX = range(3, 11)


def content(max_tokens: int = 5, pieces: tuple[str, ...] = PIECES) -> bytes:
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    model = Model(models.WordPiece(vocabulary, unk_token=SPECIALS[UNKNOWN], max_input_chars_per_word=9))
    model.normalizer = normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.enable_truncation(max_tokens)
    return model.to_str().encode()


TOKENIZER = Tokenizer.from_bytes(content())


def texts(*rows: tuple[str, ...]) -> npt.NDArray[np.object_]:
    found = np.empty((len(rows), len(rows[0])), dtype=object)
    for place, row in enumerate(rows):
        found[place] = row
    return found


def test_a_separator_after_each_column_then_padding() -> None:
    found = TOKENIZER.tokens(texts(("It fits.", "Shirts"), ("", "well"), ("", "")))
    assert found.dtype == np.int64
    assert found.tolist() == [
        [IT, FITS, DOT, SEPARATOR, SHIRT, S, SEPARATOR],
        [SEPARATOR, WELL, SEPARATOR, PADDING, PADDING, PADDING, PADDING],
        [SEPARATOR, SEPARATOR, PADDING, PADDING, PADDING, PADDING, PADDING],
    ]


def test_each_column_is_cut_by_itself() -> None:
    given = texts(("it it it it it fits", "it it it it it fits"), ("it it it it it", ""))
    assert TOKENIZER.max_tokens == 5
    assert TOKENIZER.tokens(given).tolist() == [
        [*[IT] * 5, SEPARATOR, *[IT] * 5, SEPARATOR],
        [*[IT] * 5, SEPARATOR, SEPARATOR, *[PADDING] * 5],
    ]
    whole, lengths = TOKENIZER.tokens_and_lengths(given)
    assert lengths.tolist() == [[6, 6], [5, 0]]
    np.testing.assert_array_equal(whole, TOKENIZER.tokens(given))


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 200])
@pytest.mark.parametrize("columns", [1, 3])
def test_any_number_of_rows(rows: int, columns: int) -> None:
    given = np.full((rows, columns), "it fits", dtype=object)
    found = TOKENIZER.tokens(given)
    assert found.shape == (rows, 3 * columns if rows else 1)
    assert (found == np.array([IT, FITS, SEPARATOR] * columns)).all() or not rows
    assert TOKENIZER.tokens_and_lengths(given)[1].tolist() == np.full(given.shape, 2).tolist()
    assert all(length.shape == share.shape == (rows,) for length, share in TOKENIZER.statistics(given, found))


def test_few_and_many_rows_are_cut_alike() -> None:
    many = texts(*[("it fits " * (row % 5), "shirtsss x.") for row in range(150)])
    whole = TOKENIZER.tokens(many)
    for row in range(0, 150, 7):
        alone = TOKENIZER.tokens(many[row : row + 1])[0]
        assert alone.tolist() == whole[row, : len(alone)].tolist()
        assert (whole[row, len(alone) :] == PADDING).all()


@pytest.mark.parametrize(
    ("text", "length", "unknown"),
    [
        ("it fits well.", 13, 0),
        ("It FITS", 7, 0),
        ("shirts it", 9, 1 / 2),  # known in pieces only
        ("it 日 fits", 9, 1 / 3),  # not known at all
        ("xx 日 .", 6, 2 / 3),
        ("it it it it it 日", 16, 0),  # what is cut off does not count
        ("waytoolongaword it", 18, 1 / 2),
        ("日", 1, 1),
        ("   ", 3, 0),  # there, but no words
        ("", None, None),
    ],
)
def test_length_and_unknown_share(text: str, length: float | None, unknown: float | None) -> None:
    given = texts(("fits fits", text), ("", text))
    (first, known), (lengths, share) = TOKENIZER.statistics(given, TOKENIZER.tokens(given))
    assert lengths.dtype == share.dtype == np.float32
    np.testing.assert_array_equal(first, [9, np.nan])
    np.testing.assert_array_equal(known, [0, np.nan])
    np.testing.assert_array_equal(lengths, [np.nan if length is None else length] * 2)
    np.testing.assert_array_equal(share, [np.float32(np.nan if unknown is None else unknown)] * 2)


def test_length_is_that_of_the_whole_text() -> None:
    given = texts(("it " * 100,))
    [(length, _)] = TOKENIZER.statistics(given, TOKENIZER.tokens(given))
    assert length.tolist() == [300]


@pytest.fixture(params=["word_piece", "byte_pairs"])
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of 9 tokens as training makes it."""
    if request.param == "word_piece":
        return Tokenizer.from_bytes(content(9))
    model = Model(models.BPE())
    model.normalizer = normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(["it fits well"] * 9, trainer)
    model.enable_truncation(9)
    return Tokenizer.from_bytes(model.to_str().encode())


def whole(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text that the library got whole."""
    return [*Model.from_str(tokenizer.content.decode()).encode(text).ids, SEPARATOR]


WORDS = st.text(st.characters(categories=["L", "N", "P"]) | st.sampled_from("itfsx.日"), min_size=1, max_size=100)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, min_size=1, max_size=5), apart=st.sampled_from(" \n\t\r"), shift=st.integers(0, 120))
def test_a_long_text_has_the_tokens_of_the_whole_text(
    trained: Tokenizer, words: list[str], apart: str, shift: int
) -> None:
    text = "x" * shift + apart.join(["", *words * 400])
    assert trained.tokens(texts((text,)))[0].tolist() == whole(trained, text)


@pytest.mark.parametrize("text", ["!" * 50_000, "日" * 50_000, "x" * 50_000, f"it {'x' * 50_000} it", "x." * 50_000])
def test_a_long_word_has_the_tokens_of_the_whole_text_where_it_can(trained: Tokenizer, text: str) -> None:
    found = trained.tokens(texts((text,)))[0].tolist()
    expected = whole(trained, text)
    assert found == [*expected[: len(found) - 1], SEPARATOR]
    assert len(found) == len(expected) or "it x" in text  # what follows a word that is too long is not seen


class Counting:
    """Stands for the library's model and counts the characters that it gets."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.characters: list[int] = []

    def encode(self, text: str) -> Encoding:
        self.characters.append(len(text))
        return self.model.encode(text)

    def encode_batch_fast(self, parts: list[str]) -> list[Encoding]:
        self.characters.append(sum(map(len, parts)))
        found: list[Encoding] = self.model.encode_batch_fast(parts)
        return found


@pytest.mark.parametrize("text", ["!" * 1_000_000, " " * 1_000_000, "\u0301" * 1_000_000, "it fits " * 125_000])
def test_only_the_start_of_a_long_text_is_tokenised(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    tokenizer = Tokenizer.from_bytes(content())
    model = Counting(Model.from_str(content().decode()))
    monkeypatch.setattr(tokenizer, "_model", model)
    tokenizer.tokens(texts((text,)))
    assert sum(model.characters) <= 6 * 101


def test_many_long_texts_are_tokenised_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.from_bytes(content(100))
    model = Counting(Model.from_str(content(100).decode()))
    monkeypatch.setattr(tokenizer, "_model", model)
    many = texts(*[(word * 2_000, "") for word in ("it ", "fits ", "well ", ".")] * 100)
    found = tokenizer.tokens(many)
    assert max(model.characters) <= 1 << 17
    assert len(model.characters) > 20
    assert found.tolist() == [[token] * 100 + [SEPARATOR, SEPARATOR] for token in (IT, FITS, WELL, DOT)] * 100


def test_a_text_that_is_cut_counts_as_longer_than_the_limit() -> None:
    given = texts(("xxxxxxxx " * 5,), ("xxxxxxxx " * 6,), ("y" * 100_000,), (f"{'y' * 100} " * 10_000,))
    _, lengths = TOKENIZER.tokens_and_lengths(given)
    assert lengths[0, 0] == 5 * 8
    assert lengths[3, 0] == 6
    assert lengths[2, 0] == 1


def test_spelt_out_specials_are_text() -> None:
    found = TOKENIZER.tokens(texts(("[SEP] it",)))
    assert (found == SEPARATOR).sum() == 1
    assert PADDING not in found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=4))
def test_any_text_has_tokens(rows: list[tuple[str, str]]) -> None:
    given = texts(*rows)
    found = TOKENIZER.tokens(given)
    assert ((found >= 0) & (found < TOKENIZER.vocabulary)).all()
    assert ((found == SEPARATOR).sum(axis=1) == 2).all()
    ends = (found != PADDING).sum(axis=1)
    assert (found[np.arange(len(rows)), ends - 1] == SEPARATOR).all()  # so that no padding stands inside
    assert ends.max() == found.shape[1]
    for (lengths, share), column in zip(TOKENIZER.statistics(given, found), given.T, strict=True):
        assert (np.isnan(lengths) == (column == "")).all()
        assert (np.isnan(share) == (column == "")).all()
        assert ((share >= 0) & (share <= 1) | np.isnan(share)).all()


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content())
    loaded = Tokenizer.load(path)
    assert loaded.content == content()
    assert loaded.vocabulary == len(PIECES)
    given = texts(("It fits well.",))
    assert loaded.tokens(given).tolist() == TOKENIZER.tokens(given).tolist()
    # the file alone will do
    assert Model.from_file(str(path)).encode("It fits well.").ids == [IT, FITS, WELL, DOT]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "cannot read the tokenizer"),
        (b"\xff\xfe", "cannot read the tokenizer"),
        (b"{}", "cannot read the tokenizer"),
        (content()[:-40], "cannot read the tokenizer"),
        (content(pieces=("it", *SPECIALS)), r"expected \[PAD\], \[UNK\], \[SEP\] as its first"),
        (Model(models.BPE()).to_str().encode(), r"expected \[PAD\], \[UNK\], \[SEP\] as its first"),
    ],
)
def test_what_is_no_tokenizer(bad: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(bad)
    with pytest.raises(BundleError, match=words) as caught:
        Tokenizer.load(path)
    assert caught.value.message.startswith(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read the tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_fork_is_not_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content())
    code = (
        "import os, sys, pathlib, numpy as np\n"
        "from dle_bundle.text import Tokenizer\n"
        "given = np.full((200, 1), 'it fits', dtype=object)\n"
        "tokenizer = Tokenizer.load(pathlib.Path(sys.argv[1]))\n"
        "tokenizer.tokens(given)\n"
        "if os.fork() == 0:\n"
        "    tokenizer.tokens(given[:1])\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "assert not {'torch', 'pandas', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
