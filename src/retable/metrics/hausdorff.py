"""Hausdorff distance of predicted and true regions (report E's sets are judged by it, MICCAI 2012 RVSC).

Source: D. P. Huttenlocher, G. A. Klanderman, W. J. Rucklidge, "Comparing images using the Hausdorff distance", IEEE
PAMI 15(9), 1993.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt


def hausdorff(
    true_NHW: np.ndarray, predicted_NHW: np.ndarray, spacing_N2: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """The largest distance from a pixel of either region to the nearest pixel of the other, image by image.

    Args:
        true_NHW, predicted_NHW: boolean masks.
        spacing_N2: millimetres a pixel along rows and columns; None or NaN anywhere: distances are in pixels.

    Returns:
        float64 (N,) distances, 0 where both regions are empty and NaN where one is; and their unit, "mm" or "pixels".
    """
    known = spacing_N2 is not None and not np.isnan(spacing_N2).any()
    spacings = spacing_N2 if known else np.ones((len(true_NHW), 2))
    pairs = zip(true_NHW.astype(bool), predicted_NHW.astype(bool), spacings, strict=True)
    return np.array([_distance(true, found, spacing) for true, found, spacing in pairs]), "mm" if known else "pixels"


def _distance(true: np.ndarray, found: np.ndarray, spacing: np.ndarray) -> float:
    if not true.any() or not found.any():
        return float("nan") if true.any() or found.any() else 0.0
    to_true = distance_transform_edt(~true, sampling=tuple(spacing))
    to_found = distance_transform_edt(~found, sampling=tuple(spacing))
    return float(max(to_true[found].max(), to_found[true].max()))
