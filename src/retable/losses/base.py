"""What all segmentation losses share: precision, ignored pixels, the outputs' two forms, the mean over images."""

from abc import abstractmethod
from contextlib import nullcontext

import torch
from torch import nn

from retable.checks import refuse
from retable.data.arrays import IGNORE


class ImageLoss(nn.Module):
    """A loss an image, averaged over the batch, so that an image weighs the same whatever batch it comes in.

    Computed in float32, also under autocast. Pixels of label 255 take no part in value or gradient; an image that holds
    nothing else has loss 0, and counts as an image. Nothing is read back from the device, so that a training step with
    such a loss can be captured in a CUDA graph.

    Shape: logits (N, K, H, W), targets (N, H, W) -> scalar. With K = 1 the probability of class 1 is sigmoid(logit) and
    targets are 0, 1 or floats between (255 is ignored in floats too); with K > 1 probabilities are softmax(logits) and
    targets are integer labels below K.

    Raises:
        ValueError: shapes that do not belong together, a K that the loss is not defined for, floats with K > 1.
    """

    @abstractmethod
    def images(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        """(N,) the loss of each image, from float32 logits."""

    def forward(self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor) -> torch.Tensor:
        """Scalar: the mean over the batch of the images' losses."""
        shape = outputs_NKHW.shape
        if len(shape) != 4 or targets_NHW.shape != (shape[0], *shape[2:]):
            fit = f"(N, H, W) for outputs (N, K, H, W), here of {tuple(shape)}"
            raise refuse("targets", tuple(targets_NHW.shape), fit)
        if shape[1] > 1 and targets_NHW.is_floating_point():
            raise refuse("targets", targets_NHW.dtype, f"integer labels, for {shape[1]} outputs")
        device = outputs_NKHW.device.type
        known = torch.amp.is_autocast_available(device)  # not so on the meta device
        with torch.autocast(device, enabled=False) if known else nullcontext():
            return self.images(outputs_NKHW.float(), targets_NHW).mean()

    def binary(
        self, outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of class 1, float targets (0 where ignored) and the mask of pixels that count, all (N, pixels).

        With two outputs the softmax probability of class 1 is sigmoid(z_1 - z_0): that difference is the logit.

        Raises:
            ValueError: more than two outputs.
        """
        channels = outputs_NKHW.shape[1]
        if channels > 2:
            raise ValueError(
                f"{type(self).__name__}: {channels} outputs; accepted: 1 (sigmoid), or 2 (softmax, class 1 against 0)"
            )
        logits = outputs_NKHW[:, 0] if channels == 1 else outputs_NKHW[:, 1] - outputs_NKHW[:, 0]
        valid = targets_NHW != IGNORE
        return logits.flatten(1), torch.where(valid, targets_NHW, 0).float().flatten(1), valid.flatten(1)


def mean_of_valid(values_NP: torch.Tensor, valid_NP: torch.Tensor) -> torch.Tensor:
    """(N,) mean of each image's values over the pixels that count; 0 where none does."""
    return torch.where(valid_NP, values_NP, 0).sum(1) / valid_NP.sum(1).clamp(min=1)


def class_masks(
    outputs_NKHW: torch.Tensor, targets_NHW: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities and one-hot targets, (N, K, pixels) and 0 where ignored; the mask (N, 1, pixels).

    Of one output they are class 1's alone: sigmoid(logit) and the target, which may lie between 0 and 1.
    """
    labels = targets_NHW.flatten(1)[:, None]
    valid = labels != IGNORE
    if outputs_NKHW.shape[1] == 1:
        return outputs_NKHW.sigmoid().flatten(2) * valid, torch.where(valid, labels, 0).float(), valid
    classes = torch.arange(outputs_NKHW.shape[1], device=outputs_NKHW.device)[:, None]
    return outputs_NKHW.softmax(1).flatten(2) * valid, (labels == classes).float(), valid
