"""Users of a prediction service: each asks for one row or a few, and sometimes says what turned out to be true.

A user sends its next request when the last is answered, so that their number is how much is asked at once.
`scripts/loadtest` runs this against a service of its own; Locust itself, and its web page, do as well:
`locust -f loadtests/locustfile.py --host http://localhost:3000`.
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
"""Share of the requests that ask for more than one row."""
BATCH_ROWS = (2, 32)
FEEDBACK = 0.3
"""Share of the answers that feedback is given on."""
SHARES = (50, 95, 99)
"""Percentiles that are told."""


class Client(FastHttpUser):
    """One client of the service."""

    insecure = False  # certificates are checked, for a key may be sent
    connection_timeout = network_timeout = 30.0
    numbers: ClassVar = itertools.count()

    def on_start(self) -> None:
        """Each user draws rows of its own."""
        runner = self.environment.runner
        process = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        self.random = Random(f"{self.environment.parsed_options.seed} {process} {next(self.numbers)}")
        key = os.environ.get("DLE_API_KEY")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.schema: Schema | None = None

    @task
    def predict(self) -> None:
        """Ask for answers to one row or a few, and give feedback on some."""
        schema = self.schema = self.schema or self.read_schema()
        # one task that chooses, for Locust's own choice among tasks follows from no seed
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
        """What is to be sent; without it this user ends."""
        schema = self.ask("GET", "/schema")
        if schema is None:
            raise StopUser
        return msgspec.convert(schema, Schema)

    def ask(self, method: str, path: str, body: Any = None, name: str | None = None, **lengths: int) -> Any:
        """The JSON of an answer; None after a failure, which Locust counts under the service's own words.

        `lengths`: how long the arrays of the answer must be.
        """
        with self.client.request(
            method, path, name=name, json=body, headers=self.headers, catch_response=True
        ) as response:
            if not response.status_code:
                return None  # no answer: Locust says why
            try:
                answer = json.loads(response.text or "")
            except ValueError:
                response.failure(f"HTTP {response.status_code}, and no JSON")
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
    """The message of an error, with the first of its details."""
    if not isinstance(answer, dict) or "error" not in answer:
        return json.dumps(answer)[:200]
    first = [f"{detail['field'] or ''} {detail['message']}".strip() for detail in answer.get("details", [])[:1]]
    return ": ".join([answer["error"], *first])


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    """Locust's options and ours."""
    parser.add_argument("--seed", type=int, default=0, help="the rows of each user follow from it")
    parser.add_argument("--summary", metavar="FILE", help="where the figures and the verdict go, as JSON")
    slo = parser.add_argument_group("SLO", "what must hold of all requests together, else the exit code is 1")
    slo.add_argument("--p95", type=_figure, metavar="MS", help="95 %% are answered within so many milliseconds")
    slo.add_argument("--p99", type=_figure, metavar="MS", help="99 %% are answered within so many milliseconds")
    slo.add_argument("--errors", type=_figure, default=0.0, metavar="PERCENT", help="at most so many fail (0)")
    slo.add_argument("--rate", type=_figure, metavar="MIN", help="so many requests are answered per second")


def _figure(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"expected a number that is not negative, found {text!r}")
    return number


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Print what was measured, keep it, and let the exit code say whether the SLO is met."""
    if isinstance(environment.runner, WorkerRunner):
        return  # the master has the figures of all
    chosen = environment.parsed_options
    assert chosen is not None  # as always where the command runs this
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
    """Of one kind of request, or of all; times in milliseconds, rounded by Locust to two digits or whole ones."""
    return {
        "name": f"{entry.method} {entry.name}".strip(),
        "requests": entry.num_requests,
        "failures": entry.num_failures,
        "rate": round(entry.total_rps, 1),
        **{f"p{share}": entry.get_response_time_percentile(share / 100) for share in SHARES},
    }


def _missed(total: dict[str, Any], slo: Namespace) -> list[str]:
    """What the SLO demands and is not so."""
    if not total["requests"]:
        return ["no request was answered"]
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
