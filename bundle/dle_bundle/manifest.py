"""`manifest.json`: a bundle's name, version, task and format, and the digest of every file in it."""

import re
import shlex
from pathlib import Path

import msgspec

from dle_bundle import documents
from dle_bundle.errors import BundleError
from dle_bundle.proposals import for_python
from dle_bundle.schema import Task

FORMAT = 1
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")
"""The names that a model may have: services use them in paths and in labels of metrics."""
CAPABILITIES: frozenset[str] = frozenset()
"""Entries of `requires` that this version supports."""


class FormatHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the manifest that is read first, since other fields depend on the format."""

    format: int
    requires: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`; unknown keys are ignored.

    `outputs` maps a role (`label`, `probabilities`, `value`) to the name of the graph's output. `files` maps each file
    name to its SHA-256. `requires` lists the capabilities that a reader needs to use the bundle correctly.
    """

    format: int
    name: str
    version: int
    task: Task
    created: str
    tools: dict[str, str]
    outputs: dict[str, str]
    files: dict[str, str]
    requires: tuple[str, ...] = ()


def load(path: Path) -> Manifest:
    """Read `manifest.json`; raises BundleError when it is missing, unreadable, or needs another version of dle."""
    if not path.is_file():
        run = (path.parent / "config.yaml").is_file()
        export = f"dle-export {shlex.quote(str(path.parent))} --to BUNDLE"
        if for_python():
            export = f"dle_training.Run({str(path.parent)!r}).export(BUNDLE)"
        cure = f"; it is a run: {export} makes a bundle of it" if run else ""
        raise BundleError(f"{path.parent} is not a bundle: it contains no manifest.json{cure}")
    header = documents.read(path, FormatHeader, BundleError)
    if header.format != FORMAT:
        raise BundleError(
            f"{path}: expected format {FORMAT}, found {header.format}: use the version of dle that made the bundle"
        )
    unknown = [need for need in header.requires if need not in CAPABILITIES]
    if unknown:
        raise BundleError(
            f"{path}: the bundle requires {', '.join(unknown)}, which this version does not support: upgrade dle"
        )
    manifest = documents.read(path, Manifest, BundleError)
    if not NAME.fullmatch(manifest.name):
        raise BundleError(
            f"{path}: name: expected letters, digits, '.', '_' and '-', beginning with a letter or a digit, found "
            f"{manifest.name[:100]!r}"
        )
    if manifest.version < 1:
        raise BundleError(f"{path}: version: expected a positive integer, found {manifest.version}")
    return manifest
