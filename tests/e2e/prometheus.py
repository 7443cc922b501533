"""A real Prometheus in a folder of its own, that asks and evaluates the shipped rules twice a second."""

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.e2e.servers import DEADLINE, eventually
from tests.unit.k8s import promtool

_PATIENCE = 120.0
_PAUSE = 0.2


@dataclass(frozen=True)
class Prometheus:
    """One that is ready."""

    client: httpx.Client
    targets_file: Path

    def scrape(self, replicas: Mapping[str, str]) -> None:
        """Take these replicas, by pod name, and no others; returns once all of them were scraped.

        A replica that takes the place of one that is down goes on with its series, as a pod started again does.
        """
        _write_targets(self.targets_file, replicas)
        eventually(lambda: {found["pod"]: up for found, up in self.query("up")} == dict.fromkeys(replicas, 1.0))

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that there is now."""
        answer = self.client.get("/api/v1/query", params={"query": expression}).raise_for_status().json()
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def value(self, expression: str) -> float:
        """The one value that an expression has; NaN while it has none."""
        found = self.query(expression)
        assert len(found) < 2, found
        return found[0][1] if found else float("nan")

    def wait_for_value(self, expression: str, expected: float, tolerance: float = 0.0) -> None:
        """Until the one value is that, give or take this share of it."""
        eventually(lambda: abs(self.value(expression) - expected) <= tolerance * expected, _PATIENCE, _PAUSE)

    def wait_for_rule(self, record: str) -> None:
        """Until a recording rule has been evaluated on all that is scraped by now."""
        now = self.value("vector(time())")
        eventually(lambda: self.value(f"min(timestamp({record}))") > now, _PATIENCE, _PAUSE)

    def wait_for_alert(self, alert: str, provoke: Callable[[], object] = lambda: None) -> None:
        """Until it has fired, doing again and again what may make it."""

        def fires() -> bool:
            provoke()
            return alert in self.fired()

        eventually(fires, _PATIENCE, _PAUSE)

    def fired(self) -> set[str]:
        """The alerts that have fired since the start."""
        found = self.query('group by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1h]))')
        return {labels["alertname"] for labels, _ in found}

    def alerts(self) -> list[dict[str, Any]]:
        """Those that fire or are about to, with their annotations."""
        found: list[dict[str, Any]] = self.client.get("/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        return found


def quick(rules: str) -> str:
    """The rules with rates over half a minute, and alerts after 2 s instead of ten minutes; the hour stays an hour.

    What had five minutes has 10 s: Prometheus takes five to find its targets, and until then there is no replica.
    """
    return rules.replace("[5m]", "[30s]").replace("for: 10m", "for: 2s").replace("for: 5m", "for: 10s")


@contextmanager
def prometheus(folder: Path, key: str, replicas: Mapping[str, str]) -> Iterator[Prometheus]:
    """Started in `folder` on these replicas, with an API key as the ServiceMonitor has it; ended with the block."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus here (Debian: apt install prometheus)")
    folder.mkdir()
    targets = folder / "targets.json"
    _write_targets(targets, replicas)
    (folder / "rules.yml").write_text(quick(yaml.safe_dump(promtool.spec())), encoding="utf-8")
    job = {
        "job_name": "dle",
        "authorization": {"type": "Bearer", "credentials": key},
        "file_sd_configs": [{"files": [str(targets)]}],
    }
    whole = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    log = folder / "prometheus.log"
    with log.open("w") as file:
        process = subprocess.Popen([program, *options], cwd=folder, stdout=file, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=DEADLINE) as client:
            eventually(lambda: process.poll() is not None or client.get("/-/ready").status_code == 200)
            assert process.poll() is None, log.read_text()
            ready = Prometheus(client, targets)
            ready.scrape(replicas)
            yield ready
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _write_targets(file: Path, replicas: Mapping[str, str]) -> None:
    groups = [
        {"targets": [url.removeprefix("http://")], "labels": {"instance": pod, "pod": pod}}
        for pod, url in replicas.items()
    ]
    written = file.with_suffix(".tmp")
    written.write_text(json.dumps(groups), encoding="utf-8")
    written.replace(file)
