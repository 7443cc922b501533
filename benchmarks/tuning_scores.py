"""Compares test scores of `dle-tune` with those of `dle-train` and its defaults, on the same rows, for several seeds.

    python benchmarks/tuning_scores.py --data FOLDER [--only NAME…] [--seeds 0 1 2] [--set KEY=VALUE…] [--json FILE]

FOLDER holds adult.parquet (UCI Adult, target `income`), california_housing.parquet (scikit-learn's, target
`MedHouseVal`) and shuttle.parquet (UCI Statlog Shuttle, target `Class`). Each row of the table comes from commands
that a user would type: `dle-train`, `dle-tune --search random --trials 40` and `dle-evaluate --json`. The seed decides
split, search and training, so the runs of a pair have the same parts. Validation chooses the model, and the test part
is read afterwards.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import commands

SETS = {
    "adult": ("income", "log_loss", "roc_auc"),
    "california_housing": ("MedHouseVal", "rmse", "mae"),
    "shuttle": ("Class", "log_loss", "f1_macro"),
}
"""The target, the metric that chooses the model, and a second metric."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The results of a seed with the defaults and with the search: scores by metric, and seconds of each command."""

    name: str
    seed: int
    validation: tuple[float, float]
    test: tuple[float, float]
    other: tuple[float, float]
    seconds: tuple[float, float]
    trial: int


def main() -> None:
    """Run everything, and print the table."""
    options = _options()
    pairs = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only or SETS:
            for seed in options.seeds:
                pairs.append(_pair(name, seed, options, Path(temporary) / f"{name}-{seed}"))
                print(pairs[-1], file=sys.stderr)
                if options.json:
                    options.json.write_text(json.dumps([asdict(pair) for pair in pairs], indent=2) + "\n")
    print("\n".join(_table(pairs)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the files named above")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of dle-tune")
    parser.add_argument("--json", type=Path, help="file for every single result")
    return parser.parse_args()


def _pair(name: str, seed: int, options: argparse.Namespace, folder: Path) -> Pair:
    target, metric, other = SETS[name]
    data = [str(options.data / f"{name}.parquet"), "--target", target, "--seed", str(seed)]
    plain, study = folder / "plain", folder / "study"
    search = ["--search", "random", "--trials", str(options.trials)]
    changes = [word for change in options.set for word in ("--set", change)]
    begun = time.perf_counter()
    commands.document(["dle-train", *data, "--no-baseline", "--out", str(plain)])
    between = time.perf_counter()
    commands.document(["dle-tune", *data, *search, *changes, "--out", str(study)])
    seconds = (between - begun, time.perf_counter() - between)
    tests = [commands.document(["dle-evaluate", str(path)])["test"] for path in (plain, study)]
    validations = [
        json.loads((path / "metrics.json").read_text())["validation"] for path in (plain, study / "selected")
    ]
    chosen = json.loads((study / "selection.json").read_text())["number"]

    def both(scores: list[dict[str, Any]], key: str) -> tuple[float, float]:
        return float(scores[0][key]), float(scores[1][key])

    return Pair(name, seed, both(validations, metric), both(tests, metric), both(tests, other), seconds, chosen)


def _table(pairs: list[Pair]) -> list[str]:
    """Return lines of Markdown: means over the seeds, and the number of seeds in which the search was better."""
    lines = [
        "| Data set | Metric | Defaults | Tuned | Paired difference | Better in | Seconds, defaults | Seconds, tuned |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(pair.name for pair in pairs):
        own = [pair for pair in pairs if pair.name == name]
        _, metric, other = SETS[name]
        seconds = " | ".join(f"{statistics.mean(pair.seconds[place] for pair in own):.0f}" for place in (0, 1))
        for key, scores in ((metric, [pair.test for pair in own]), (other, [pair.other for pair in own])):
            sign = -1 if key in ("log_loss", "rmse", "mae") else 1
            differences = [after - before for before, after in scores]
            spread = f" ± {statistics.stdev(differences) / len(own) ** 0.5:.4f}" if len(own) > 1 else ""
            before, after = (statistics.mean(pair[place] for pair in scores) for place in (0, 1))
            ahead = sum(sign * difference > 0 for difference in differences)
            lines.append(
                f"| {name} | {key} | {before:.4f} | {after:.4f} | {statistics.mean(differences):+.4f}{spread} | "
                f"{ahead} of {len(own)} | {seconds} |"
            )
    return lines


if __name__ == "__main__":
    main()
