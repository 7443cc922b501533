"""Messages propose settings, options and calls by `proposals` alone, so that Python reads arguments of its own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
OF_COMMANDS = ("search", "distributed")
"""Rooms of dle_training that only commands reach."""
NO_MESSAGES = ("proposals.py", "card.py", "run_config.py", "family.py", "optimizers.py", "schedules.py")
"""Files that write proposals, and descriptions for the reader of a file."""
# Python has nothing like --keep, so only dle-predict writes about it
TYPED = re.compile(
    r"(?<![\w-])--(?!keep )[a-z]|\bdle-(?:train|evaluate|export|predict|serve|compare)\b|\bset [a-z_]+\.[a-z_.]+="
)
FILES = [
    path
    for package in ("training/dle_training", "bundle/dle_bundle")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name not in NO_MESSAGES and not set(path.parts) & set(OF_COMMANDS)
]


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts of a module that are no docstrings, with their lines."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and not isinstance(node, ast.Expr):
                yield child.lineno, child.value


def test_no_message_has_an_option_or_a_command() -> None:
    found = []
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        if "for_python()" in source:
            continue  # it chooses by itself
        found += [f"{path}:{line}: {text}" for line, text in texts(ast.parse(source)) if TYPED.search(text)]
    assert not found
