"""The service's settings, read once from environment variables; all wrong values are reported together.

`bentoml serve` passes only the environment on to its workers, and containers are configured by it anyway.
`VARIABLES` describes each variable; `docs/configuration.md` is generated from it.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dle_bundle.errors import InputError

Device = Literal["auto", "cpu", "cuda"]
_TAG = re.compile(r"[a-z0-9][-._a-z0-9]*:[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of one server; each field is described by a row of `VARIABLES`."""

    bundles: tuple[Path, ...] = ()
    home: Path = Path(".dle")
    workers: int = 1
    device: Device = "auto"
    threads: int = 1
    batch_rows: int = 256
    max_body_bytes: int = 8 << 20
    max_rows: int = 20_000
    max_pixels: int = 32_000_000
    token_keys_file: Path | None = None
    api_keys_file: Path | None = None
    insecure: bool = False
    monitoring: bool = True
    drift_window: int = 3600
    feedback_store: str | None = None
    feedback_max_age: int = 90 * 86_400
    max_connections: int = 4096
    max_header_bytes: int = 64 << 10
    keep_alive: int = 75
    first_byte_timeout: int = 10
    header_timeout: int = 10
    body_timeout: int = 60
    request_timeout: int = 30
    max_wait: int = 1
    max_waiting_rows: int = 100_000
    max_waiting_bytes: int = 128 << 20
    drain_seconds: int = 0
    hang_seconds: int = 30
    bento_models: tuple[str, ...] = ()

    @property
    def signing_keys_file(self) -> Path:
        """The file with the keys that sign prediction ids."""
        return self.token_keys_file or self.home / "token.keys"

    def places(self) -> dict[str, str]:
        """The variables that say where things are, with absolute paths, for a process in another working directory."""
        files = {"DLE_TOKEN_KEYS_FILE": self.token_keys_file, "DLE_API_KEYS_FILE": self.api_keys_file}
        return {
            "DLE_BUNDLES": os.pathsep.join(str(path.resolve()) for path in self.bundles),
            "DLE_HOME": str(self.home.resolve()),
            **{name: str(path.resolve()) for name, path in files.items() if path is not None},
        }


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: the field that it sets, how its text is parsed and formatted, and its meaning.

    The value of a `secret` variable is never shown.
    """

    name: str
    field: str
    read: Callable[[str], Any]
    expected: str
    meaning: str
    write: Callable[[Any], str] = str
    secret: bool = False


def _paths(text: str) -> tuple[Path, ...]:
    paths = tuple(Path(part) for part in text.split(os.pathsep) if part)
    if not paths:
        raise ValueError
    return paths


def _tags(text: str) -> tuple[str, ...]:
    tags = tuple(part.strip() for part in text.split(",") if part.strip())
    if not tags or not all(map(_TAG.fullmatch, tags)):
        raise ValueError
    return tags


def _device(text: str) -> str:
    if text not in get_args(Device):
        raise ValueError
    return text


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _not_negative(text: str) -> int:
    if int(text) < 0:
        raise ValueError
    return int(text)


def _store_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError
    return text


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _truth_text(value: bool) -> str:
    return "true" if value else "false"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(text: str) -> int:
    """The number of seconds in a duration such as `90d`."""
    if text[-1] not in _UNITS:
        raise ValueError
    return _positive(text[:-1]) * _UNITS[text[-1]]


def _duration_text(seconds: int) -> str:
    unit = max((unit for unit in _UNITS if seconds % _UNITS[unit] == 0), key=lambda unit: _UNITS[unit])
    return f"{seconds // _UNITS[unit]}{unit}"


def _window(text: str) -> int:
    seconds = _duration(text)
    if seconds % 60 or not 60 <= seconds <= 86_400:
        raise ValueError
    return seconds


VARIABLES = (
    Variable(
        "DLE_BUNDLES",
        "bundles",
        _paths,
        "a list of paths",
        "Bundles, or folders that contain bundles, separated as in PATH. The routes without a model name use the first "
        "bundle. Required, unless DLE_BENTO_MODELS is set.",
    ),
    Variable(
        "DLE_BENTO_MODELS",
        "bento_models",
        _tags,
        "NAME:VERSION, or several with commas between them",
        "Models in BentoML's model store, where dle-export RUN --bentoml puts them. They follow the bundles of "
        "DLE_BUNDLES. bentoml build makes a bento that contains them; unset in a bento: the models that it contains. "
        "dle-serve does not use it: it serves its arguments.",
    ),
    Variable(
        "DLE_HOME",
        "home",
        Path,
        "a path",
        "The server's own directory, for its signing keys, feedback and the counts that its workers share. Two servers "
        "cannot use the same directory.",
    ),
    Variable("DLE_WORKERS", "workers", _positive, "a positive integer", "Number of worker processes."),
    Variable(
        "DLE_DEVICE",
        "device",
        _device,
        "auto, cpu or cuda",
        "Where models run. auto uses CUDA if it works, else the CPU; GET /readyz shows the choice.",
    ),
    Variable(
        "DLE_THREADS",
        "threads",
        _positive,
        "a positive integer",
        "Threads per model run in each worker. More than one speeds up large batches and slows down small ones.",
    ),
    Variable(
        "DLE_BATCH_ROWS",
        "batch_rows",
        _positive,
        "a positive integer",
        "Maximum number of rows that are batched from concurrent requests into one model run. A larger request runs "
        "alone, in a thread.",
    ),
    Variable(
        "DLE_MAX_BODY_BYTES",
        "max_body_bytes",
        _positive,
        "a positive integer",
        "Maximum size of a request body; larger ones get status 413.",
    ),
    Variable(
        "DLE_MAX_ROWS",
        "max_rows",
        _positive,
        "a positive integer",
        "Maximum number of rows in one request; more get status 413.",
    ),
    Variable(
        "DLE_MAX_PIXELS",
        "max_pixels",
        _positive,
        "a positive integer",
        "Maximum number of pixels that all images of one request declare together; more get status 413 before any is "
        "decoded. Decoding takes up to 20 bytes of memory for each pixel of the largest image. A single image may have "
        "64 million.",
    ),
    Variable(
        "DLE_TOKEN_KEYS_FILE",
        "token_keys_file",
        Path,
        "a path",
        "File with the keys that sign prediction ids: one hexadecimal key per line. The first key signs, every key "
        "verifies. All replicas need the same file. Unset: token.keys in DLE_HOME, created at the first start.",
    ),
    Variable(
        "DLE_API_KEYS_FILE",
        "api_keys_file",
        Path,
        "a path",
        "File with hashed API keys and their scopes, written by dle-key. Changes take effect while the server runs. "
        "Unset: requests need no key, and the server listens on loopback only.",
    ),
    Variable(
        "DLE_INSECURE",
        "insecure",
        _truth,
        "true or false",
        "Allow the server to listen beyond loopback without API keys.",
        _truth_text,
    ),
    Variable(
        "DLE_MONITORING",
        "monitoring",
        _truth,
        "true or false",
        "Count inputs and predictions for GET /drift and the drift metrics.",
        _truth_text,
    ),
    Variable(
        "DLE_DRIFT_WINDOW",
        "drift_window",
        _window,
        "whole minutes up to a day, as 30m or 24h",
        "The time window of GET /drift.",
        _duration_text,
    ),
    Variable(
        "DLE_FEEDBACK_STORE",
        "feedback_store",
        _store_url,
        "a URL that begins with postgresql://",
        "Database for feedback: postgresql://USER:PASSWORD@HOST/DATABASE, which several replicas can share. Unset: "
        "the SQLite file feedback.sqlite3 in DLE_HOME.",
        secret=True,
    ),
    Variable(
        "DLE_FEEDBACK_MAX_AGE",
        "feedback_max_age",
        _duration,
        "a duration, as 90d, 12h or 30m",
        "Maximum age of a prediction that still accepts feedback.",
        _duration_text,
    ),
    Variable(
        "DLE_MAX_CONNECTIONS",
        "max_connections",
        _positive,
        "a positive integer",
        "Maximum number of open connections of each worker; further ones get status 503. The limit on open files of "
        "the process (`ulimit -n`) may lower it; the log then says so.",
    ),
    Variable(
        "DLE_MAX_HEADER_BYTES",
        "max_header_bytes",
        _positive,
        "a positive integer",
        "Maximum size of the headers of a request, and of its trailers; larger ones get status 431.",
    ),
    Variable(
        "DLE_KEEP_ALIVE",
        "keep_alive",
        _duration,
        "a duration, as 75s or 5m",
        "Time for which a connection may stay idle between two requests. Make it longer than that of the load balancer "
        "in front, or the balancer now and then sends a request into a connection that has just been closed.",
        _duration_text,
    ),
    Variable(
        "DLE_FIRST_BYTE_TIMEOUT",
        "first_byte_timeout",
        _duration,
        "a duration, as 10s",
        "Time within which a new connection must send something; then it is closed.",
        _duration_text,
    ),
    Variable(
        "DLE_HEADER_TIMEOUT",
        "header_timeout",
        _duration,
        "a duration, as 10s",
        "Time within which the headers of a request must arrive, from their first byte on; then it gets status 408.",
        _duration_text,
    ),
    Variable(
        "DLE_BODY_TIMEOUT",
        "body_timeout",
        _duration,
        "a duration, as 60s",
        "Time within which the body of a request must arrive, and a client must take the response; a late body gets "
        "status 408, and a client that does not read is disconnected.",
        _duration_text,
    ),
    Variable(
        "DLE_REQUEST_TIMEOUT",
        "request_timeout",
        _duration,
        "a duration, as 30s",
        "Time for which a request for predictions may wait before work on it begins; then it gets status 504. A "
        "request can ask for less with the header X-Request-Timeout-Ms.",
        _duration_text,
    ),
    Variable(
        "DLE_MAX_WAIT",
        "max_wait",
        _duration,
        "a duration, as 1s",
        "Amount of waiting work, as the time that it takes at the measured rate. A request that finds more gets status "
        "503 at once, with Retry-After.",
        _duration_text,
    ),
    Variable(
        "DLE_MAX_WAITING_ROWS",
        "max_waiting_rows",
        _positive,
        "a positive integer",
        "Maximum number of rows of all requests that wait for the model in one worker; more get status 503.",
    ),
    Variable(
        "DLE_MAX_WAITING_BYTES",
        "max_waiting_bytes",
        _positive,
        "a positive integer",
        "Maximum size of all request bodies that one worker reads or holds at a time; more get status 503. Besides, "
        "each connection may have a few hundred kilobytes that have not been looked at.",
    ),
    Variable(
        "DLE_DRAIN_SECONDS",
        "drain_seconds",
        _not_negative,
        "0 or a positive integer",
        "On SIGTERM, dle-serve answers on for this long after GET /readyz has become 503, and only then closes its "
        "port. Set it to the time that your load balancer takes to notice. Kubernetes needs no more than its preStop.",
    ),
    Variable(
        "DLE_HANG_SECONDS",
        "hang_seconds",
        _positive,
        "a positive integer",
        "dle-serve replaces a worker whose event loop has not run for this long since it loaded its models.",
    ),
)
_NAMES = frozenset(variable.name for variable in VARIABLES)
_KUBERNETES = re.compile(r"DLE_(.*_)?(SERVICE_HOST|SERVICE_PORT|PORT)(_.*)?")
"""Variables that Kubernetes sets in every pod for a Service whose name begins with dle."""
_MOST_EDITS = 2
"""An unknown variable that is this near to a setting is taken for a mistake."""


def from_environment(environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """Read the settings; raises InputError that lists every missing, invalid or misspelt variable."""
    faults, values = [], {}
    for variable in VARIABLES:
        text = environment.get(variable.name, "")
        if not text:  # an empty variable counts as unset, as in shells and compose files
            continue
        try:
            values[variable.field] = variable.read(text)
        except ValueError:
            found = "something else" if variable.secret else repr(text)
            faults.append(f"{variable.name}: expected {variable.expected}, found {found}")
    for name in unknown_variables(environment):
        near = [known for known in sorted(_NAMES) if _edits(name, known) <= _MOST_EDITS]
        faults += [f"{name}: no such setting; did you mean {' or '.join(near)}?"] if near else []
    wrong = any(fault.startswith(("DLE_BUNDLES", "DLE_BENTO_MODELS")) for fault in faults)
    if not wrong and not values.keys() & {"bundles", "bento_models"}:
        faults.append(
            "DLE_BUNDLES is not set: expected a list of bundles, or of folders that contain bundles (or set "
            "DLE_BENTO_MODELS to models of BentoML's model store)"
        )
    if faults:
        raise InputError("The service cannot start with these settings", faults)
    return ServerSettings(**values)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that begin with DLE_, are not empty, and are neither settings nor set by Kubernetes."""
    names = [name for name, text in environment.items() if name.startswith("DLE_") and text]
    return sorted(name for name in names if name not in _NAMES and not _KUBERNETES.fullmatch(name))


def _edits(one: str, other: str) -> int:
    """The Levenshtein distance: how many characters must be added, removed or replaced."""
    row = list(range(len(other) + 1))
    for index, character in enumerate(one, 1):
        above, row[0] = row[0], index
        for column, wanted in enumerate(other, 1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (character != wanted))
    return row[-1]
