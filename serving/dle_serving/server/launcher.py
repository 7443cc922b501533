"""Starts a server, reports when it is ready, and stops it: the work of `dle-serve`.

The process that calls `serve` binds the port and supervises the workers, which run the service (see `supervisor` and
`worker`). Wrong arguments are reported before anything starts.
"""

import errno
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_serving.server.logs import log_plainly
from dle_serving.server.preparation import prepare
from dle_serving.server.readiness import LoadedModel, NotReadyYet, Readiness
from dle_serving.server.supervisor import BACKLOG, Supervisor
from dle_serving.settings import Device, ServerSettings, from_environment

_ASK_SECONDS = 1.0
"""Timeout of a question to /readyz: until a worker runs, connections wait in the socket."""
_CHECK_CUDA = """
import sys
from dle_bundle.errors import InputError
from dle_serving.models.runtime import check_device
try:
    check_device("cuda")
except InputError as error:
    sys.exit(str(error))
"""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is ready at `url`; `models` begins with the default model.

    `home` is its directory; `keys` says whether it requires API keys.
    """

    url: str
    models: tuple[LoadedModel, ...]
    workers: int
    home: Path
    keys: bool = False


def serve(
    bundles: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    workers: int | None = None,
    device: Device | None = None,
    insecure: bool = False,
    on_ready: Callable[[RunningServer], None],
) -> None:
    """Serve until SIGTERM (returns) or Ctrl-C (raises Interrupted); `port` 0 picks a free port.

    A `host` beyond loopback requires API keys or `insecure`. Arguments that are None come from the environment, see
    `settings`. `on_ready` is called when /readyz returns 200.

    Raises InputError for wrong bundles, device, host or settings, and WorkError when the port or the directory is in
    use or the server fails.
    """
    host = "127.0.0.1" if host == "localhost" else host
    ended: signal.Signals | None = None
    with _terminating(), _listening(host, port) as listener:
        port = listener.getsockname()[1]
        settings = _settings(bundles, port, workers, device, insecure)
        if settings.device == "cuda":
            _check_cuda()
        settings, lock = prepare(settings, host)
        log_plainly("supervisor")

        def ready() -> bool:
            running = _running(settings, host, port)
            if running is not None:
                on_ready(running)
            return running is not None

        try:
            ended = Supervisor(listener, settings, _environment(settings)).run(ready)
        finally:
            lock.release()
    if ended == signal.SIGINT:
        raise Interrupted("stopped by Ctrl-C")


class _Terminated(BaseException):
    """SIGTERM was received."""


def _settings(
    bundles: Sequence[Path], port: int, workers: int | None, device: Device | None, insecure: bool
) -> ServerSettings:
    listed = [str(path.resolve()) for path in bundles]
    if any(os.pathsep in path for path in listed):
        raise InputError(f"the path of a bundle cannot contain {os.pathsep!r}", listed)
    chosen = {"DLE_BUNDLES": os.pathsep.join(listed)}
    if workers is not None:
        chosen["DLE_WORKERS"] = str(workers)
    if device is not None:
        chosen["DLE_DEVICE"] = device
    if insecure:
        chosen["DLE_INSECURE"] = "true"
    return from_environment({"DLE_HOME": f".dle/serve-{port}", **os.environ, **chosen})


def _environment(settings: ServerSettings) -> Mapping[str, str]:
    return {
        **os.environ,
        **settings.places(),
        "DLE_BENTO_MODELS": "",
        "DLE_WORKERS": str(settings.workers),
        "DLE_DEVICE": settings.device,
        "DLE_INSECURE": "true" if settings.insecure else "false",
        "BENTOML_HOME": str(settings.home.resolve() / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _running(settings: ServerSettings, host: str, port: int) -> RunningServer | None:
    """The server, when /readyz returns 200, else None; raises WorkError when it has failed."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    found = _readyz(reachable, port)
    if isinstance(found, Readiness):
        shown = f"[{reachable}]" if ":" in reachable else reachable
        keys = settings.api_keys_file is not None
        return RunningServer(f"http://{shown}:{port}", found.models, settings.workers, settings.home, keys)
    if found is not None and any(fault.code == "failed" for fault in found.details):
        raise WorkError(found.error)
    return None


def _check_cuda() -> None:
    """Raise InputError unless CUDA works. Another process finds out, since this one imports no ONNX Runtime."""
    ran = subprocess.run([sys.executable, "-c", _CHECK_CUDA], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise InputError(
            ran.stderr.splitlines()[-1] if ran.stderr else "device cuda: the check of ONNX Runtime crashed"
        )


def _readyz(host: str, port: int) -> Readiness | NotReadyYet | None:
    """The body of /readyz; None while the server does not respond, or if another program responds on its port."""
    connection = http.client.HTTPConnection(host, port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        if response.status == 200:
            return msgspec.json.decode(body, type=Readiness)
        return msgspec.json.decode(body, type=NotReadyYet)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        connection.close()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; raises InputError for an invalid address, WorkError if the port cannot be had."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise InputError(f"host {host}: expected an IP address or localhost") from None
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            reason = "in use by another process" if error.errno == errno.EADDRINUSE else error.strerror
            raise WorkError(f"port {port} on {host}: {reason}; choose another port with --port") from None
        except OverflowError:
            raise InputError(f"port {port}: expected 0 to 65535") from None
        yield listener


@contextmanager
def _terminating() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the preparation; the supervisor receives them later."""

    def terminated(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    except _Terminated:
        pass
    except KeyboardInterrupt:
        raise Interrupted("stopped by Ctrl-C") from None
    finally:
        signal.signal(signal.SIGTERM, before)
