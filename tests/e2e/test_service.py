"""The service as it runs: real processes, real HTTP."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import httpx
import msgspec
import psutil
import pytest
from bentoml.exceptions import BentoMLException
from tests import bundles
from tests.e2e.servers import (
    DEADLINE,
    Server,
    alive,
    answer,
    bentoml_serve,
    eventually,
    launch,
    raw,
    serving,
    signalled,
)
from tests.inprocess import assert_is_error

from dle_bundle import bundle as real
from dle_bundle import documents, integrity
from dle_serving.feedback.ids import load_signing_keys

pytestmark = pytest.mark.e2e
ROW = dict(bundles.EXAMPLE)
BODY = msgspec.json.encode({"rows": [ROW]})


@pytest.fixture(scope="module")
def income(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("bundle") / "income")


@pytest.fixture(scope="module")
def server(income: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    digit = bundles.write(folder / "digit", bundles.DIGIT, name="digit", version=2)
    # dle-serve serves its arguments, and no model of BentoML's store
    with serving(folder, income, digit, DLE_MAX_BODY_BYTES="1000000", DLE_BENTO_MODELS="absent:1") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as opened:
        yield opened


def value(text: str, series: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


def test_the_launcher_says_what_it_serves(server: Server) -> None:
    assert server.models == [["income", 1, "cpu"], ["digit", 2, "cpu"]]
    assert server.home.name.startswith("serve-")
    log = server.log.read_text()
    assert "loaded income version 1 on cpu" in log
    assert "bento" not in log.lower()


def test_it_predicts_with_ids_that_verify(server: Server, client: httpx.Client) -> None:
    body = client.post("/predict", json={"rows": [ROW, {"age": 70, "married": True}]}).json()
    keys = load_signing_keys(server.home / "token.keys", create=False)
    for prediction in body["predictions"]:
        token = keys.verify(prediction["id"], 1 << 31, 1 << 31)
        assert token.answer == prediction["probability"]
        assert ("<=50K", ">50K")[token.class_index or 0] == prediction["label"]
    row = {f"x{index}": 1 for index in range(4)}
    (digit,) = client.post("/models/digit/predict?ids=false", json={"rows": [row]}).json()["predictions"]
    assert type(digit["label"]) is int
    assert "id" not in digit


def test_every_error_has_the_one_body(client: httpx.Client) -> None:
    faults = assert_is_error(client.post("/predict", json={"rows": [{"agee": 1}, {"age": "x"}, 3]}), 400)["details"]
    assert {fault["row"] for fault in faults} == {0, 1, 2}
    assert_is_error(client.post("/predict?explain=true", content=BODY), 400)
    assert_is_error(client.get("/nope"), 404)
    assert_is_error(client.post("/models/nope/predict", content=BODY), 404)
    response = client.get("/predict")
    assert_is_error(response, 405)
    assert response.headers["allow"] == "POST"
    assert_is_error(client.post("/predict", content=b" " * 1_000_001), 413)
    assert_is_error(
        client.post("/predict", content=b"x", headers={"content-type": "application/vnd.bentoml+pickle"}), 415
    )
    assert_is_error(client.post("/predict", files={"file": b"x"}), 415)
    assert client.post("/predict", content=BODY).status_code == 200


def test_a_long_chunked_body_is_refused_and_the_connection_goes_on(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
    with raw(server.url, head + chunk * 12 + b"0\r\n\r\n") as connection:
        status, body = answer(connection)
        assert (status, body["details"]) == (413, [])
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
        assert answer(connection)[0] == 200


def test_a_chunked_body_in_small_pieces_is_answered(server: Server) -> None:
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, BODY[index : index + 1]) for index in range(len(BODY)))
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with raw(server.url, head + pieces + b"0\r\n\r\n") as connection:
        assert answer(connection)[0] == 200


def test_a_content_length_that_is_too_long_is_refused_before_the_body(server: Server) -> None:
    with raw(server.url, b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n") as connection:
        assert answer(connection)[0] == 413


def test_a_client_that_leaves_disturbs_nobody(server: Server, client: httpx.Client) -> None:
    before = value(client.get("/metrics").text, 'dle_requests_total{code="499",route="/predict"}')
    raw(server.url, b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf").close()
    assert eventually(
        lambda: value(client.get("/metrics").text, 'dle_requests_total{code="499",route="/predict"}') == before + 1
    )
    assert client.post("/predict", content=BODY).status_code == 200


def test_bentomls_clients_call_it(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as caller:
        answered = caller.predict(rows=[ROW])
        outcome = caller.feedback(items=[{"id": answered["predictions"][0]["id"], "actual": ">50K"}])
        with pytest.raises(BentoMLException, match="do not match the schema") as caught:
            caller.predict(rows=[{"agee": 1}])
    assert (answered["model"], answered["version"]) == ("income", 1)
    assert outcome == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert caught.value.error_code == 400

    async def ask() -> Any:
        async with bentoml.AsyncHTTPClient(server.url) as opened:
            return await opened.predict([ROW])

    again = asyncio.run(ask())
    assert again["predictions"][0]["probabilities"] == answered["predictions"][0]["probabilities"]


def test_many_at_once_get_their_own_answers(client: httpx.Client) -> None:
    alone = {
        age: client.post("/predict", json={"rows": [{**ROW, "age": age}]}).json()["predictions"][0]["probability"]
        for age in range(20, 30)
    }

    def ask(index: int) -> None:
        age = 20 + index % 10
        if index % 7 == 0:
            assert_is_error(client.post("/predict", json={"rows": [{"age": age}]}), 400)
            return
        (prediction,) = client.post("/predict", json={"rows": [{**ROW, "age": age}]}).json()["predictions"]
        assert prediction["probability"] == pytest.approx(alone[age], abs=1e-6)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(ask, range(400)))


def test_probes_are_answered_beside_a_large_request(client: httpx.Client) -> None:
    rows = [ROW] * 7_000
    with ThreadPoolExecutor(1) as threads:
        large = threads.submit(lambda: client.post("/predict", json={"rows": rows}))
        before = 0  # probes that are answered before the large request is
        while not large.done():
            assert client.get("/livez").status_code == 200
            before += not large.done()
        assert len(large.result().json()["predictions"]) == len(rows)
    assert before


def test_documents(client: httpx.Client) -> None:
    example = client.get("/openapi.json").json()["components"]["schemas"]["Rows-income-1"]["examples"][0]
    assert client.post("/predict", json=example).status_code == 200
    assert client.get("/schema").content == documents.encode(bundles.INCOME)
    assert "swagger-ui" in client.get("/docs").text


def test_metrics_are_in_order(client: httpx.Client) -> None:
    response = client.get("/metrics")
    assert "bentoml" not in response.text
    assert value(response.text, 'dle_model_info{model="income",provider="cpu",task="binary",version="1"}') == 1
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT TESTED: promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=response.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sigterm_while_a_worker_is_replaced(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2) as server:
        known = server.processes()
        server.workers()[0].kill()
        eventually(lambda: not set(server.processes()) <= set(known), pause=0)
        everyone = server.processes()
        assert signalled(server.process, signal.SIGTERM) == 0, "and nothing ends it by force here"
        assert not alive(everyone)


def test_workers_count_as_one_and_are_replaced(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2) as server:
        for _ in range(60):  # each on a connection of its own, so that both workers get some
            assert httpx.post(f"{server.url}/predict", content=BODY).status_code == 200
        text = httpx.get(f"{server.url}/metrics").text
        assert value(text, 'dle_requests_total{code="200",route="/predict"}') == 60
        assert value(text, 'dle_predictions_total{model="income",version="1"}') == 60
        assert value(text, "dle_inflight_requests") == 1
        keys = [line for line in (server.home / "token.keys").read_text().splitlines() if line]
        assert len(keys) == 1
        first, second = server.workers()
        first.kill()
        eventually(lambda: not alive([first]))
        text = eventually(lambda: httpx.get(f"{server.url}/metrics").text)
        assert value(text, 'dle_predictions_total{model="income",version="1"}') == 60
        assert value(text, "dle_inflight_requests") == 1
        eventually(lambda: len(server.workers()) == 2 and second in server.workers())
        everyone = server.processes()
        assert signalled(server.process, signal.SIGTERM) == 0
        assert not alive(everyone)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_request_in_flight_is_answered_before_the_end(
    income: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with serving(tmp_path, income) as server:
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)
        with raw(server.url, head + BODY[:10]) as connection, raw(server.url, b"") as idle:
            inflight = "dle_inflight_requests"
            eventually(lambda: value(httpx.get(f"{server.url}/metrics").text, inflight) == 2)
            ended: list[int] = []
            waiting = threading.Thread(target=lambda: ended.append(signalled(server.process, number)))
            waiting.start()
            assert idle.recv(1) == b""  # closed, so the server is ending
            with pytest.raises(ConnectionRefusedError):  # at once, since no process listens any more
                raw(server.url, b"")
            connection.sendall(BODY[10:])
            assert answer(connection)[0] == 200
        waiting.join(DEADLINE)
        assert ended == [code]
    assert server.log.read_text().count("stopping; requests in progress are answered first") == 1
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells processes that their parent has died")
def test_nothing_outlives_a_server_that_was_killed(income: Path, tmp_path: Path) -> None:
    with serving(tmp_path, income, workers=2) as server:
        everyone = server.processes()
        server.process.kill()
        eventually(lambda: not alive(everyone))


def test_a_server_that_cannot_load_fails_with_the_reason(income: Path, tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "wrong", bundles.DIGIT)
    described = real.load(folder).manifest
    shutil.copy(income / real.MODEL, folder / real.MODEL)
    files = {**described.files, real.MODEL: integrity.digest(folder / real.MODEL)}
    (folder / real.MANIFEST).write_bytes(documents.encode(msgspec.structs.replace(described, files=files)))
    log = tmp_path / "log"
    with launch(tmp_path, log, folder, workers=2) as process:
        assert process.wait(DEADLINE) == 1
    assert "does not match its schema" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_plain_bentoml_serves_and_says_that_it_loads(income: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"  # a pipe: loading waits until somebody writes to it
    os.mkfifo(keys)
    settings = {"DLE_BUNDLES": str(income), "DLE_TOKEN_KEYS_FILE": str(keys)}
    with bentoml_serve(tmp_path, "--host", "127.0.0.1", **settings) as (process, url):
        keys.write_text("ab" * 32 + "\n")  # for the supervisor, which checks them first
        response = eventually(lambda: httpx.get(f"{url}/readyz"))
        assert assert_is_error(response, 503)["details"][0]["code"] == "loading"
        assert int(response.headers["retry-after"]) > 0
        assert httpx.get(f"{url}/livez").status_code == 200
        assert_is_error(httpx.post(f"{url}/predict", content=BODY), 503)
        keys.write_text("ab" * 32 + "\n")
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert httpx.post(f"{url}/predict", content=BODY).status_code == 200
        (copy,) = (tmp_path / ".dle" / "bundles").iterdir()
        (worker,) = (each for each in psutil.Process(process.pid).children() if "worker" in " ".join(each.cmdline()))
        assert worker.environ()["DLE_BUNDLES"] == str(copy)
        everyone = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(DEADLINE) == 0
        assert not alive(everyone)


def test_plain_bentoml_refuses_wrong_settings_in_plain_words(tmp_path: Path) -> None:
    with bentoml_serve(tmp_path, DLE_DEVICE="tpu") as (process, _):
        assert process.wait(DEADLINE) == 2
    said = (tmp_path / "log").read_text()
    assert "DLE_DEVICE: expected auto, cpu or cuda, found 'tpu'" in said
    assert "DLE_BUNDLES is not set: " in said
    assert "Traceback" not in said


def test_plain_bentoml_listens_beyond_loopback_only_with_keys_or_a_word(income: Path, tmp_path: Path) -> None:
    settings = {"DLE_BUNDLES": str(income), "KUBERNETES_SERVICE_HOST": "10.0.0.1", "DLE_HOME": str(tmp_path / "home")}
    with bentoml_serve(tmp_path, **settings) as (process, _):
        assert process.wait(DEADLINE) == 2
    said = (tmp_path / "log").read_text()
    assert "Error: Anyone who can reach 0.0.0.0 could use a server that listens there without API keys" in said
    assert "Traceback" not in said
    with bentoml_serve(tmp_path, **settings, DLE_INSECURE="true") as (process, url):
        eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert "Warning: DLE_TOKEN_KEYS_FILE is not set" in (tmp_path / "log").read_text()
