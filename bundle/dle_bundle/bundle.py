"""A bundle on disk: one folder that holds all that a service needs, verified before anything of it is used."""

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
"""Only in a bundle that reads text."""
CARD = "README.md"
FILES = (SCHEMA, MODEL, REFERENCE, PARITY, CARD)
"""Every file that each bundle has beside the manifest, which names their digests."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: its folder and what its files say."""

    folder: Path
    manifest: manifest.Manifest
    schema: schema.Schema
    reference: reference.Reference
    tokenizer: Tokenizer | None = None

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL


def load(folder: Path) -> Bundle:
    """Open the bundle in `folder` after checking its format and every digest; raises BundleError."""
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle (expected a folder with a manifest.json)")
    described = manifest.load(folder / MANIFEST)
    absent = [name for name in (SCHEMA, MODEL, REFERENCE) if name not in described.files]
    if absent:
        raise BundleError(f"{folder / MANIFEST}: files: no digest of {', '.join(absent)}")
    escaping = [name for name in described.files if Path(name).is_absolute() or ".." in Path(name).parts]
    if escaping:
        raise BundleError(f"{folder / MANIFEST}: files: outside the bundle: {', '.join(escaping)}")
    integrity.verify(folder, described.files)
    columns = schema.load(folder / SCHEMA)
    if columns.text and TOKENIZER not in described.files:
        raise BundleError(f"{folder / MANIFEST}: files: no digest of {TOKENIZER}, by which text is read")
    tokenizer = Tokenizer.load(folder / TOKENIZER) if columns.text else None
    return Bundle(folder, described, columns, reference.load(folder / REFERENCE, columns), tokenizer)
