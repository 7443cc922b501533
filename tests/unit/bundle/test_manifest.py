"""Bundles of another format, with unknown needs, or altered, are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from dle_bundle import bundle, documents, integrity, manifest
from dle_bundle.errors import BundleError

PLAIN: dict[str, Any] = {
    "format": 1,
    "name": "m",
    "version": 1,
    "task": "regression",
    "created": "2026-01-01T00:00:00Z",
    "tools": {},
    "outputs": {"value": "value"},
    "files": {},
}


def load(folder: Path, **changes: Any) -> manifest.Manifest:
    path = folder / "manifest.json"
    path.write_text(json.dumps(PLAIN | changes))
    return manifest.load(path)


def test_round_trip(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    (tmp_path / "manifest.json").write_bytes(documents.encode(loaded))
    assert manifest.load(tmp_path / "manifest.json") == loaded


def test_unknown_optional_keys_are_ignored(tmp_path: Path) -> None:
    assert load(tmp_path, later="x").name == "m"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"format": 0}, "expected format 1, found 0"),
        ({"format": 2, "outputs": {"a": {}}}, "expected format 1, found 2"),
        ({"requires": ["quantum"], "task": "poetry"}, "requires quantum"),
        ({"requires": ["quantum"]}, "requires quantum"),
        ({"version": 0}, "expected a positive integer"),
        ({"version": "1"}, "cannot read the manifest"),
        ({"task": "poetry"}, "cannot read the manifest"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load(tmp_path, **changes)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it contains no manifest"):
        bundle.load(tmp_path)
    with pytest.raises(BundleError, match="no such bundle"):
        bundle.load(tmp_path / "none")


def test_files_outside_the_bundle_are_refused(tmp_path: Path) -> None:
    load(tmp_path, files=dict.fromkeys(("schema.json", "model.onnx", "reference.json", "../x"), "0"))
    with pytest.raises(BundleError, match="outside the bundle"):
        bundle.load(tmp_path)


def test_every_altered_and_absent_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    digests = {"a": integrity.digest(tmp_path / "a"), "b": "0" * 64}
    (tmp_path / "a").write_text("2")
    with pytest.raises(BundleError) as raised:
        integrity.verify(tmp_path, digests)
    assert len(raised.value.details) == 2


def test_a_run_is_named_as_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(BundleError, match=rf"it is a run: dle-export {tmp_path} --to BUNDLE makes a bundle of it"):
        manifest.load(tmp_path / "manifest.json")
