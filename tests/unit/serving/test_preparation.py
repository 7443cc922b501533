"""What a start refuses, in words, and what it only warns of."""

import os
from pathlib import Path

import msgspec
import pytest
from tests import bundles

from dle_bundle import bundle as bundle_files
from dle_bundle import documents, manifest
from dle_bundle.errors import BundleError, InputError, WorkError
from dle_serving.feedback.databases import StoreError
from dle_serving.server import preparation
from dle_serving.server.preparation import prepare
from dle_serving.settings import ServerSettings

HOST = "127.0.0.1"


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings((bundles.write(tmp_path / "income"),), tmp_path / "home")


def test_the_workers_load_copies_and_the_directory_is_held(settings: ServerSettings) -> None:
    prepared, lock = prepare(settings, HOST)
    (copy,) = prepared.bundles
    assert copy.parent == settings.home / "bundles"
    with pytest.raises(WorkError, match="is in use by another server: set DLE_HOME to a directory of its own"):
        prepare(settings, HOST)
    lock.release()
    prepare(settings, HOST)[1].release()


def test_wrong_bundles_are_refused_before_anything_is_written(settings: ServerSettings) -> None:
    (settings.bundles[0] / bundle_files.MODEL).unlink()
    with pytest.raises(BundleError):
        prepare(settings, HOST)
    assert not settings.home.exists()


@pytest.mark.parametrize("name", ["two\nlines", "..", "a/b", "", "-o", "a\x00"])
def test_a_name_that_paths_and_labels_cannot_hold_is_refused(settings: ServerSettings, name: str) -> None:
    path = settings.bundles[0] / bundle_files.MANIFEST
    path.write_bytes(documents.encode(msgspec.structs.replace(manifest.load(path), name=name)))
    with pytest.raises(
        BundleError, match=r"manifest\.json: name: expected letters, digits, '\.', '_' and '-'"
    ) as found:
        prepare(settings, HOST)
    assert "\n\n" not in str(found.value)
    assert f"found {name!r}" in str(found.value)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("token.keys", b"", "token.keys: cannot read the keys that sign prediction ids: expected keys of at least"),
        ("token.keys", b"\xff\xfe", "token.keys: cannot read the keys"),
        ("server.id", b"", "server.id: expected the server's id, 16 hexadecimal digits, found ''"),
        ("server.id", b"\xff\xfe\n", "server.id: expected the server's id"),
        ("server.id", b"0123456789abcde", "server.id: expected the server's id"),
    ],
)
def test_a_file_that_is_half_written_is_refused(settings: ServerSettings, file: str, content: bytes, said: str) -> None:
    settings.home.mkdir()
    (settings.home / file).write_bytes(content)
    with pytest.raises(InputError) as found:
        prepare(settings, HOST)
    assert said in str(found.value)
    (settings.home / file).unlink()
    prepare(settings, HOST)[1].release()  # the lock was not kept


def full(*arguments: object, **options: object) -> None:
    raise OSError(28, os.strerror(28), "/disk/file")


@pytest.mark.parametrize("step", ["load_signing_keys", "open_store", "copy_bundles", "Roster.reset", "Lock.acquire"])
def test_a_full_disk_is_said_in_words(settings: ServerSettings, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(f"dle_serving.server.preparation.{step}", full)
        with pytest.raises(WorkError, match="DLE_HOME: /disk/file: No space left on device"):
            prepare(settings, HOST)
    prepare(settings, HOST)[1].release()


def test_what_is_only_warned_of(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DLE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("DLE_COLOUR", "red")

    class Unreachable:
        def check(self) -> None:
            raise StoreError("no route to host")

        def close(self) -> None:
            pass

    monkeypatch.setattr(preparation, "open_store", lambda url, home: Unreachable())
    prepare(settings, HOST)[1].release()
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "Warning: DLE_COLOUR is set, but is no setting of this service"
    assert second.startswith("Warning: DLE_TOKEN_KEYS_FILE is not set: ")
    assert third == (
        "Warning: the feedback store cannot be reached; POST /feedback returns 503 until it can: no route to host"
    )
