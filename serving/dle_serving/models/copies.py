"""Keeps copies of the served bundles in the server's directory, so that all workers load the same files.

A folder of bundles may change while the server runs. A worker that replaces a dead one must not load another model
under the same name and version than those beside it.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from dle_bundle import integrity, manifest
from dle_bundle.bundle import MANIFEST, Bundle
from dle_bundle.errors import BundleError
from dle_bundle.files import atomic_folder


def copy_bundles(bundles: Sequence[Bundle], folder: Path) -> tuple[Path, ...]:
    """Copy verified bundles to `folder`/DIGEST, whole or not at all; returns the copies, in order.

    DIGEST is the SHA-256 of the manifest, which holds those of all other files. A copy that is there already is
    verified, and made again if it was altered. Everything else in `folder` is removed.

    Raises BundleError when a bundle changes meanwhile, and OSError.
    """
    manifests = {bundle.folder: (bundle.folder / MANIFEST).read_bytes() for bundle in bundles}
    copies = {source: folder / hashlib.sha256(content).hexdigest() for source, content in manifests.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for other in set(folder.iterdir()) - set(copies.values()):  # first, to make room
        _remove(other)
    for bundle in bundles:
        copy = copies[bundle.folder]
        if not _sound(copy):
            _remove(copy)
            _copy(bundle, manifests[bundle.folder], copy)
    return tuple(copies.values())


def _sound(copy: Path) -> bool:
    if not (copy / MANIFEST).is_file() or integrity.digest(copy / MANIFEST) != copy.name:
        return False
    try:
        integrity.verify(copy, manifest.load(copy / MANIFEST).files)
    except BundleError:
        return False
    return True


def _copy(bundle: Bundle, described: bytes, copy: Path) -> None:
    with atomic_folder(copy) as temporary:
        (temporary / MANIFEST).write_bytes(described)
        try:
            for name in bundle.manifest.files:
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.folder / name, temporary / name)
            integrity.verify(temporary, manifest.load(temporary / MANIFEST).files)
        except (BundleError, FileNotFoundError):
            raise BundleError(f"{bundle.folder} changed while it was copied: start the server again") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
