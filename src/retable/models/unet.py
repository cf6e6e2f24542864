"""U-Net for the right ventricle (report E).

Sources: Ronneberger, Fischer, Brox 2015, arXiv 1505.04597, figure 1; used by Dang, Anand, Sethi 2019, arXiv 1908.08004.
Padded convolutions, so that the output has the input's size, and batch norm are assumed.
"""

import torch
from torch import nn

from retable import checks
from retable.models.parts import Activation, Dropout, MaxPool2x2, Segmenter, conv_block


class UNet(Segmenter):
    """Levels of two 3x3 convolutions; 2x2 max-pools lead down, 2x2 transposed convolutions up, concatenations across.

    An image is padded to sides that are multiples of 2**depth.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: channels of the output.
        width: channels of the first level; each lower level has twice as many.
        depth: number of pools.
        activation: makes an activation layer.
        dropout: at the lowest level ("conv"), where Ronneberger et al. have it.

    Shape: (N, C, H, W) -> (N, num_classes, H, W) logits.

    Raises:
        ValueError: for a value out of range.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        width: int = 64,
        depth: int = 4,
        activation: Activation = nn.ReLU,
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        checks.integer("width", width, 1)
        checks.integer("depth", depth, 1, 6)
        self.multiple = 2**depth
        widths = [width * 2**level for level in range(depth + 1)]

        def level(in_channels: int, out_channels: int) -> nn.Sequential:
            return nn.Sequential(
                conv_block(in_channels, out_channels, activation), conv_block(out_channels, out_channels, activation)
            )

        inputs = [in_shape[0], *widths]
        self.encoder = nn.ModuleList(level(inputs[i], widths[i]) for i in range(depth))
        self.pool = MaxPool2x2()
        self.bottom = nn.Sequential(level(widths[-2], widths[-1]), *dropout.layer("conv"))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.decoder = nn.ModuleList(level(2 * w, w) for w in reversed(widths[:-1]))
        self.classifier = nn.Conv2d(width, num_classes, 1)
        dropout.require(self)
        self.fast_layout()

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x, skipped = images_NCHW, []
        for level in self.encoder:
            skipped.append(level(x))
            x = self.pool(skipped[-1])
        x = self.bottom(x)
        for up, level in zip(self.up, self.decoder, strict=True):
            x = level(torch.cat([skipped.pop(), up(x)], 1))
        return self.classifier(x)
