"""Verifies the SHA-256 digests of a bundle's files, so that a bundle is loaded only as it was exported."""

import hashlib
from pathlib import Path

from dle_bundle.errors import BundleError


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, digests: dict[str, str]) -> None:
    """Check every file in `digests`; raises BundleError that lists all missing and altered files."""
    wrong = []
    for name, expected in sorted(digests.items()):
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name}: missing")
        elif (found := digest(path)) != expected:
            wrong.append(f"{name}: expected SHA-256 {expected[:12]}…, found {found[:12]}…")
    if wrong:
        raise BundleError(f"{folder} was altered after its export", wrong)
