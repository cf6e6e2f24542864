"""Sums of a loss by pixel and losses by overlap, with fixed weights or with weights that the target chooses."""

import torch

from retable import checks
from retable.losses.base import ImageLoss
from retable.losses.overlap import Dice, binary_dice, binary_inverse_dice
from retable.losses.pixel import PixelCrossEntropy, binary_cross_entropy


class CrossEntropyDice(ImageLoss):
    """Cross-entropy + dice: ce * `PixelCrossEntropy` + dice * `Dice`, any K.

    Args:
        ce, dice: weights, at least 0.
        smooth, skip_background: as for `Dice`.

    Raises:
        ValueError: an argument that is not accepted.

    Source: report D1 (its theory part).
    """

    def __init__(self, ce: float = 1.0, dice: float = 1.0, smooth: float = 1e-5, skip_background: bool = False) -> None:
        super().__init__()
        checks.number("ce", ce, 0)
        checks.number("dice", dice, 0)
        self.weights = ce, dice
        self.ce, self.dice = PixelCrossEntropy(), Dice(smooth, skip_background)

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        ce, dice = self.weights
        return ce * self.ce.images(outputs_NKHW, targets_NHW) + dice * self.dice.images(outputs_NKHW, targets_NHW)


class DiceBCE(ImageLoss):
    """Sum of binary losses: bce * BCE + dice * dice loss + inverse_dice * inverse dice loss; K is 1 or 2.

    With two outputs all three are of class 1's softmax probability (see `ImageLoss.binary`), the dice loss too.

    Args:
        bce, dice, inverse_dice: weights, at least 0; a term of weight 0 is not computed.
        smooth: as for `Dice`.

    Raises:
        ValueError: an argument that is not accepted, or no weight above 0.

    Source: report E.2 (weights 1, 1, 0 and 1, 1, 1).
    """

    def __init__(self, bce: float = 1.0, dice: float = 1.0, inverse_dice: float = 0.0, smooth: float = 1e-5) -> None:
        super().__init__()
        for name, weight in (("bce", bce), ("dice", dice), ("inverse_dice", inverse_dice)):
            checks.number(name, weight, 0)
        if bce == dice == inverse_dice == 0:
            raise checks.refuse("bce", bce, "a number above 0 where dice and inverse_dice are 0")
        checks.number("smooth", smooth, 0, open_low=True)
        self.bce, self.dice, self.inverse_dice, self.smooth = bce, dice, inverse_dice, smooth

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        pixels = self.binary(outputs_NKHW, targets_NHW)
        terms = []
        if self.bce:
            terms.append(self.bce * binary_cross_entropy(*pixels))
        if self.dice:
            terms.append(self.dice * binary_dice(*pixels, self.smooth))
        if self.inverse_dice:
            terms.append(self.inverse_dice * binary_inverse_dice(*pixels, self.smooth))
        return torch.stack(terms).sum(0)


class Switching(ImageLoss):
    """BCE + w * dice loss + (1 - w) * inverse dice loss, with a w that each image's target chooses; K is 1 or 2.

    w = lam where (foreground pixels) / (background pixels) > threshold, else 1 - lam: lam weighs the region that there
    is more of. An image without background is above every threshold. In targets between 0 and 1, foreground is what
    exceeds 0.5; ignored pixels are neither.

    Args:
        lam: the lambda of the formula, in [0, 1].
        threshold: ratio of foreground to background, at least 0.
        smooth: as for `Dice`.

    Raises:
        ValueError: an argument that is not accepted.

    Source: report E.2, after Dang, Anand, Sethi 2019 (arXiv 1908.08004); the formula is assumed from its description.
    """

    def __init__(self, lam: float = 0.75, threshold: float = 0.5, smooth: float = 1e-5) -> None:
        super().__init__()
        checks.number("lam", lam, 0, 1)
        checks.number("threshold", threshold, 0)
        checks.number("smooth", smooth, 0, open_low=True)
        self.lam, self.threshold, self.smooth = lam, threshold, smooth

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        pixels = self.binary(outputs_NKHW, targets_NHW)
        _, targets, valid = pixels
        foreground = (targets > 0.5).sum(1)
        more = foreground > self.threshold * (valid.sum(1) - foreground)
        weight = torch.where(more, self.lam, 1 - self.lam)
        dice, inverse = binary_dice(*pixels, self.smooth), binary_inverse_dice(*pixels, self.smooth)
        return binary_cross_entropy(*pixels) + weight * dice + (1 - weight) * inverse
