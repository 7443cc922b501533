from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_serving import settings


def test_defaults_with_bundles_alone() -> None:
    found = settings.from_environment({"DLE_BUNDLES": "a:b", "DLE_THREADS": "", "DLE_PORT": "tcp://10.0.0.1:80"})
    assert found == settings.ServerSettings(bundles=(Path("a"), Path("b")))
    assert found.signing_keys_file == Path(".dle/token.keys")


def test_every_variable_is_read() -> None:
    texts = {
        "DLE_BUNDLES": "b",
        "DLE_BENTO_MODELS": "price:1, digit:20",
        "DLE_HOME": "h",
        "DLE_WORKERS": "3",
        "DLE_DEVICE": "cpu",
        "DLE_THREADS": "4",
        "DLE_BATCH_ROWS": "5",
        "DLE_MAX_BODY_BYTES": "6",
        "DLE_MAX_ROWS": "7",
        "DLE_MAX_PIXELS": "8",
        "DLE_TOKEN_KEYS_FILE": "k",
        "DLE_API_KEYS_FILE": "a",
        "DLE_INSECURE": "true",
        "DLE_MONITORING": "false",
        "DLE_DRIFT_WINDOW": "30m",
        "DLE_FEEDBACK_STORE": "postgresql://localhost/dle",
        "DLE_FEEDBACK_MAX_AGE": "12h",
        "DLE_MAX_CONNECTIONS": "8",
        "DLE_MAX_HEADER_BYTES": "9",
        "DLE_KEEP_ALIVE": "5m",
        "DLE_FIRST_BYTE_TIMEOUT": "1s",
        "DLE_HEADER_TIMEOUT": "2s",
        "DLE_BODY_TIMEOUT": "3s",
        "DLE_REQUEST_TIMEOUT": "4s",
        "DLE_MAX_WAIT": "6s",
        "DLE_MAX_WAITING_ROWS": "10",
        "DLE_MAX_WAITING_BYTES": "11",
        "DLE_DRAIN_SECONDS": "0",
        "DLE_HANG_SECONDS": "7",
    }
    assert set(texts) == {variable.name for variable in settings.VARIABLES}
    found = settings.from_environment(texts)
    assert found == settings.ServerSettings(
        (Path("b"),),
        Path("h"),
        3,
        "cpu",
        4,
        5,
        6,
        7,
        8,
        Path("k"),
        Path("a"),
        True,
        False,
        1800,
        "postgresql://localhost/dle",
        43_200,
        max_connections=8,
        max_header_bytes=9,
        keep_alive=300,
        first_byte_timeout=1,
        header_timeout=2,
        body_timeout=3,
        request_timeout=4,
        max_wait=6,
        max_waiting_rows=10,
        max_waiting_bytes=11,
        drain_seconds=0,
        hang_seconds=7,
        bento_models=("price:1", "digit:20"),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DLE_DRIFT_WINDOW", "90"),
        ("DLE_DRIFT_WINDOW", "90s"),
        ("DLE_DRIFT_WINDOW", "2d"),
        ("DLE_FEEDBACK_MAX_AGE", "d"),
        ("DLE_FEEDBACK_MAX_AGE", "0d"),
        ("DLE_INSECURE", "yes"),
        ("DLE_DRAIN_SECONDS", "-1"),
        ("DLE_HANG_SECONDS", "0"),
        ("DLE_BENTO_MODELS", "price"),
        ("DLE_BENTO_MODELS", "price:"),
        ("DLE_BENTO_MODELS", "price:latest"),
        ("DLE_BENTO_MODELS", "price:1;digit:2"),
        ("DLE_BENTO_MODELS", "Price:1"),
        ("DLE_BENTO_MODELS", ","),
    ],
)
def test_what_is_no_duration_and_no_truth_value_is_refused(name: str, text: str) -> None:
    with pytest.raises(InputError, match="settings") as caught:
        settings.from_environment({"DLE_BUNDLES": "b", name: text})
    assert [detail.partition(":")[0] for detail in caught.value.details] == [name]


def test_durations_are_written_as_they_are_read() -> None:
    for variable in settings.VARIABLES:
        if variable.field in ("drift_window", "feedback_max_age"):
            for text in ("1m", "90m", "5h", "1d"):
                assert variable.write(variable.read(text)) == text


def test_models_of_bentoml_make_bundles_unnecessary() -> None:
    found = settings.from_environment({"DLE_BENTO_MODELS": "price:1"})
    assert (found.bundles, found.bento_models) == ((), ("price:1",))
    with pytest.raises(InputError) as caught:  # what is wrong is not also missing
        settings.from_environment({"DLE_BENTO_MODELS": "price"})
    assert len(caught.value.details) == 1


def test_places_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = settings.from_environment({"DLE_BUNDLES": "a:/b", "DLE_API_KEYS_FILE": "keys"})
    assert found.places() == {
        "DLE_BUNDLES": f"{tmp_path}/a:/b",
        "DLE_HOME": f"{tmp_path}/.dle",
        "DLE_API_KEYS_FILE": f"{tmp_path}/keys",
    }


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        settings.from_environment({"DLE_DEVICE": "tpu", "DLE_WORKERS": "0", "DLE_THREADS": "two"})
    assert len(caught.value.details) == 4
    assert "DLE_DEVICE: expected auto, cpu or cuda, found 'tpu'" in caught.value.details
    assert any(line.startswith("DLE_BUNDLES is not set: ") for line in caught.value.details)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("DLE_WORKER", "DLE_WORKERS"),
        ("DLE_BUNDELS", "DLE_BUNDLES"),
        ("DLE_THRAEDS", "DLE_THREADS"),
        ("DLE_API_KEY_FILE", "DLE_API_KEYS_FILE"),
        ("DLE_DRAIN_SECOND", "DLE_DRAIN_SECONDS"),
    ],
)
def test_a_variable_near_a_setting_is_taken_for_a_mistake(misspelt: str, meant: str) -> None:
    assert settings.from_environment({"DLE_BUNDLES": "b", misspelt: ""})
    with pytest.raises(InputError) as caught:
        settings.from_environment({"DLE_BUNDLES": "b", misspelt: "1"})
    assert caught.value.details == (f"{misspelt}: no such setting; did you mean {meant}?",)


def test_other_unknown_variables_are_only_told_and_those_of_kubernetes_are_not() -> None:
    kubernetes = (
        "DLE_SERVICE_HOST",
        "DLE_SERVICE_PORT",
        "DLE_SERVICE_PORT_HTTP",
        "DLE_PORT",
        "DLE_PORT_3000_TCP",
        "DLE_PORT_3000_TCP_PROTO",
        "DLE_HOMES_SERVICE_HOST",
        "DLE_WORKERS_PORT",
        "DLE_DEVICE_PORT_80_TCP_ADDR",
    )
    environment = {"DLE_BUNDLES": "b", **dict.fromkeys(kubernetes, "tcp://10.0.0.1:80"), "DLE_COLOUR": "red", "A": "b"}
    assert settings.from_environment(environment) == settings.ServerSettings((Path("b"),))
    assert settings.unknown_variables(environment) == ["DLE_COLOUR"]


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("", "ab", 2), ("ab", "ab", 0), ("kitten", "sitting", 3), ("ab", "ba", 2), ("ab", "b", 1)],
)
def test_edits(one: str, other: str, edits: int) -> None:
    assert settings._edits(one, other) == settings._edits(other, one) == edits
