"""Batch normalisation whose running statistics are usable after a few steps.

PyTorch's running statistics begin at mean 0 and variance 1, and each batch contributes a tenth. After three steps the
initial values still dominate, and in evaluation a well-trained network performs at chance. Here the running statistics
are the average over the first ten steps; after that each batch contributes a tenth.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SHARE = 0.1


class _Averaging(_BatchNorm):
    """`momentum` is 1, 1/2, 1/3, … in the first steps, and `SHARE` from the tenth step on."""

    _few = True  # steps so far, as far as this process knows

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        if self.training and self._few and self.num_batches_tracked is not None:
            seen = int(self.num_batches_tracked)  # waits for the device, so only as long as it matters
            self.momentum = max(SHARE, 1 / (seen + 1))
            self._few = self.momentum > SHARE
        return super().forward(input)

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, counts: Tensor) -> None:
        """Move the running statistics as `forward` does, towards a step's mean and unbiased variance, (C,) each.

        They stay as they are where `counts`, a single truth value, is false. A device is not waited for.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = (1 / (self.num_batches_tracked + 1)).clamp(min=SHARE) * counts
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        self.num_batches_tracked.add_(counts)


class BatchNorm1d(_Averaging, nn.BatchNorm1d):
    """PyTorch's `BatchNorm1d` with running statistics that are averages in the first steps.

    Shape: (N, C) → the same.

    Example:
        >>> import torch
        >>> norm = BatchNorm1d(2)
        >>> _ = norm(torch.tensor([[0.0, 2.0], [2.0, 4.0]]))
        >>> norm.running_mean.tolist()  # after one step the mean of its batch; PyTorch's own would hold a tenth of it
        [1.0, 3.0]
    """


class BatchNorm2d(_Averaging, nn.BatchNorm2d):
    """PyTorch's `BatchNorm2d` with running statistics that are averages in the first steps.

    Shape: (N, C, H, W) → the same.

    Example:
        >>> import torch
        >>> BatchNorm2d(3)(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """
