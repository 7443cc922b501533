"""Rows as the loop takes them: every row once, lengths together, images in memory or from a stream alike."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dle_training.fitting.batches import PreparedRows, spans
from dle_training.fitting.loop import split_batches


class Stream:
    """Images that are not in memory; remembers what was asked for."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.cells = images[0].numel()

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        yield from (self.images[places] for places in rows)


def sequences(rows: int, steps: int = 40) -> PreparedRows:
    lengths = torch.randint(1, steps + 1, (rows,))
    within = torch.arange(steps) < lengths[:, None]
    tokens = torch.randint(1, 9, (rows, steps)) * within
    return PreparedRows({"tokens": tokens}, torch.arange(rows), spans=spans({"tokens": tokens}))


def test_every_row_once_and_in_another_order_each_time() -> None:
    part, generator = sequences(1000), torch.Generator().manual_seed(0)
    orders = [part.draw_order(generator, 16) for _ in range(2)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(*orders)


def test_batches_hold_rows_of_about_one_length_and_no_padding_beyond() -> None:
    part = sequences(1600)
    order = part.draw_order(torch.Generator().manual_seed(0), 16)
    seen = []
    padding = 0
    for batch in part.batches(split_batches(1600, 16), order):
        tokens = batch.inputs["tokens"]
        assert (tokens != 0).any(dim=0)[-1]  # the longest row fills the width
        padding += int((tokens == 0).sum())
        seen += batch.targets.tolist()
        for row, target in zip(tokens, batch.targets.tolist(), strict=True):
            assert torch.equal(row, part.inputs["tokens"][target, : len(row)])
    assert sorted(seen) == list(range(1600))
    assert padding < 0.1 * int((part.inputs["tokens"] == 0).sum())


def test_spans_are_of_tokens_and_steps() -> None:
    tokens = torch.tensor([[3, 0, 4, 0], [5, 0, 0, 0]])
    found = spans({"tokens": tokens})
    assert found is not None
    assert found.tolist() == [3, 1]
    assert spans({"sequence": torch.zeros(2, 4, 1), "lengths": torch.tensor([4, 4])}) is None
    assert spans({"dense": torch.zeros(2, 4)}) is None


def test_streamed_images_are_those_of_memory() -> None:
    images = torch.randint(256, (30, 1, 4, 4), dtype=torch.uint8)
    places = torch.arange(5, 25)
    held = PreparedRows({"image": images[places], "dense": torch.randn(20, 2)}, torch.arange(20))
    streamed = PreparedRows({"dense": held.inputs["dense"]}, held.targets, Stream(images), places)
    order = held.draw_order(torch.Generator().manual_seed(1), 8)
    for slices, shuffled in (
        (split_batches(20, 8), order),
        (split_batches(20, 8), None),
        (split_batches(20, 8)[1:], order),
    ):
        pairs = zip(held.batches(slices, shuffled), streamed.batches(slices, shuffled), strict=True)
        for one, other in pairs:
            assert one.inputs.keys() == other.inputs.keys()
            assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
            assert torch.equal(one.targets, other.targets)
    assert torch.cat([rows.inputs["image"] for rows in streamed.in_turn()]).equal(images[places])
