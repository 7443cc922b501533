"""Compares `dle-train` on tables with boosted trees and a linear model: same splits, same rows, several seeds.

    python benchmarks/tables.py --data FOLDER [--only NAME…] [--seeds 0 1 2] [--models mlp pack]
                                [--python PYTHON] [--peers NAME…]

FOLDER holds the Parquet files that `SETS` names, or `sklearn`, which loads the small sets of scikit-learn. Each model
is trained by `dle-train` with its defaults, and scored by `dle-evaluate --json`. The peers have their defaults too, and
train on the training and validation rows of the same split (`table_rivals.py`). HistGradientBoosting and the linear
model run in this environment; LightGBM, CatBoost, RealMLP-TD and TabM in that of PYTHON, which is made with

    python -m venv peers
    peers/bin/pip install torch && peers/bin/pip install lightgbm catboost pytabkit 'pandas<3' pyarrow scikit-learn

`--peers` chooses among them: RealMLP-TD and TabM take minutes for each run on a table of 30,000 rows.

The table has the mean test score of the seeds, and the seconds of training, in which all contenders take turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import commands


@dataclass(frozen=True)
class DataSet:
    """The target of a data set, the metric that the table shows first, and settings that the data needs."""

    target: str
    metric: str = "log_loss"
    settings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Columns that the peers do not see either."""


SETS = {
    "adult": DataSet("income"),
    "california_housing": DataSet("MedHouseVal", "rmse"),
    "shuttle": DataSet("Class"),
    "magic": DataSet("target"),
    "churn_telco": DataSet("churn"),
    "spambase": DataSet("target"),
    "credit_data": DataSet("Status"),
    "phishing": DataSet("is_phishing"),
    "german_credit": DataSet("target"),
    "protein_kdd04": DataSet(
        "target",
        "average_precision",
        ('data.drop=["example_id"]', "split.by=group:block_id"),
        ("example_id", "block_id"),
    ),
}
SMALL = ("breast_cancer", "digits", "wine", "iris", "diabetes")
"""The data sets of scikit-learn."""
OWN, PEERS = ("hist_gradient_boosting", "linear"), ("lightgbm", "catboost", "realmlp_td", "tabm_d")
Result = dict[str, float]


def main() -> None:
    """Train everything, and print the table."""
    options = _options()
    results: dict[str, dict[str, list[Result]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only or (*SETS, *SMALL):
            source, data = _source(name, options.data, Path(temporary))
            for seed in options.seeds:
                for contender, result in _compare(source, data, seed, options, Path(temporary)).items():
                    results.setdefault(name, {}).setdefault(contender, []).append(result)
                    print(name, seed, contender, result, file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print("\n".join(_table(results)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*SETS, *SMALL])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["mlp", "pack"])
    parser.add_argument("--python", type=Path, metavar="PYTHON", help="Python of the environment of the peers")
    parser.add_argument("--peers", nargs="+", metavar="NAME", choices=PEERS, default=["lightgbm", "catboost"])
    parser.add_argument("--json", type=Path, help="file for every single result")
    return parser.parse_args()


def _source(name: str, data: Path, folder: Path) -> tuple[Path, DataSet]:
    """Return the file of a data set and what is known of it; the sets of scikit-learn are written to `folder`."""
    if name in SETS:
        return data / f"{name}.parquet", SETS[name]
    from sklearn import datasets

    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    if name != "diabetes":
        frame["target"] = frame["target"].astype(str)
    path = folder / f"{name}.parquet"
    frame.to_parquet(path)
    return path, _small(name)


def _small(name: str) -> DataSet:
    return DataSet("target", "rmse" if name == "diabetes" else "log_loss")


def _compare(source: Path, data: DataSet, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for model in options.models:
        run = folder / f"{source.stem}-{seed}-{model}"
        given = ["--target", data.target, "--seed", str(seed)]
        for setting in (f"model.name={model}", *data.settings):
            given += ["--set", setting]
        trained = commands.document(["dle-train", str(source), *given, "--no-baseline", "--out", str(run)])
        scores = commands.document(["dle-evaluate", str(run)])["test"]
        known = {key: value for key, value in scores.items() if value is not None}
        results[model] = {"seconds": trained["seconds"], **known}
    rivals = [(name, sys.executable) for name in OWN]
    if options.python:
        rivals += [(name, str(options.python)) for name in options.peers]
    program = str(Path(__file__).with_name("table_rivals.py"))
    for name, python in rivals:
        command = [python, program, name, str(source), data.target, str(run / "split.npz"), *data.left_out]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout)
    return results


def _table(results: dict[str, dict[str, list[Result]]]) -> list[str]:
    """Return lines of Markdown: for each data set and metric, the mean score of each contender and its seconds."""
    contenders = list(dict.fromkeys(name for each in results.values() for name in each))
    lines = [f"| Data set | Metric | {' | '.join(contenders)} |", f"|---|---|{'---|' * len(contenders)}"]
    for name, each in results.items():
        first = (SETS.get(name) or _small(name)).metric
        for metric in [first, *(["accuracy"] if first == "log_loss" else []), "seconds"]:
            cells = [_cell(each.get(contender), metric) for contender in contenders]
            lines.append(f"| {name} | {metric} | {' | '.join(cells)} |")
    return lines


def _cell(found: list[Result] | None, metric: str) -> str:
    if not found:
        return ""
    mean = statistics.mean(result[metric] for result in found)
    return f"{mean:.1f}" if metric == "seconds" else f"{mean:.4f}"


if __name__ == "__main__":
    main()
