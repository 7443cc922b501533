"""Files and folders appear whole or not at all."""

import errno
import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_bundle.files import atomic_folder, atomic_path, create_atomic, write_atomic


def fail_half_way(writing: AbstractContextManager[Path]) -> None:
    with writing as temporary:
        (temporary / "x" if temporary.is_dir() else temporary).write_text("half")
        _ = 1 / 0


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError):
        fail_half_way(atomic_path(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("reason", [None, errno.EPERM, errno.ENOTSUP])
def test_a_file_is_created_once_also_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int | None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, "no hard links here")

    if reason is not None:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "key"
    create_atomic(path, "first", mode=0o600)
    create_atomic(path, "second")
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_created_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="the disk failed"):
        create_atomic(tmp_path / "key", "first")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "b") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "b").exists()
    assert (tmp_path / "b" / "x").read_text() == "1"


def test_a_failed_folder_vanishes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_half_way(atomic_folder(tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"), atomic_folder(tmp_path):
        pass


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match=r"No space left on device: .*rows\.csv'$"), atomic_path(tmp_path / "rows.csv"):
        raise full
    with pytest.raises(OSError, match=r"No space left on device: .*bundle'$"), atomic_folder(tmp_path / "bundle"):
        raise full
    assert not list(tmp_path.iterdir())
