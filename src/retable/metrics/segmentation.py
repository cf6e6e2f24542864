"""Segmentation metrics: overlap of predicted and true regions, and their Hausdorff distance.

Overlap comes from one count, the confusion matrix of each image's pixels. Its two averages answer different questions:
    image    the metric of each image, averaged over the images in which the class is present or predicted
    global   the metric of all pixels together, where an image counts by its area
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from retable import checks
from retable.data.arrays import IGNORE
from retable.metrics.classification import counted

AVERAGES = ("image", "global")
HIGHER_IS_BETTER = {"dice": True, "iou": True, "accuracy": True, "hausdorff": False}


def image_confusions(targets_NHW: torch.Tensor, predictions_NHW: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Pixels of each image by true (row) and predicted (column) class, ignored pixels left out.

    Shape: integer (N, H, W), (N, H, W) -> (N, num_classes, num_classes) int64.
    """
    n, cells = len(targets_NHW), num_classes * num_classes
    # Each image counts into its own cells; one more cell behind them all takes the ignored pixels.
    cell = targets_NHW.long() * num_classes + predictions_NHW.long()
    cell += torch.arange(n, device=cell.device).view(-1, 1, 1) * cells
    cell = torch.where(targets_NHW == IGNORE, n * cells, cell)
    return counted(cell.flatten(), n * cells + 1)[:-1].view(n, num_classes, num_classes)


def dice(matrices_NCC: torch.Tensor, average: str) -> torch.Tensor:
    """Dice coefficient of each class, 2 tp / (2 tp + fp + fn); NaN where it is neither present nor predicted.

    Source: L. R. Dice, "Measures of the amount of ecologic association between species", Ecology 26(3), 1945.

    Shape: (N, C, C) int64 -> (C,) float64. Raises ValueError for an average that is not accepted.
    """
    return _averaged(matrices_NCC, average, _dice)


def iou(matrices_NCC: torch.Tensor, average: str) -> torch.Tensor:
    """Intersection over union (Jaccard index) of each class, tp / (tp + fp + fn); NaN as in `dice`.

    Shape: (N, C, C) int64 -> (C,) float64. Raises ValueError for an average that is not accepted.
    """
    return _averaged(matrices_NCC, average, _iou)


def recall(matrices_NCC: torch.Tensor) -> torch.Tensor:
    """Share of each class's pixels that are found, over all images: a class's "accuracy" in report A.

    Shape: (N, C, C) int64 -> (C,) float64; NaN for a class without pixels.
    """
    total = matrices_NCC.sum(0)
    return _ratio(total.diagonal(), total.sum(1))


def pixel_accuracy(matrices_NCC: torch.Tensor) -> float:
    """Share of pixels with the right class, over all images; NaN without pixels."""
    total = matrices_NCC.sum(0)
    return float(_ratio(total.diagonal().sum(), total.sum()))


def image_dice(matrices_NCC: torch.Tensor) -> torch.Tensor:
    """Dice of each image and class. Shape: (N, C, C) int64 -> (N, C) float64, NaN as in `dice`."""
    return _dice(*_counts(matrices_NCC))


def image_iou(matrices_NCC: torch.Tensor) -> torch.Tensor:
    """IoU of each image and class. Shape: (N, C, C) int64 -> (N, C) float64, NaN as in `dice`."""
    return _iou(*_counts(matrices_NCC))


def mean_over(values_C: torch.Tensor) -> float:
    """Mean of the values that are defined; NaN where none is."""
    return float(values_C.nanmean())


def per_class(matrices_NCC: torch.Tensor, classes: Sequence[str]) -> list[dict[str, object]]:
    """Each class's dice and IoU in both averages, recall and pixels; None where undefined."""
    values = {f"dice_{average}": dice(matrices_NCC, average) for average in AVERAGES}
    values |= {f"iou_{average}": iou(matrices_NCC, average) for average in AVERAGES}
    values["recall"] = recall(matrices_NCC)
    pixels = matrices_NCC.sum((0, 2)).tolist()
    rows = []
    for label, name in enumerate(classes):
        row = {key: None if by_class[label].isnan() else float(by_class[label]) for key, by_class in values.items()}
        rows.append({"class": name, "pixels": pixels[label], **row})
    return rows


def hausdorff(
    true_NHW: np.ndarray, predicted_NHW: np.ndarray, spacing_N2: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """The largest distance from a pixel of either region to the nearest pixel of the other, image by image.

    Source: D. P. Huttenlocher, G. A. Klanderman, W. J. Rucklidge, "Comparing images using the Hausdorff distance", IEEE
    PAMI 15(9), 1993. Report E's sets are compared by it (MICCAI 2012 RVSC).

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


def _averaged(matrices_NCC: torch.Tensor, average: str, metric: Callable[..., torch.Tensor]) -> torch.Tensor:
    checks.one_of("average", average, AVERAGES)
    if average == "global":
        return metric(*_counts(matrices_NCC.sum(0)))
    return metric(*_counts(matrices_NCC)).nanmean(0)


def _counts(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """True positives, and all pixels that are of each class, and all that are predicted to be."""
    return matrices.diagonal(dim1=-2, dim2=-1), matrices.sum(-1), matrices.sum(-2)


def _dice(tp: torch.Tensor, true: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    return _ratio(2 * tp, true + predicted)


def _iou(tp: torch.Tensor, true: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    return _ratio(tp, true + predicted - tp)


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return part.double() / torch.where(whole > 0, whole.double(), torch.nan)


def _distance(true: np.ndarray, found: np.ndarray, spacing: np.ndarray) -> float:
    from scipy.ndimage import distance_transform_edt  # slow to import, and most runs measure no distances

    if not true.any() or not found.any():
        return float("nan") if true.any() or found.any() else 0.0
    to_true = distance_transform_edt(~true, sampling=tuple(spacing))
    to_found = distance_transform_edt(~found, sampling=tuple(spacing))
    return float(max(to_true[found].max(), to_found[true].max()))
