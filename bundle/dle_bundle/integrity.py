"""Digests of files: what was exported is what is loaded."""

import hashlib
from pathlib import Path

from dle_bundle.errors import BundleError


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, digests: dict[str, str]) -> None:
    """Check every file named in `digests`; raises BundleError naming all that are absent or altered."""
    wrong = []
    for name, expected in sorted(digests.items()):
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name}: absent")
        elif (found := digest(path)) != expected:
            wrong.append(f"{name}: SHA-256 {found[:12]}…, the manifest says {expected[:12]}…")
    if wrong:
        raise BundleError(f"{folder} is not as it was exported", wrong)
