"""What the launcher refuses before it starts anything; that it starts and ends servers is in tests/e2e."""

import fcntl
import http.server
import socket
import threading
from pathlib import Path

import pytest
from tests import bundles

from dle_bundle.errors import BundleError, InputError, WorkError
from dle_serving.server import launcher
from dle_serving.server.launcher import RunningServer, serve


def refuse(ready: RunningServer) -> None:
    raise AssertionError(ready)


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be served"):
        serve([tmp_path / "absent"], on_ready=refuse)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WorkError, match=f"port {port} on 127.0.0.1: in use") as caught:
            serve([bundles.write(tmp_path / "bundle")], host="localhost", port=port, on_ready=refuse)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("host", "port"), [("example.invalid", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_is_none(tmp_path: Path, host: str, port: int) -> None:
    with pytest.raises(InputError):
        serve([bundles.write(tmp_path / "bundle")], host=host, port=port, on_ready=refuse)


def test_a_bind_beyond_loopback_needs_keys_or_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles.write(tmp_path / "bundle")
    with pytest.raises(InputError, match="could use a server that listens there without API keys") as caught:
        serve([bundle], host="0.0.0.0", port=0, on_ready=refuse)
    assert (caught.value.exit_code, len(caught.value.details)) == (2, 2)
    monkeypatch.setenv("DLE_API_KEYS_FILE", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="cannot read API keys"):
        serve([bundle], port=0, insecure=True, on_ready=refuse)


def test_what_is_not_given_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles.write(tmp_path / "bundle")
    monkeypatch.setenv("DLE_DEVICE", "cuda")
    with pytest.raises(InputError, match="device cuda: not available"):
        serve([bundle], port=0, on_ready=refuse)
    monkeypatch.setenv("DLE_WORKERS", "many")
    with pytest.raises(InputError) as caught:
        serve([bundle], port=0, device="cpu", on_ready=refuse)
    assert caught.value.details == ("DLE_WORKERS: expected a positive integer, found 'many'",)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DLE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(WorkError, match=r"DLE_HOME: .*/file/home cannot be created: Not a directory"):
        serve([bundles.write(tmp_path / "bundle")], port=0, on_ready=refuse)


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = "import onnxruntime; onnxruntime.get_available_providers = lambda: ['CPUExecutionProvider']\n"
    monkeypatch.setattr(launcher, "_CHECK_CUDA", without + launcher._CHECK_CUDA)
    with pytest.raises(InputError, match="device cuda: not available"):
        serve([bundles.write(tmp_path / "bundle")], port=0, device="cuda", on_ready=refuse)


def test_wrong_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLE_THREADS", "many")
    with pytest.raises(InputError, match="DLE_THREADS: expected a positive integer, found 'many'"):
        serve([bundles.write(tmp_path / "bundle")], port=0, on_ready=refuse)


def test_a_home_in_which_another_server_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLE_HOME", str(tmp_path))
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(WorkError, match="is in use by another server"):
            serve([bundles.write(tmp_path / "bundle")], port=0, on_ready=refuse)


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize(
    "body", [b"<html>", b'{"detail": "Not Found"}', b'{"error": "no", "details": "none"}', b"[]", b""]
)
def test_another_program_on_the_port_is_not_taken_for_the_server(status: int, body: bytes) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert launcher._readyz("127.0.0.1", server.server_port) is None
        thread.join()
