"""`retable predict`: label images with a trained classifier, or find objects in them with a trained detector."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retable.run.restore import Trained


def add(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="label images with a trained classifier, or find objects in them with a trained detector",
        description="Print each image's predicted label and its probability, and the accuracy where labels are known;"
        " of a detector each object's class, score and box, in pixels.",
    )
    predict.add_argument("checkpoint", type=Path, help="a last.ckpt, or the directory of a run")
    predict.add_argument(
        "images", type=Path, nargs="+", help="images, folders, zip or tar archives, a CIFAR batch, or an idx file"
    )
    predict.add_argument("--quiet", action="store_true", help="the accuracy alone, or no objects but their number")
    predict.add_argument("--score", type=float, help="of a detector: the lowest score (default: the task's confidence)")
    predict.add_argument("--output", type=Path, metavar="DIR", help="of a detector: write images with boxes to DIR")
    predict.set_defaults(do=_predict)


def _predict(options: argparse.Namespace) -> None:
    from retable.commands.prediction import predict
    from retable.commands.prediction_boxes import is_detector
    from retable.errors import ConfigError
    from retable.run.restore import load

    trained = load(options.checkpoint)
    if is_detector(trained):
        _predict_boxes(trained, options)
        return
    for name in ("score", "output"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: accepted for a detector, which {trained.name} is not")
    found = predict(trained, options.images)
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


def _predict_boxes(trained: "Trained", options: argparse.Namespace) -> None:
    from retable.commands.prediction_boxes import draw_boxes, predict_boxes

    images = objects = 0
    for found in predict_boxes(trained, options.images, options.score):
        images, objects = images + 1, objects + len(found.objects)
        if not options.quiet:
            print(found.name)
            for *box, label, score in found.objects.tolist():
                shown = " ".join(f"{value:7.1f}" for value in box)
                print(f"  {trained.classes[int(label)]:<12} {score:.3f}  {shown}")
        if options.output:
            draw_boxes(found, trained.classes, options.output)
    print(f"{objects} objects in {images} images" + (f"; drawn in {options.output}" if options.output else ""))
