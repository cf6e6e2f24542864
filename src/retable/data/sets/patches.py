"""Square patches of a volume's slices (A2): balanced ones to train on, a grid to validate on, and back again."""

import numpy as np

_AT_ONCE = 4096  # patches cut at once: what they are copied through takes little beside the patches themselves


def balanced_places(labels_XYZ: np.ndarray, size: int, stride: int, min_pixels: int) -> np.ndarray:
    """Where overlapping patches hold no background pixel and at least `min_pixels` of each of the labels 1, 2 and 3.

    Every window's count of a label is read off a summed-area table, so the cost does not depend on the patch size.

    Returns:
        (M, 3) int64: slice, row and column of each patch's first pixel, in that order.
    """
    rows, columns, slices = labels_XYZ.shape
    if min(rows, columns) < size:
        return np.empty((0, 3), np.int64)
    good = np.ones((-(-(rows - size + 1) // stride), -(-(columns - size + 1) // stride), slices), bool)
    for label in range(4):
        counts = _window_counts(labels_XYZ == label, size, stride)
        good &= counts == 0 if label == 0 else counts >= min_pixels
    row, column, place = np.nonzero(good)
    order = np.lexsort((column, row, place))
    return np.stack([place, row * stride, column * stride], 1)[order]


def grid_places(labels_XYZ: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Where non-overlapping patches that cover each slice hold anything but background.

    Where a slice's side is no multiple of `size`, the last patches reach beyond it.

    Returns:
        (M, 3) int64 places as above, and the number of patches of background alone, which are left out.
    """
    padded = padded_to(labels_XYZ, size)
    rows, columns, slices = (padded.shape[0] // size, padded.shape[1] // size, padded.shape[2])
    filled = (padded > 0).reshape(rows, size, columns, size, slices).any((1, 3))
    row, column, place = np.nonzero(filled)
    order = np.lexsort((column, row, place))
    return np.stack([place, row * size, column * size], 1)[order], int((~filled).sum())


def padded_to(values_XYZ: np.ndarray, size: int) -> np.ndarray:
    """The volume with zeros behind its first two axes, so that both are multiples of `size`."""
    more = [(0, -side % size) for side in values_XYZ.shape[:2]]
    return np.pad(values_XYZ, [*more, (0, 0)]) if any(pad for _, pad in more) else values_XYZ


def cut(values_XYZ: np.ndarray, places_M3: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """The patches at the places, (M, size, size), written to `out` where it is given."""
    windows = np.lib.stride_tricks.sliding_window_view(values_XYZ, (size, size), (0, 1))
    out = np.empty((len(places_M3), size, size), values_XYZ.dtype) if out is None else out
    for start in range(0, len(places_M3), _AT_ONCE):
        place, row, column = places_M3[start : start + _AT_ONCE].T
        out[start : start + _AT_ONCE] = windows[row, column, place]
    return out


def stitched(patches_MHW: np.ndarray, places_M3: np.ndarray, shape: tuple[int, int, int], fill: int) -> np.ndarray:
    """The volume (X, Y, Z) whose non-overlapping patches are given; `fill` where there is none."""
    size = patches_MHW.shape[1]
    padded = np.full((-(-shape[0] // size) * size, -(-shape[1] // size) * size, shape[2]), fill, patches_MHW.dtype)
    blocks = padded.reshape(padded.shape[0] // size, size, padded.shape[1] // size, size, shape[2])
    blocks[places_M3[:, 1] // size, :, places_M3[:, 2] // size, :, places_M3[:, 0]] = patches_MHW
    return padded[: shape[0], : shape[1]]


def _window_counts(mask_XYZ: np.ndarray, size: int, stride: int) -> np.ndarray:
    """How many voxels each window of size x size in the first two axes holds."""
    table = np.zeros((mask_XYZ.shape[0] + 1, mask_XYZ.shape[1] + 1, mask_XYZ.shape[2]), np.int32)
    np.cumsum(mask_XYZ, 0, np.int32, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], 1, np.int32, out=table[1:, 1:])
    high, low = table[size:], table[:-size]
    counts = high[:, size:] - high[:, :-size] - low[:, size:] + low[:, :-size]
    return counts[::stride, ::stride]
