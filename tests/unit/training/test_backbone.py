"""Backbones of the real timm, small ones: shapes, frozen and published weights, the graph, and what a user is told."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from tests.unit.training.exported import answers
from torch import Tensor

from dle_bundle.errors import InputError
from dle_training.models import backbone
from dle_training.models.backbone import BackboneConfig, BackboneEncoder
from dle_training.preprocessing.shape import Images, InputShape

IMAGES = Images(columns=1, channels=3, height=32, width=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
NAMES = ("test_resnet", "test_mambaout", "test_vit", "test_convnext")
PLAIN = BackboneConfig(pretrained=False)


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """The real library."""
    missing = [name for name in ("timm", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"BACKBONES ARE NOT TESTED: not installed: {', '.join(missing)}")
    return backbone._import("test_resnet")


def encoder(
    name: str = "test_resnet", images: Images = IMAGES, settings: BackboneConfig = PLAIN, pretrained: bool = False
) -> BackboneEncoder:
    return BackboneEncoder(settings, InputShape(image=images), 0.0, architecture=name, pretrained=pretrained)


def pixels(rows: int, images: Images = IMAGES) -> Tensor:
    shape = (rows, images.columns * images.channels, images.height, images.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.fixture
def published(timm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What the hub's cache holds as published weights of test_resnet, with nothing else to be had."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    weights: dict[str, Tensor] = timm.create_model("test_resnet", pretrained=False).state_dict()
    folder = tmp_path / ("models--" + timm.models.get_pretrained_cfg("test_resnet").hf_hub_id.replace("/", "--"))
    (folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0", encoding="utf-8")
    save_file(weights, folder / "snapshots" / "0" / "model.safetensors")
    return weights


@pytest.mark.usefixtures("timm")
class TestBackbones:
    @pytest.mark.parametrize("name", NAMES)
    def test_shape_and_rows_alone(self, name: str) -> None:
        built = encoder(name)
        assert built({"image": pixels(4)}).shape == (4, built.width)
        built.eval()
        given = pixels(7)
        whole = built({"image": given})
        assert whole.dtype == torch.float32
        torch.testing.assert_close(built({"image": given[3:4]}), whole[3:4], atol=1e-5, rtol=1e-4)
        assert torch.equal(built({"image": given.float()}), whole)

    def test_names_may_have_a_tag(self) -> None:
        assert encoder("test_resnet.r160_in1k").width == encoder("test_resnet").width

    def test_grey_images_are_repeated(self) -> None:
        grey = replace(IMAGES, channels=1, mean=(0.4,), std=(0.2,))
        built = encoder(images=grey).eval()
        given = pixels(3, grey)
        colours = encoder(images=replace(IMAGES, mean=(0.4,) * 3, std=(0.2,) * 3)).eval()
        colours.load_state_dict(built.state_dict())
        torch.testing.assert_close(built({"image": given}), colours({"image": given.expand(-1, 3, -1, -1)}))

    def test_other_channels_than_colours(self) -> None:
        odd = replace(IMAGES, channels=2, mean=(0.4, 0.5), std=(0.2, 0.3))
        built = encoder(images=odd, settings=BackboneConfig(pretrained=True))
        assert built({"image": pixels(3, odd)}).shape == (3, built.width)
        assert built.standardised.mean.flatten().tolist() == pytest.approx([0.4 * 255, 0.5 * 255])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_columns_share_the_weights(self, channels: int) -> None:
        one = replace(IMAGES, channels=channels, mean=(0.4,) * channels, std=(0.2,) * channels)
        two = replace(one, columns=2)
        built, alone = encoder(images=two).eval(), encoder(images=one).eval()
        alone.load_state_dict(built.state_dict())
        given = pixels(3, two)
        parts = [alone({"image": part}) for part in given.chunk(2, dim=1)]
        assert built.width == 2 * alone.width
        torch.testing.assert_close(built({"image": given}), torch.cat(parts, dim=1), atol=1e-5, rtol=1e-4)

    def test_all_is_trained_unless_frozen(self) -> None:
        built = encoder()
        built({"image": pixels(8)}).square().sum().backward()
        for name, parameter in built.named_parameters():
            assert parameter.grad is not None, name

    def test_frozen_is_frozen(self) -> None:
        built = encoder(settings=BackboneConfig(pretrained=False, frozen=True))
        before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
        assert not [parameter for parameter in built.parameters() if parameter.requires_grad]
        features = built.train()({"image": pixels(8)})
        assert built.training
        assert not features.requires_grad
        assert all(torch.equal(before[name], tensor) for name, tensor in built.state_dict().items())

    @pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
    def test_the_graph_answers_alike_at_other_sizes(self, name: str) -> None:
        built = encoder(name).eval()
        for rows, graph in answers(built, {"image": pixels(3)}, [{"image": pixels(n)} for n in (1, 2, 7)]):
            torch.testing.assert_close(graph, built(rows), atol=1e-5, rtol=1e-4)

    @pytest.mark.full
    @pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "efficientnet_b0"])
    def test_the_graph_of_what_people_use(self, name: str) -> None:
        images = replace(IMAGES, height=64, width=64)
        built = encoder(name, images).eval()
        given = [{"image": pixels(n, images)} for n in (1, 2, 7)]
        for rows, graph in answers(built, {"image": pixels(3, images)}, given):
            torch.testing.assert_close(graph, built(rows), atol=1e-4, rtol=1e-4)

    def test_same_seed_same_weights(self) -> None:
        pair = []
        for _ in range(2):
            torch.manual_seed(5)
            pair.append(encoder().state_dict())
        assert all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0])


class TestPublishedWeights:
    def test_they_are_loaded_and_their_statistics_used(self, published: dict[str, Tensor]) -> None:
        built = encoder(settings=BackboneConfig(pretrained=True), pretrained=True)
        for name, tensor in built.backbone.state_dict().items():
            assert torch.equal(tensor, published[name]), name
        assert built.standardised.mean.flatten().tolist() == [127.5, 127.5, 127.5]

    def test_a_run_opened_again_needs_none(self, timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        settings = BackboneConfig(pretrained=True)
        state = encoder(settings=settings).state_dict()
        state["standardised.mean"] = state["standardised.mean"] + 1  # as another release of timm may have it
        again = encoder(settings=settings)
        again.load_state_dict(state)
        assert torch.equal(again.standardised.mean, state["standardised.mean"])

    def test_where_they_cannot_be_had(self, published: dict[str, Tensor]) -> None:
        with pytest.raises(InputError, match=r"(?s)timm:test_vit cannot be loaded \(.*model\.timm\.pretrained=false"):
            encoder("test_vit", replace(IMAGES, height=160, width=160), BackboneConfig(), pretrained=True)

    def test_where_there_are_none(self, timm: ModuleType) -> None:
        with pytest.raises(InputError, match=r"no published weights for timm:resnet10t_x|no architecture"):
            encoder("resnet10t_x", settings=BackboneConfig(), pretrained=True)
        without = next(name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}.*"))
        with pytest.raises(InputError, match=r"no published weights for timm:.*model\.timm\.pretrained=false"):
            encoder(without, settings=BackboneConfig(), pretrained=True)


class TestFaults:
    def test_unknown_names(self, timm: ModuleType) -> None:
        with pytest.raises(InputError, match=r"no architecture 'resnet_18' \(did you mean .*'resnet18'"):
            encoder("resnet_18")
        with pytest.raises(InputError, match=r"no architecture 'hf-hub:somebody/something'"):
            encoder("hf-hub:somebody/something")
        with pytest.raises(InputError, match=r"'test_resnet\.r160_in1k'"):
            encoder("test_resnet.r160_in2k")

    def test_images_that_it_cannot_read(self, timm: ModuleType) -> None:
        with pytest.raises(InputError, match=r"timm:test_vit cannot read images of 8 × 8 pixels .*image_size"):
            encoder("test_vit", replace(IMAGES, height=8, width=8))

    @pytest.mark.parametrize(
        "program", ["import a_package_that_is_not_there", "raise RuntimeError('operator torchvision::nms is missing')"]
    )
    def test_what_to_install(self, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "timm.py").write_text(program, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(InputError, match=r"timm:test_resnet needs timm .*'deep-learning-essentials\[vision\]'"):
            encoder()
