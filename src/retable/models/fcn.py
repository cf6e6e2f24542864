"""FCN-32s, FCN-16s and FCN-8s on torchvision's classifiers (report D1).

Source: Long, Shelhamer, Darrell 2015, arXiv 1411.4038, sections 3 and 4: the classifier's fully connected layers become
convolutions, score layers start at zero, upsampling starts as bilinear interpolation; the last one stays it, or, as
options, none does or all do (D1.2).
"""

import torch
from torch import nn
from torch.nn import functional as F

from retable import checks
from retable.models.backbones import backbone as make_backbone
from retable.models.parts import ColourSegmenter, Dropout


class FCN(ColourSegmenter):
    """Scores from the last and, for strides 16 and 8, from earlier maps of a backbone, added as they are upsampled.

    An image is padded to sides that are multiples of 32, in place of Long et al.'s margin of 100 pixels; fc6 is padded
    by 3, so that its map keeps its size. Choose data.scale=imagenet for pretrained weights.

    Args:
        in_shape: (channels, height, width) of an image; one channel is repeated to three.
        num_classes: channels of the output.
        stride: 32 (FCN-32s), 16 (FCN-16s) or 8 (FCN-8s): of the finest maps that are scored.
        backbone: one of retable.models.backbones.NAMES.
        head: channels of fc6 (7x7) and fc7 (1x1), each with relu and dropout; with 4096 on a VGG they are VGG's own
            fully connected layers, weights included. None: no such layers, scores straight from the last maps.
        upsampling: published: doublings between the scores are learned, the last upsampling is bilinear; learned: all
            are; bilinear: none is.
        weights: of the backbone: see `retable.models.weights`.
        dropout: behind fc6 and fc7 ("fc"); published: 0.5.

    Shape: (N, 1 or 3, H, W) -> (N, num_classes, H, W) logits, all zero at first.

    Raises:
        ValueError: for a value that is not accepted.
        DataError: for weights that can't be read or do not fit.
    """

    multiple = 32

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        stride: int = 32,
        backbone: str = "vgg16",
        head: int | None = 4096,
        upsampling: str = "published",
        weights: str = "none",
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(in_shape)
        checks.one_of("stride", stride, (32, 16, 8))
        if head is not None:
            checks.integer("head", head, 1)
        checks.one_of("upsampling", upsampling, ("published", "learned", "bilinear"))
        base = make_backbone(backbone, weights, keep_hidden=head == 4096 and str(backbone).startswith("vgg"))
        self.stages, self.weights_source, self.stride = base.stages, base.source, stride
        layers: list[nn.Module] = []
        channels = base.channels[-1]
        if head is not None:
            empty = {"device": "meta"} if base.hidden else {}  # filled from VGG's layers, so not drawn at random first
            fc6 = nn.Conv2d(channels, head, 7, padding=3, **empty)
            fc7 = nn.Conv2d(head, head, 1, **empty)
            for layer, linear in zip((fc6, fc7), base.hidden, strict=False):
                layer.weight = nn.Parameter(linear.weight.detach().view(layer.weight.shape))
                layer.bias = linear.bias
            for layer in (fc6, fc7):
                layers += [layer, nn.ReLU(inplace=True), *dropout.layer("fc")]
            channels = head
        self.head = nn.Sequential(*layers)
        scored = {32: [], 16: [3], 8: [3, 2]}[stride]
        self.score = _score(channels, num_classes)
        self.skips = nn.ModuleDict({str(i): _score(base.channels[i], num_classes) for i in scored})
        between = Bilinear(2) if upsampling == "bilinear" else None
        self.doublings = nn.ModuleDict({str(i): between or Upsampling(num_classes, 2) for i in scored})
        self.last = Upsampling(num_classes, stride) if upsampling == "learned" else Bilinear(stride)
        dropout.require(self)
        self.fast_layout()

    def scores(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x, maps = images_NCHW, {}
        for i, stage in enumerate(self.stages):
            x = maps[str(i)] = stage(x)
        scores = self.score(self.head(x))
        for i, skip in self.skips.items():
            scores = self.doublings[i](scores) + skip(maps[i])
        return self.last(scores)


class Upsampling(nn.Module):
    """Transposed convolution, learned, that starts as bilinear interpolation; (N, K, f H, f W) for a factor f.

    The map is padded with its border, so that at first the border too equals `Bilinear`.

    Args:
        channels: K.
        factor: f, an even number: the stride; the kernel has 2 f x 2 f weights.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, padding=3 * factor // 2, bias=False)
        line = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
        with torch.no_grad():
            self.up.weight.copy_(torch.eye(channels)[:, :, None, None] * torch.outer(line, line))

    def forward(self, scores_NKHW: torch.Tensor) -> torch.Tensor:
        """(N, K, H, W) -> (N, K, f H, f W)."""
        return self.up(F.pad(scores_NKHW, (1, 1, 1, 1), mode="replicate"))


class Bilinear(nn.Module):
    """Bilinear interpolation, fixed: what a transposed convolution with bilinear weights computes (section 4)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, scores_NKHW: torch.Tensor) -> torch.Tensor:
        """(N, K, H, W) -> (N, K, f H, f W)."""
        return F.interpolate(scores_NKHW, scale_factor=self.factor, mode="bilinear", align_corners=False)


def _score(channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution to the classes whose weights and bias start at zero."""
    layer = nn.Conv2d(channels, num_classes, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
