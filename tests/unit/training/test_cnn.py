"""The image network: any size, several images a row, the same answer from the graph, and pooling that is fast."""

from dataclasses import replace

import pytest
import torch
from tests.unit.training.exported import answers
from torch import Tensor

from dle_training.models.cnn import CnnConfig, CnnEncoder, ResidualBlock, Stage
from dle_training.preprocessing.shape import Images, InputShape

IMAGES = Images(columns=1, channels=3, height=28, width=28, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
CONFIG = CnnConfig(width=4, blocks=(1, 1, 1))


def encoder(images: Images = IMAGES, dropout: float = 0.0) -> CnnEncoder:
    """One whose batch statistics have seen a few batches, in evaluation mode."""
    built = CnnEncoder(CONFIG, InputShape(image=images), dropout)
    for _ in range(3):
        built({"image": pixels(images, 16)})
    return built.eval()


def pixels(images: Images, rows: int) -> Tensor:
    shape = (rows, images.columns * images.channels, images.height, images.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (9, 31), (28, 28), (63, 64), (96, 96), (200, 150), (512, 512)])
def test_any_size(size: tuple[int, int], channels: int) -> None:
    images = Images(1, channels, *size, mean=(0.5,) * channels, std=(0.2,) * channels)
    built = CnnEncoder(CONFIG, InputShape(image=images), 0.0)
    for mode, rows in ((True, 1), (True, 3), (False, 1), (False, 0)):
        features = built.train(mode)({"image": pixels(images, rows)})
        assert features.shape == (rows, built.width)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()


def test_deep_networks_take_small_images() -> None:
    config = CnnConfig(width=2, blocks=(1, 0, 2, 1, 1, 1))
    built = CnnEncoder(config, InputShape(image=replace(IMAGES, height=8, width=8)), 0.0)
    assert built({"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}).shape == (1, 64)
    assert sum(isinstance(layer, ResidualBlock) for layer in built.layers) == 6
    assert sum(isinstance(layer, Stage) for layer in built.layers) == 6


@pytest.mark.parametrize(("side", "least", "most"), [(64, 16, 32), (100, 24, 48), (128, 16, 32), (512, 16, 32)])
def test_large_images_cost_what_small_ones_do(side: int, least: int, most: int) -> None:
    images = replace(IMAGES, height=side, width=side)
    built = CnnEncoder(CONFIG, InputShape(image=images), 0.0)
    first = built.layers[0](built.standardised(pixels(images, 2)))
    assert least <= first.shape[-1] <= most


def test_bytes_and_floats_are_one() -> None:
    built, given = encoder(), pixels(IMAGES, 5)
    assert torch.equal(built({"image": given}), built({"image": given.float()}))


def test_images_are_standardised() -> None:
    built = encoder()
    white = built.standardised(torch.full((1, 3, 28, 28), 255, dtype=torch.uint8))
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([0.6 / 0.2, 0.5 / 0.3, 0.4 / 0.25]))
    flat = CnnEncoder(CONFIG, InputShape(image=replace(IMAGES, std=(0.0, 0.0, 0.0))), 0.0).eval()
    assert torch.isfinite(flat({"image": pixels(IMAGES, 2)})).all()


def test_rows_do_not_influence_each_other() -> None:
    built, given = encoder(), pixels(IMAGES, 9)
    torch.testing.assert_close(built({"image": given})[4:5], built({"image": given[4:5]}))


def test_columns_share_the_weights() -> None:
    two = replace(IMAGES, columns=2)
    built, alone = encoder(two), CnnEncoder(CONFIG, InputShape(image=IMAGES), 0.0).eval()
    alone.load_state_dict(built.state_dict())
    given = pixels(two, 4)
    expected = torch.cat([alone({"image": given[:, :3]}), alone({"image": given[:, 3:]})], dim=1)
    assert built.width == 2 * alone.width
    torch.testing.assert_close(built({"image": given}), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [torch.uint8, torch.float32])
def test_pixels_are_channels_last_throughout(channels: int, given: torch.dtype) -> None:
    """Max-pooling in the usual layout would take a third of a training step on a CPU."""
    images = replace(IMAGES, channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels)
    built = CnnEncoder(CONFIG, InputShape(image=images), 0.0)
    layouts = []
    for layer in built.layers:
        layer.register_forward_hook(lambda _, __, maps: layouts.append(maps.stride()[1]))
    built({"image": pixels(images, 4).to(given)})
    assert layouts == [1] * len(built.layers)
    assert all(weight.is_contiguous() for weight in built.state_dict().values())


def test_gradient_reaches_every_parameter() -> None:
    built = CnnEncoder(CONFIG, InputShape(image=IMAGES), 0.0)
    built({"image": pixels(IMAGES, 8)}).square().sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert parameter.grad.is_contiguous(), name  # fused optimizers go through memory, not through indices


def test_dropout_is_for_training() -> None:
    given = {"image": pixels(IMAGES, 8)}
    built = encoder(dropout=0.5)
    assert torch.equal(built(given), built(given))
    assert (built.train()(given) == 0).float().mean() > 0.3


@pytest.mark.parametrize("columns", [1, 2])
def test_the_graph_answers_alike_at_other_sizes(columns: int) -> None:
    images = replace(IMAGES, columns=columns)
    built = encoder(images)
    for rows, graph in answers(built, {"image": pixels(images, 3)}, [{"image": pixels(images, n)} for n in (1, 2, 7)]):
        torch.testing.assert_close(graph, built(rows), atol=1e-5, rtol=1e-5)
