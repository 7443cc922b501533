"""Users of a prediction service for Locust: each predicts one row or a few, and sometimes sends feedback.

A user sends its next request when it has the response to the last one, so the number of users is the number of
concurrent requests. `scripts/loadtest` runs this file against a service of its own. You can also run Locust with its
web page: `locust -f loadtests/locustfile.py --host http://localhost:3000`.
"""

import itertools
import json
import os
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import msgspec
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner
from locust.stats import RequestStats, StatsEntry

import random_rows
from dle_bundle.files import write_atomic
from dle_bundle.schema import Schema

BATCHES = 0.2
"""Share of the prediction requests with more than one row."""
BATCH_ROWS = (2, 32)
FEEDBACK = 0.3
"""Share of the predictions that get feedback."""
SHARES = (50, 95, 99)
"""Reported percentiles."""


class Client(FastHttpUser):
    """One client of the service."""

    insecure = False  # verify certificates, since requests may carry an API key
    connection_timeout = network_timeout = 30.0
    numbers: ClassVar = itertools.count()

    def on_start(self) -> None:
        """Seed the random numbers of this user, so that each user draws different rows."""
        runner = self.environment.runner
        process = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        self.random = Random(f"{self.environment.parsed_options.seed} {process} {next(self.numbers)}")
        key = os.environ.get("DLE_API_KEY")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.schema: Schema | None = None

    @task
    def predict(self) -> None:
        """Predict one row or a few, and send feedback on some predictions."""
        schema = self.schema = self.schema or self.read_schema()
        # a single task, since Locust's own choice among tasks cannot be seeded
        rows = self.random.randint(*BATCH_ROWS) if self.random.random() < BATCHES else 1
        name = "/predict, batch" if rows > 1 else "/predict, one row"
        drawn = [random_rows.row(schema, self.random) for _ in range(rows)]
        answer = self.ask("POST", "/predict", {"rows": drawn}, name, predictions=rows)
        if answer is not None and self.random.random() < FEEDBACK:
            outputs = schema.outputs
            key = "label" if outputs.classes is not None else "value" if outputs.horizon == 1 else "values"
            items = [
                {"id": one["id"], "actual": random_rows.actual(outputs, one[key], self.random)}
                for one in answer["predictions"]
            ]
            self.ask("POST", "/feedback", {"items": items}, rejected=0)

    def read_schema(self) -> Schema:
        """The schema of the rows to send; the user stops if it cannot be read."""
        schema = self.ask("GET", "/schema")
        if schema is None:
            raise StopUser
        return msgspec.convert(schema, Schema)

    def ask(self, method: str, path: str, body: Any = None, name: str | None = None, **lengths: int) -> Any:
        """Send a request and return the JSON response, or None after a failure, which Locust counts by its message.

        `lengths`: the expected lengths of arrays in the response.
        """
        with self.client.request(
            method, path, name=name, json=body, headers=self.headers, catch_response=True
        ) as response:
            if not response.status_code:
                return None  # no response: Locust reports the cause
            try:
                answer = json.loads(response.text or "")
            except ValueError:
                response.failure(f"HTTP {response.status_code}: the response is not JSON")
                return None
            if response.status_code != 200:
                response.failure(f"HTTP {response.status_code}: {_words(answer)}")
                return None
            for array, length in lengths.items():
                found = answer.get(array, [])
                if len(found) != length:
                    response.failure(f"expected {length} {array}, found {len(found)}: {json.dumps(found[:1])}")
                    return None
            return answer


def _words(answer: Any) -> str:
    """The message of an error response, with the first of its details."""
    if not isinstance(answer, dict) or "error" not in answer:
        return json.dumps(answer)[:200]
    first = [f"{detail['field'] or ''} {detail['message']}".strip() for detail in answer.get("details", [])[:1]]
    return ": ".join([answer["error"], *first])


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    """Add our options to Locust's."""
    parser.add_argument("--seed", type=int, default=0, help="seed of the random rows (default: 0)")
    parser.add_argument("--summary", metavar="FILE", help="write the statistics and the verdict to this JSON file")
    slo = parser.add_argument_group("SLO", "limits for all requests together; the exit code is 1 if one is missed")
    slo.add_argument("--p95", type=_figure, metavar="MS", help="maximum 95th percentile of the response times")
    slo.add_argument("--p99", type=_figure, metavar="MS", help="maximum 99th percentile of the response times")
    slo.add_argument(
        "--errors", type=_figure, default=0.0, metavar="PERCENT", help="maximum share of failed requests (default: 0)"
    )
    slo.add_argument("--rate", type=_figure, metavar="MIN", help="minimum number of requests per second")


def _figure(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"expected a number of at least 0, found {text!r}")
    return number


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Print and save the statistics, and set the exit code to 1 if the SLO is missed."""
    if isinstance(environment.runner, WorkerRunner):
        return  # the master has the statistics of all workers
    chosen = environment.parsed_options
    assert chosen is not None  # the command sets it
    found = _summary(environment.stats, chosen)
    missed = found["slo"]["missed"]
    environment.process_exit_code = 1 if missed else 0
    if chosen.summary:
        write_atomic(Path(chosen.summary), json.dumps(found, indent=2) + "\n")
    failed = [f"Failed {one['count']} times: {one['name']}: {one['message']}" for one in found["failures"]]
    verdict = [f"SLO missed: {fault}" for fault in missed] or ["SLO met"]
    print("\n".join([*_table([*found["requests"], found["total"]]), *failed, *verdict]))


def _summary(stats: RequestStats, chosen: Namespace) -> dict[str, Any]:
    total = _figures(stats.total)
    return {
        "host": chosen.host,
        "users": chosen.num_users,
        "seed": chosen.seed,
        "seconds": round((stats.last_request_timestamp or 0) - stats.start_time, 1) if total["requests"] else 0,
        "requests": [_figures(entry) for _, entry in sorted(stats.entries.items())],
        "total": total,
        "failures": [
            {"name": f"{error.method} {error.name}", "message": str(error.error), "count": error.occurrences}
            for error in sorted(stats.errors.values(), key=lambda error: -error.occurrences)
        ],
        "slo": {
            **{name: getattr(chosen, name) for name in ("p95", "p99", "errors", "rate")},
            "missed": _missed(total, chosen),
        },
    }


def _figures(entry: StatsEntry) -> dict[str, Any]:
    """The statistics of one kind of request or of all; times in milliseconds, rounded by Locust."""
    return {
        "name": f"{entry.method} {entry.name}".strip(),
        "requests": entry.num_requests,
        "failures": entry.num_failures,
        "rate": round(entry.total_rps, 1),
        **{f"p{share}": entry.get_response_time_percentile(share / 100) for share in SHARES},
    }


def _missed(total: dict[str, Any], slo: Namespace) -> list[str]:
    """The limits of the SLO that were missed."""
    if not total["requests"]:
        return ["no request got a response"]
    missed = [
        f"{name}: expected at most {getattr(slo, name):g} ms, found {total[name]:g} ms"
        for name in ("p95", "p99")
        if getattr(slo, name) is not None and total[name] > getattr(slo, name)
    ]
    failed = 100 * total["failures"] / total["requests"]
    if failed > slo.errors:
        missed.append(f"errors: expected at most {slo.errors:g} %, found {failed:.3g} %")
    if slo.rate is not None and total["rate"] < slo.rate:
        missed.append(f"rate: expected at least {slo.rate:g} requests/s, found {total['rate']:g}")
    return missed


def _table(figures: list[dict[str, Any]]) -> list[str]:
    columns = {"requests": "requests", "failures": "failed", "rate": "per s"}
    columns |= {f"p{share}": f"p{share} ms" for share in SHARES}
    head = f"{'':<24}" + "".join(f"{title:>10}" for title in columns.values())
    return [head, *(f"{one['name']:<24}" + "".join(f"{one[key]:>10,}" for key in columns) for one in figures)]
