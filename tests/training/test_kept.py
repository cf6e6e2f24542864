"""Rows kept of mini-batches: the same as concatenated, whatever the sizes, in few pieces of memory."""

import pytest
import torch

from retable.training.kept import Kept


@pytest.mark.parametrize("sizes", [[3], [1, 0, 2], [1000, 24, 1, 5000, 7], [2000] * 5])
def test_rows_are_the_concatenated_batches(sizes):
    batches = [torch.randint(0, 9, (size, 2, 2)) for size in sizes]
    kept = Kept()
    for batch in batches:
        kept.add(batch)
        batch.fill_(-1) if batch is not batches[-1] else None  # a recorded evaluation writes to the same tensor again
    assert kept.rows.shape == (sum(sizes), 2, 2)
    assert kept.rows.dtype == torch.int64
    assert int((kept.rows < 0).sum()) == 0
    assert torch.equal(kept.rows[sum(sizes[:-1]) :], batches[-1])


def test_memory_is_taken_seldom():
    kept, places = Kept(), set()
    for number in range(5000):
        kept.add(torch.full((2,), number))
        places.add(kept.rows.data_ptr())
    assert len(places) == 5  # 1,024 rows, then twice 1,026, 2,054, 4,110 and 8,222
    assert kept.rows.tolist() == [number for number in range(5000) for _ in range(2)]


def test_of_nothing_nobody_knows_the_shape():
    with pytest.raises(RuntimeError, match="no mini-batch"):
        _ = Kept().rows
