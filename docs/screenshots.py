"""Makes the screenshots in README from a run of scripts/demo: docs/images/report.png and docs/images/drift.png.

    python docs/screenshots.py

The demo takes some minutes at the first time. Chromium or Chrome must be installed.
"""

import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)
TERMINAL = """\
<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #0d1117; }
pre { margin: 0; padding: 22px 26px; color: #e6edf3; font: 15px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
</style><pre>"""


def main() -> None:
    """Run the demo, and take both pictures."""
    done = subprocess.run([ROOT / "scripts" / "demo"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    IMAGES.mkdir(exist_ok=True)
    take(ROOT / "demo" / "runs" / "breast_cancer" / "report.html", IMAGES / "report.png", 1100, 1490)
    lines = last_replay(done.stdout)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "drift.html"
        page.write_text(TERMINAL + escape("\n".join(lines)) + "</pre>", encoding="utf-8")
        take(page, IMAGES / "drift.png", 760, 44 + 22 * len(lines))


def last_replay(said: str) -> list[str]:
    """The lines of the demo's last call of scripts/replay.py: the command, then the table of drift."""
    lines = said.splitlines()
    first = max(number for number, line in enumerate(lines) if line.startswith("$ python ../scripts/replay.py"))
    last = next(number for number in range(first, len(lines)) if lines[number].startswith("More, as JSON"))
    return lines[first:last]


def take(page: Path, picture: Path, width: int, height: int) -> None:
    """What a browser window of so many pixels shows of a page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: no browser found, expected one of: {', '.join(BROWSERS)}")
    size = f"--window-size={width},{height}"
    command = [browser, *FLAGS, size, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    sys.stdout.write(f"wrote docs/images/{picture.name}, {picture.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
