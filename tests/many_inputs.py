"""Small sources of images, series, text and forecasts, and how `dle-train` is told to read them."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

COLOURS = {"red": 0, "blue": 2}
FEW = ("--set", "training.epochs=6")
SMALL_TCN = ("--set", "model.tcn.width=4", "--set", "model.tcn.depth=3")


def picture(colour: str, seed: int) -> bytes:
    """A PNG of 20 × 24 pixels in which that colour stands out."""
    pixels = np.random.default_rng(seed).integers(0, 90, (20, 24, 3))
    pixels[..., COLOURS[colour]] += 150
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "png")
    return out.getvalue()


def write_sources(folder: Path) -> None:
    """`pictures/` with class folders, signals.npz, reviews.parquet with text, a path and a number, two long tables."""
    draw = np.random.default_rng(0)
    for colour in COLOURS:
        (folder / "pictures" / colour).mkdir(parents=True)
        for index in range(40):
            (folder / "pictures" / colour / f"{index}.png").write_bytes(picture(colour, index))
    slow = np.sin(np.arange(30) / 4) * (1 + np.arange(80)[:, None] % 2)
    signals = slow + draw.normal(0, 0.1, (80, 30))
    labels = np.where(np.arange(80) % 2, "strong", "weak")
    np.savez(folder / "signals.npz", X=signals[:, None, :], y=labels)
    words = {"good": "a fine thing that I like", "bad": "a poor thing that I hate"}
    kinds = ["good" if index % 2 else "bad" for index in range(100)]
    table = {
        "remark": [f"{words[kind]} number {index} of many" for index, kind in enumerate(kinds)],
        "photo": [f"pictures/{'red' if index % 2 else 'blue'}/{index % 40}.png" for index in range(100)],
        "price": draw.normal(10, 2, 100).round(2),
        "kind": kinds,
    }
    pyarrow.parquet.write_table(pa.table(table), folder / "reviews.parquet")
    load = 10 + 3 * np.sin(np.arange(300) / 24 * 2 * np.pi) + draw.normal(0, 0.2, 300)
    with (folder / "power.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("hour", "load"))
        writer.writerows(enumerate(load.round(3).tolist()))
    with (folder / "machines.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("unit", "step", "heat", "maker", "state"))
        for unit in range(80):
            heat = draw.normal(0, 1, 5 + unit % 9) + 4 * (unit % 2)
            for step, value in enumerate(heat.round(2).tolist()):
                writer.writerow((f"m{unit}", step, value, "AB"[unit // 40], ("fine", "hot")[unit % 2]))


FORECAST = ("--set", "data.time=hour", "--set", "data.window=24", "--set", "data.horizon=3")
MACHINES = ("--set", "data.sequence_id=unit", "--set", "data.time=step")
SOURCES: dict[str, tuple[str, ...]] = {
    "pictures": ("pictures",),
    "signals": ("signals.npz", *SMALL_TCN),
    "reviews": ("reviews.parquet", "--target", "kind"),
    "power": ("power.csv", "--target", "load", *FORECAST, *SMALL_TCN),
    "machines": ("machines.csv", "--target", "state", *MACHINES, *SMALL_TCN),
}
