"""Locks between processes work where folders cannot be locked, and their files are not taken for content."""

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import bundles

from dle_bundle import locks
from dle_bundle.locks import Lock, alone_in
from dle_serving import auth
from dle_serving.feedback.store import open_store
from dle_serving.models.discovery import load_bundles

# Takes the lock named by the first argument on the folder, says so, and holds it until its input ends.
HOLDER = """
import sys
from pathlib import Path
from typing import Any
from dle_bundle.locks import Lock, alone_in
kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "Lock":
    lock = Lock(folder)
    assert lock.acquire()
    print("held", flush=True)
    sys.stdin.read()
else:
    with alone_in(folder):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _folders_cannot_be_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system."""
    lock = fcntl.flock

    def flock(file: Any, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode):
            raise OSError("folders cannot be locked here")
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, request.param, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def is_locked(path: Path) -> bool:
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_folder_itself_cannot_be_locked_in_these_tests(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="cannot be locked"):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)


def test_alone_in_holds_a_hidden_file_while_its_block_runs(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        (file,) = tmp_path.iterdir()
        assert file.name.startswith(".")
        assert is_locked(file)
    assert not is_locked(file)
    assert file.read_bytes() == b""


def test_alone_in_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), alone_in(tmp_path / "absent"):
        raise AssertionError


def test_alone_in_is_released_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path):
        raise ZeroDivisionError
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize("holder", ["alone_in"], indirect=True)
def test_alone_in_waits_for_another_process_and_goes_on_when_that_dies(
    holder: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_locked(tmp_path / ".lock")
    lock = fcntl.flock

    def flock(file: int, operation: int) -> None:
        with pytest.raises(BlockingIOError):  # it would wait
            lock(file, operation | fcntl.LOCK_NB)
        holder.kill()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone_in(tmp_path):
        assert holder.wait() < 0


@pytest.mark.parametrize("holder", ["Lock"], indirect=True)
def test_a_lock_is_for_one_process_and_ends_with_it(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    assert not lock.acquire()
    assert not lock.held
    holder.kill()
    holder.wait()
    assert lock.acquire()
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held
    assert (tmp_path / locks.LOCK).read_bytes() == b""


@pytest.mark.parametrize("holder", ["Lock"], indirect=True)
def test_blocks_run_in_a_folder_that_a_lock_holds_for_long(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """A server holds DLE_HOME as long as it runs; its workers open the feedback store in it."""
    store = open_store(None, tmp_path)
    store.check()
    store.close()
    assert (tmp_path / "feedback.sqlite3").exists()
    assert holder.poll() is None


def test_a_lock_makes_its_folder(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "new" / "folder")
    assert lock.acquire()
    lock.release()


def test_api_keys_are_added_under_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    auth.add(file, "first", ["predict"])
    auth.add(file, "second", ["predict"])
    assert [key.name for key in auth.load(file)] == ["first", "second"]


def test_a_lock_file_is_no_bundle(tmp_path: Path) -> None:
    bundles.write(tmp_path / "bundle")
    lock = Lock(tmp_path)
    assert lock.acquire()
    with alone_in(tmp_path), alone_in(tmp_path / "bundle"):
        assert [bundle.folder for bundle in load_bundles([tmp_path])] == [tmp_path / "bundle"]
    lock.release()
