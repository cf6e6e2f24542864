"""`retable predict`: label images with a trained classifier (A1.7), or find objects in them with a trained detector.

Images are picture files, folders and archives of them, CIFAR batches or idx files (of a classifier alone). Labels are
known for CIFAR batches, for idx images whose label file lies beside them, and for images in folders that are named like
a class.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retable.commands.evaluate import add_trust
from retable.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from retable.run.restore import Trained


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of `retable`."""
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
    add_trust(predict)
    predict.set_defaults(do=_predict)


def _predict(options: argparse.Namespace) -> None:
    from retable.run.restore import load
    from retable.tasks.detection import Detection

    trained = load(options.checkpoint, options.trust)
    if isinstance(trained.task, Detection):
        _print_objects(trained, options)
        return
    for name in ("score", "output"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: accepted for a detector, which {trained.name} is not")
    _print_labels(trained, options)


def _print_labels(trained: "Trained", options: argparse.Namespace) -> None:
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


def _print_objects(trained: "Trained", options: argparse.Namespace) -> None:
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


# Labels ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One image to label: its name, uint8 pixels (C, H, W), its label where it is known."""

    name: str
    image: "np.ndarray"
    label: int | None


@dataclass(frozen=True)
class Prediction:
    """The label that a model gives an image, its probability in [0, 1], and the true label where it is known."""

    name: str
    label: str
    probability: float
    truth: str | None


def predict(trained: "Trained", paths: Sequence[Path]) -> list[Prediction]:
    """Label every image below the paths, in the order of their names.

    Raises:
        DataError: one line naming the file, if something can't be read or has the wrong shape.
    """
    import numpy as np
    import torch

    with tempfile.TemporaryDirectory() as scratch:
        items = [item for path in paths for item in _items(path, trained, Path(scratch))]
    _refuse_nothing(paths, len(items))
    found = trained.probabilities(torch.from_numpy(np.stack([item.image for item in items])))
    best, label = found.max(1)
    return [
        Prediction(
            item.name,
            trained.classes[int(index)],
            float(probability),
            None if item.label is None else trained.classes[item.label],
        )
        for item, index, probability in zip(items, label, best, strict=True)
    ]


def _items(path: Path, trained: "Trained", scratch: Path) -> Iterator[Item]:
    from retable.data.formats.archives import is_archive
    from retable.data.formats.pictures import EXTENSIONS

    if path.is_file() and path.suffix.lower() not in EXTENSIONS and not is_archive(path):
        yield from _set(path, trained)
        return
    channels, height, width = trained.image_shape
    for picture in _pictures(path, scratch):
        folder = picture.file.parent.name
        label = trained.classes.index(folder) if folder in trained.classes else None
        yield Item(picture.name, picture.read((height, width), "L" if channels == 1 else "RGB"), label)


def _set(path: Path, trained: "Trained") -> Iterator[Item]:
    """A whole set's file: a CIFAR batch, or idx images with their labels beside them."""
    from retable.data.formats.cifar_batch import read_batch
    from retable.data.formats.idx import read_idx, read_pair

    labels: np.ndarray | None
    if "idx3" in path.name:
        beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        known = read_pair(path, beside) if beside.exists() else None
        images, labels = (known.images, known.targets) if known else (read_idx(path, 3)[:, None], None)
    else:
        batch = read_batch(path)
        images, labels = batch.images, batch.targets
    if images.shape[1:] != trained.image_shape:
        raise DataError(f"{path}: images of shape {images.shape[1:]}; this model takes {trained.image_shape}")
    for index, image in enumerate(images):
        yield Item(f"{path.name}[{index}]", image, None if labels is None else int(labels[index]))


# Boxes ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """The objects of an image: float32 (n, 6), x1, y1, x2, y2 in its own pixels, label, score; the best first."""

    name: str
    image: "np.ndarray"
    objects: "torch.Tensor"


def predict_boxes(trained: "Trained", paths: Sequence[Path], score: float | None = None) -> Iterator[Found]:
    """The objects of every image below the paths, in the order of their names; one image at a time is in memory.

    Args:
        paths: picture files, folders, zip or tar archives.
        score: lowest score; by default the task's own `confidence`.

    Raises:
        DataError: one line naming the file, if something can't be read.
    """
    import numpy as np
    import torch

    from retable.data.sets.wildlife import canvas, resized, resized_size

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = trained.task.to(device).eval().model
    lowest = trained.task.confidence if score is None else score
    settings, count = trained.config["data"], 0
    with tempfile.TemporaryDirectory() as scratch:
        for picture in (each for path in paths for each in _pictures(path, Path(scratch))):
            image, count = picture.read(), count + 1
            height, width = resized_size(*image.shape[1:], settings["shorter"], settings["longer"])
            small = torch.from_numpy(np.array(resized(image, (height, width))))[None].to(device)
            images = torch.zeros(1, 3, *canvas([(height, width)]), device=device)
            images[..., :height, :width] = trained.normalise(small)
            with torch.inference_mode():
                (objects,) = model.detections(model(images), [(height, width)], images.shape[-2:])
            objects = objects[objects[:, 5] >= lowest].cpu()
            objects[:, :4] *= torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
            yield Found(picture.name, image, objects)
    _refuse_nothing(paths, count)


def draw_boxes(found: Found, classes: Sequence[str], folder: Path) -> Path:
    """Write an image with its boxes as a PNG into a folder; its path."""
    import torch
    from matplotlib.figure import Figure

    from retable.figures.classification import save
    from retable.figures.detection import picture

    height, width = found.image.shape[1:]
    figure = Figure(figsize=(7.0, 7.0 * height / width))
    picture(figure.add_axes((0, 0, 1, 1)), found.image, torch.zeros(0, 5), found.objects, classes, 8.0)
    figure.axes[0].axis("off")
    path = folder / Path(found.name).with_suffix(".png")
    try:
        save(figure, path)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written ({error.strerror})") from error
    return path


# Pictures -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A picture's name, its file, and the path that the user knows it by, which may lead into an archive."""

    name: str
    file: Path
    shown: Path

    def read(self, size: tuple[int, int] | None = None, mode: str = "RGB") -> "np.ndarray":
        """Pixels as `read_image` gives them. Raises DataError."""
        from retable.data.formats.pictures import read_image

        try:
            return read_image(self.file, size, mode)
        except DataError as error:
            raise DataError(str(error).replace(str(self.file), str(self.shown))) from error


def _pictures(path: Path, scratch: Path) -> Iterator[Picture]:
    """The picture that a path names, or all below it: in a folder, or in an archive, which is unpacked into scratch."""
    from retable.data.formats.archives import is_archive, unpack
    from retable.data.formats.pictures import EXTENSIONS, pictures_below

    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() in EXTENSIONS and not path.is_dir():
        yield Picture(path.name, path, path)
        return
    if not path.is_dir() and not is_archive(path):
        raise DataError(f"{path}: accepted: pictures ({', '.join(EXTENSIONS)}), and folders or archives of them")
    folder = path if path.is_dir() else unpack(path, scratch, lambda name: name.suffix.lower() in EXTENSIONS)
    for name in pictures_below(folder):
        yield Picture(str(name), folder / name, path / name)


def _refuse_nothing(paths: Sequence[Path], count: int) -> None:
    from retable.data.formats.pictures import EXTENSIONS

    if not count:
        raise DataError(f"{', '.join(map(str, paths))}: no images; accepted: {', '.join(EXTENSIONS)}")
