"""Losses whose terms segmentation-models-pytorch computes: Tversky and Lovasz, here an image at a time."""

import torch
from segmentation_models_pytorch import losses
from segmentation_models_pytorch.losses.lovasz import _lovasz_softmax_flat

from retable import checks
from retable.losses.base import ImageLoss, class_masks


class Tversky(ImageLoss):
    """1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth) of each image, tp, fp and fn summed from probabilities.

    K = 1: of class 1. K > 1: the mean over the classes, as for `Dice`. alpha = beta = 0.5 is the dice loss with twice
    the smooth; for targets between 0 and 1 the library takes min(p, t) for p t, so that p = t is the minimum.

    Args:
        alpha, beta: weights of false positives and false negatives, at least 0, one of them above. The defaults did
            best in the paper.
        smooth: above 0; an empty region that is predicted empty has loss 0.
        skip_background: leave class 0 out of the mean over classes.

    Raises:
        ValueError: an argument that is not accepted.

    Source: Salehi, Erdogmus, Gholipour 2017 (arXiv 1706.05721), equation 3.
    """

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1e-5, skip_background: bool = False
    ) -> None:
        super().__init__()
        checks.number("alpha", alpha, 0)
        checks.number("beta", beta, 0)
        if alpha == beta == 0:
            raise checks.refuse("alpha", alpha, "a number above 0 where beta is 0")
        checks.number("smooth", smooth, 0, open_low=True)
        checks.boolean("skip_background", skip_background)
        self.first = int(skip_background)
        # The mode matters to the library's own forward alone, which pools the batch.
        self.library = losses.TverskyLoss("multilabel", smooth=smooth, alpha=alpha, beta=beta)

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        probabilities, targets, _ = class_masks(outputs_NKHW, targets_NHW)
        if outputs_NKHW.shape[1] > 1:
            probabilities, targets = probabilities[:, self.first :], targets[:, self.first :]
        scores = self.library.compute_score(
            probabilities, targets, smooth=self.library.smooth, eps=self.library.eps, dims=-1
        )
        return 1 - scores.mean(1)


class Lovasz(ImageLoss):
    """Lovasz extension of the Jaccard loss, of each image: a convex stand-in for 1 - IoU.

    K = 1: the Lovasz hinge of the logits, class 1; a target between 0 and 1 is of class 1 above 0.5. K > 1: the
    Lovasz-softmax, the mean over the classes that the image holds. Sorts an image's pixels once a class: about ten
    times the cost of the other losses.

    Source: Berman, Triki, Blaschko 2018 (arXiv 1705.08790), algorithm 1 and section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hinge = losses.LovaszLoss("binary", per_image=True)

    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        # The library takes ignored pixels out by indexing, which has to know how many there are. Without an error they
        # sort behind all errors and weigh nothing, which gives the same value and gradient.
        if outputs_NKHW.shape[1] == 1:
            logits, targets, valid = self.binary(outputs_NKHW, targets_NHW)
            logits = torch.where(valid, logits, -1)  # at label 0 the hinge's error 1 + z is then 0
            labels = (targets > 0.5).float()
            return torch.stack([self.hinge(z[None], y[None]) for z, y in zip(logits, labels, strict=True)])
        probabilities, targets, _ = class_masks(outputs_NKHW, targets_NHW)
        present = targets.amax(2)
        terms = torch.stack(
            [
                torch.stack([_lovasz_softmax_flat(p.mT, y, classes=[c]) for c in range(len(p))])
                for p, y in zip(probabilities, targets_NHW.flatten(1), strict=True)
            ]
        )
        return (terms * present).sum(1) / present.sum(1).clamp(min=1)
