"""Maps of one unit on several images, put on one another and averaged; and how far such a map reaches (report D2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retable.receptive.theoretical import Span

# A field reaches as far as its map exceeds this part of the map's maximum (assumed; the papers give no number).
LEVEL = 0.2


@dataclass(frozen=True)
class Average:
    """Maps averaged after their centres were put on one another.

    Attributes:
        values: (rows, columns); NaN where fewer than half of the images reach.
        origin: row and column of the common centre.
    """

    values: np.ndarray
    origin: tuple[int, int]


def average(maps: Sequence[np.ndarray], centres: Sequence[tuple[float, float]]) -> Average:
    """Average maps (H, W) of one size, each centred on its own (row, column), which is rounded down to a pixel."""
    height, width = maps[0].shape
    total, count = np.zeros((2 * height - 1, 2 * width - 1)), np.zeros((2 * height - 1, 2 * width - 1), int)
    for values, centre in zip(maps, centres, strict=True):
        down, right = (
            extent - 1 - min(max(int(c // 1), 0), extent - 1) for c, extent in zip(centre, (height, width), strict=True)
        )
        window = (slice(down, down + height), slice(right, right + width))
        total[window] += np.nan_to_num(values)
        count[window] += ~np.isnan(values)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=2 * count >= max(len(maps), 1))
    rows, columns = (np.flatnonzero((~np.isnan(mean)).any(axis)) for axis in (1, 0))
    cut = mean[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Average(cut, (int(height - 1 - rows[0]), int(width - 1 - columns[0])))


def reach(values: np.ndarray, level: float) -> tuple[Span, Span, int] | None:
    """First and last row, first and last column, and number of the pixels above `level` times the maximum.

    None where nothing is positive.
    """
    largest = np.nanmax(values, initial=0.0)
    if not largest > 0:
        return None
    with np.errstate(invalid="ignore"):
        inside = values > level * largest
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1])), int(inside.sum())
