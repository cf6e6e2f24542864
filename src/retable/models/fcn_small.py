"""The small fully convolutional networks of report B2: the digit classifier's encoder, two transposed convolutions."""

import torch
from torch import nn

from retable import checks
from retable.models.parts import Activation, Dropout, MaxPool2x2, Segmenter


class SmallFCN(Segmenter):
    """B1.2's encoder (conv 8, pool, conv 16, pool, conv 32), two transposed convolutions back to full size, conv 1x1.

    An image is padded to sides that are multiples of 4.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: channels of the output.
        width: channels of the first block; each further block has twice as many.
        batch_norm: B2.2 in place of B2.1: batch norm behind each convolution of the encoder, and a 3x3 convolution,
            batch norm and activation behind each transposed convolution.
        activation: makes an activation layer.
        dropout: behind each pool ("conv"); the report has none.

    Shape: (N, C, H, W) -> (N, num_classes, H, W) logits.

    Source: report B2; on 3 channels and 2 classes 8,634 parameters (B2.1) and 11,698 (B2.2).
    """

    multiple = 4

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        width: int = 8,
        batch_norm: bool = False,
        activation: Activation = nn.ReLU,
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        checks.integer("width", width, 1)
        checks.boolean("batch_norm", batch_norm)
        few, some, many = width, 2 * width, 4 * width

        def conv(in_channels: int, out_channels: int) -> list[nn.Module]:
            norm = [nn.BatchNorm2d(out_channels)] if batch_norm else []
            return [nn.Conv2d(in_channels, out_channels, 3, padding=1), *norm, activation()]

        self.encoder = nn.Sequential(
            *conv(in_shape[0], few),
            MaxPool2x2(),
            *dropout.layer("conv"),
            *conv(few, some),
            MaxPool2x2(),
            *dropout.layer("conv"),
            *conv(some, many),
        )
        # Nothing stands between B2.1's transposed convolutions.
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(many, some, 2, stride=2),
            *(conv(some, some) if batch_norm else []),
            nn.ConvTranspose2d(some, few, 2, stride=2),
            *(conv(few, few) if batch_norm else []),
            nn.Conv2d(few, num_classes, 1),
        )
        dropout.require(self)
        self.fast_layout()

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(images_NCHW))
