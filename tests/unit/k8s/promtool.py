"""The shipped rules under promtool: series go in, a sample a minute for two hours, and what the rules say comes out.

Rules are evaluated every five minutes, for promtool takes a second of computing to do it every minute.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

RULE = Path(__file__).parents[3] / "k8s" / "monitoring" / "prometheusrule.yaml"
MINUTES = 121
NOW = MINUTES - 1
Labels = Mapping[str, str]


def spec() -> dict[str, Any]:
    """What a Prometheus without the operator would be given."""
    found: dict[str, Any] = yaml.safe_load(RULE.read_text(encoding="utf-8"))["spec"]
    return found


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind, `record` or `alert`."""
    return [rule for group in spec()["groups"] for rule in group["rules"] if kind in rule]


@dataclass(frozen=True)
class Series:
    """What one replica exposes: `step` more each minute from `since` until `until`, and from 0 again at `restart`."""

    name: str
    labels: Labels
    start: float = 0.0
    step: float = 0.0
    since: int = 0
    until: int = NOW
    restart: int | None = None
    gone: int | None = None  # scraped no more from this minute on

    def samples(self) -> list[float]:
        """The values of minutes 0 to 120."""
        return [self._value(minute) for minute in range(MINUTES)]

    def _value(self, minute: int) -> float:
        began = max(self.since, self.restart if self.restart is not None and minute >= self.restart else 0)
        return self.start + self.step * max(min(minute, self.until) - began, 0)

    def written(self) -> dict[str, str]:
        """In promtool's words."""
        values = [repr(value) for value in self.samples()]
        if self.gone is not None:
            values[self.gone :] = ["stale", *["_"] * (MINUTES - self.gone - 1)]
        return {"series": self.name + selector(self.labels), "values": " ".join(values)}


@dataclass(frozen=True)
class Expected:
    """A rule's value with these labels and no others."""

    rule: str
    labels: Labels
    value: float
    tolerance: float = field(default=0.002, kw_only=True)  # relative


def selector(labels: Labels) -> str:
    """Labels as PromQL writes them."""
    return "{" + ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()) + "}"


def assert_recorded(series: Iterable[Series], expected: Iterable[Expected]) -> None:
    """The rules record the values expected and, under those names, nothing else."""
    expected = list(expected)
    queries = []
    for one in expected:
        bound = abs(one.value) * one.tolerance + 1e-9
        query = f"abs({one.rule}{selector(one.labels)} - {one.value!r}) <= bool {bound!r}"
        queries.append((query, [{"labels": selector(one.labels), "value": 1}]))
    for rule in sorted({one.rule for one in expected}):
        count = sum(one.rule == rule for one in expected)
        queries.append((f"count({rule})", [{"labels": "{}", "value": count}]))
    _run(series, queries)


def assert_alerts(series: Iterable[Series], firing: Iterable[str]) -> None:
    """Exactly these alerts fire in the end."""
    found = [{"labels": selector({"alertname": name}), "value": 1} for name in firing]
    _run(series, [('group by (alertname) (ALERTS{alertstate="firing"})', found)])


def _run(series: Iterable[Series], queries: Iterable[tuple[str, list[dict[str, Any]]]]) -> None:
    run_test(
        {
            "interval": "1m",
            "input_series": [one.written() for one in series],
            "promql_expr_test": [
                {"expr": query, "eval_time": f"{NOW}m", "exp_samples": samples} for query, samples in queries
            ],
        }
    )


def run_test(test: Mapping[str, Any]) -> None:
    """One test in promtool's own format."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: apt install prometheus)")
    # promtool reads files only, and takes the path of rules relative to the test's
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = {"rule_files": ["rules.yml"], "evaluation_interval": "5m", "tests": [test]}
        (folder / "rules.yml").write_text(yaml.safe_dump(spec()), encoding="utf-8")
        (folder / "test.yml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        command = ["promtool", "test", "rules", str(folder / "test.yml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
