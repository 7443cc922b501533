"""The report of a real run, in a real browser: figures decode, nothing is wider than the window, nothing is refused.

The page itself runs no script, so the question is put by a copy of it that does, and answered in the copy's title.
"""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import commands

pytestmark = pytest.mark.e2e

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
QUESTION = """
<script>
  const images = [...document.images];
  const decoded = images.filter(image => image.complete && image.naturalWidth >= 1000).length;
  const wide = document.documentElement.scrollWidth > window.innerWidth;
  const cut = [...document.querySelectorAll(".scroll")].filter(card => card.scrollWidth > card.clientWidth).length;
  const tables = window.innerWidth < 1000 ? "" : `, ${cut} tables cut`;  // on a phone tables may scroll
  const page = `${wide ? "too wide" : "fits"}, ${window.innerWidth} px${tables}`;
  document.title = `${decoded} of ${images.length} decoded, ${page}`;
  console.log("asked");
</script>
"""


MIXED = "mixed.csv"
"""A table of images and text, made here."""


@pytest.fixture(scope="module", params=["sklearn:wine", "sklearn:diabetes", MIXED])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if BROWSER is None:
        pytest.skip("NOT TESTED: no Chromium here (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("report")
    further = ["--baseline"]
    if request.param == MIXED:
        write_mixed(folder)
        further = ["--set", "augmentation.flip=true"]
    commands.run("dle-train", request.param, "--out", "run", "--set", "training.epochs=3", *further, folder=folder)
    commands.run("dle-evaluate", "run", folder=folder)
    return folder / "run" / "report.html"


def write_mixed(folder: Path) -> None:
    """Bright and dark images, each with a sentence on it."""
    random = np.random.default_rng(7)
    with (folder / MIXED).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["photo", "note", "label"])
        for row in range(80):
            bright = row % 2
            pixels = random.integers(100 * bright, 100 * bright + 156, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
            words = random.choice(["<b>taken</b>", "at", "the", "lake", "&", "a", "hill", "by", "her"], 12)
            table.writerow([f"{row}.png", " ".join(words) + f" {row} times.", "bright" if bright else "dark"])


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's markup after loading, and what the browser wrote to its console."""
    done = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, re.findall(r":CONSOLE[^\]]*\] \"(.*)\", source", done.stderr)


def test_the_page_loads_without_complaint(report: Path, tmp_path: Path) -> None:
    markup, console = browse(report, tmp_path / "profile")
    assert "<h2>Test part</h2>" in markup
    assert console == []


@pytest.mark.parametrize("width", [500, 1280])
def test_every_figure_decodes_and_the_page_fits_the_window(report: Path, tmp_path: Path, width: int) -> None:
    text = report.read_text()
    asking = tmp_path / "asking.html"
    asking.write_text(
        text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'").replace(
            "</body>", f"{QUESTION}</body>"
        )
    )
    markup, console = browse(asking, tmp_path / "profile", f"--window-size={width},900")
    title = re.search("<title>(.*)</title>", markup)
    figures = text.count("<img ")
    assert title is not None
    uncut = ", 0 tables cut" if width == 1280 else ""
    assert title[1] == f"{figures} of {figures} decoded, fits, {width} px{uncut}"
    assert console == ["asked"]


def test_a_screenshot_shows_a_page(report: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    shot = tmp_path / "shot.png"
    browse(report, tmp_path / "profile", "--hide-scrollbars", "--window-size=1280,900", f"--screenshot={shot}")
    pixels = imread(shot)
    assert pixels.shape[:2] == (900, 1280)
    assert pixels.std() > 0.02  # not one colour
