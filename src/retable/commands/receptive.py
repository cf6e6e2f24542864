"""`retable receptive`: show what a unit of a trained network looks at."""

import argparse
import sys
from pathlib import Path
from typing import Any

from retable.commands.evaluate import add_trust, count
from retable.errors import ConfigError

_EPILOG = """\
examples:
  retable receptive --network resnet18 --layer layer4 --unit 10 photographs/
  retable receptive --network resnet18 --weights resnet18.pth --layer layer3 --unit 10 --size 320 photographs/
  retable receptive --checkpoint multirun/cifar/some-run --layer features.block2 --unit 3 photographs/
  retable receptive --network vgg16 --layer features.30      (without images: the theoretical field alone)
"""
# The least value of each option that takes a whole number.
_LEAST = {"unit": 0, "top": 1, "occluder": 1, "stride": 1, "size": 1, "batch": 1, "seed": 0}


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "receptive",
        help="show what a unit of a trained network looks at",
        description="The theoretical receptive field of a layer, and, from images, the empirical and the effective one"
        " of one of its units: a page, figures and JSON files in a folder. The index of all tables lists those below"
        " multirun/receptive.",
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
    parser.add_argument("--top", type=int, default=10, metavar="K", help="number of images studied (default: 10)")
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
        help="remove segments too, until the class flips (give it after IMAGES, or with a value)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: multirun/receptive/<network>-<layer>-<unit>"
    )
    add_trust(parser)
    parser.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Check the options, study the unit, and print its fields.

    Raises:
        ConfigError, DataError: one line.
    """
    if options.weights is not None and options.network is None:
        raise ConfigError("--weights: accepted with --network alone; a checkpoint has its own weights")
    if options.images and options.unit is None:
        raise ConfigError("--unit: missing; accepted: the number of a channel, from 0")
    for key, least in _LEAST.items():
        value = getattr(options, key)
        if value is not None:
            count(f"--{key}", value, least)

    from dataclasses import fields

    from retable.receptive.study import Request, Study
    from retable.report.receptive_page import size_text

    request = Request(**{field.name: getattr(options, field.name) for field in fields(Request)})
    study = Study(request, lambda line: print(line, file=sys.stderr))
    study.write_theoretical()
    rows, columns = study.field.stride
    stride = rows if rows == columns else f"{rows} x {columns}"
    print(f"{study.name} {request.layer}: theoretical field {size_text(study.field.size)}, stride {stride}")
    if request.images:
        _print(study.look())
    print(f"written: {study.folder}")


def _print(result: dict[str, Any]) -> None:
    from retable.report.receptive_page import size_text

    found, slope, rows = result["empirical"], result["effective"], result["top"]
    outside = sum(row["places_outside"] for row in rows)
    change = max(row["largest_change_outside"] for row in rows)
    if outside:
        verdict = f"{'' if found['inside'] else 'NOT '}inside the theoretical one: the largest change by an occluder"
        verdict += f" at {outside} places outside of it is {change:.2g}"
    else:
        verdict = "the theoretical one is all of the image, so that nothing lies outside"
    print(
        f"empirical field of unit {result['unit']}: {size_text(found['size'])}, side {found['side']}"
        f" (mean drop above {found['level']:.0%} of the largest); {verdict}"
    )
    print(f"effective field: {size_text(slope['size'])}, side {slope['side']} (gradient above {slope['level']:.2%})")
