"""What models share: activations, dropout by place, pooling; and those of masks: logits at the input's own height and
width, whatever those are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from retable import checks

Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class Dropout:
    """Where and how often units are dropped.

    Attributes:
        p: probability in [0, 1).
        where: "conv" (behind each block), "fc" (behind the hidden fully connected layer) or "all".
        channels: drop whole feature maps behind blocks (Tompson et al. 2015, arXiv 1411.4280).
    """

    p: float = 0.0
    where: str = "all"
    channels: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError: `p=...: accepted: ...`, for a value that is not accepted."""
        checks.number("p", self.p, 0, 1, open_high=True)
        checks.one_of("where", self.where, ("conv", "fc", "all"))
        checks.boolean("channels", self.channels)

    def layer(self, place: str) -> list[nn.Module]:
        """The layers to put at a place ("conv" or "fc"): one, or none."""
        if self.p == 0 or self.where not in (place, "all"):
            return []
        return [nn.Dropout2d(self.p) if self.channels and place == "conv" else nn.Dropout(self.p)]

    def require(self, model: nn.Module) -> None:
        """Refuse a place that a model does not have, where dropout would silently do nothing.

        Raises:
            ValueError: `dropout.where=...: accepted: ...`.
        """
        if self.p > 0 and not any(isinstance(module, nn.Dropout | nn.Dropout2d) for module in model.modules()):
            other = "fc" if self.where == "conv" else "conv"
            raise checks.refuse("dropout.where", self.where, f"{other}, all (this model has no such place)")


class MaxPool2x2(nn.MaxPool2d):
    """Max-pool 2x2 of stride 2 with a quick way where no gradient is wanted: the largest of four strided views.

    On one CPU core torch's kernel takes 35 ms for a map of 125x64x28x28, this 3 ms; the values are the same, bit for
    bit. Elsewhere (training, a GPU, odd sides) it is torch's own.
    """

    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self, maps_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        plain = maps_NCHW.device.type == "cpu" and not (torch.is_grad_enabled() and maps_NCHW.requires_grad)
        if not plain or maps_NCHW.shape[-1] % 2 or maps_NCHW.shape[-2] % 2:
            return super().forward(maps_NCHW)
        upper, lower = maps_NCHW[..., ::2, :], maps_NCHW[..., 1::2, :]
        rows = torch.maximum(upper, lower)
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


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
