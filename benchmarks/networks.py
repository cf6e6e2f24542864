"""The four networks of the step benchmark as one would write them by hand, and what they are trained with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Case:
    """A network, its data and its training, on both sides.

    Attributes:
        overrides: what makes it in this project.
        smaller: further overrides where a step would take a minute, and what they mean in `network`'s arguments.
        network: width, image size -> the network.
        width, size: of the full network and its images.
        classes: number of labels.
        masks: a label for every pixel.
        optimizer: parameters -> optimizer.
    """

    overrides: tuple[str, ...]
    network: Callable[[int, int], nn.Module]
    optimizer: Callable[..., torch.optim.Optimizer]
    batch: int
    width: int
    size: int
    classes: int = 2
    masks: bool = False
    smaller: tuple[tuple[str, int], ...] = ()

    def sizes(self, small: bool) -> tuple[int, int]:
        """Width and image size."""
        chosen = dict(self.smaller) if small else {}
        return chosen.get("model.width", self.width), chosen.get("data.size", self.size)

    def words(self, small: bool) -> list[str]:
        """Overrides for this project."""
        return [*self.overrides, *(f"{key}={value}" for key, value in (self.smaller if small else ()))]


def digits(width: int, size: int) -> nn.Module:
    """B1.2: 21,578 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * width * (size // 4) ** 2, 10),
    )


def blocks(width: int, size: int) -> nn.Module:
    """A1: three blocks."""
    layers: list[nn.Module] = []
    channels = 3
    for maps in (width, 2 * width, 4 * width):
        layers += [nn.Conv2d(channels, maps, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = maps
    units = channels * (size // 8) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(units, 100), nn.ReLU(), nn.Linear(100, 10))


def _conv(inputs: int, outputs: int, bias: bool = True) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias), nn.BatchNorm2d(outputs), nn.ReLU()]


def small_fcn(width: int, size: int) -> nn.Module:
    """B2.2: 11,698 parameters."""
    return nn.Sequential(
        *_conv(3, width),
        nn.MaxPool2d(2),
        *_conv(width, 2 * width),
        nn.MaxPool2d(2),
        *_conv(2 * width, 4 * width),
        nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2),
        *_conv(2 * width, 2 * width),
        nn.ConvTranspose2d(2 * width, width, 2, stride=2),
        *_conv(width, width),
        nn.Conv2d(width, 2, 1),
    )


class UNet(nn.Module):
    """E: 31,036,481 parameters at width 64. Images are padded to a multiple of 16."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]

        def level(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(*_conv(inputs, outputs, False), *_conv(outputs, outputs, False))

        self.down = nn.ModuleList(level(i, o) for i, o in zip([1, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.across = nn.ModuleList(level(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, 1, 1)
        self.pad = -size % 16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, self.pad, 0, self.pad), mode="replicate")
        skipped = []
        for number, level in enumerate(self.down):
            x = level(x if number == 0 else nn.functional.max_pool2d(x, 2))
            skipped.append(x)
        skipped.pop()
        for up, level in zip(self.up, self.across, strict=True):
            x = level(torch.cat([skipped.pop(), up(x)], 1))
        return self.last(x)[..., :height, :width]


class DiceLoss(nn.Module):
    """1 - dice of each image's one logit a pixel, averaged over the batch."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        p, t = logits[:, 0].float().sigmoid().flatten(1), targets.float().flatten(1)
        return (1 - (2 * (p * t).sum(1) + 1e-5) / (p.sum(1) + t.sum(1) + 1e-5)).mean()


def sgd(rate: float, momentum: float = 0.0) -> Callable[..., torch.optim.Optimizer]:
    """Parameters -> SGD."""
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=momentum)


def adam(rate: float) -> Callable[..., torch.optim.Optimizer]:
    """Parameters -> Adam."""
    return lambda parameters: torch.optim.Adam(parameters, lr=rate)


CASES = {
    "B1.2": Case(("task=mnist",), digits, sgd(0.1), batch=32, width=8, size=28, classes=10),
    "A1": Case(
        ("task=cifar", "model.blocks=3", "model.width=32", "data.batch_size=32"),
        blocks,
        sgd(0.001, 0.9),
        batch=32,
        width=32,
        size=32,
        classes=10,
    ),
    "B2.2": Case(("task=gland", "model=fcn_small_bn"), small_fcn, adam(0.001), 32, 8, 128, masks=True),
    "E": Case(
        ("task=ventricle", "data.subfolder=rvsc_png"),
        UNet,
        adam(0.0005),
        batch=16,
        width=64,
        size=216,
        masks=True,
        smaller=(("model.width", 8), ("data.size", 64)),
    ),
}


def loss_of(case: Case) -> nn.Module:
    """The loss a case is trained with: dice for the one with a single output, else cross-entropy."""
    return DiceLoss() if case.network is UNet else nn.CrossEntropyLoss()
