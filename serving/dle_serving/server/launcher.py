"""Starts a server, says when it is ready, and ends it: what `dle-serve` does.

The server is `bentoml serve`, with closer supervision (see `supervisor`), in a process of its own, so that this one
stays free of BentoML's signal handlers and memory. What cannot work is refused before anything starts.
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
from typing import Any, NoReturn

import msgspec

from dle_bundle.errors import InputError, Interrupted, WorkError
from dle_bundle.locks import Lock
from dle_serving.auth import check_start
from dle_serving.models.discovery import load_bundles
from dle_serving.server.processes import end_with_parent
from dle_serving.server.readiness import LoadedModel, Readiness
from dle_serving.settings import Device, Settings, from_environment

_DRAIN_SECONDS = 10
"""Requests in flight have so long to be answered after a signal."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers at `url`, with its first model first.

    `home` is its directory; `keys`: it asks for API keys.
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
    """Serve until SIGTERM (returns) or Ctrl-C (raises Interrupted); `port` 0 takes a free one.

    A `host` beyond loopback takes API keys, or `insecure`. What is not given comes from the environment (see
    `settings`).
    `on_ready` is called when /readyz is 200.
    Raises InputError (bundles, device, host, settings) and WorkError (port or directory in use, the server failed).
    """
    load_bundles(bundles)
    host = "127.0.0.1" if host == "localhost" else host
    port = _free_port(host, port)
    settings = _settings(bundles, port, workers, device, insecure)
    if settings.device == "cuda":
        from dle_serving.models.runtime import check_device  # the runtime takes a while to import

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
        raise WorkError(f"the server ended by itself with exit code {code}; the lines above say why")


class _Terminated(BaseException):
    """SIGTERM has come."""


def _settings(
    bundles: Sequence[Path], port: int, workers: int | None, device: Device | None, insecure: bool
) -> Settings:
    listed = [str(path.resolve()) for path in bundles]
    if any(os.pathsep in path for path in listed):
        raise InputError(f"the path of a bundle cannot hold {os.pathsep!r}", listed)
    chosen = {"DLE_BUNDLES": os.pathsep.join(listed)}
    if workers is not None:
        chosen["DLE_WORKERS"] = str(workers)
    if device is not None:
        chosen["DLE_DEVICE"] = device
    if insecure:
        chosen["DLE_INSECURE"] = "true"
    return from_environment({"DLE_HOME": f".dle/serve-{port}", **os.environ, **chosen})


def _environment(settings: Settings) -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "BENTOML_CONTAINERIZED"}
    files = {"DLE_TOKEN_KEYS_FILE": settings.token_keys_file, "DLE_API_KEYS_FILE": settings.api_keys_file}
    home = settings.home.resolve()
    return {
        **inherited,  # in a container BentoML would not replace a dead worker
        **{name: str(path.resolve()) for name, path in files.items() if path is not None},
        "DLE_BUNDLES": os.pathsep.join(map(str, settings.bundles)),
        "DLE_HOME": str(home),
        "DLE_WORKERS": str(settings.workers),
        "DLE_DEVICE": settings.device,
        "DLE_INSECURE": "true" if settings.insecure else "false",
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


def _start(settings: Settings, host: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "dle_serving.server.supervisor", "serve", "dle_serving.service:Service", "--quiet"]
    command += ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(_DRAIN_SECONDS)]
    return subprocess.Popen(
        command,
        env=_environment(settings),
        cwd=settings.home,  # BentoML imports from its working directory first, which is not to be the caller's
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # Ctrl-C comes to this process alone, which ends the server in its order
        preexec_fn=end_with_parent,  # this process has one thread here
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server; its workers follow it. A second signal ends it at once."""
    try:
        process.terminate()
        process.wait(_DRAIN_SECONDS + 5)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, _Terminated):
        process.kill()
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", settings: Settings, host: str, port: int) -> RunningServer:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        code = process.poll()
        if code is not None:
            raise WorkError(f"the server did not start (exit code {code}); the lines above say why")
        found = _readyz(reachable, port)
        if isinstance(found, Readiness):
            shown = f"[{reachable}]" if ":" in reachable else reachable
            keys = settings.api_keys_file is not None
            return RunningServer(f"http://{shown}:{port}", found.models, settings.workers, settings.home, keys)
        if found is not None and any(detail["code"] == "failed" for detail in found["details"]):
            raise WorkError(found["error"])
        time.sleep(_POLL_SECONDS)


def _readyz(host: str, port: int) -> Readiness | dict[str, Any] | None:
    """The body of /readyz: `Readiness`, or an error; None while the server does not respond."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        if response.status == 200:
            return msgspec.json.decode(body, type=Readiness)
        return msgspec.json.decode(body, type=dict[str, Any])
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0; raises InputError for what is no address, WorkError for what cannot be bound."""
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
            raise WorkError(f"port {port} on {host}: {reason}; choose another with --port") from None
        except OverflowError:
            raise InputError(f"port {port}: expected 0 to 65535") from None
        bound: int = probe.getsockname()[1]
        return bound


@contextmanager
def _claimed(home: Path) -> Iterator[None]:
    """Keep `home` to this server; raises WorkError when another has it."""
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
