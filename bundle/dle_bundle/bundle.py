"""Loads a bundle: the folder with everything that a service needs, verified before use."""

from dataclasses import dataclass
from pathlib import Path

from dle_bundle import integrity, manifest, schema
from dle_bundle.drift import reference
from dle_bundle.errors import BundleError
from dle_bundle.text import Tokenizer

MANIFEST = "manifest.json"
SCHEMA = "schema.json"
MODEL = "model.onnx"
REFERENCE = "reference.json"
PARITY = "parity.json"
TOKENIZER = "tokenizer.json"
"""Only in bundles with text inputs."""
CARD = "README.md"
FILES = (SCHEMA, MODEL, REFERENCE, PARITY, CARD)
"""The files of every bundle, in addition to the manifest, which lists their digests."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: its folder and the content of its files."""

    folder: Path
    manifest: manifest.Manifest
    schema: schema.Schema
    reference: reference.Reference
    tokenizer: Tokenizer | None = None

    @property
    def model(self) -> Path:
        """The path of the ONNX file."""
        return self.folder / MODEL


def load(folder: Path) -> Bundle:
    """Load the bundle in `folder` after checking its format and every digest; raises BundleError."""
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle (expected a folder with a manifest.json)")
    described = manifest.load(folder / MANIFEST)
    absent = [name for name in (SCHEMA, MODEL, REFERENCE) if name not in described.files]
    if absent:
        raise BundleError(f"{folder / MANIFEST}: files: expected a digest of {', '.join(absent)}")
    escaping = [name for name in described.files if Path(name).is_absolute() or ".." in Path(name).parts]
    if escaping:
        raise BundleError(f"{folder / MANIFEST}: files: these paths lead outside the bundle: {', '.join(escaping)}")
    integrity.verify(folder, described.files)
    columns = schema.load(folder / SCHEMA)
    if columns.text and TOKENIZER not in described.files:
        raise BundleError(f"{folder / MANIFEST}: files: expected a digest of {TOKENIZER}, which text inputs need")
    tokenizer = Tokenizer.load(folder / TOKENIZER) if columns.text else None
    return Bundle(folder, described, columns, reference.load(folder / REFERENCE, columns), tokenizer)
