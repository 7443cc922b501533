"""API keys and their scopes, from a file that holds only the hashes of the keys.

Each line is one key: `NAME SCOPES SHA256`, with the scopes separated by commas and the hash in hexadecimal; `#` begins
a comment. A plain SHA-256 is enough, unlike for passwords: `dle-key` makes each key from 256 random bits, so guessing
is hopeless without a slow hash or a salt. To replace a key, add the new one, switch the clients over, then remove the
old one. The service rereads the file when it changes.
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
from dle_bundle.errors import InputError, counted, nearest
from dle_serving.errors import Forbidden, Unauthorized
from dle_serving.settings import ServerSettings

Scope = Literal["predict", "feedback", "metrics", "admin"]
"""What an API key allows; `admin` allows everything."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
_KEY_BYTES = 32
_HEAD = "# API keys of a service, as hashes: NAME SCOPES SHA256. To revoke a key, delete its line.\n"
_LOOK_SECONDS = 1.0
"""Minimum time between two checks of whether the file has changed."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HASH = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of the file; `digest` is its SHA-256."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    def line(self) -> str:
        """The key as a line of the file."""
        return f"{self.name} {','.join(scope for scope in SCOPES if scope in self.scopes)} {self.digest.hex()}\n"


def make(name: str, scopes: Sequence[str]) -> tuple[str, ApiKey]:
    """Make a key and return its text and its entry; raises InputError for an invalid name or scope."""
    key = secrets.token_urlsafe(_KEY_BYTES)
    entry, faults = _entry(name, scopes, _digest(key.encode()).hex())
    if entry is None:
        raise InputError("No key was created", faults)
    return key, entry


def add(path: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a key, append its line to the file at `path`, and return the key.

    An existing file keeps its mode; a new one gets 0600. Raises InputError when the folder is missing, the file is
    invalid or contains the name already, or the name or a scope is invalid.
    """
    path = path.resolve()  # a symbolic link is kept
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; create it before you keep API keys in it")
    with locks.alone_in(path.parent):  # not on the key file itself, which is replaced
        keys: tuple[ApiKey, ...] = ()
        text, mode = _HEAD, 0o600
        if path.exists():
            keys = _read(path)
            text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
        if name in (key.name for key in keys):
            raise InputError(
                f"{path} already contains a key named {name!r}: choose another name, and remove the old key later"
            )
        key, entry = make(name, scopes)
        files.write_atomic(path, text.rstrip("\n") + "\n" + entry.line(), mode=mode)
    return key


def parse(text: str) -> tuple[ApiKey, ...]:
    """Parse the content of a key file; raises InputError that lists every fault of every line."""
    keys: list[ApiKey] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            faults.append(f"line {number}: expected NAME SCOPES SHA256, found {counted(len(words), 'word')}")
            continue
        entry, wrong = _entry(words[0], words[1].split(","), words[2].lower())
        faults += [f"line {number}: {fault}" for fault in wrong]
        if entry is None:
            continue
        faults += [
            f"line {number}: {what} is already that of {earlier.name!r}"
            for earlier in keys
            for what, same in (("the name", earlier.name == entry.name), ("the key", earlier.digest == entry.digest))
            if same
        ]
        keys.append(entry)
    if faults:
        raise InputError("not a valid file of API keys", faults)
    return tuple(keys)


def load(path: Path) -> tuple[ApiKey, ...]:
    """The keys of the file at `path`; raises InputError when it is invalid or contains no key."""
    keys = _read(path)
    if not keys:
        raise InputError(f"{path} contains no API keys; create one with: dle-key NAME --file {path}")
    return keys


class Keyring:
    """The current keys of one service; used from the event loop.

    Failures
    --------
    A missing or empty file means no keys: every request is refused. When a changed file is invalid, the fault is logged
    and the previous keys stay in use. A worker that starts with an invalid file has no keys until it is repaired.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: tuple[ApiKey, ...] = ()
        self._seen: tuple[int, ...] | None = ()
        self._look()

    def check(self, authorization: bytes | None, scope: Scope) -> None:
        """Check that `Bearer KEY` is a known key with the scope; raises Unauthorized or Forbidden."""
        if time.monotonic() >= self._next_look:
            self._look()
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("expected an API key: send it as Authorization: Bearer KEY")
        digest, found = _digest(given.strip()), None
        for key in self._keys:  # always compare all keys, so that the time taken reveals nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise Unauthorized("unknown API key")
        if scope not in found.scopes and "admin" not in found.scopes:
            raise Forbidden(f"the API key {found.name!r} has the scopes {', '.join(sorted(found.scopes))}, not {scope}")

    def _look(self) -> None:
        """Reread the file when it has changed."""
        self._next_look = time.monotonic() + _LOOK_SECONDS
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._keys = () if state is None else _read(self._path)
        except InputError as error:
            kept = counted(len(self._keys), "earlier key")
            log.error("the file of API keys is invalid; in use: %s; %s", kept, error)
        else:
            log.info("read %s from %s", counted(len(self._keys), "API key"), self._path)

    def _state(self) -> tuple[int, ...] | None:
        """A value that changes when the file is written or replaced; None when the file is missing."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def check_start(settings: ServerSettings, host: str) -> None:
    """Raise InputError when the key file is unusable, or when `host` is beyond loopback and no keys are required."""
    if settings.api_keys_file is not None:
        load(settings.api_keys_file)
    elif not settings.insecure and not _loopback(host):
        raise InputError(
            f"Anyone who can reach {host} could use a server that listens there without API keys",
            (
                "create a key with dle-key NAME --file FILE, and set DLE_API_KEYS_FILE=FILE",
                "or, if something else restricts access, use --insecure or DLE_INSECURE=true",
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
    return InputError(f"{path}: cannot read API keys: {reason}")


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
