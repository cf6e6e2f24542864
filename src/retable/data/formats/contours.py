"""Contours as text files of x y points, and the masks that are drawn from them (report E)."""

from pathlib import Path

import numpy as np
from skimage.draw import polygon2mask
from skimage.segmentation import find_boundaries

from retable.data.formats.files import text
from retable.errors import DataError

# What a mask's values mean: label = code % 2, and 2 and 3 are pixels of either label on the boundary line.
ON_LINE = 2
MOST_POINTS, MOST_TEXT = 20_000, 2**21  # of a contour, and bytes of its file; filling it takes time in proportion
# Training targets by code and style: boundary is a black line (0) on white (1), grey a white region on grey (E.3).
LEVELS: dict[str, tuple[float, ...] | None] = {"black": None, "grey": (0.5, 1.0), "boundary": (1.0, 1.0, 0.0, 0.0)}


def read_contour(path: Path) -> np.ndarray:
    """Points (M, 2) of a contour, x and y in pixels; pixel (0, 0) has its centre at (0, 0).

    Raises:
        DataError: one line naming the file and row: unreadable, no two numbers, or fewer than three points.
    """
    points: list[tuple[float, float]] = []
    for row, line in enumerate(text(path, "two numbers a row", MOST_TEXT).splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            x, y = (float(word) for word in words)
        except ValueError:
            raise DataError(f"{path}, row {row}: {line.strip()[:80]!r}; accepted: two numbers, x and y") from None
        if not (np.isfinite(x) and np.isfinite(y)):
            raise DataError(f"{path}, row {row}: {line.strip()[:80]!r}; accepted: two finite numbers, x and y")
        points.append((x, y))
        if len(points) > MOST_POINTS:
            raise DataError(f"{path}: more than {MOST_POINTS} points; accepted: at most as many")
    if len(points) < 3:
        raise DataError(f"{path}: {len(points)} points; accepted: at least three")
    return np.array(points)


def inside(points_M2: np.ndarray, shape: tuple[int, int], path: Path, image: Path) -> None:
    """Refuse a contour that leaves its image, of (rows, columns) pixels, by more than a pixel's edge.

    Raises:
        DataError: naming both files.
    """
    height, width = shape
    outside = (points_M2 < -0.5).any(1) | (points_M2[:, 0] > width - 0.5) | (points_M2[:, 1] > height - 0.5)
    if outside.any():
        row = int(outside.argmax())
        x, y = points_M2[row]
        raise DataError(f"{path}: point {row + 1} ({x:g}, {y:g}) lies outside {image.name} of {width}x{height} pixels")


def scaled(points_M2: np.ndarray, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The contour on an image of (rows, columns) `shape` that is resized to `size`: edges map to edges."""
    factor = np.array([size[1] / shape[1], size[0] / shape[0]])
    return (points_M2 + 0.5) * factor - 0.5


def filled(points_M2: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 mask of `size`, 1 where a pixel's centre lies within the contour."""
    return polygon2mask(size, points_M2[:, ::-1]).astype(np.uint8)


def line(points_M2: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boolean mask of `size`, true in the pixels that the closed contour passes through."""
    closed = np.concatenate([points_M2, points_M2[:1]])
    lengths = np.abs(np.diff(closed, axis=0)).max(1)
    steps = np.maximum(1, np.ceil(lengths * 4)).astype(int)  # four points a pixel leave no pixel out
    dense = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(closed[:-1], closed[1:], steps, strict=True)]
    column, row = np.floor(np.concatenate(dense) + 0.5).astype(int).T
    mask = np.zeros(size, bool)
    kept = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    mask[row[kept], column[kept]] = True
    return mask


def coded(region_HW: np.ndarray, line_HW: np.ndarray | None = None) -> np.ndarray:
    """Codes of a mask with its boundary: the contour's own line, or else the inner boundary of the region."""
    if line_HW is None:
        line_HW = find_boundaries(region_HW, mode="inner")
    return (region_HW + ON_LINE * line_HW).astype(np.uint8)
