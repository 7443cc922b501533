"""Finds the bundles at the configured paths and verifies them."""

from collections.abc import Iterable
from pathlib import Path

from dle_bundle import bundle as bundles
from dle_bundle.bundle import Bundle
from dle_bundle.errors import BundleError


def load_bundles(places: Iterable[Path]) -> list[Bundle]:
    """Load and verify all bundles at `places`; each place is a bundle or a folder that contains bundles.

    Raises BundleError that lists every fault: no bundle at a place, an altered bundle, two bundles with the same name
    and version.
    """
    found: list[Bundle] = []
    faults: list[str] = []
    for folder in _folders(places, faults):
        try:
            found.append(bundles.load(folder))
        except BundleError as error:
            faults.append(str(error))
    seen: dict[tuple[str, int], Path] = {}
    for bundle in found:
        key = bundle.manifest.name, bundle.manifest.version
        if key in seen:
            faults.append(f"{seen[key]} and {bundle.folder} are both {key[0]} version {key[1]}")
        seen.setdefault(key, bundle.folder)
    if faults:
        raise BundleError("These bundles cannot be served", faults)
    return found


def _folders(places: Iterable[Path], faults: list[str]) -> list[Path]:
    folders: list[Path] = []
    for place in places:
        inside = sorted(path.parent for path in place.glob(f"*/{bundles.MANIFEST}") if path.parent.name[0] != ".")
        if (place / bundles.MANIFEST).exists() or not inside:
            if not place.is_dir():
                faults.append(f"{place}: no such folder")
            elif not (place / bundles.MANIFEST).exists():
                faults.append(f"{place}: neither a bundle nor a folder that contains bundles (no {bundles.MANIFEST})")
            else:
                folders.append(place)
        else:
            folders += inside
    return folders
