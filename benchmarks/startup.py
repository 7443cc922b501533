"""Measures the CPU seconds of `--help` for each command, next to a bare Typer app with one option.

    python benchmarks/startup.py                 # best of 10 for each; 0.3 s or more ends it with exit code 1

Each run is a process of its own, and its time includes the start of the interpreter. On an idle machine, a user waits
for about the CPU time. The goal is that each command answers in under 0.3 s.
"""

import argparse
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

COMMANDS: dict[str, str] = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
    "scripts"
]
GOAL_SECONDS = 0.3
BARE = """
import typer
app = typer.Typer()
@app.command()
def bare(name: str = "") -> None: ...
app()
"""


def seconds(*command: str) -> float:
    """Return the CPU seconds of a process, user and system together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print a line for each command. The exit code is 1 if one misses the goal."""
    parser = argparse.ArgumentParser(description="CPU seconds of --help")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the best counts")
    repeats = parser.parse_args().repeats
    programs: dict[str, tuple[str, ...]] = {"a bare Typer app": (sys.executable, "-c", BARE, "--help")}
    programs |= {name: (str(Path(sys.executable).with_name(name)), "--help") for name in COMMANDS}
    # the programs take turns, so that a busy or a quiet moment affects all of them
    rounds = [{name: seconds(*command) for name, command in programs.items()} for _ in range(repeats)]
    best = {name: min(each[name] for each in rounds) for name in programs}
    bare = best["a bare Typer app"]
    for name, found in best.items():
        print(f"{name:<18}{found:6.3f} s{found / bare:7.2f} x")
    missed = [name for name in COMMANDS if best[name] >= GOAL_SECONDS]
    if missed:
        sys.exit(f"error: {GOAL_SECONDS} s or more: {', '.join(missed)}")


if __name__ == "__main__":
    main()
