"""Batch normalisation: averages of the first steps, then PyTorch's own running statistics, across a resumption too."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dle_training.models import tcn
from dle_training.models.norm import BatchNorm1d, BatchNorm2d
from dle_training.models.steps import within
from dle_training.preprocessing.shape import InputShape, Series


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


class Boolean(BatchNorm2d):
    """The normalisation of `tcn` by the rows of real steps alone, which waits for the device to count them."""

    def forward(self, found: Tensor, real: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training or int(real.sum()) == 1:
            normed = F.batch_norm(found, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            return normed * real.unsqueeze(1).to(found.dtype)
        steps = found.movedim(1, 3)
        normed = super().forward(steps[real][..., None, None])[..., 0, 0]
        return torch.zeros_like(steps).masked_scatter(real.unsqueeze(3), normed).movedim(3, 1)


CASES = {
    "ragged": ([4, 9, 1], 9),
    "padded": ([4, 3, 1], 9),
    "whole": ([9, 9, 9], 9),
    "two steps": ([2], 2),
    "one step": ([1], 1),
    "one step, padded": ([1], 5),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_real_steps_are_normalised(case: str, layout: torch.memory_format) -> None:
    """Outputs, gradients and running statistics are those of the real steps alone, step after step."""
    lengths, steps = CASES[case]
    real = within(torch.tensor(lengths), steps).unsqueeze(1)
    own, other = tcn._Norm(4), Boolean(4)
    with torch.no_grad():
        own.weight.uniform_(0.5, 2)
        own.bias.uniform_(-1, 1)
        other.load_state_dict(own.state_dict())
    for _ in range(13):
        found = (torch.randn(len(lengths), 4, 1, steps) * 3 + 50).to(memory_format=layout)
        wanted = torch.randn_like(found)
        results = []
        for norm in (own, other):
            norm.zero_grad()
            given = found.clone().requires_grad_()
            normed = norm(given, real)
            (normed * wanted).sum().backward()
            results.append((normed, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
        assert own.num_batches_tracked == other.num_batches_tracked
    torch.testing.assert_close(own.eval()(found, real), other.eval()(found, real), rtol=1e-4, atol=1e-4)


def test_tcn_never_waits_for_the_device() -> None:
    """Tensors without values stand for a device: to ask for one is an error."""
    shape = InputShape(sequence=Series(2, 2048))
    encoder = tcn.TcnEncoder(tcn.TcnConfig(width=4, depth=3), shape, dropout=0.0).to("meta")
    given = {
        "sequence": torch.zeros(3, 2048, 2, device="meta"),
        "lengths": torch.zeros(3, dtype=torch.int64, device="meta"),
    }
    for mode in (True, False):
        assert encoder.train(mode)(given).shape == (3, 16)
    with pytest.raises(RuntimeError, match="meta"):
        Boolean(2).to("meta")(torch.zeros(3, 2, 1, 5, device="meta"), torch.ones(3, 1, 5, device="meta").bool())
