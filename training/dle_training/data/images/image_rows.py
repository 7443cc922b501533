"""Some rows of an array of images, without a copy of them: the parts of a split share the array of all rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dle_bundle.images.pixels import Pixels

if TYPE_CHECKING:
    from torch import Tensor


class ImageRows:
    """The `image` group of the rows at the positions `rows` (M,) of `images` (N, columns · channels, H, W), uint8.

    It has the array's shape and supports indexing by rows; `np.asarray` copies the rows into an array.

    Example:
        >>> images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
        >>> part = ImageRows(images, np.array([2, 0]))
        >>> np.asarray(part[:1]).tolist()
        [[[[2]]]]
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, images: Pixels, rows: npt.NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array: rows, columns · channels, height, width."""
        return (len(self._rows), *self._images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """The rows of a slice, mask or array of positions, not copied yet; any other index gives an array."""
        if isinstance(index, slice) or (isinstance(index, np.ndarray | list) and np.ndim(index) == 1):
            return ImageRows(self._images, self._rows[index])
        return np.asarray(self)[index]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("rows of an array of images cannot become an array without a copy")
        pixels = self._images[self._rows]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)


class ArrayStream:
    """Gives the batches of images (N, columns · channels, H, W) that are in memory; see `batches.ImageStream`."""

    def __init__(self, images: Pixels) -> None:
        self._images = images
        self.cells = int(np.prod(images.shape[1:]))

    def batches(self, rows: Sequence["Tensor"]) -> Iterator["Tensor"]:
        """uint8 (len(rows[i]), columns · channels, H, W) for each of `rows` (int64, on the CPU) in turn."""
        import torch

        images = torch.from_numpy(self._images)
        return (images.index_select(0, index) for index in rows)
