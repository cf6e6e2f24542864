"""`retable compare`: the same images under two trained models, as one picture."""

import argparse
from pathlib import Path

from retable.commands.evaluate import add_set_options, settings_of


def add(commands: argparse._SubParsersAction) -> None:
    compare = commands.add_parser(
        "compare",
        help="draw the same images under two trained segmentation models",
        description="Draw the images that the second model segments best and worst, as both models segment them.",
        epilog="example: retable compare outputs/gland/first outputs/gland/second data/warwick",
    )
    compare.add_argument("first", type=Path, help="a last.ckpt, or the directory of a run")
    compare.add_argument("second", type=Path, help="another one of the same task")
    compare.add_argument("data", type=Path, help="the set's folder, as data.root holds it for this task")
    add_set_options(compare)
    compare.add_argument("--images", type=int, default=3, metavar="N", help="so many of the best and of the worst (3)")
    compare.add_argument("--output", type=Path, default=Path("compare.png"), metavar="PNG", help="default: compare.png")
    compare.set_defaults(do=_compare)


def _compare(options: argparse.Namespace) -> None:
    from retable.commands.comparison import compare
    from retable.run.restore import load

    models = [load(options.first), load(options.second)]
    rows = compare(*models, options.data, options.output, options.images, options.part, settings_of(options.set))
    for name, *dice in rows:
        print(f"{name}  " + "  ".join(f"{value:.4f}" for value in dice))
    print(options.output)
