"""Sends the rows of breast_cancer that training did not see, then their true labels; prints GET /drift as a table.

    python scripts/replay.py URL RUN [FACTOR]

FACTOR scales the measurements whose names begin with "worst", as a faulty instrument would.
"""

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

MOST_FEATURES = 3
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignores the proxy of the environment


def ask(url: str, body: object = None) -> Any:
    """The JSON answer of a route."""
    data = None if body is None else json.dumps(body).encode()
    with http.open(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=60) as answer:
        return json.load(answer)


def main(url: str, run: Path, factor: float = 1.0) -> None:
    """Send predictions and feedback, then print the drift that the service reports."""
    table = load_breast_cancer()
    unseen = np.load(run / "split.npz")["test"]
    scale = np.array([factor if name.startswith("worst") else 1.0 for name in table.feature_names])
    rows = [dict(zip(table.feature_names, values, strict=True)) for values in (table.data[unseen] * scale).tolist()]
    predictions = ask(f"{url}/predict", {"rows": rows})["predictions"]
    labels = [str(table.target_names[label]) for label in table.target[unseen]]
    items = [{"id": one["id"], "actual": label} for one, label in zip(predictions, labels, strict=True)]
    kept = ask(f"{url}/feedback", {"items": items})
    print(f"{len(rows)} predictions, {kept['accepted']} labels kept\n")
    show(ask(f"{url}/drift"))


def show(report: dict[str, Any]) -> None:
    """Print the verdict, the accuracies beside that on the test part, and the inputs that have moved most."""
    print(f"{'verdict':<28}{report['verdict']}, {report['rows']} rows in the last {report['window']['seconds']} s")
    for name, key in (("accuracy by the labels", "accuracy"), ("accuracy as estimated", "estimated_accuracy")):
        score = report[key]
        print(f"{name:<28}{score['score']:.3f}, reference {score['reference']:.3f}: {score['verdict']}")
    show_shift("predictions", report["prediction"])
    moved = sum(shift["verdict"] == "drift" for shift in report["features"])
    print(f"{'inputs':<28}{moved} of {len(report['features'])} have drifted, these the most:")
    for shift in report["features"][:MOST_FEATURES]:
        show_shift(f"  {shift['feature']}", shift)


def show_shift(name: str, shift: Any) -> None:
    """Print the drift of the predictions or of one input."""
    print(f"{name:<28}PSI {shift['psi']:.2f}: {shift['verdict']}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:]))
