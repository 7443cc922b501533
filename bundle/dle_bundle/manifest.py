"""`manifest.json`: what a bundle is, which version of the format it has, and the digest of every file in it."""

from pathlib import Path

import msgspec

from dle_bundle import documents
from dle_bundle.errors import BundleError
from dle_bundle.schema import Task

FORMAT = 1
CAPABILITIES: frozenset[str] = frozenset()
"""Entries of `requires` that this version understands."""


class FormatHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader must know before it reads the rest."""

    format: int
    requires: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`outputs` maps a role (`label`, `probabilities`, `value`) to the name of the graph's output.

    `files` maps each file's name to its SHA-256. `requires` names what a reader must understand to use the bundle
    rightly; unknown keys are ignored.
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
    """Read `manifest.json`; raises BundleError: absent, unreadable, of a newer format, or with unknown needs."""
    if not path.is_file():
        raise BundleError(f"{path.parent} is not a bundle: it has no manifest.json")
    # by themselves first, for what comes after them may look otherwise in another format
    demands = documents.read(path, FormatHeader, BundleError)
    if demands.format != FORMAT:
        raise BundleError(f"{path}: format {demands.format}, this version reads format {FORMAT}: use a matching dle")
    unknown = [need for need in demands.requires if need not in CAPABILITIES]
    if unknown:
        raise BundleError(f"{path}: the bundle requires {', '.join(unknown)}, which this version lacks: upgrade dle")
    manifest = documents.read(path, Manifest, BundleError)
    if manifest.version < 1:
        raise BundleError(f"{path}: version: expected a positive integer, found {manifest.version}")
    return manifest
