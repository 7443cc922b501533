"""Compares ways to read columns of whole numbers that may be codes: as numbers, as categories, and as both.

    python benchmarks/codes.py --data FOLDER [--only NAME…] [--seeds 0 1 2]

A column counts as a possible code if it holds only whole numbers, at least 3 and at most 100 distinct ones, each in 5
rows on average. For each seed and data set, `dle-train` trains with its defaults on three tables: as it stands, with
`data.kinds` making categories of these columns, and with a copy of each column as a category. The same seed gives the
same split. The figures are from the validation part, because they are for choosing a default.

FOLDER holds the Parquet files that `SETS` names; docs/results.md says where they come from.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import commands
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SETS = {
    "adult": ("income", "log_loss"),
    "california_housing": ("MedHouseVal", "rmse"),
    "churn_telco": ("churn", "log_loss"),
    "credit_data": ("Status", "log_loss"),
    "german_credit": ("target", "log_loss"),
    "shuttle": ("Class", "log_loss"),
}
"""The target and the metric of each data set that has such columns."""
FEWEST, MOST, REPEATS = 3, 100, 5
WAYS = ("number", "category", "both")


def main() -> None:
    """Train everything, and print the table."""
    options = _options()
    print("| Data set | Columns | Metric | As numbers | As categories | As both | Both is better in |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only or SETS:
            print(_compare(name, options.data, options.seeds, Path(temporary)), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    return parser.parse_args()


def _compare(name: str, data: Path, seeds: list[int], folder: Path) -> str:
    """Return a line of Markdown: the means of validation scores over the seeds, for each way."""
    target, metric = SETS[name]
    table = pq.read_table(data / f"{name}.parquet")
    found = codes(table, target)
    doubled = table
    for column in found:
        doubled = doubled.append_column(f"{column} (code)", table.column(column))
    plain, both = folder / f"{name}.parquet", folder / f"{name}-both.parquet"
    pq.write_table(table, plain)
    pq.write_table(doubled, both)
    kinds = {
        "number": dict.fromkeys(found, "numeric"),
        "category": dict.fromkeys(found, "categorical"),
        "both": dict.fromkeys(found, "numeric")
        | dict.fromkeys((f"{column} (code)" for column in found), "categorical"),
    }
    scores: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in seeds:
        for way in WAYS:
            out = folder / f"{name}-{way}-{seed}"
            source = both if way == "both" else plain
            setting = f"data.kinds={json.dumps(kinds[way])}"
            command = ["dle-train", str(source), "--target", target, "--seed", str(seed), "--out", str(out)]
            commands.document([*command, "--set", setting])
            scores[way].append(json.loads((out / "metrics.json").read_text())["validation"][metric])
            print(name, seed, way, scores[way][-1], file=sys.stderr)
    means = " | ".join(f"{statistics.mean(scores[way]):.4f}" for way in WAYS)
    ahead = sum(both < number for number, both in zip(scores["number"], scores["both"], strict=True))
    return f"| {name} | {len(found)} | {metric} | {means} | {ahead} of {len(seeds)} |"


def codes(table: pa.Table, target: str) -> list[str]:
    """Return the columns that may hold codes."""
    found = []
    for name in table.column_names:
        column = table.column(name).drop_null()
        if name in (target, "split") or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            continue
        whole = pa.types.is_integer(column.type) or pc.all(pc.equal(column, pc.floor(column))).as_py()
        distinct = pc.count_distinct(column).as_py()
        if whole and FEWEST <= distinct <= min(MOST, len(column) / REPEATS):
            found.append(name)
    return found


if __name__ == "__main__":
    main()
