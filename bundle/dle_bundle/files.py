"""Atomic files and folders: written under a temporary name, synced, then renamed, so they are never incomplete."""

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dle_bundle.errors import InputError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What a file system without hard links answers."""


def sync(path: Path) -> None:
    """Sync a file or folder to disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path`; its file replaces `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # keep the suffix, since some writers choose the format by it
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, mode)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if full := _full(error, path):
            raise full from error
        raise
    sync(path.parent)


def _full(error: BaseException, path: Path) -> OSError | None:
    """Return the error of a full disk with its path, because a write does not know the name of its file."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return OSError(error.errno, os.strerror(error.errno), str(path))


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace the file at `path` atomically by `content` (text as UTF-8)."""
    with atomic_path(path, mode=mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def create_atomic(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Create the file at `path` atomically unless it exists; of several processes the first one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def _place(temporary: Path, path: Path) -> None:
    """Give the file its name unless that exists."""
    try:
        os.link(temporary, path)  # unlike a rename, a link never replaces an existing file
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_under_lock(temporary, path)


def _rename_under_lock(temporary: Path, path: Path) -> None:
    """Rename the file unless `path` exists; processes take turns by a lock on the folder."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            os.rename(temporary, path)
    finally:
        os.close(folder)


def refuse_impossible(folder: Path) -> None:
    """Raise InputError when the folder cannot be created."""
    above = next(each for each in folder.absolute().parents if each.exists())
    if not above.is_dir():
        raise InputError(f"{folder} cannot be created: {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be created: {above} is not writable")


@contextmanager
def atomic_folder(target: Path, *, mode: int = 0o755) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends without an error, and is deleted otherwise.

    Raises InputError when `target` exists or cannot be created.
    """
    if target.exists():
        raise InputError(f"{target} exists already: choose another folder or remove it first")
    refuse_impossible(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            sync(path)
        os.chmod(temporary, mode)
        sync(temporary)
        # a rename fails on a non-empty target, so a folder created meanwhile is never overwritten
        os.rename(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if full := _full(error, target):
            raise full from error
        raise
    sync(target.parent)
