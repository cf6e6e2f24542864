"""Losses by the overlap of two regions: dice, and dice of the complements."""

import torch

from retable import checks
from retable.losses.base import ImageLoss, class_masks


def dice_loss(probabilities: torch.Tensor, targets: torch.Tensor, smooth: float) -> torch.Tensor:
    """1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth) over the last axis; both 0 where ignored.

    Two empty regions overlap entirely: the loss is 0.
    """
    sizes = probabilities.sum(-1) + targets.sum(-1)
    return 1 - (2 * (probabilities * targets).sum(-1) + smooth) / (sizes + smooth)


def binary_dice(
    logits_NP: torch.Tensor, targets_NP: torch.Tensor, valid_NP: torch.Tensor, smooth: float
) -> torch.Tensor:
    """(N,) dice loss of class 1."""
    return dice_loss(logits_NP.sigmoid() * valid_NP, targets_NP, smooth)


def binary_inverse_dice(
    logits_NP: torch.Tensor, targets_NP: torch.Tensor, valid_NP: torch.Tensor, smooth: float
) -> torch.Tensor:
    """(N,) dice loss of class 0: of the complements 1 - p and 1 - t."""
    # sigmoid(-z) is 1 - p without the digits that the difference loses near p = 1.
    return dice_loss(logits_NP.neg().sigmoid() * valid_NP, (1 - targets_NP) * valid_NP, smooth)


class Dice(ImageLoss):
    """Soft dice loss of each image: 1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), sums over its pixels.

    K = 1: of class 1. K > 1: the mean over the classes; one that an image neither holds nor is given has loss 0.

    Args:
        smooth: above 0; keeps an empty region defined (0 if the prediction is empty too, else nearly 1). The default
            changes the value by less than 1e-5 wherever sum(p) + sum(t) is 1 pixel or more.
        skip_background: leave class 0 out of the mean over classes; nothing to leave out where K = 1.

    Raises:
        ValueError: an argument that is not accepted.

    Source: Milletari et al. 2016 (arXiv 1606.04797), with plain in place of squared sums in the denominator
    (Drozdzal et al. 2016, arXiv 1608.04117); reports C and E. Targets between 0 and 1 enter as they are:
    p = t is then not the minimum.
    """

    def __init__(self, smooth: float = 1e-5, skip_background: bool = False) -> None:
        super().__init__()
        checks.number("smooth", smooth, 0, open_low=True)
        checks.boolean("skip_background", skip_background)
        self.smooth, self.first = smooth, int(skip_background)

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        if outputs_NKHW.shape[1] == 1:
            return binary_dice(*self.binary(outputs_NKHW, targets_NHW), self.smooth)
        probabilities, targets, _ = class_masks(outputs_NKHW, targets_NHW)
        return dice_loss(probabilities[:, self.first :], targets[:, self.first :], self.smooth).mean(1)


class InverseDice(ImageLoss):
    """Dice loss of the complements 1 - p and 1 - t, that is, of the background; K is 1 or 2 (see `ImageLoss.binary`).

    Args:
        smooth: as for `Dice`; an image without background has loss 0 if none is predicted.

    Raises:
        ValueError: `smooth` not above 0.

    Source: report E.2.
    """

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        checks.number("smooth", smooth, 0, open_low=True)
        self.smooth = smooth

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        return binary_inverse_dice(*self.binary(outputs_NKHW, targets_NHW), self.smooth)
