"""Losses of masks: by pixel (cross-entropy, focal), by the overlap of two regions (dice), and sums of both.

Sums have fixed weights, or weights that the target chooses.
"""

import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from retable import checks
from retable.data.arrays import IGNORE
from retable.losses.base import ImageLoss, class_masks, mean_of_valid


def binary_cross_entropy(logits_NP: torch.Tensor, targets_NP: torch.Tensor, valid_NP: torch.Tensor) -> torch.Tensor:
    """(N,) -mean(t log p + (1 - t) log(1 - p)) of each image, p = sigmoid(logit)."""
    values = F.binary_cross_entropy_with_logits(logits_NP, targets_NP, reduction="none")
    return mean_of_valid(values, valid_NP)


def cross_entropy(outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
    """(N,) -mean(log softmax(z)_label) of each image, K > 1."""
    labels = targets_NHW.long()
    values = F.cross_entropy(outputs_NKHW, labels, ignore_index=IGNORE, reduction="none")
    return mean_of_valid(values.flatten(1), (labels != IGNORE).flatten(1))


class PixelCrossEntropy(ImageLoss):
    """Cross-entropy of each pixel, averaged over an image's pixels, then over images.

    K > 1: -log softmax(z)_label. K = 1: the binary form -(t log p + (1 - t) log(1 - p)), p = sigmoid(z). Where every
    image has as many pixels that count, this is torch's cross_entropy over all pixels of the batch.

    Source: reports A2 and B2.
    """

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        if outputs_NKHW.shape[1] == 1:
            return binary_cross_entropy(*self.binary(outputs_NKHW, targets_NHW))
        return cross_entropy(outputs_NKHW, targets_NHW)


class Focal(ImageLoss):
    """Focal loss: -a_t (1 - p_t)^gamma log p_t, averaged over an image's pixels; K is 1 or 2 (see `ImageLoss.binary`).

    p_t is the probability given to the pixel's class, a_t is alpha for class 1 and 1 - alpha for class 0.

    Args:
        alpha: weight of class 1 against class 0, in [0, 1].
        gamma: how much less a well classified pixel counts: 0 (not at all less), or at least 1 (between them the
            gradient has no bound).

    Raises:
        ValueError: a value out of range.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 5; report E.2.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        checks.number("alpha", alpha, 0, 1)
        checks.number("gamma", gamma, 0)
        if 0 < gamma < 1:
            raise checks.refuse("gamma", gamma, "0, or a number of at least 1")
        self.alpha, self.gamma = alpha, gamma

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        logits, targets, valid = self.binary(outputs_NKHW, targets_NHW)
        return mean_of_valid(sigmoid_focal_loss(logits, targets, self.alpha, self.gamma), valid)


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
