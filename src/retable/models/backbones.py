"""torchvision's classifiers as encoders: five stages of strides 2, 4, 8, 16 and 32."""

from dataclasses import dataclass

import torchvision
from torch import nn
from torchvision.models import vgg

from retable import checks
from retable.models import weights as pretrained

_VGG = {  # name: (its letter in Simonyan and Zisserman 2015, arXiv 1409.1556, table 1; batch norm)
    f"vgg{depth}{norm}": (letter, norm == "_bn")
    for depth, letter in ((11, "A"), (13, "B"), (16, "D"), (19, "E"))
    for norm in ("", "_bn")
}
_RESNET_CHANNELS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet34": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "resnet101": (64, 256, 512, 1024, 2048),
}
NAMES = (*_VGG, *_RESNET_CHANNELS, "mobilenet_v2")


@dataclass
class Backbone:
    """A classifier's convolutional part.

    Attributes:
        stages: five modules to be run in turn; stage i gives maps of stride 2**(i + 1).
        channels: channels of each stage's maps.
        hidden: the classifier's two hidden fully connected layers (VGG, where asked for), else empty.
        source: where its weights came from, or None.
    """

    stages: nn.ModuleList
    channels: tuple[int, ...]
    hidden: list[nn.Linear]
    source: dict[str, str | None] | None


def backbone(name: str, weights: str = "none", keep_hidden: bool = False) -> Backbone:
    """Build one of `NAMES`.

    VGG is cut behind its pools, the others behind the last layer of a stride.

    Args:
        name: its name in torchvision.
        weights: see `retable.models.weights.load`.
        keep_hidden: keep VGG's hidden fully connected layers, whose weights a file must then have.

    Raises:
        ValueError, DataError: one line.
    """
    checks.one_of("backbone", name, NAMES)
    if name in _VGG and not keep_hidden:
        model = _vgg_without_classifier(*_VGG[name])
    else:
        model = torchvision.models.get_model(name, weights=None)
    hidden = []
    if name in _VGG:
        layers, channels = list(model.features), (64, 128, 256, 512, 512)
        cuts = [i + 1 for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        hidden = [model.classifier[0], model.classifier[3]] if keep_hidden else []
        optional = ("classifier.6.",) if keep_hidden else ("classifier.",)
    elif name in _RESNET_CHANNELS:
        layers = [
            model.conv1,
            model.bn1,
            model.relu,
            model.maxpool,
            *(getattr(model, f"layer{i}") for i in range(1, 5)),
        ]
        cuts, channels, optional = [3, 5, 6, 7, 8], _RESNET_CHANNELS[name], ("fc.",)
    else:
        layers, cuts, channels, optional = (
            list(model.features),
            [2, 4, 7, 14, 19],
            (16, 24, 32, 96, 1280),
            ("classifier.",),
        )
    source = pretrained.load(model, weights, name, optional)
    stages = [nn.Sequential(*layers[start:end]) for start, end in zip([0, *cuts[:-1]], cuts, strict=True)]
    return Backbone(nn.ModuleList(stages), channels, hidden, source)


def _vgg_without_classifier(letter: str, batch_norm: bool) -> nn.Module:
    """VGG's convolutions under torchvision's keys and initialised alike, without its 120 million further weights."""
    model = nn.Module()
    model.features = vgg.make_layers(vgg.cfgs[letter], batch_norm)
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model
