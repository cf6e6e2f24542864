"""What is kept of each image of a split until its end, in one tensor.

A small tensor of its own for each mini-batch would lie where that batch lay and keep its memory from being used again:
on a CPU, validation on a split of n bytes took up to n bytes more.
"""

import torch


class Kept:
    """Rows that come batch by batch, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._count = 0

    def add(self, rows_N: torch.Tensor) -> None:
        """Copy the rows of a mini-batch, on its device; all batches have rows of one shape and type."""
        count = self._count + len(rows_N)
        if self._rows is None or count > len(self._rows):
            larger = rows_N.new_empty(max(2 * count, 1024), *rows_N.shape[1:])
            if self._rows is not None:
                larger[: self._count] = self._rows[: self._count]
            self._rows = larger
        self._rows[self._count : count] = rows_N
        self._count = count

    @property
    def rows(self) -> torch.Tensor:
        """All rows. Raises: RuntimeError: where there are none, whose shape nobody knows."""
        if self._rows is None:
            raise RuntimeError("no mini-batch was seen")
        return self._rows[: self._count]
