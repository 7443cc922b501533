import stat
import threading
from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_serving.feedback.ids import NO_CLASS, IdError, PredictionId, SigningKeys, load_signing_keys

KEYS = SigningKeys([b"k" * 32])
NOW = 1_800_000_000
DAY = 86_400


def test_an_id_says_what_was_predicted() -> None:
    first, second = KEYS.sign(NOW, b"abcd", [3, NO_CLASS], [0.75, -2.5])
    assert len(first) == 48
    assert first != second
    token = KEYS.verify(first, NOW + 5, DAY)
    assert token == PredictionId(NOW, b"abcd", 3, 0.75, token.nonce)
    assert KEYS.verify(second, NOW, DAY).class_index is None
    assert KEYS.verify(second, NOW, DAY).answer == -2.5


def test_equal_predictions_have_ids_of_their_own() -> None:
    assert len(set(KEYS.sign(NOW, b"abcd", [1] * 500, [0.5] * 500))) == 500


def test_every_changed_character_is_noticed() -> None:
    (text,) = KEYS.sign(NOW, b"abcd", [1], [0.5])
    for index in range(len(text)):
        changed = text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]
        with pytest.raises(IdError) as caught:
            KEYS.verify(changed, NOW, DAY)
        assert caught.value.code == "signature"


@pytest.mark.parametrize("text", ["", "x", "é" * 48, "A" * 48, "A" * 47, "A" * 52, " " * 48])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(IdError):
        KEYS.verify(text, NOW, DAY)


@pytest.mark.parametrize("foreign", ["\n", " ", "=", "!"])
def test_one_prediction_has_one_text(foreign: str) -> None:
    (text,) = KEYS.sign(NOW, b"abcd", [1], [0.5])
    for changed in (text + foreign, foreign + text, text[:10] + foreign + text[10:]):
        with pytest.raises(IdError):
            KEYS.verify(changed, NOW, DAY)


def test_ids_expire() -> None:
    (text,) = KEYS.sign(NOW, b"abcd", [1], [0.5])
    assert KEYS.verify(text, NOW + DAY, DAY)
    with pytest.raises(IdError) as caught:
        KEYS.verify(text, NOW + DAY + 1, DAY)
    assert caught.value.code == "expired"


def test_a_new_key_signs_and_the_old_one_still_verifies() -> None:
    (old,) = KEYS.sign(NOW, b"abcd", [1], [0.5])
    rotated = SigningKeys([b"n" * 32, b"k" * 32])
    (new,) = rotated.sign(NOW, b"abcd", [1], [0.5])
    assert rotated.verify(old, NOW, DAY)
    assert rotated.verify(new, NOW, DAY)
    with pytest.raises(IdError):
        KEYS.verify(new, NOW, DAY)


def test_keys_that_do_not_serve_are_refused() -> None:
    for keys in ([], [b"short"], [b"k" * 32, b"k" * 32]):
        with pytest.raises(InputError):
            SigningKeys(keys)


def test_a_keys_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token.keys"
    found: list[SigningKeys] = []
    threads = [threading.Thread(target=lambda: found.append(load_signing_keys(path, create=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (text,) = found[0].sign(NOW, b"abcd", [1], [0.5])
    assert all(keys.verify(text, NOW, DAY) for keys in found)
    assert len(found) == 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token.keys"]


def test_a_keys_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_signing_keys(tmp_path / "absent", create=False)
    (tmp_path / "text").write_text("not hexadecimal\n")
    with pytest.raises(InputError, match="cannot read the keys"):
        load_signing_keys(tmp_path / "text", create=True)
