"""Losses that are a mean over pixels: cross-entropy and focal loss."""

import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from retable import checks
from retable.data.arrays import IGNORE
from retable.losses.base import ImageLoss, mean_of_valid


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
