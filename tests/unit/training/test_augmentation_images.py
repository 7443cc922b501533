"""Each variation of training images does what its setting says and nothing else, by torch's global generator."""

import subprocess
import sys

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from dle_training.augmentation import augment
from dle_training.augmentation.augment import IMAGES, SERIES
from dle_training.augmentation.images import ImageAugmentation, move
from dle_training.augmentation.settings import AugmentationConfig
from dle_training.models.family import NO_AUGMENTATION
from dle_training.preprocessing.shape import Images, InputShape

ONE = Images(columns=1, channels=3, height=12, width=10, mean=(0.5,) * 3, std=(0.2,) * 3)
SETTINGS = {
    "flip": replace(NO_AUGMENTATION, flip=True),
    "shift": replace(NO_AUGMENTATION, shift=0.2),
    "rotation": replace(NO_AUGMENTATION, rotation=30.0),
    "zoom": replace(NO_AUGMENTATION, zoom=0.3),
    "shear": replace(NO_AUGMENTATION, shear=20.0),
    "brightness": replace(NO_AUGMENTATION, brightness=0.3),
    "contrast": replace(NO_AUGMENTATION, contrast=0.3),
    "erasing": replace(NO_AUGMENTATION, erasing=0.5),
}


def pixels(rows: int, images: Images = ONE) -> Tensor:
    shape = (rows, images.columns * images.channels, images.height, images.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def vary(config: AugmentationConfig, given: Tensor, images: Images = ONE) -> Tensor:
    return ImageAugmentation(config, images)(given)


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Which rows differ (N,), by more than what scaling to [0, 1] and back rounds."""
    return ((before.float() - after).abs() > 1e-2).flatten(1).any(dim=1)


def test_every_setting_is_covered() -> None:
    assert set(SETTINGS) == set(IMAGES)
    assert {*IMAGES, *SERIES} == set(AugmentationConfig.__struct_fields__)


def test_off_is_nothing() -> None:
    assert augment.build(NO_AUGMENTATION, InputShape(image=ONE)) is None


@pytest.mark.parametrize("name", SETTINGS)
class TestEverySetting:
    def test_images_stay_images(self, name: str) -> None:
        given = pixels(40)
        kept = given.clone()
        varied = vary(SETTINGS[name], given)
        assert varied.shape == given.shape
        assert varied.dtype == torch.float32
        assert 0 <= varied.min() <= varied.max() <= 255
        assert torch.equal(given, kept)
        assert changed(given, varied).float().mean() > 0.2

    def test_floats_are_varied_as_bytes_are(self, name: str) -> None:
        given = pixels(10)
        floats = given.float()
        torch.manual_seed(3)
        expected = vary(SETTINGS[name], given)
        torch.manual_seed(3)
        assert torch.equal(vary(SETTINGS[name], floats), expected)
        assert torch.equal(floats, given.float())

    def test_same_seed_same_images(self, name: str) -> None:
        given, varies = pixels(20), ImageAugmentation(SETTINGS[name], ONE)
        torch.manual_seed(7)
        first, second = varies(given), varies(given)
        torch.manual_seed(7)
        assert torch.equal(ImageAugmentation(SETTINGS[name], ONE)(given), first)
        assert not torch.equal(first, second)

    def test_a_resumed_run_draws_what_it_would_have_drawn(self, name: str) -> None:
        given, varies = pixels(20), ImageAugmentation(SETTINGS[name], ONE)
        varies(given)
        state = torch.get_rng_state()
        expected = varies(given)
        torch.set_rng_state(state)
        assert torch.equal(ImageAugmentation(SETTINGS[name], ONE)(given), expected)

    def test_each_image_has_its_own_draw(self, name: str) -> None:
        same = pixels(1).expand(30, -1, -1, -1)
        varied = vary(SETTINGS[name], same)
        assert changed(varied[:1].expand_as(varied), varied).any()

    @pytest.mark.parametrize("channels", [1, 4])
    def test_any_number_of_channels_and_columns(self, name: str, channels: int) -> None:
        images = Images(2, channels, 12, 10, (0.5,) * channels, (0.2,) * channels)
        given = pixels(30, images)
        varied = vary(SETTINGS[name], given, images)
        assert varied.shape == given.shape
        assert changed(given, varied).any()


def test_flip_mirrors_half_of_them_and_no_more() -> None:
    given = pixels(400)
    varied = vary(SETTINGS["flip"], given)
    mirrored = changed(given, varied)
    assert 0.4 < mirrored.float().mean() < 0.6
    assert torch.equal(varied[mirrored], given[mirrored].flip(-1).float())


def test_shift_moves_whole_pixels_and_the_border_fills_up() -> None:
    given = pixels(300)
    varied = vary(SETTINGS["shift"], given)  # by up to 2 pixels of 12 and of 10
    found = set()
    for before, after in zip(given, varied, strict=True):
        wide = torch.nn.functional.pad(before.float()[None], (2, 2, 2, 2), mode="replicate")[0]
        fits = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(wide[:, down : down + 12, right : right + 10], after)
        ]
        assert len(fits) == 1
        found.update(fits)
    assert len(found) == 25


def test_a_small_shift_of_a_small_image_is_none() -> None:
    given = pixels(5)
    assert torch.equal(move(given, flip=False, shift=0.04), given)


def distances(images: Tensor) -> Tensor:
    """How far the bright pixels are from the centre, on average (N,)."""
    height, width = images.shape[-2:]
    down = torch.arange(height)[:, None] - (height - 1) / 2
    right = torch.arange(width) - (width - 1) / 2
    weights = images[:, 0]
    return (weights * (down**2 + right**2).sqrt()).sum((1, 2)) / weights.sum((1, 2))


@pytest.fixture
def bar() -> Tensor:
    """A bright vertical bar on black, 40 times: (40, 3, 33, 33)."""
    image = torch.zeros(40, 3, 33, 33, dtype=torch.uint8)
    image[:, :, 8:25, 15:18] = 255
    return image


WIDE = Images(columns=1, channels=3, height=33, width=33, mean=(0.5,) * 3, std=(0.2,) * 3)


def test_rotation_keeps_the_size(bar: Tensor) -> None:
    varied = vary(replace(NO_AUGMENTATION, rotation=90.0), bar, WIDE)
    torch.testing.assert_close(distances(varied), distances(bar), rtol=0.03, atol=0.0)
    assert varied[:, 0, 15:18, 8:25].mean((1, 2)).max() > 150  # some lie down


def test_zoom_changes_the_size_both_ways(bar: Tensor) -> None:
    factors = distances(vary(replace(NO_AUGMENTATION, zoom=0.3), bar, WIDE)) / distances(bar)
    assert 0.68 < factors.min() < 0.85
    assert 1.15 < factors.max() < 1.32


def test_shear_slants_the_ends_apart(bar: Tensor) -> None:
    varied = vary(replace(NO_AUGMENTATION, shear=30.0), bar, WIDE)[:, 0]
    right = torch.arange(33.0)
    top, bottom = ((varied[:, row] * right).sum(1) / varied[:, row].sum(1) for row in (9, 23))
    assert (top - bottom).abs().max() > 3


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_light_leaves_every_pixel_in_its_place(name: str) -> None:
    given = pixels(60).clamp(100, 155)
    varied = vary(SETTINGS[name], given)
    order = given.flatten(1).argsort(dim=1, stable=True)
    assert (varied.flatten(1).gather(1, order).diff(dim=1) > -1e-2).all()
    mean_kept = (varied.mean((1, 2, 3)) - given.float().mean((1, 2, 3))).abs() < 1.5
    spread_kept = (varied.std((1, 2, 3)) / given.float().std((1, 2, 3)) - 1).abs() < 1e-3
    kept, moved = (spread_kept, mean_kept) if name == "brightness" else (mean_kept, spread_kept)
    assert kept.all()
    assert moved.float().mean() < 0.2


def test_erasing_blots_out_a_rectangle_of_its_share() -> None:
    given = pixels(400).clamp(min=1)
    varied = vary(SETTINGS["erasing"], given)
    erased = changed(given, varied)
    assert 0.4 < erased.float().mean() < 0.6
    for image in varied[erased]:
        black = (image == 0).all(dim=0)
        rows, columns = black.any(dim=1), black.any(dim=0)
        assert torch.equal(black, rows[:, None] & columns)
        assert torch.equal(image == 0, black.expand(3, -1, -1))


def test_several_settings_together() -> None:
    config = replace(
        NO_AUGMENTATION,
        flip=True,
        shift=0.1,
        rotation=10.0,
        zoom=0.1,
        shear=5.0,
        brightness=0.2,
        contrast=0.2,
        erasing=0.2,
    )
    varied = vary(config, pixels(20))
    assert 0 <= varied.min() <= varied.max() <= 255


def test_other_inputs_and_the_batch_itself_stay_as_they_are() -> None:
    varies = augment.build(replace(NO_AUGMENTATION, flip=True), InputShape(dense=2, image=ONE))
    assert varies is not None
    given = {"image": pixels(30), "dense": torch.randn(30, 2)}
    kept = dict(given)
    varied = varies(given)
    assert given == kept
    assert varied["dense"] is given["dense"]
    assert changed(given["image"], varied["image"]).any()


def test_settings_of_series_do_not_concern_images() -> None:
    assert augment.build(replace(NO_AUGMENTATION, jitter=0.1), InputShape(image=ONE)) is None
    assert augment.build(replace(NO_AUGMENTATION, flip=True), InputShape(dense=2)) is None


def test_kornia_is_imported_only_where_it_is_needed() -> None:
    program = """
import sys
from msgspec.structs import replace
from dle_training.augmentation import augment
from dle_training.models.family import NO_AUGMENTATION
from dle_training.preprocessing.shape import Images, InputShape
shape = InputShape(image=Images(1, 1, 8, 8, (0.5,), (0.5,)))
augment.build(replace(NO_AUGMENTATION, flip=True, shift=0.1), shape)
assert "kornia" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SETTINGS)
def test_a_gpu_varies_as_the_cpu_does(name: str) -> None:
    given = pixels(20)
    torch.manual_seed(3)
    expected = vary(SETTINGS[name], given)
    torch.manual_seed(3)
    torch.testing.assert_close(vary(SETTINGS[name], given.cuda()).cpu(), expected, atol=1e-2, rtol=1e-4)
