"""The fully connected classifier of report B (B1.1): 784-800-10, 636,010 parameters on 28x28."""

import math

import torch
from torch import nn

from retable import checks
from retable.models.parts import Activation, Dropout


class FNN(nn.Module):
    """One hidden layer.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: number of outputs.
        hidden: hidden units.
        activation: makes an activation layer.
        dropout: behind the hidden layer, where its place is "fc" or "all".

    Shape: (N, *in_shape) -> (N, num_classes) logits.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        hidden: int = 800,
        activation: Activation = nn.ReLU,
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        checks.integer("hidden", hidden, 1)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(in_shape), hidden),
            activation(),
            *dropout.layer("fc"),
            nn.Linear(hidden, num_classes),
        )
        dropout.require(self)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of images (N, C, H, W)."""
        return self.layers(images_NCHW)
