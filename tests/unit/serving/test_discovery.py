from pathlib import Path

import pytest
from tests import bundles

from dle_bundle.errors import BundleError
from dle_serving.models.discovery import load_bundles


def test_places_are_bundles_or_folders_of_bundles(tmp_path: Path) -> None:
    lone = bundles.write(tmp_path / "lone", bundles.PRICE, name="price")
    bundles.write(tmp_path / "many" / "b", name="b")
    bundles.write(tmp_path / "many" / "a", name="a")
    bundles.write(tmp_path / "many" / ".a.half", name="half")
    (tmp_path / "many" / "notes").mkdir()
    found = load_bundles([lone, tmp_path / "many"])
    assert [bundle.manifest.name for bundle in found] == ["price", "a", "b"]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    altered = bundles.write(tmp_path / "altered")
    (altered / "schema.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    first, second = bundles.write(tmp_path / "first"), bundles.write(tmp_path / "second")
    with pytest.raises(BundleError) as caught:
        load_bundles([altered, tmp_path / "empty", tmp_path / "absent", first, second])
    text = str(caught.value)
    assert "schema.json: expected SHA-256" in text
    assert "empty: neither a bundle nor a folder that contains bundles" in text
    assert "absent: no such folder" in text
    assert "are both income version 1" in text
    assert caught.value.exit_code == 2
