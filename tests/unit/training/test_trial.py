"""What cannot be exported is refused before it is trained, with the exporter's reason."""

from pathlib import Path

import pytest

from dle_bundle.errors import InputError
from dle_bundle.schema import Field, ImageShape, Outputs, Schema
from dle_training.config import run_config
from dle_training.export import dry_run, graph
from dle_training.models import backbone
from dle_training.models._base import Network
from dle_training.models.cnn import CnnConfig, CnnEncoder

FORM = ImageShape(channels=3, height=32, width=32)
SCHEMA = Schema(
    inputs=(Field(name="photo", kind="image", required=True, image=FORM),),
    outputs=Outputs(target="kind", task="binary", classes=("cat", "dog"), positive_class="dog"),
)


@pytest.fixture(autouse=True)
def other_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder of another library that needs no other library."""
    monkeypatch.setattr(
        backbone, "BackboneEncoder", lambda settings, shape, dropout, **_: CnnEncoder(CnnConfig(), shape, dropout)
    )


def test_what_exports_is_let_through() -> None:
    dry_run.check(run_config.load(None, ["model.name=timm:some_net"]), SCHEMA)


def test_what_does_not_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: Network, *_: object) -> None:
        raise NotImplementedError("no operator for this\nand much more")

    monkeypatch.setattr(graph, "try_images", fail)
    with pytest.raises(InputError, match=r"timm:some_net cannot be exported.*no operator for this$"):
        dry_run.check(run_config.load(None, ["model.name=timm:some_net"]), SCHEMA)
    dry_run.check(run_config.load(), SCHEMA)  # the project's own are known to export
    dry_run.check(run_config.load(None, ["model.name=cnn"]), SCHEMA)


def test_it_is_refused_before_a_folder_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Anything else would have to be removed before the mended command can run."""
    from PIL import Image

    from dle_training import api

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (32, 32), (index * 30, 0, 0)).save(tmp_path / "photos" / name / f"{index}.png")

    def fail(network: Network, *_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(graph, "try_images", fail)
    config = run_config.load(None, ["model.name=timm:some_net"], {"data.source": str(tmp_path / "photos")})
    with pytest.raises(InputError, match="cannot be exported"):
        api.begin(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
