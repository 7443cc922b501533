import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dle_bundle.errors import InputError
from dle_cli.key import app
from dle_serving import auth
from dle_serving.errors import Forbidden, Unauthorized


def make(*arguments: object) -> str:
    """What the command prints."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False).stdout


def test_a_key_is_told_once_and_kept_as_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = make("shop", "--file", file, "--quiet").strip()
    second = json.loads(make("prom", "--file", file, "--scopes", "metrics, admin", "--json"))
    assert second == {"name": "prom", "scopes": ["metrics", "admin"], "file": str(file), "key": second["key"]}
    text = file.read_text()
    assert text.startswith("# ")
    assert not any(key in text for key in (first, second["key"]))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keyring = auth.Keyring(file)
    keyring.check(f"Bearer {first}".encode(), "feedback")
    with pytest.raises(Forbidden):
        keyring.check(f"Bearer {first}".encode(), "metrics")
    keyring.check(f"Bearer {second['key']}".encode(), "predict")
    with pytest.raises(Unauthorized):
        keyring.check(b"Bearer " + first[:-1].encode(), "predict")


def test_what_there_is_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    written = f"# ours\n\nold metrics {'a' * 64}  # of March"
    file.write_text(written)
    make("new", "--file", file)
    assert file.read_text().startswith(f"{written}\nnew predict,feedback ")
    with pytest.raises(InputError, match="already contains a key named 'old'"):
        make("old", "--file", file)
    file.write_text("half a line\n")
    with pytest.raises(InputError, match=r"line 1: scope 'a'"):
        make("more", "--file", file)
    assert file.read_text() == "half a line\n"


def test_a_link_stays_one_and_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make("web", "--file", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert [key.name for key in auth.load(tmp_path / "real")] == ["web"]
    with pytest.raises(InputError, match="no such folder"):
        make("web", "--file", tmp_path / "nowhere" / "keys")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [(("a/b",), "name 'a/b'"), (("a", "--scopes", "predict,all"), "scope 'all'"), (("a", "--scopes", ""), "scope ''")],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: tuple[str, ...], fault: str) -> None:
    with pytest.raises(InputError) as caught:
        make(*arguments, "--file", tmp_path / "keys")
    assert fault in str(caught.value)
    assert not (tmp_path / "keys").exists()


def test_the_next_commands_are_told(tmp_path: Path) -> None:
    said = make("shop", "--file", tmp_path / "my keys")
    (key,) = [line.split()[1] for line in said.splitlines() if line.strip().startswith("key ")]
    assert f"Next: DLE_API_KEYS_FILE='{tmp_path / 'my keys'}' dle-serve BUNDLE" in said
    assert f"curl -s localhost:3000/schema -H 'authorization: Bearer {key}'" in said
