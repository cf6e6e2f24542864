"""`ablate predict`: label images with a trained classifier."""

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="label images with a trained classifier",
        description="Print each image's predicted label and its probability, and the accuracy where labels are known.",
    )
    predict.add_argument("checkpoint", type=Path, help="a last.ckpt, or the directory of a run")
    predict.add_argument(
        "images", type=Path, nargs="+", help="images, folders, zip or tar archives, a CIFAR batch, or an idx file"
    )
    predict.add_argument("--quiet", action="store_true", help="the accuracy alone")
    predict.set_defaults(do=_predict)


def _predict(options: argparse.Namespace) -> None:
    from ablate.predict import predict
    from ablate.run.restore import load

    found = predict(load(options.checkpoint), options.images)
    known = [p for p in found if p.truth is not None]
    if not options.quiet:
        width = max(len(p.name) for p in found)
        for p in found:
            truth = "" if p.truth is None else f"  {'right' if p.truth == p.label else f'wrong, it is {p.truth}'}"
            print(f"{p.name:<{width}}  {p.label:<8} {p.probability:6.1%}{truth}")
    if known:
        right = sum(p.truth == p.label for p in known)
        print(f"accuracy {right / len(known):.4f} ({right} of {len(known)})")
    else:
        print(f"{len(found)} images; no labels known, so no accuracy")
