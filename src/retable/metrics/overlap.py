"""Overlap of predicted and true regions, all from one count: the confusion matrix of each image's pixels.

Two averages are kept apart, since they answer different questions:
    image    the figure of each image, averaged over the images in which the class is present or predicted
    global   the figure of all pixels together, where an image counts by its area
"""

import torch

from retable import checks
from retable.data.arrays import IGNORE

AVERAGES = ("image", "global")


def image_confusions(targets_NHW: torch.Tensor, predictions_NHW: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Pixels of each image by true (row) and predicted (column) class, ignored pixels left out.

    Shape: integer (N, H, W), (N, H, W) -> (N, num_classes, num_classes) int64.
    """
    n, cells = len(targets_NHW), num_classes * num_classes
    # Each image counts into its own cells; one more cell behind them all takes the ignored pixels.
    cell = targets_NHW.long() * num_classes + predictions_NHW.long()
    cell += torch.arange(n, device=cell.device).view(-1, 1, 1) * cells
    cell = torch.where(targets_NHW == IGNORE, n * cells, cell)
    return torch.bincount(cell.flatten(), minlength=n * cells + 1)[:-1].view(n, num_classes, num_classes)


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


def _averaged(matrices_NCC: torch.Tensor, average: str, figure) -> torch.Tensor:
    checks.one_of("average", average, AVERAGES)
    if average == "global":
        return figure(*_counts(matrices_NCC.sum(0)))
    return figure(*_counts(matrices_NCC)).nanmean(0)


def _counts(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """True positives, and all pixels that are of each class, and all that are predicted to be."""
    return matrices.diagonal(dim1=-2, dim2=-1), matrices.sum(-1), matrices.sum(-2)


def _dice(tp: torch.Tensor, true: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    return _ratio(2 * tp, true + predicted)


def _iou(tp: torch.Tensor, true: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    return _ratio(tp, true + predicted - tp)


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return part.double() / torch.where(whole > 0, whole.double(), torch.nan)
