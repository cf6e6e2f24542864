"""The four encoder-decoder networks of report A2: one class, each variant one argument further than the last.

Source: report A2; Badrinarayanan, Kendall, Cipolla 2017, arXiv 1511.00561 (SegNet).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from retable import checks
from retable.models.parts import Activation, Segmenter, conv_block

# The blocks behind which the map is halved, counted from zero, and before whose mirror image it is doubled again.
_HALVED_BEHIND = (0, 2, 4)
# Encoder blocks whose maps the skip variant concatenates behind the upsampling to their size.
_SKIPPED_FROM = (0, 2)


class SegNet(Segmenter):
    """Five encoder blocks with three halvings, their mirror image as decoder, and a 3x3 convolution to the classes.

    A block is one or more 3x3 convolutions, each with batch norm (assumed) and activation. The map is halved behind the
    1st, 3rd and 5th block. An image is padded to sides that are multiples of 8.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: channels of the output.
        widths: channels of the five encoder blocks (assumed: 64, 128, 256, 512, 512).
        convolutions: of each encoder block and of its mirror image in the decoder, where the last one narrows; as in
            meetshah1995/pytorch-semseg, which the report cites.
        down: "pool" (max-pool 2x2) or "strided" (3x3 convolution of stride 2, batch norm, activation).
        up: "unpool" (max-unpooling with the indices of the pool of that size) or "transposed" (3x3 transposed
            convolution of stride 2, batch norm, activation).
        skip: concatenate the 3rd and the 1st encoder block's maps to the decoder's of the same size.
        activation: makes an activation layer.

    Shape: (N, C, H, W) -> (N, num_classes, H, W) logits.

    Raises:
        ValueError: for a value that is not accepted, or unpooling without pools.

    Source: report A2, models 1 (the defaults), 2 (up="transposed"), 3 (and down="strided"), 4 (and skip=True).
    """

    multiple = 8

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        convolutions: Sequence[int] = (2, 2, 3, 3, 3),
        down: str = "pool",
        up: str = "unpool",
        skip: bool = False,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        checks.integers("widths", widths, 5, "channels")
        checks.integers("convolutions", convolutions, 5, "convolutions")
        checks.one_of("down", down, ("pool", "strided"))
        checks.one_of("up", up, ("unpool", "transposed"))
        checks.boolean("skip", skip)
        if up == "unpool" and down != "pool":
            raise checks.refuse("up", up, "transposed (there are no pooling indices with down=strided)")
        self.pools, self.unpools, self.skip = down == "pool", up == "unpool", skip

        outputs = list(widths)
        inputs = [in_shape[0], *outputs[:-1]]
        self.encoder = nn.ModuleList(
            _block([i, *[o] * count], activation) for i, o, count in zip(inputs, outputs, convolutions, strict=True)
        )
        halved = [outputs[block] for block in _HALVED_BEHIND]
        if self.pools:
            self.down = nn.ModuleList(nn.MaxPool2d(2, return_indices=self.unpools) for _ in halved)
        else:
            self.down = nn.ModuleList(conv_block(channels, channels, activation, stride=2) for channels in halved)
        if self.unpools:
            self.up = nn.ModuleList(nn.MaxUnpool2d(2) for _ in halved)
        else:
            self.up = nn.ModuleList(_transposed(channels, activation) for channels in halved)
        # Block i of the decoder undoes block i of the encoder; the first keeps its channels, as in SegNet.
        decoder = []
        for block, channels in enumerate(outputs):
            more = channels if skip and block in _SKIPPED_FROM else 0
            inner = [channels] * (convolutions[block] - 1)
            decoder.append(_block([channels + more, *inner, outputs[max(block - 1, 0)]], activation))
        self.decoder = nn.ModuleList(decoder)
        self.classifier = nn.Conv2d(outputs[0], num_classes, 3, padding=1)
        self.fast_layout()

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x, indices, skipped = images_NCHW, [], {}
        for block, layers in enumerate(self.encoder):
            x = layers(x)
            if block in _HALVED_BEHIND:
                if self.skip and block in _SKIPPED_FROM:
                    skipped[block] = x
                x = self.down[_HALVED_BEHIND.index(block)](x)
                if self.unpools:
                    x, pooled = x
                    indices.append(pooled)
        for block in reversed(range(len(self.decoder))):
            if block in _HALVED_BEHIND:
                level = _HALVED_BEHIND.index(block)
                x = self.up[level](x, indices[level]) if self.unpools else self.up[level](x)
            if block in skipped:
                x = torch.cat([skipped[block], x], 1)
            x = self.decoder[block](x)
        return self.classifier(x)


def _block(channels: Sequence[int], activation: Activation) -> nn.Sequential:
    """Convolutions from each number of channels to the next."""
    return nn.Sequential(*(conv_block(i, o, activation) for i, o in pairwise(channels)))


def _transposed(channels: int, activation: Activation) -> nn.Sequential:
    """(N, channels, H, W) -> (N, channels, 2 H, 2 W)."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.BatchNorm2d(channels),
        activation(),
    )
