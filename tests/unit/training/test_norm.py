"""Batch normalisation: averages of the first steps, then PyTorch's own running statistics, across a resumption too."""

import torch
from torch import nn

from dle_training.models.norm import BatchNorm1d, BatchNorm2d


def test_statistics_of_few_steps_are_their_average() -> None:
    norm, batches = BatchNorm2d(2), [torch.randn(6, 2, 4, 4) * 5 + 20 for _ in range(3)]
    for batch in batches:
        norm(batch)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))


def test_from_the_tenth_step_on_it_is_pytorchs() -> None:
    own, plain = BatchNorm1d(3), nn.BatchNorm1d(3)
    for _ in range(10):
        own(torch.randn(8, 3))
    plain.load_state_dict(own.state_dict())
    for _ in range(20):
        batch = torch.randn(8, 3)
        torch.testing.assert_close(own(batch), plain(batch))
    torch.testing.assert_close(own.running_var, plain.running_var)


def test_another_process_goes_on_alike() -> None:
    whole, batches = BatchNorm1d(3), [torch.randn(8, 3) for _ in range(6)]
    for batch in batches[:4]:
        whole(batch)
    again = BatchNorm1d(3)
    again.load_state_dict(whole.state_dict())
    for batch in batches[4:]:
        whole(batch)
        again(batch)
    assert torch.equal(again.running_mean, whole.running_mean)  # type: ignore[arg-type]
