"""Measures how often drift alarms by chance, and how soon it alarms after a shift, on the test rows of a run.

    python benchmarks/drift.py runs/adult bundles/adult

By chance: the windows hold unchanged test rows. Every feature and the prediction may alarm, at the thresholds of
`dle_bundle.drift.verdict`. Shifted: one numeric column at a time is shifted by half its standard deviation, and the
verdict is computed after every 50 rows. At most one window in 100 may alarm by chance, and every shift must alarm
within 500 rows.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dle_bundle import bundle as bundles
from dle_bundle.bundle import Bundle
from dle_bundle.drift import verdict
from dle_bundle.drift.counting import BinCounter, Sums
from dle_bundle.groups import Groups
from dle_serving.models.runtime import Model
from dle_training.runs import prepare
from dle_training.runs.folder import RunFolder

MOST_ROWS = 500
STEP = 50


def main() -> None:
    """Measure and print. The exit code is 1 if a demand is not met."""
    options = _options()
    opened = bundles.load(options.bundle)
    rows, _ = prepare.reopen(RunFolder(options.run)).dataset.part("test")
    random = np.random.default_rng(options.seed)
    model = Model(opened, "cpu")
    alarms = [_alarms(opened, model, rows.take(window)) for window in _windows(len(rows), options, random)]
    wrong = [names for names in alarms if names]
    print(f"by chance: {len(wrong)} of {len(alarms)} windows of {options.rows} rows alarm {wrong or ''}")
    soon = True
    for index, field in enumerate(opened.schema.numeric):
        if field.kind == "numeric":
            needed = [_rows_to_alarm(opened, rows, index, random) for _ in range(options.trials)]
            found = [rows for rows in needed if rows is not None]
            soon &= len(found) == len(needed)
            told = f"median {np.median(found):.0f}, most {max(found)} rows" if found else ""
            print(f"shifted:   {field.name}: {len(found)} of {len(needed)} within {MOST_ROWS} rows; {told}")
    sys.exit(0 if len(wrong) <= 1 and soon else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="False and true alarms of drift.")
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path, help="exported from the run")
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1_000, help="of a window")
    parser.add_argument("--trials", type=int, default=100, help="of each shifted column")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _windows(count: int, options: argparse.Namespace, random: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(options.windows):
        yield random.choice(count, options.rows, replace=False)


def _alarms(opened: Bundle, model: Model, rows: Groups) -> list[str]:
    counter = BinCounter(opened.reference, opened.schema, opened.tokenizer)
    rows = model.tokenise(rows)
    answers = model.run(rows)
    sums: Sums = counter.count(rows)
    if answers.values is not None:
        sums += counter.count_values(answers.point_values)
    else:
        assert answers.classes is not None
        sums += counter.count_classes(answers.classes, answers.confidences)
    tally = counter.read(sums)
    names = [
        str(shift.feature) for shift in verdict.feature_shifts(tally, opened.reference) if shift.verdict == "drift"
    ]
    return [*names, *(["prediction"] if verdict.prediction_shift(tally, opened.reference).verdict == "drift" else [])]


def _rows_to_alarm(opened: Bundle, rows: Groups, column: int, random: np.random.Generator) -> int | None:
    """Return the number of shifted rows after which the column alarms, or None if it does not within 500."""
    whole = rows.numeric[:, column]
    known = whole[~np.isnan(whole)]
    taken = rows.take(random.choice(len(rows), MOST_ROWS, replace=False))
    taken.numeric[:, column] += 0.5 * known.std()
    name = opened.schema.numeric[column].name
    bins, reference = opened.reference.features[name], opened.reference
    places = bins.assign_numbers(taken.numeric[:, column])
    for count in range(STEP, MOST_ROWS + 1, STEP):
        counts = np.bincount(places[:count], minlength=len(bins.names))
        found = verdict.compare(counts, bins, reference_rows=reference.rows, comparisons=len(reference.features))
        if found.verdict == "drift":
            return count
    return None


if __name__ == "__main__":
    main()
