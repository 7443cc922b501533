"""A small table with every kind of column, missing values, and a target that follows from them."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

TOWNS = tuple(f"town {letter}" for letter in "abcdefghijklmn")


def write_people(path: Path, rows: int = 600, seed: int = 0, target: str = "buys") -> Path:
    """A CSV of `rows` people. Target: `buys` (yes, no), `level` (0, 1, 2) or `spent` (a number)."""
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 80, rows)
    income = draw.lognormal(10, 0.5, rows)
    town = draw.integers(0, len(TOWNS), rows)
    colour = draw.choice(["red", "green", "blue"], rows)
    member = draw.random(rows) < 0.4
    days = draw.integers(0, 2000, rows)
    score = 0.05 * (age - 45) + (town % 3 - 1) + 1.5 * member + (colour == "red") + draw.normal(0, 0.3, rows)
    spent = 100 + 20 * score
    targets = {
        "buys": np.where(score > 0.8, "yes", "no"),
        "level": np.digitize(score, [0.0, 1.5]),
        "spent": np.round(spent, 2),
    }
    start = datetime(2020, 1, 1, tzinfo=UTC)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["person_id", "age", "income", "town", "colour", "member", "since", "country", target])
        for row in range(rows):
            writer.writerow(
                [
                    f"p{row:05}",
                    age[row],
                    "" if draw.random() < 0.1 else f"{income[row]:.2f}",
                    TOWNS[town[row]],
                    "" if draw.random() < 0.05 else colour[row],
                    "yes" if member[row] else "no",
                    (start + timedelta(days=int(days[row]))).date().isoformat(),
                    "here",
                    targets[target][row],
                ]
            )
    return path
