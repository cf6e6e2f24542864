"""`retable predict`: label images with a trained classifier (A1.7), find objects in them, or write their masks.

Images are picture files, folders and archives of them; of a classifier also CIFAR batches and idx files; of a
segmentation model what its set is made of: NIfTI volumes, or DICOM slices beside pictures. Labels are known for CIFAR
batches, for idx images whose label file lies beside them, and for images in folders that are named like a class.
"""

import argparse
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from retable.commands.evaluate import add_trust, add_which, settings_of, write
from retable.commands.predictions import draw_boxes, predict, predict_boxes, predict_masks, run_lengths, write_mask
from retable.errors import ConfigError, printable

if TYPE_CHECKING:
    from retable.run.foreign_use import TrainedModule
    from retable.run.restore import Trained


def add(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="label images, find objects in them, or write their masks, with a trained model",
        description="Print each image's predicted label and its probability, and the accuracy where labels are known;"
        " of a detector each object's class, score and box, in pixels. A segmentation model writes masks of the"
        " images' own size: PNG with a palette, NIfTI for NIfTI, and beside each the image with its mask laid over it."
        " Of a LightningModule of one's own: what its predict_step gives for its DataModule's predict_dataloader.",
    )
    predict.add_argument("checkpoint", type=Path, help="a last.ckpt, or the directory of a run")
    predict.add_argument(
        "images", type=Path, nargs="*", help="images, folders, zip or tar archives, a CIFAR batch, or an idx file"
    )
    predict.add_argument("--quiet", action="store_true", help="only the last line")
    predict.add_argument(
        "--labels",
        metavar="FOLDER=CLASS,...",
        help="of a classifier: which class folders of other names hold; FOLDER= for those without a label",
    )
    predict.add_argument("--score", type=float, help="of a detector: the lowest score (default: the task's confidence)")
    predict.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="of a detector: write images with boxes to DIR; of masks: write them there (default: masks); of a"
        " LightningModule of one's own: the file of its arrays (default: predictions.npz)",
    )
    predict.add_argument(
        "--rle", type=Path, metavar="FILE", help="also write masks as COCO's run lengths to a JSON file"
    )
    predict.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of a LightningModule of one's own: an argument of its DataModule; may be given several times",
    )
    add_which(predict)
    add_trust(predict)
    predict.set_defaults(do=_predict)


def _predict(options: argparse.Namespace) -> None:
    from retable.run.foreign_use import TrainedModule
    from retable.run.restore import load
    from retable.tasks.detection import Detection
    from retable.tasks.segmentation import Segmentation

    trained = load(options.checkpoint, options.trust, options.which)
    if isinstance(trained, TrainedModule):
        _write_arrays(trained, options)
        return
    if not options.images or options.set:
        raise ConfigError("--set: accepted: none, of a Task" if options.set else "images: missing; files or folders")
    kinds = {Detection: (("score", "output"), _print_objects), Segmentation: (("output", "rle"), _write_masks)}
    taken, do = next((kinds[kind] for kind in kinds if isinstance(trained.task, kind)), (("labels",), _print_labels))
    for name in {"labels", "score", "output", "rle"} - set(taken):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: not accepted for {trained.name}, a run of {type(trained.task).__name__}")
    left_out: Counter[str] = Counter()
    do(trained, options, left_out)
    for reason, count in left_out.items():
        print(f"left out: {count}, {reason}", file=sys.stderr)


def _write_arrays(trained: "TrainedModule", options: argparse.Namespace) -> None:
    """What a LightningModule of somebody's own predicts, as an .npz file."""
    import numpy as np

    from retable.run.foreign_use import predictions

    given = [str(path) for path in options.images]
    given += [f"--{name}" for name in ("labels", "score", "rle") if getattr(options, name) is not None]
    if given:
        raise ConfigError(f"{given[0]}: not accepted for {trained.name}, whose DataModule says what is predicted")
    arrays = predictions(trained, settings_of(options.set))
    path = options.output or Path("predictions.npz")
    content = io.BytesIO()
    np.savez(content, **arrays)
    write("--output", path, content.getvalue())
    if not options.quiet:
        print("\n".join(f"{name}  {values.dtype} {values.shape}" for name, values in arrays.items()))
    print(path)


def _print_labels(trained: "Trained", options: argparse.Namespace, left_out: Counter[str]) -> None:
    found = predict(trained, options.images, _labels(options.labels), left_out)
    known = [p for p in found if p.truth is not None]
    if not options.quiet:
        names = [printable(p.name) for p in found]  # a name with a line's end in it is no line of the list
        width = max(map(len, names))
        for name, p in zip(names, found, strict=True):
            truth = "" if p.truth is None else f"  {'right' if p.truth == p.label else f'wrong, it is {p.truth}'}"
            print(f"{name:<{width}}  {p.label:<8} {p.probability:6.1%}{truth}")
    if known:
        right = sum(p.truth == p.label for p in known)
        without = f"; {len(found) - len(known)} images without a label" if len(known) < len(found) else ""
        print(f"accuracy {right / len(known):.4f} ({right} of {len(known)}){without}")
    else:
        print(f"{len(found)} images; no labels known, so no accuracy")


def _labels(given: str | None) -> dict[str, str]:
    """What --labels says: class by folder. Raises ConfigError."""
    pairs = [text.partition("=") for text in (given or "").split(",") if text]
    for folder, sign, name in pairs:
        if not folder or not sign:
            raise ConfigError(f"--labels {folder}{sign}{name}: accepted: FOLDER=CLASS,..., e.g. airplane=plane")
    return {folder: name for folder, _, name in pairs}


def _print_objects(trained: "Trained", options: argparse.Namespace, left_out: Counter[str]) -> None:
    images = objects = 0
    for found in predict_boxes(trained, options.images, options.score, left_out):
        images, objects = images + 1, objects + len(found.objects)
        if not options.quiet:
            print(printable(found.name))
            for *box, label, score in found.objects.tolist():
                shown = " ".join(f"{value:7.1f}" for value in box)
                print(f"  {trained.classes[int(label)]:<12} {score:.3f}  {shown}")
        if options.output:
            draw_boxes(found, trained.classes, options.output)
    print(f"{objects} objects in {images} images" + (f"; drawn in {options.output}" if options.output else ""))


def _write_masks(trained: "Trained", options: argparse.Namespace, left_out: Counter[str]) -> None:
    folder, count, runs = options.output or Path("masks"), 0, []
    for found in predict_masks(trained, options.images, left_out):
        shares = write_mask(found, trained, folder)
        count += 1
        if options.rle:
            runs += run_lengths(found, trained.classes)
        if not options.quiet:
            print(f"{printable(found.name)}  " + "  ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    if options.rle:
        write("--rle", options.rle, json.dumps(runs).encode())
    print(f"{count} masks in {folder}")
