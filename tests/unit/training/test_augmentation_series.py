"""Series varied in training: each setting does what it says, and nothing beyond a row's end becomes real."""

import pytest
import torch
from msgspec.structs import replace

from dle_training.augmentation.augment import build
from dle_training.augmentation.series import SeriesAugmentation
from dle_training.models.family import NO_AUGMENTATION
from dle_training.preprocessing.shape import InputShape, Series

LENGTHS = torch.tensor([30, 12, 1, 30])


def batch() -> torch.Tensor:
    ramp = torch.linspace(-1, 1, 30).view(1, 30, 1).expand(4, 30, 2).clone()
    return ramp * (torch.arange(30) < LENGTHS[:, None]).unsqueeze(2)


@pytest.mark.parametrize(("setting", "value"), [("jitter", 0.1), ("scaling", 0.2), ("slicing", 0.3)])
def test_each_varies_what_is_real_and_nothing_else(setting: str, value: float) -> None:
    given = batch()
    varied, lengths = SeriesAugmentation(replace(NO_AUGMENTATION, **{setting: value}))(given.clone(), LENGTHS)
    assert torch.equal(lengths, LENGTHS)
    assert varied.shape == given.shape
    assert not torch.equal(varied[0], given[0])
    beyond = torch.arange(30) >= LENGTHS[:, None]
    assert not varied[beyond].any()


def test_jitter_is_noise_of_that_size() -> None:
    given = torch.ones(200, 100, 1)
    given[:, 20:30] = 0.0  # missing
    varied, _ = SeriesAugmentation(replace(NO_AUGMENTATION, jitter=0.5))(given, torch.full((200,), 100))
    assert varied[:, 30:].std().item() == pytest.approx(0.5, rel=0.05)
    assert not varied[:, 20:30].any()


def test_scaling_is_one_factor_for_each_channel_of_a_row() -> None:
    given = torch.ones(300, 8, 2)
    varied, _ = SeriesAugmentation(replace(NO_AUGMENTATION, scaling=0.2))(given, torch.full((300,), 8))
    assert torch.equal(varied, varied[:, :1].expand_as(varied))
    assert varied[:, 0].std().item() == pytest.approx(0.2, rel=0.15)


def test_a_slice_is_a_part_stretched_over_the_whole() -> None:
    given = torch.arange(100.0).view(1, 100, 1).expand(50, 100, 1).clone()
    varied, _ = SeriesAugmentation(replace(NO_AUGMENTATION, slicing=0.4))(given, torch.full((50,), 100))
    spans = varied[:, -1, 0] - varied[:, 0, 0]
    assert spans.min() >= 0.59 * 99
    assert spans.max() <= 99
    steps = varied[:, 1:, 0] - varied[:, :-1, 0]
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), rtol=1e-3, atol=1e-3)


def test_indicators_stay_what_they_are() -> None:
    given = torch.cat([torch.randn(20, 9, 1), (torch.rand(20, 9, 1) > 0.5).float()], dim=2)
    config = replace(NO_AUGMENTATION, jitter=1.0, scaling=1.0)
    varied, _ = SeriesAugmentation(config, indicators=1)(given, torch.full((20,), 9))
    assert torch.equal(varied[..., 1], given[..., 1])
    assert not torch.equal(varied[..., 0], given[..., 0])


def test_the_same_seed_gives_the_same() -> None:
    vary = SeriesAugmentation(replace(NO_AUGMENTATION, jitter=0.1, scaling=0.1, slicing=0.2))
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(vary(batch(), LENGTHS)[0])
    assert torch.equal(*found)


def test_nothing_set_changes_nothing() -> None:
    given = batch()
    varied, _ = SeriesAugmentation(NO_AUGMENTATION)(given, LENGTHS)
    assert varied is given
    assert build(NO_AUGMENTATION, InputShape(sequence=Series(2, 30))) is None
    assert build(replace(NO_AUGMENTATION, jitter=0.1), InputShape(dense=3)) is None
