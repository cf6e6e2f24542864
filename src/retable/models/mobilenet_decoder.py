"""MobileNetV2 with a decoder of transposed convolutions (report C), its encoder frozen or fine-tuned."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from retable import checks
from retable.models.backbones import backbone
from retable.models.parts import Activation, ColourSegmenter, Dropout


class MobileNetDecoder(ColourSegmenter):
    """MobileNetV2's features (1280 channels, stride 32), five doublings, and a 1x1 convolution to the classes.

    An image is padded to sides that are multiples of 32. Choose data.scale=imagenet for pretrained weights.

    Args:
        in_shape: (channels, height, width) of an image; one channel is repeated to three.
        num_classes: channels of the output.
        widths: channels behind each of the five transposed convolutions (kernel 4, stride 2, padding 1: assumed), each
            with batch norm, activation and dropout.
        frozen: leave the encoder as it is: no gradients, and its batch norms keep their statistics in training too.
        features: "last", or "several": the encoder's maps of strides 16, 8, 4 and 2 are added to the decoder's of the
            same size, through 1x1 convolutions (C.3; how they are joined is assumed).
        residual: add each doubling's input, through a 1x1 convolution and nearest-neighbour upsampling, to its output
            before the activation (the report names residual connections without showing them).
        weights: of the encoder: see `retable.models.weights`.
        activation: makes the decoder's activation layers.
        dropout: behind each doubling ("conv"); assumed for the report: 0.2.

    Shape: (N, 1 or 3, H, W) -> (N, num_classes, H, W) logits.

    Raises:
        ValueError: for a value that is not accepted.
        DataError: for weights that can't be read or do not fit.

    Source: report C; Sandler et al. 2018, arXiv 1801.04381 (the encoder).
    """

    multiple = 32

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        widths: Sequence[int] = (512, 256, 128, 64, 32),
        frozen: bool = False,
        features: str = "last",
        residual: bool = False,
        weights: str = "none",
        activation: Activation = nn.ReLU,
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(in_shape)
        checks.integers("widths", widths, 5, "channels")
        checks.boolean("frozen", frozen)
        checks.one_of("features", features, ("last", "several"))
        checks.boolean("residual", residual)
        base = backbone("mobilenet_v2", weights)
        self.encoder, self.weights_source, self.frozen = base.stages, base.source, frozen
        if frozen:
            self.encoder.requires_grad_(False)
        inputs = [base.channels[-1], *widths[:-1]]
        self.decoder = nn.ModuleList(
            _Doubling(i, o, residual, activation, dropout) for i, o in zip(inputs, widths, strict=True)
        )
        several = zip(reversed(base.channels[:-1]), widths[:-1], strict=True) if features == "several" else ()
        self.laterals = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in several)
        self.classifier = nn.Conv2d(widths[-1], num_classes, 1)
        dropout.require(self)
        self.fast_layout()

    def train(self, mode: bool = True) -> "MobileNetDecoder":
        """Training or evaluation mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x, maps = images_NCHW, []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        for i, doubling in enumerate(self.decoder):
            x = doubling(x)
            if i < len(self.laterals):
                x = x + self.laterals[i](maps[-2 - i])
        return self.classifier(x)


class _Doubling(nn.Module):
    """Transposed convolution, batch norm, activation, dropout; (N, C, H, W) -> (N, out_channels, 2 H, 2 W)."""

    def __init__(
        self, in_channels: int, out_channels: int, residual: bool, activation: Activation, dropout: Dropout
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if residual else None
        self.behind = nn.Sequential(activation(), *dropout.layer("conv"))

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Maps of twice the height and width."""
        y = self.norm(self.up(x_NCHW))
        if self.shortcut is not None:
            y = y + F.interpolate(self.shortcut(x_NCHW), scale_factor=2.0, mode="nearest")
        return self.behind(y)
