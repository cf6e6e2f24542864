"""`retable receptive`: its options. What it does is in `study`, which is imported only when it runs."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

from retable import checks
from retable.commands.evaluate import add_trust
from retable.errors import ConfigError

_EPILOG = """\
examples:
  retable receptive --network resnet18 --layer layer4 --unit 10 photographs/
  retable receptive --network resnet18 --weights resnet18.pth --layer layer3 --unit 10 --size 320 photographs/
  retable receptive --checkpoint multirun/cifar/some-run --layer features.block2 --unit 3 photographs/
  retable receptive --network vgg16 --layer features.30      (without images: the theoretical field alone)
"""


@dataclass(frozen=True)
class Request:
    """What is asked for; see the options of the same names."""

    network: str | None
    checkpoint: Path | None
    weights: Path | None
    layer: str
    unit: int | None
    images: list[Path]
    top: int
    occluder: int
    stride: int
    size: int | None
    uncut: bool
    batch: int
    seed: int
    segments: str | None
    output: Path | None
    trust: bool


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of `retable`."""
    parser = commands.add_parser(
        "receptive",
        help="show what a unit of a trained network looks at",
        description="The theoretical receptive field of a layer, and, from images, the empirical and the effective one"
        " of one of its units: theoretical.json, receptive.json and PNG figures in a folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--network", metavar="NAME", help="a network of torchvision, e.g. resnet18, with its weights")
    which.add_argument("--checkpoint", type=Path, metavar="RUN", help="a last.ckpt, or the directory of a run")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a state dict, instead of torchvision's weights")
    parser.add_argument("--layer", required=True, metavar="NAME", help="e.g. layer4, or features.28")
    parser.add_argument("--unit", type=int, metavar="N", help="the channel, from 0")
    parser.add_argument("images", type=Path, nargs="*", metavar="IMAGES", help="image files, and folders of them")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="images looked at (default: 10)")
    parser.add_argument("--occluder", type=int, default=11, metavar="PIXELS", help="its side (default: 11)")
    parser.add_argument("--stride", type=int, default=8, metavar="PIXELS", help="between its places (default: 8)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the images (default: the network's own)")
    parser.add_argument(
        "--uncut", action="store_true", help="only places whose theoretical field the image's border does not cut"
    )
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="images at once (default: 16)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the occluder's pixels (default: 0)")
    parser.add_argument(
        "--segments",
        nargs="?",
        const="slic",
        choices=("slic", "felzenszwalb"),
        help="remove segments too, until the class flips (give it behind IMAGES, or with a value)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: receptive/<network>-<layer>-<unit>")
    add_trust(parser)
    parser.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Check the options, and do what they ask for.

    Raises:
        ConfigError, DataError: one line.
    """
    request = Request(**{field.name: getattr(options, field.name) for field in fields(Request)})
    if request.weights is not None and request.network is None:
        raise ConfigError("--weights: accepted with --network alone; a checkpoint has its own weights")
    if request.images and request.unit is None:
        raise ConfigError("--unit: missing; accepted: the number of a channel, from 0")
    lowest = {"unit": 0, "top": 1, "occluder": 1, "stride": 1, "size": 1, "batch": 1, "seed": 0}
    for key, low in lowest.items():
        value = getattr(request, key)
        if value is not None:
            try:
                checks.integer(f"--{key}", value, low)
            except ValueError as error:
                raise ConfigError(str(error)) from error

    from retable.receptive.study import study

    study(request)
