from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_serving import settings


def test_defaults_with_bundles_alone() -> None:
    found = settings.from_environment({"DLE_BUNDLES": "a:b", "DLE_THREADS": "", "DLE_PORT": "tcp://10.0.0.1:80"})
    assert found == settings.Settings(bundles=(Path("a"), Path("b")))
    assert found.keys_file == Path(".dle/token.keys")


def test_every_variable_is_read() -> None:
    texts = {
        "DLE_BUNDLES": "b",
        "DLE_HOME": "h",
        "DLE_WORKERS": "3",
        "DLE_DEVICE": "cpu",
        "DLE_THREADS": "4",
        "DLE_BATCH_ROWS": "5",
        "DLE_MAX_BODY_BYTES": "6",
        "DLE_MAX_ROWS": "7",
        "DLE_TOKEN_KEYS_FILE": "k",
    }
    assert set(texts) == {variable.name for variable in settings.VARIABLES}
    found = settings.from_environment(texts)
    assert found == settings.Settings((Path("b"),), Path("h"), 3, "cpu", 4, 5, 6, 7, Path("k"))


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        settings.from_environment({"DLE_DEVICE": "tpu", "DLE_WORKERS": "0", "DLE_THREADS": "two"})
    assert len(caught.value.details) == 4
    assert "DLE_DEVICE: expected auto, cpu or cuda, found 'tpu'" in caught.value.details
    assert any(line.startswith("DLE_BUNDLES: ") for line in caught.value.details)
