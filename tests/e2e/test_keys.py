"""A service with API keys, from outside."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from tests import bundles
from tests.e2e.servers import DEADLINE, Server, eventually, serving
from tests.inprocess import assert_is_error

from dle_serving import auth

pytestmark = pytest.mark.e2e
BODY = msgspec.json.encode({"rows": [dict(bundles.EXAMPLE)]})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "reader.key").write_text(auth.add(folder / "keys", "reader", ["predict"]))
    bundle = bundles.write(folder / "income")
    with serving(folder, bundle, workers=2, DLE_API_KEYS_FILE="keys") as running:  # as a person types it
        yield running


def ask(server: Server, key: str) -> httpx.Response:
    """One prediction on a connection of its own, so that each worker gets some."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{server.url}/predict", content=BODY, headers=headers, timeout=DEADLINE)


def reader(server: Server) -> str:
    return (server.log.parent / "reader.key").read_text()


def test_who_has_no_key_gets_no_answer_and_the_connection_goes_on(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        for _ in range(3):
            assert_is_error(client.post("/predict", content=BODY), 401)
            assert client.post(
                "/predict", content=BODY, headers={"authorization": f"Bearer {reader(server)}"}
            ).is_success
        assert_is_error(client.get("/metrics", headers={"authorization": f"Bearer {reader(server)}"}), 403)
        for path in ("/livez", "/readyz", "/docs"):
            assert client.get(path).status_code == 200


def test_a_key_is_replaced_while_the_service_runs(server: Server) -> None:
    file = server.log.parent / "keys"
    new = auth.add(file, "new", ["predict"])
    eventually(lambda: all(ask(server, new).is_success for _ in range(20)))
    assert ask(server, reader(server)).is_success
    kept = [line for line in file.read_text().splitlines(keepends=True) if not line.startswith("reader ")]
    file.write_text("reader predict\n")  # half a line: all goes on as before
    eventually(lambda: "line 1: expected NAME SCOPES SHA256" in (ask(server, new).text + server.log.read_text()))
    assert ask(server, reader(server)).is_success
    file.write_text("".join(kept))
    eventually(lambda: all(ask(server, reader(server)).status_code == 401 for _ in range(20)))
    assert ask(server, new).is_success


def test_a_server_listens_beyond_loopback_with_keys(tmp_path: Path) -> None:
    auth.add(tmp_path / "keys", "reader", ["predict"])
    bundle = bundles.write(tmp_path / "income")
    with serving(tmp_path, bundle, host="0.0.0.0", DLE_API_KEYS_FILE="keys") as server:
        address = f"127.0.0.1:{httpx.URL(server.url).port}"
        assert httpx.get(f"http://{address}/livez").status_code == 200
        assert_is_error(httpx.get(f"http://{address}/schema"), 401)
        (worker,) = server.workers()
        listening = [
            found.laddr.ip for found in psutil.Process(worker.pid).net_connections() if found.status == "LISTEN"
        ]
        assert "0.0.0.0" in listening
