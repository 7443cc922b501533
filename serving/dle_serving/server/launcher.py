"""Starts a server, reports when it is ready, and stops it: the work of `dle-serve`.

The server is `bentoml serve` with closer supervision (see `supervisor`). It runs in a process of its own, which keeps
BentoML's signal handlers and memory out of this one. Wrong arguments are reported before anything starts.
"""

import errno
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_bundle.locks import Lock
from dle_serving.auth import check_start
from dle_serving.models.discovery import load_bundles
from dle_serving.server.processes import end_with_parent
from dle_serving.server.readiness import LoadedModel, NotReadyYet, Readiness
from dle_serving.settings import Device, ServerSettings, from_environment

_DRAIN_SECONDS = 10
"""Grace period for requests in progress after a signal."""
_POLL_SECONDS = 0.05


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
    load_bundles(bundles)
    host = "127.0.0.1" if host == "localhost" else host
    port = _free_port(host, port)
    settings = _settings(bundles, port, workers, device, insecure)
    if settings.device == "cuda":
        from dle_serving.models.runtime import check_device  # imported here, since the runtime takes long to import

        check_device(settings.device)
    check_start(settings, host)
    with _claimed(settings.home), _signals():
        process = _start(settings, host, port)
        try:
            on_ready(_wait_until_ready(process, settings, host, port))
            code = process.wait()
        except _Terminated:
            return
        except KeyboardInterrupt:
            raise Interrupted("stopped by Ctrl-C") from None
        finally:
            _stop(process)
        raise WorkError(f"the server ended unexpectedly with exit code {code}; see the log above")


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
    inherited = {name: value for name, value in os.environ.items() if name != "BENTOML_CONTAINERIZED"}
    files = {"DLE_TOKEN_KEYS_FILE": settings.token_keys_file, "DLE_API_KEYS_FILE": settings.api_keys_file}
    home = settings.home.resolve()
    return {
        **inherited,  # without the variable that makes BentoML not replace dead workers in a container
        **{name: str(path.resolve()) for name, path in files.items() if path is not None},
        "DLE_BUNDLES": os.pathsep.join(map(str, settings.bundles)),
        "DLE_BENTO_MODELS": "",
        "DLE_HOME": str(home),
        "DLE_WORKERS": str(settings.workers),
        "DLE_DEVICE": settings.device,
        "DLE_INSECURE": "true" if settings.insecure else "false",
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _start(settings: ServerSettings, host: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "dle_serving.server.supervisor", "serve", "dle_serving.service:Service", "--quiet"]
    command += ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(_DRAIN_SECONDS)]
    return subprocess.Popen(
        command,
        env=_environment(settings),
        cwd=settings.home,  # BentoML imports from its working directory first: not from the caller's
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # Ctrl-C reaches only this process, which then stops the server
        preexec_fn=end_with_parent,  # safe, since this process has only one thread here
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server and with it its workers. A second signal kills it at once."""
    try:
        process.terminate()
        process.wait(_DRAIN_SECONDS + 5)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, _Terminated):
        process.kill()
        process.wait()


def _wait_until_ready(
    process: "subprocess.Popen[bytes]", settings: ServerSettings, host: str, port: int
) -> RunningServer:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        code = process.poll()
        if code is not None:
            raise WorkError(f"the server did not start (exit code {code}); see the log above")
        found = _readyz(reachable, port)
        if isinstance(found, Readiness):
            shown = f"[{reachable}]" if ":" in reachable else reachable
            keys = settings.api_keys_file is not None
            return RunningServer(f"http://{shown}:{port}", found.models, settings.workers, settings.home, keys)
        if found is not None and any(fault.code == "failed" for fault in found.details):
            raise WorkError(found.error)
        time.sleep(_POLL_SECONDS)


def _readyz(host: str, port: int) -> Readiness | NotReadyYet | None:
    """The body of /readyz; None while the server does not respond, or if another program responds on its port."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
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


def _free_port(host: str, port: int) -> int:
    """Return `port`, or a free port for 0; raises InputError for an invalid address, WorkError if binding fails."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise InputError(f"host {host}: expected an IP address or localhost") from None
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = "in use by another process" if error.errno == errno.EADDRINUSE else error.strerror
            raise WorkError(f"port {port} on {host}: {reason}; choose another port with --port") from None
        except OverflowError:
            raise InputError(f"port {port}: expected 0 to 65535") from None
        bound: int = probe.getsockname()[1]
        return bound


@contextmanager
def _claimed(home: Path) -> Iterator[None]:
    """Hold the lock on `home` while the block runs; raises WorkError when another server holds it."""
    try:
        lock = Lock(home)
    except OSError as error:
        raise WorkError(f"DLE_HOME: {home} cannot be created: {error.strerror}") from None
    if not lock.acquire():
        raise WorkError(f"{home} is in use by another server: set DLE_HOME to a directory of its own")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _signals() -> Iterator[None]:
    def terminated(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
