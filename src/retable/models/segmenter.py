"""What the segmentation models share: logits at the input's own height and width, whatever those are."""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from retable import checks
from retable.models.parts import Activation


class Segmenter(nn.Module):
    """Base of the segmentation models: pads, computes scores, crops.

    An image whose sides are no multiples of `multiple` is padded at its bottom and right with copies of its last row
    and column, and the logits of that border are cut off again.

    A subclass ends its constructor with `fast_layout`.

    Attributes:
        multiple: the total stride of the network.
        weights_source: where pretrained weights came from, for a run's record (see retable.models.weights), or None.

    Shape: (N, C, H, W) -> (N, K, H, W) logits.
    """

    multiple: ClassVar[int] = 1
    weights_source: dict[str, str | None] | None = None

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Logits of images whose sides are multiples of `multiple`."""
        raise NotImplementedError

    def fast_layout(self) -> None:
        """Store weights, and so compute maps, with channels last: on CPU a step takes 5 to 40 % less time."""
        self.to(memory_format=torch.channels_last)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Logits (N, K, H, W) of images (N, C, H, W)."""
        height, width = images_NCHW.shape[-2:]
        down, right = -height % self.multiple, -width % self.multiple
        if not (down or right):
            return self.scores(images_NCHW)
        padded = F.pad(images_NCHW, (0, right, 0, down), mode="replicate")
        return self.scores(padded)[..., :height, :width]


class ColourSegmenter(Segmenter):
    """A segmentation model whose encoder was made for colour images: a grey image is repeated to three channels.

    Pretrained encoders expect ImageNet's mean and standard deviation: choose data.scale=imagenet.
    """

    def __init__(self, in_shape: tuple[int, int, int]) -> None:
        super().__init__()
        if in_shape[0] not in (1, 3):
            raise checks.refuse("in_shape", tuple(in_shape), "images of 1 or 3 channels")

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Logits (N, K, H, W) of images (N, 1 or 3, H, W)."""
        return super().forward(images_NCHW.expand(-1, 3, -1, -1))


def conv_block(in_channels: int, out_channels: int, activation: Activation, stride: int = 1) -> nn.Sequential:
    """Convolution 3x3, batch norm, activation; (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride).

    The convolution has no bias, which the norm behind it would take away again.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        activation(),
    )
