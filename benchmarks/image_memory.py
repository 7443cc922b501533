"""Measures training on image files that need more memory, once decoded, than images may take.

    python benchmarks/image_memory.py [--images N] [--side PIXELS] [--budget GIB]

`dle-train FOLDER` trains for one epoch on made-up JPEG files of two classes. The first run has all images in memory. In
the second, `data.image_memory` is the budget, so worker processes decode the images batch by batch. The script prints
the rows per second and the peak memory of the command and its workers together. Memory is the proportional set size,
which counts a shared page once (Linux). The second run must train, and must take less memory than the first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("dark", "light")
NETWORK = ("training.epochs=1", "model.cnn.width=8")
GIB, MIB = 2**30, 2**20


def main() -> None:
    """Measure and print. The exit code is 1 if streamed images did not take less memory."""
    options = _options()
    decoded = options.images * 3 * options.side**2
    if options.budget * GIB >= decoded:
        sys.exit(f"--budget {options.budget:g}: expected less than the decoded set, {decoded / GIB:.2f} GiB")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder / "images", options.images, options.side)
        print(f"{options.images:,} files, {decoded / MIB:,.0f} MiB decoded, budget {options.budget * 1024:,.0f} MiB")
        peaks = []
        for name, memory in (("in memory", 2 * decoded / GIB), ("streamed", options.budget)):
            peak, said = train(folder / "images", folder / name, memory)
            rate = said["rows"]["train"] / said["seconds"]
            print(f"{name:10}{peak / MIB:9,.0f} MiB at most {rate:9,.0f} rows/s, validation included")
            peaks.append(peak)
    print(f"saved     {(peaks[0] - peaks[1]) / MIB:9,.0f} MiB")
    sys.exit(0 if peaks[1] < peaks[0] else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory of training on a folder of image files.")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=96, help="pixels of each image's sides, at most 96")
    parser.add_argument("--budget", type=float, default=0.1, help="GiB of decoded images that may be in memory")
    return parser.parse_args()


def write(folder: Path, count: int, side: int) -> None:
    """Write files of coarse noise around two levels of brightness, in a folder for each class."""
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        place = index % len(CLASSES)
        coarse = draw.integers(60 * place, 60 * place + 150, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(folder / CLASSES[place] / f"{index:06}.jpg")


def train(images: Path, out: Path, memory: float) -> tuple[int, dict[str, Any]]:
    """Return the peak memory in bytes of `dle-train` and its workers, and the document that it prints."""
    command = [str(Path(sys.executable).with_name("dle-train")), str(images), "--out", str(out), "--json"]
    for setting in (*NETWORK, f"data.image_memory={memory}"):
        command += ["--set", setting]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            peak = max(peak, held(process.pid))
            time.sleep(0.1)
        assert process.stdout is not None
        content = process.stdout.read()
    if process.returncode:
        sys.exit(process.returncode)
    return peak, json.loads(content)


def held(pid: int) -> int:
    """Return the bytes that a process and its descendants hold, or 0 if it has ended."""
    try:
        sizes = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except OSError:
        return 0
    own = int(sizes[sizes.index("Pss:") + 1]) * 1024 if "Pss:" in sizes else 0
    return own + sum(held(int(child)) for child in children)


if __name__ == "__main__":
    main()
