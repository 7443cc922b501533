import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests import bundles
from tests.inprocess import InProcess, assert_is_error

from dle_bundle.errors import InputError
from dle_serving import auth
from dle_serving.errors import Unauthorized
from dle_serving.settings import ServerSettings

SHA = hashlib.sha256(b"secret").hexdigest()
OPEN = {"/livez", "/healthz", "/readyz", "/schema.json", "/docs", "/docs/{file}"}


class Guarded:
    """A service with keys, one for each scope by its name."""

    def __init__(self, folder: Path) -> None:
        made = {scope: auth.make(f"of-{scope}", [scope]) for scope in auth.SCOPES}
        self.keys = {scope: key for scope, (key, _) in made.items()}
        self.file = folder / "keys"
        self.file.write_text("# all\n\n" + "".join(entry.line() for _, entry in made.values()))
        bundle = bundles.write(folder / "income")
        self.running = InProcess(ServerSettings(bundles=(bundle,), home=folder / "home", api_keys_file=self.file))

    def ask(self, path: str, key: str | None, method: str = "GET", **arguments: Any) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return self.running.request(method, path, headers=headers, **arguments)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    service = Guarded(tmp_path_factory.mktemp("guarded"))
    yield service
    service.running.close()


def test_every_route_but_the_open_ones_asks_for_a_key(guarded: Guarded) -> None:
    for route in guarded.running.app._router.routes:
        path = route.path.format(model="income", version="1", file="swagger-ui.css")
        for given in (None, "", "wrong", SHA):
            response = guarded.ask(path, given, route.method)
            if route.path in OPEN:
                assert response.status_code == 200, path
            else:
                assert_is_error(response, 401)
                assert response.headers["www-authenticate"] == "Bearer"
        for scope, key in guarded.keys.items():
            response = guarded.ask(path, key, route.method)
            if route.scope in (None, scope) or scope == "admin":
                assert response.status_code not in (401, 403), path
            else:
                error = assert_is_error(response, 403)["error"]
                assert error == f"the API key 'of-{scope}' has the scopes {scope}, not {route.scope}"


def test_a_key_answers(guarded: Guarded) -> None:
    body = {"rows": [dict(bundles.EXAMPLE)]}
    assert guarded.ask("/predict", guarded.keys["predict"], "POST", json=body).status_code == 200
    assert guarded.ask("/predict", guarded.keys["admin"], "POST", json=body).status_code == 200
    response = guarded.running.get("/schema", headers={"authorization": f"bearer  {guarded.keys['predict']}"})
    assert response.status_code == 200
    assert_is_error(guarded.running.get("/schema", headers={"authorization": f"Basic {guarded.keys['predict']}"}), 401)


def test_a_path_that_is_none_is_none_for_everybody(guarded: Guarded) -> None:
    assert_is_error(guarded.ask("/nope", None), 404)
    assert_is_error(guarded.ask("/models/nope/schema", None), 401)
    assert_is_error(guarded.ask("/models/nope/schema", guarded.keys["predict"]), 404)
    assert_is_error(guarded.ask("/schema", None, "DELETE"), 401)


def test_refusals_are_counted_from_the_start(guarded: Guarded, service: InProcess) -> None:
    text = guarded.ask("/metrics", guarded.keys["metrics"]).text
    for code in (401, 403):
        assert f'dle_requests_total{{code="{code}",route="/openapi.json"}}' in text
        assert f'dle_requests_total{{code="{code}",route="/livez"}}' not in text
    assert 'code="401"' not in service.get("/metrics").text


def test_the_contract_says_what_a_key_must_be_allowed(guarded: Guarded, service: InProcess) -> None:
    document = guarded.ask("/openapi.json", guarded.keys["predict"]).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    assert document["paths"]["/metrics"]["get"]["security"] == [{"bearer": ["metrics"]}]
    assert {"401", "403"} <= set(document["paths"]["/predict"]["post"]["responses"])
    assert "security" not in document["paths"]["/livez"]["get"]
    text = service.get("/openapi.json").text
    assert "security" not in text
    assert '"401"' not in text


def test_a_file_that_changes_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    errors: list[str] = []
    log = SimpleNamespace(error=lambda text, *values: errors.append(text % values), info=lambda *_: None)
    monkeypatch.setattr(auth, "log", log)
    file = tmp_path / "keys"
    (old, first), (new, second) = auth.make("old", ["predict"]), auth.make("new", ["predict"])
    file.write_text(first.line())
    keyring = auth.Keyring(file)

    def known(key: str) -> bool:
        try:
            keyring.check(f"Bearer {key}".encode(), "predict")
        except Unauthorized:
            return False
        return True

    assert (known(old), known(new)) == (True, False)
    file.write_text(first.line() + second.line())
    assert not known(new)  # looked at once a second
    now[0] = 1.0
    assert (known(old), known(new)) == (True, True)
    file.write_text("# none\nold predikt zz\nnew\n")
    now[0] = 2.0
    assert (known(old), known(new)) == (True, True)
    (error,) = errors
    for fault in ("line 2: scope 'predikt'", "did you mean 'predict'", "line 2: hash", "line 3: expected NAME"):
        assert fault in error
    now[0] = 3.0
    assert known(new)
    assert len(errors) == 1  # once for each state
    replaced = tmp_path / "replaced"
    replaced.write_text(second.line())
    os.replace(replaced, file)
    now[0] = 4.0
    assert (known(old), known(new)) == (False, True)


@pytest.mark.parametrize("last", ["emptied", "gone"])
def test_taking_the_last_key_out_refuses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    file = tmp_path / "keys"
    key = auth.add(file, "web", ["predict"])
    keyring = auth.Keyring(file)
    keyring.check(f"Bearer {key}".encode(), "predict")
    if last == "gone":
        file.unlink()
    else:
        file.write_text("# none any more\n")
    now[0] = 1.0
    with pytest.raises(Unauthorized):
        keyring.check(f"Bearer {key}".encode(), "predict")


def test_a_worker_that_starts_with_a_wrong_file_refuses_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    key, entry = auth.make("web", ["predict"])
    (file := tmp_path / "keys").write_text("web predikt\n")
    keyring = auth.Keyring(file)
    with pytest.raises(Unauthorized):
        keyring.check(f"Bearer {key}".encode(), "predict")
    file.write_text(entry.line())
    now[0] = 1.0
    keyring.check(f"Bearer {key}".encode(), "predict")


def test_keys_that_are_added_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: auth.add(file, f"k{number}", ["predict"]), range(24)))
    assert {key.name for key in auth.load(file)} == {f"k{number}" for number in range(24)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "keys"]


def test_the_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    auth.add(file, "first", ["predict"])
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    auth.add(file, "second", ["predict"])
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["contains no API keys; create one with: dle-key NAME --file "]),
        (f"a predict {SHA} x\n", ["line 1: expected NAME SCOPES SHA256, found 4 words"]),
        (f"# c\n-a predict,all {SHA}\n", ["line 2: name '-a'", "line 2: scope 'all': expected one of predict, feed"]),
        (f"a predict {SHA[1:]}\n", ["line 1: hash: expected the SHA-256"]),
        (
            f"a predict {SHA}\na metrics {SHA}\n",
            ["line 2: the name is already that of 'a'", "line 2: the key is already that of 'a'"],
        ),
        ("a , x\n", ["line 1: scope ''", "line 1: hash"]),
    ],
)
def test_every_fault_of_a_file_is_told(tmp_path: Path, text: str, faults: list[str]) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        auth.load(file)
    assert str(file) in str(caught.value)
    for fault in faults:
        assert fault in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read API keys: No such file"):
        auth.load(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"cannot read API keys: .*utf-8"):
        auth.load(tmp_path / "binary")


def test_comments_and_upper_case_are_read() -> None:
    (key,) = auth.parse(f"  # first\n app\tfeedback,predict  {SHA.upper()}  # of the shop\n")
    assert (key.name, sorted(key.scopes), key.digest) == ("app", ["feedback", "predict"], bytes.fromhex(SHA))
    assert auth.parse(key.line()) == (key,)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(tmp_path: Path, host: str) -> None:
    auth.check_start(ServerSettings(bundles=(tmp_path,)), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.invalid"])
def test_beyond_loopback_keys_or_a_word_are_needed(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match=f"Anyone who can reach {host} could use a server") as caught:
        auth.check_start(ServerSettings(bundles=(tmp_path,)), host)
    assert "dle-key" in str(caught.value)
    assert "--insecure" in str(caught.value)
    auth.check_start(ServerSettings(bundles=(tmp_path,), insecure=True), host)
    file = tmp_path / "keys"
    file.write_text(auth.make("app", ["predict"])[1].line())
    auth.check_start(ServerSettings(bundles=(tmp_path,), api_keys_file=file), host)
    with pytest.raises(InputError, match="cannot read API keys"):
        auth.check_start(ServerSettings(bundles=(tmp_path,), api_keys_file=tmp_path / "absent", insecure=True), host)
