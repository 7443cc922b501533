"""API keys: who may ask for what, from a file that holds no key, only their hashes.

A line a key: `NAME SCOPES SHA256`, the scopes separated by commas, the hash in hexadecimal; `#` begins a comment.
A plain SHA-256 is right here, where it would be wrong for passwords: a key is 256 random bits that `dle-key` made, so
there is nothing to guess that a slow hash or a salt would protect. Several keys at once are how one is replaced:
add the new one, move the callers over, take the old one out; the file is followed while the service runs.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dle_bundle import files, locks
from dle_bundle.errors import InputError, nearest
from dle_serving.errors import Forbidden, Unauthorized
from dle_serving.settings import Settings

Scope = Literal["predict", "feedback", "metrics", "admin"]
"""What an API key allows; `admin` allows everything."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
_KEY_BYTES = 32
_HEAD = "# API keys of a service, by their hashes: NAME SCOPES SHA256. Taking a line out refuses its key.\n"
_LOOK_SECONDS = 1.0
"""The file is looked at no more often."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HASH = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the file; `digest` is the SHA-256 of the key."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    def line(self) -> str:
        """The line that says the same."""
        return f"{self.name} {','.join(scope for scope in SCOPES if scope in self.scopes)} {self.digest.hex()}\n"


def make(name: str, scopes: Sequence[str]) -> tuple[str, ApiKey]:
    """A new key, to be told once, and its entry; raises InputError for a name or scopes that cannot be."""
    key = secrets.token_urlsafe(_KEY_BYTES)
    entry, faults = _entry(name, scopes, _digest(key.encode()).hex())
    if entry is None:
        raise InputError("no key was made", faults)
    return key, entry


def add(path: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a key and put its line at the end of the file at `path`; the key itself.

    The file keeps its mode; one that is made has 0600. Raises InputError when the folder is not there, the file is
    wrong or has the name already, or for a name or scopes that cannot be.
    """
    path = path.resolve()  # a link stays one
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: expected a folder to keep the keys in: there is none")
    with locks.alone_in(path.parent):  # not in the file itself, which is replaced
        keys: tuple[ApiKey, ...] = ()
        text, mode = _HEAD, 0o600
        if path.exists():
            keys = _read(path)
            text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
        if name in (key.name for key in keys):
            raise InputError(
                f"{path} has a key of the name {name!r} already: choose another, and take that line out later"
            )
        key, entry = make(name, scopes)
        files.write_atomic(path, text.rstrip("\n") + "\n" + entry.line(), mode=mode)
    return key


def parse(text: str) -> tuple[ApiKey, ...]:
    """The keys of a file; raises InputError with every fault of every line."""
    keys: list[ApiKey] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            faults.append(f"line {number}: expected NAME SCOPES SHA256, found {len(words)} word(s)")
            continue
        entry, wrong = _entry(words[0], words[1].split(","), words[2].lower())
        faults += [f"line {number}: {fault}" for fault in wrong]
        if entry is None:
            continue
        faults += [
            f"line {number}: {what} again, as of {earlier.name!r}"
            for earlier in keys
            for what, same in (("the name", earlier.name == entry.name), ("the key", earlier.digest == entry.digest))
            if same
        ]
        keys.append(entry)
    if faults:
        raise InputError("not the keys of a service", faults)
    return tuple(keys)


def load(path: Path) -> tuple[ApiKey, ...]:
    """The keys of the file at `path`, at least one, as a service wants them at its start; raises InputError."""
    keys = _read(path)
    if not keys:
        raise InputError(f"{path}: holds no API keys; make one with: dle-key NAME --file {path}")
    return keys


class Keyring:
    """The keys of one service, as its file has them now.

    A file that is gone or empty holds none, and refuses everybody. One that is wrong is told in the log, and the keys
    before it stay; a worker that starts with a wrong one knows none until it is mended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: tuple[ApiKey, ...] = ()
        self._seen: tuple[int, ...] | None = ()
        self._look()

    def check(self, authorization: bytes | None, scope: Scope) -> None:
        """Let `Bearer KEY` through where the key has the scope; raises Unauthorized, Forbidden."""
        if time.monotonic() >= self._next_look:
            self._look()
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("expected an API key: send it as Authorization: Bearer KEY")
        digest, found = _digest(given.strip()), None
        for key in self._keys:  # all of them, so that the time taken tells nothing about any
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise Unauthorized("the API key is not one of this service")
        if scope not in found.scopes and "admin" not in found.scopes:
            raise Forbidden(f"the API key {found.name!r} has the scopes {', '.join(sorted(found.scopes))}, not {scope}")

    def _look(self) -> None:
        """Take the keys of a file that has changed."""
        self._next_look = time.monotonic() + _LOOK_SECONDS
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._keys = () if state is None else _read(self._path)
        except InputError as error:
            log.error("%d API key(s) stay, for their file is wrong: %s", len(self._keys), error)
        else:
            log.info("took %d API key(s) from %s", len(self._keys), self._path)

    def _state(self) -> tuple[int, ...] | None:
        """What differs once the file was written or replaced; None when it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def check_start(settings: Settings, host: str) -> None:
    """Raise InputError when the keys cannot be used, or when `host` is beyond loopback and anybody could ask."""
    if settings.api_keys_file is not None:
        load(settings.api_keys_file)
    elif not settings.insecure and not _loopback(host):
        raise InputError(
            f"Listening on {host} without API keys would answer anybody who reaches it",
            (
                "make a key with dle-key NAME --file FILE, and set DLE_API_KEYS_FILE=FILE",
                "or, where something else keeps strangers out, say so with --insecure or DLE_INSECURE=true",
            ),
        )


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.details) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(f"{path}: no API keys can be read: {reason}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _entry(name: str, scopes: Sequence[str], digest: str) -> tuple[ApiKey | None, list[str]]:
    faults = []
    if not _NAME.fullmatch(name):
        faults.append(f"name {name[:50]!r}: expected letters, digits, '.', '_' and '-'")
    faults += [
        f"scope {scope[:50]!r}: expected one of {', '.join(SCOPES)}{nearest(scope[:50], SCOPES)}"
        for scope in scopes
        if scope not in SCOPES
    ]
    if not _HASH.fullmatch(digest):
        faults.append("hash: expected the SHA-256 of the key, 64 hexadecimal digits")
    if faults:
        return None, faults
    return ApiKey(name, frozenset(scope for scope in SCOPES if scope in scopes), bytes.fromhex(digest)), []
