import os
import shutil
from pathlib import Path

import pytest
from tests import bundles

from dle_bundle import bundle as bundle_files
from dle_bundle import integrity
from dle_bundle.errors import BundleError
from dle_serving.models.copies import copy_bundles
from dle_serving.models.discovery import load_bundles


@pytest.fixture
def income(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "income")


def test_copies_have_the_order_and_the_files_of_the_bundles(income: Path, tmp_path: Path) -> None:
    (income / "notes.txt").write_text("no part of the bundle")
    price = bundles.write(tmp_path / "price", bundles.PRICE, name="price")
    made = copy_bundles(load_bundles([price, income]), tmp_path / "copies")
    assert [bundle.manifest.name for bundle in load_bundles(made)] == ["price", "income"]
    assert made[1].name == integrity.digest(income / bundle_files.MANIFEST)
    for path in income.iterdir():
        assert (made[1] / path.name).exists() == (path.name != "notes.txt")
        if path.name != "notes.txt":
            assert (made[1] / path.name).stat().st_ino != path.stat().st_ino  # a change of the bundle cannot reach it


def test_a_sound_copy_is_kept_and_an_altered_one_is_made_again(income: Path, tmp_path: Path) -> None:
    (made,) = copy_bundles(load_bundles([income]), tmp_path / "copies")
    before = made.stat().st_ino
    assert copy_bundles(load_bundles([income]), tmp_path / "copies") == (made,)
    assert made.stat().st_ino == before
    for altered in (bundle_files.MODEL, bundle_files.MANIFEST):
        (made / altered).write_bytes(b"altered")
        assert copy_bundles(load_bundles([income]), tmp_path / "copies") == (made,)
        assert load_bundles([made])


def test_what_nobody_uses_is_removed(income: Path, tmp_path: Path) -> None:
    (old,) = copy_bundles(load_bundles([income]), tmp_path / "copies")
    (tmp_path / "copies" / ".0123.half").mkdir()  # of a start that was interrupted
    (tmp_path / "copies" / "file").touch()
    shutil.rmtree(income)
    bundles.write(income, version=2)
    (new,) = copy_bundles(load_bundles([income]), tmp_path / "copies")
    assert new != old
    assert list((tmp_path / "copies").iterdir()) == [new]


def test_a_bundle_that_changes_meanwhile_is_refused(income: Path, tmp_path: Path) -> None:
    loaded = load_bundles([income])
    (income / bundle_files.MODEL).write_bytes(b"another model")
    with pytest.raises(BundleError, match="income changed while it was copied: start the server again"):
        copy_bundles(loaded, tmp_path / "copies")
    (income / bundle_files.MODEL).unlink()
    with pytest.raises(BundleError, match="income changed while it was copied"):
        copy_bundles(loaded, tmp_path / "copies")
    assert not list((tmp_path / "copies").iterdir())


def test_a_full_disk_leaves_nothing_half(income: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, os.strerror(28), str(source))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left on device"):
        copy_bundles(load_bundles([income]), tmp_path / "copies")
    assert not list((tmp_path / "copies").iterdir())
