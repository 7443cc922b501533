"""The clients of `serving.py`. Each is a process of its own, pinned to the second core.

    python serving_clients.py KIND '{"port": …}'        # prints its figures as JSON

KIND is `closed` (each connection sends again when it has its answer), `open` (requests at a fixed rate, whose clients
leave), `probe` (GETs one after another), `slow` (connections that say little or nothing) or `steady` (connections
that try again whatever happens, and count what is lost).
"""

import asyncio
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from serving_servers import CLIENT_CORE, Asked, pinned

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_WRK = """
local file = io.open(%(body)r, "rb")
wrk.method, wrk.body, wrk.headers = "POST", file:read("*a"), {%(headers)s}
file:close()
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  local rate = summary.requests / summary.duration * 1e6
  io.write(string.format('\\n{"rate": %%f, "p50": %%f, "p99": %%f, "errors": %%d}\\n', rate,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, failed))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop found: requests a second, latencies in seconds, and the number of failed requests."""

    rate: float
    p50: float
    p99: float
    errors: int


def closed(asked: Asked, connections: int, seconds: float) -> Load:
    """Load from wrk, or from the client in this file where wrk is not installed."""
    if shutil.which("wrk") is None:
        return segmented(asked, connections, seconds, 1)
    script = asked.body.with_suffix(".lua")
    headers = ", ".join(f"[{name!r}] = {value!r}" for name, value in asked.headers.items())
    script.write_text(_WRK % {"body": str(asked.body), "headers": headers})
    url = f"http://127.0.0.1:{asked.port}{asked.path}"
    options = ["-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}", "--timeout", "10s", "-s", str(script)]
    said = subprocess.run(
        pinned(CLIENT_CORE, ["wrk", *options, url]), capture_output=True, text=True, check=True
    ).stdout
    return Load(**json.loads(said.splitlines()[-1]))


def segmented(asked: Asked, connections: int, seconds: float, segments: int) -> Load:
    """Load from the client in this file; with 2 `segments` it sends head and body apart."""
    found = run("closed", asked, connections=connections, seconds=seconds, segments=segments)
    return Load(**found)


def run(kind: str, asked: Asked, **arguments: Any) -> dict[str, Any]:
    """Run a client to its end, and return its figures."""
    return finish(begin(kind, asked, **arguments))


def begin(kind: str, asked: Asked, **arguments: Any) -> "subprocess.Popen[str]":
    """Start a client."""
    given = {"port": asked.port, "path": asked.path, "body": str(asked.body), "headers": dict(asked.headers)}
    command = pinned(CLIENT_CORE, [sys.executable, __file__, kind, json.dumps(given | arguments)])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(client: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a client, and return its figures."""
    said, _ = client.communicate()
    if client.returncode:
        sys.exit(f"error: a client failed with exit code {client.returncode}")
    found: dict[str, Any] = json.loads(said)
    return found


def quantile(values: list[float], share: float) -> float:
    """The smallest value with at least this share of all values at or below it; 0 without values."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def _parts(given: dict[str, Any]) -> tuple[bytes, bytes]:
    body = Path(given["body"]).read_bytes()
    headers = {"host": "x", **given["headers"], "content-length": len(body)}
    lines = [f"POST {given['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode(), body


def _connect(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def _closed(given: dict[str, Any]) -> dict[str, Any]:
    """Plain sockets and epoll, since a client in asyncio takes as long for a request as the server does."""
    head, body = _parts(given)
    apart = given["segments"] == 2
    whole = head + body
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    begun: dict[int, float] = {}
    clock, found, errors = time.perf_counter, list[float](), 0

    def send(one: socket.socket) -> None:
        begun[one.fileno()] = clock()
        if apart:
            one.sendall(head)
            one.sendall(body)
        else:
            one.sendall(whole)

    for _ in range(given["connections"]):
        one = _connect(given["port"])
        sockets[one.fileno()] = one
        poll.register(one, select.EPOLLIN)
    started = clock()
    end = started + given["seconds"]
    for one in sockets.values():
        send(one)
    rests: dict[int, bytes] = {}
    while clock() < end:
        for number, _ in poll.poll(1.0):
            data = rests.pop(number, b"") + sockets[number].recv(1 << 20)
            split = data.find(b"\r\n\r\n")
            length = _LENGTH.search(data, 0, split) if split > 0 else None
            if length is None or len(data) < split + 4 + int(length[1]):
                if not data:
                    sys.exit("error: the server closed a connection")
                rests[number] = data
                continue
            errors += not data.startswith(b"HTTP/1.1 200")
            found.append(clock() - begun[number])
            send(sockets[number])
    rate = len(found) / (clock() - started)
    return {"rate": rate, "p50": quantile(found, 0.5), "p99": quantile(found, 0.99), "errors": errors}


async def _ask(port: int, request: bytes) -> int:
    """Send one request on a connection of its own, and return the status of the answer; 0 without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        return int(head[9:12])
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    finally:
        writer.transport.abort()


async def _open(given: dict[str, Any]) -> dict[str, Any]:
    """Requests at `rate` for `seconds`, each on its own connection, whose client leaves after `patience` seconds.

    `goodput` counts the responses of status 200 a second. `recovered` are the seconds from the last of these requests
    until one that is sent alone is answered within 0.1 s.
    """
    request = b"".join(_parts(given))
    statuses: Counter[str] = Counter()
    answered, latencies = list[float](), list[float]()
    begun = time.perf_counter()

    async def one() -> None:
        started = time.perf_counter()
        try:
            status = await asyncio.wait_for(_ask(given["port"], request), given["patience"])
        except TimeoutError:
            statuses["left"] += 1
            return
        except OSError:
            status = 0
        statuses[str(status)] += 1
        if status == 200:
            now = time.perf_counter()
            answered.append(now - begun)
            latencies.append(now - started)

    count = round(given["rate"] * given["seconds"])
    tasks = list[asyncio.Task[None]]()
    for index in range(count):
        pause = begun + index / given["rate"] - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        elif index % 16 == 0:
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(one()))
    ended = time.perf_counter()
    offered = count / (ended - begun)
    while time.perf_counter() - ended < 10 * given["patience"]:  # until one client is served as if it were alone
        started = time.perf_counter()
        try:
            status = await asyncio.wait_for(_ask(given["port"], request), given["patience"])
        except (OSError, TimeoutError):
            status = 0
        if status == 200 and time.perf_counter() - started < 0.1:
            break
        await asyncio.sleep(0.05)
    recovered = time.perf_counter() - ended
    await asyncio.gather(*tasks)
    in_time = sum(at <= given["seconds"] for at in answered)
    return {
        "offered": offered,
        "busy": time.process_time() / (time.perf_counter() - begun),
        "recovered": recovered,
        "goodput": in_time / given["seconds"],
        "p50": quantile(latencies, 0.5),
        "p99": quantile(latencies, 0.99),
        "statuses": statuses,
    }


def _probe(given: dict[str, Any]) -> dict[str, Any]:
    """GETs of `path`, 20 a second on new connections: their latencies, and when they began."""
    request = f"GET {given['path']} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    found, failed = list[float](), 0
    end = time.perf_counter() + given["seconds"]
    while time.perf_counter() < end:
        started = time.perf_counter()
        try:
            with _connect(given["port"]) as one:
                one.sendall(request)
                failed += not one.recv(65536).startswith(b"HTTP/1.1 200")
        except OSError:
            failed += 1
        found.append(time.perf_counter() - started)
        time.sleep(0.05)
    return {"p50": quantile(found, 0.5), "p99": quantile(found, 0.99), "most": max(found), "failed": failed}


async def _slow(given: dict[str, Any]) -> dict[str, Any]:
    """`each` silent connections, as many with slow headers, and as many with slow bodies: a byte a second.

    Returns how many were `refused` at once, and how long the last ones of each kind stayed open.
    """
    head, body = _parts(given)
    longest: dict[str, float] = {}
    refused = 0

    async def one(kind: str, first: bytes, rest: bytes) -> None:
        nonlocal refused
        started = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", given["port"])
        except OSError:
            refused += 1
            return
        writer.write(first)

        async def trickle() -> None:
            for byte in rest:
                await asyncio.sleep(1)
                writer.write(bytes([byte]))

        sending = asyncio.create_task(trickle())
        try:
            answer = await asyncio.wait_for(reader.read(), given["seconds"])
            refused += answer.startswith(b"HTTP/1.1 503")
        except (TimeoutError, ConnectionError):
            pass
        sending.cancel()
        writer.transport.abort()
        longest[kind] = max(longest.get(kind, 0.0), time.perf_counter() - started)

    kinds = {"silent": (b"", b""), "headers": (head[:9], head[9:-2]), "body": (head + body[:1], body[1:-1])}
    tasks = [one(kind, *parts) for kind, parts in kinds.items() for _ in range(given["each"])]
    await asyncio.gather(*tasks)
    return {"refused": refused, "longest": longest}


async def _steady(given: dict[str, Any]) -> dict[str, Any]:
    """`connections` that send until the file `stop` exists. A failed connection is opened again.

    `lost` counts the requests that were sent whole on a connection that ended without their answer: on a `new`
    connection, or on one that was `reused` (which a server may close at any time between two answers).
    """
    request = b"".join(_parts(given))
    counts: Counter[str] = Counter()
    stop = Path(given["stop"])

    async def one() -> None:
        while not stop.exists():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", given["port"])
            except OSError:
                counts["unreachable"] += 1
                await asyncio.sleep(0.05)
                continue
            kind = "new"
            try:
                while not stop.exists():
                    writer.write(request)
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), given["patience"])
                    length = _LENGTH.search(head)
                    assert length is not None
                    await reader.readexactly(int(length[1]))
                    counts[head[9:12].decode()] += 1
                    kind = "reused"
                    if b"connection: close" in head:
                        break
            except TimeoutError:
                counts["hung"] += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                counts[f"lost, {kind}"] += 1
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(given["connections"])))
    return dict(counts)


def main() -> None:
    """Run one client."""
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    if kind in ("closed", "probe"):
        found = {"closed": _closed, "probe": _probe}[kind](given)
    else:
        found = uvloop.run({"open": _open, "slow": _slow, "steady": _steady}[kind](given))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
