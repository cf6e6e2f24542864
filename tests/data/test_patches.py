"""Patches against loops written out, grids told by hand, and back to whole slices."""

import numpy as np
import pytest

from retable.data.sets.brain import balanced_corners, cut, grid_corners, padded_to, stitched


def by_loops(labels: np.ndarray, size: int, stride: int, least: int) -> list[list[int]]:
    """The search one window at a time."""
    found = []
    for z in range(labels.shape[2]):
        for x in range(0, labels.shape[0] - size + 1, stride):
            for y in range(0, labels.shape[1] - size + 1, stride):
                window = labels[x : x + size, y : y + size, z]
                if (window > 0).all() and all((window == label).sum() >= least for label in (1, 2, 3)):
                    found.append([z, x, y])
    return found


@pytest.mark.parametrize(
    ("size", "stride", "least", "count"),
    [(4, 1, 3, None), (4, 3, 3, None), (5, 2, 0, None), (3, 1, 4, 0), (13, 1, 0, 0)],
)
def test_balanced_search_finds_what_loops_find(size, stride, least, count):
    labels = np.random.default_rng(3).choice(4, (17, 12, 5), p=[0.02, 0.3, 0.33, 0.35]).astype(np.uint8)
    corners = balanced_corners(labels, size, stride, least)
    assert corners.dtype == np.int64
    assert corners.shape[1] == 3
    assert corners.tolist() == by_loops(labels, size, stride, least)
    assert len(corners) == count if count is not None else len(corners) > 5


def test_one_window_of_thirds_by_hand():
    labels = np.zeros((5, 5, 2), np.uint8)
    labels[1:4, 2:5, 1] = [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    assert balanced_corners(labels, 3, 1, 3).tolist() == [[1, 1, 2]]
    assert balanced_corners(labels, 3, 1, 4).tolist() == []
    assert balanced_corners(labels, 3, 2, 3).tolist() == []  # row 1 is no multiple of 2
    labels[2, 3, 1] = 0
    assert balanced_corners(labels, 3, 1, 2).tolist() == []


def test_grid_covers_a_slice_and_leaves_background_out():
    labels = np.zeros((5, 4, 2), np.uint8)
    labels[0, 3, 0] = labels[4, 0, 1] = labels[2, 2, 1] = 2
    corners, empty = grid_corners(labels, 2)  # 3 x 2 a slice, the last row beyond the edge
    assert corners.tolist() == [[0, 0, 2], [1, 2, 2], [1, 4, 0]]
    assert empty == 2 * 6 - 3


def test_what_lies_beyond_the_edge_is_zero():
    values = np.ones((5, 4, 2), np.int16)
    padded = padded_to(values, 3)
    assert padded.shape == (6, 6, 2)
    assert padded.sum() == values.sum()
    assert padded_to(values, 1) is values
    assert padded_to(padded, 3) is padded


def test_cut_takes_slice_row_column():
    values = np.arange(60).reshape(5, 4, 3)
    patches = cut(values, np.array([[2, 1, 2], [0, 3, 0]]), 2)
    assert patches.tolist() == [[[20, 23], [32, 35]], [[36, 39], [48, 51]]]  # value = 12 x + 3 y + z


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_patches_are_stitched_back_to_the_volume(size):
    labels = np.random.default_rng(4).choice(4, (10, 7, 3), p=[0.85, 0.05, 0.05, 0.05]).astype(np.uint8)
    corners, _ = grid_corners(labels, size)
    patches = cut(padded_to(labels, size), corners, size)
    np.testing.assert_array_equal(stitched(patches, corners, labels.shape, 0), labels)


def test_where_there_is_no_patch_the_fill_stands():
    whole = stitched(np.full((1, 2, 2), 7, np.uint8), np.array([[1, 2, 0]]), (3, 3, 2), 9)
    assert whole.tolist() == [[[9, 9], [9, 9], [9, 9]], [[9, 9], [9, 9], [9, 9]], [[9, 7], [9, 7], [9, 9]]]
