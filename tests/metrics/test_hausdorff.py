"""Hausdorff distance against small cases by hand, SciPy and scikit-image."""

import numpy as np
from scipy.spatial.distance import directed_hausdorff
from skimage.metrics import hausdorff_distance

from retable.metrics.segmentation import hausdorff


def masks(*pixels: list[tuple[int, int]]) -> np.ndarray:
    """A boolean 8x8 mask for each list of (row, column)."""
    found = np.zeros((len(pixels), 8, 8), bool)
    for mask, points in zip(found, pixels, strict=True):
        for point in points:
            mask[point] = True
    return found


def test_by_hand():
    true = masks([(0, 0)], [(0, 0)], [(2, 2), (2, 3)], [(0, 0), (0, 7)])
    found = masks([(3, 4)], [(0, 0), (6, 0)], [(2, 2), (2, 3)], [(0, 0)])
    # One way or the other, whichever is larger: in the second image from found to true, in the last from true to found.
    distances, unit = hausdorff(true, found)
    assert distances.tolist() == [5, 6, 0, 7]
    assert unit == "pixels"
    assert hausdorff(found, true)[0].tolist() == [5, 6, 0, 7]


def test_millimetres_along_rows_and_columns():
    true, found = masks([(0, 0)], [(0, 0)]), masks([(3, 4)], [(3, 4)])
    distances, unit = hausdorff(true, found, np.array([[1, 1], [2, 0.5]]))
    assert np.allclose(distances, [5, np.hypot(6, 2)])
    assert unit == "mm"


def test_unknown_spacing_is_pixels_for_all():
    true, found = masks([(0, 0)], [(0, 0)]), masks([(3, 4)], [(0, 2)])
    distances, unit = hausdorff(true, found, np.array([[2, 2], [np.nan, np.nan]]))
    assert (distances.tolist(), unit) == ([5, 2], "pixels")


def test_empty_masks():
    distances, _ = hausdorff(masks([], [], [(1, 1)]), masks([], [(1, 1)], []))
    assert distances[0] == 0
    assert np.isnan(distances[1:]).all()


def test_against_scipy_and_skimage():
    generator = np.random.default_rng(0)
    true, found = generator.random((2, 12, 40, 30)) < generator.random((2, 12, 1, 1)) * 0.05
    true[:, 3, 4] = found[:, 20, 9] = True  # none is empty
    spacing = generator.uniform(0.5, 2, (12, 2))
    pixels, millimetres = hausdorff(true, found)[0], hausdorff(true, found, spacing)[0]
    for i in range(12):
        assert np.isclose(pixels[i], hausdorff_distance(true[i], found[i]))
        a, b = (np.argwhere(mask[i]) * spacing[i] for mask in (true, found))
        assert np.isclose(millimetres[i], max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]))
