"""Signs and verifies prediction ids. An id contains its prediction, so feedback needs no stored predictions.

An id is the base64url text of 36 bytes: format, key number, time, model fingerprint, class index, confidence or value,
nonce, and a keyed BLAKE2b hash of these. It is signed but not encrypted: anyone can read the prediction in it.

A value is stored as (value − mean) / sd, with mean and sd of the schema's outputs, because it has the four bytes of a
float32: of a value like 1,000,000,003.5 they would hold the first seven digits.
"""

import hashlib
import os
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from dle_bundle.errors import DleError, InputError
from dle_bundle.files import create_atomic
from dle_bundle.manifest import Manifest

ID_FORMAT = 1
NO_CLASS = 0xFFFF
"""The class index in the ids of a regression."""

# format, key number, seconds since 1970, fingerprint, class index, confidence or standardised value, nonce
_FIELDS = struct.Struct(">BBI4sHf8s")
_SIGNATURE = 12
_LENGTH = _FIELDS.size + _SIGNATURE
_TEXT_LENGTH = _LENGTH // 3 * 4
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PredictionId:
    """The content of a genuine id.

    `answer` is the confidence in the predicted class; for a regression, `class_index` is None and `answer` is
    (value − mean) / sd. `time` is in seconds since 1970.
    """

    time: int
    fingerprint: bytes
    class_index: int | None
    answer: float
    nonce: bytes


class IdError(DleError):
    """An id is not accepted; `code` is the rejection code of POST /feedback."""

    def __init__(self, code: Literal["signature", "expired"], message: str) -> None:
        super().__init__(message)
        self.code = code


def fingerprint(manifest: Manifest) -> bytes:
    """Four bytes that identify a bundle, computed from its name, version and file digests."""
    content = f"{manifest.name}\0{manifest.version}\0{sorted(manifest.files.items())}"
    return hashlib.blake2b(content.encode(), digest_size=4).digest()


class SigningKeys:
    """The keys of one deployment: the first key signs, all keys verify, so keys can be replaced without losing ids.

    Safe in any thread.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises InputError when `keys` is empty, a key is too short, or two keys have the same number."""
        # the number is derived from the key, so it stays the same when other keys are added or removed
        numbers = [hashlib.blake2b(key, digest_size=1).digest()[0] for key in keys]
        if not keys or any(len(key) < _KEY_BYTES for key in keys) or len(set(numbers)) < len(keys):
            raise InputError(
                f"expected keys of at least {_KEY_BYTES} bytes with different numbers; create another key with: "
                f"openssl rand -hex {_KEY_BYTES}"
            )
        # hashing begins with the key; copying that state saves the first block for every id
        states = [hashlib.blake2b(key=key[:64], digest_size=_SIGNATURE) for key in keys]
        self._states = dict(zip(numbers, states, strict=True))
        self._number, self._state = numbers[0], states[0]

    def sign(self, time: int, fingerprint: bytes, classes: Sequence[int], answers: Sequence[float]) -> list[str]:
        """Sign an id for each prediction: its class index and confidence, or `NO_CLASS` and standardised value."""
        nonces = os.urandom(8 * len(answers))
        number, copy, pack = self._number, self._state.copy, _FIELDS.pack
        parts: list[bytes] = []
        for index, (class_index, answer) in enumerate(zip(classes, answers, strict=True)):
            nonce = nonces[8 * index : 8 * index + 8]
            fields = pack(ID_FORMAT, number, time, fingerprint, class_index, answer, nonce)
            state = copy()
            state.update(fields)
            parts += (fields, state.digest())
        # 36 bytes are a multiple of three, so the ids can be encoded together and cut apart
        text = urlsafe_b64encode(b"".join(parts)).decode()
        return [text[start : start + _TEXT_LENGTH] for start in range(0, len(text), _TEXT_LENGTH)]

    def verify(self, text: str, now: int, max_age: int) -> PredictionId:
        """The content of the id `text`; raises IdError when it was not signed with these keys or is too old.

        `now` is in seconds since 1970, `max_age` in seconds.
        """
        forged = IdError("signature", "not an id that this service signed")
        try:
            content = urlsafe_b64decode(text.encode("ascii"))
        except ValueError:
            raise forged from None
        # accept only the canonical text: the decoder skips characters that are not base64
        if len(content) != _LENGTH or len(text) != _TEXT_LENGTH or urlsafe_b64encode(content).decode() != text:
            raise forged
        fields, signature = content[: _FIELDS.size], content[_FIELDS.size :]
        kind, number, time, print_, class_index, answer, nonce = _FIELDS.unpack(fields)
        state = self._states.get(number)
        if kind != ID_FORMAT or state is None:
            raise forged
        expected = state.copy()
        expected.update(fields)
        if not secrets.compare_digest(expected.digest(), signature):
            raise forged
        if not now - max_age <= time:
            ago, accepted = timedelta(seconds=now - time), timedelta(seconds=max_age)
            raise IdError("expired", f"the prediction was made {ago} ago, but feedback is accepted for {accepted}")
        return PredictionId(time, print_, None if class_index == NO_CLASS else class_index, answer, nonce)


def load_signing_keys(path: Path, *, create: bool) -> SigningKeys:
    """Read the signing keys from a file with one hexadecimal key per line.

    With `create`, a missing file is created with a random key and mode 0600. Raises InputError when the file is missing
    (without `create`), unreadable, or contains no usable keys.
    """
    if create and not path.exists():
        create_atomic(path, secrets.token_hex(_KEY_BYTES) + "\n", mode=0o600)
    try:
        keys = [bytes.fromhex(line) for line in path.read_text().split("\n") if line.strip()]
        return SigningKeys(keys)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read the keys that sign prediction ids: {error}") from error
