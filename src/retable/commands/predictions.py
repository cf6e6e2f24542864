"""What a trained model makes of pictures: a label each, the boxes of objects, or a mask; and how these are written."""

import gzip
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retable import atomic
from retable.commands.pictures import find_pictures, refuse_nothing
from retable.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from retable.data.arrays import Unlabelled
    from retable.run.restore import Trained


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


def predict(
    trained: "Trained",
    paths: Sequence[Path],
    labels: Mapping[str, str] | None = None,
    left_out: Counter[str] | None = None,
) -> list[Prediction]:
    """Label every image below the paths, in the order of their names.

    Args:
        labels: the class that a folder of another name holds, by its name; "" for images without a label.
        left_out: counts the files that were left out, by reason.

    Raises:
        ConfigError: a run of another task, or `labels` that name no class.
        DataError: one line naming the file, if something can't be read or has the wrong shape; or folders of which some
            are named like classes and some are not.
    """
    import numpy as np
    import torch

    from retable.data.formats.pictures import EXTENSIONS
    from retable.tasks.detection import Detection
    from retable.tasks.segmentation import Segmentation

    if isinstance(trained.task, Detection | Segmentation):
        raise ConfigError(f"{trained.name}: a run of {type(trained.task).__name__}; accepted: of a classifier")
    for folder, name in (labels or {}).items():
        if name and name not in trained.classes:
            raise ConfigError(f"--labels {folder}={name}: accepted: {', '.join(trained.classes)}")
    known = {name: name for name in trained.classes} | dict(labels or {})
    with tempfile.TemporaryDirectory() as scratch:
        items = [item for path in paths for item in _items(path, trained, known, Path(scratch), left_out)]
    refuse_nothing(paths, len(items), EXTENSIONS)
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


def _items(
    path: Path, trained: "Trained", known: Mapping[str, str], scratch: Path, left_out: Counter[str] | None
) -> Iterator[Item]:
    from retable.data.formats.files import is_archive
    from retable.data.formats.pictures import EXTENSIONS

    if path.is_file() and path.suffix.lower() not in EXTENSIONS and not is_archive(path):
        yield from _set(path, trained)
        return
    channels, height, width = trained.image_shape
    pictures = list(find_pictures(path, scratch, EXTENSIONS, left_out))
    folders = {Path(picture.name).parent.name for picture in pictures} - {""}
    unknown = sorted(folders - known.keys())
    if unknown and folders & known.keys():
        raise DataError(
            f"{path}: folders {', '.join(unknown)} are named like no class, others are; accepted:"
            f" {', '.join(trained.classes)}, or --labels {unknown[0]}=CLASS,... (nothing behind = for no label)"
        )
    for picture in pictures:
        name = known.get(picture.file.parent.name)
        label = trained.classes.index(name) if name else None
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


@dataclass(frozen=True)
class Found:
    """The objects of an image: float32 (n, 6), x1, y1, x2, y2 in its own pixels, label, score; the best first."""

    name: str
    image: "np.ndarray"
    objects: "torch.Tensor"


def predict_boxes(
    trained: "Trained", paths: Sequence[Path], score: float | None = None, left_out: Counter[str] | None = None
) -> Iterator[Found]:
    """The objects of every image below the paths, in the order of their names; one image at a time is in memory.

    Args:
        paths: picture files, folders, zip or tar archives.
        score: lowest score; by default the task's own `confidence`.
        left_out: counts the files that were left out, by reason.

    Raises:
        DataError: one line naming the file, if something can't be read.
    """
    import numpy as np
    import torch

    from retable.data.formats.pictures import EXTENSIONS
    from retable.data.sets.wildlife import resized, resized_size

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = trained.task.to(device).eval()
    lowest = trained.task.confidence if score is None else score
    settings, count = trained.config["data"], 0
    with tempfile.TemporaryDirectory() as scratch:
        for picture in (each for path in paths for each in find_pictures(path, Path(scratch), EXTENSIONS, left_out)):
            image, count = picture.read(), count + 1
            height, width = resized_size(*image.shape[1:], settings["shorter"], settings["longer"])
            small = torch.from_numpy(np.array(resized(image, (height, width))))[None].to(device)
            with torch.inference_mode():
                (objects,) = task.detect(trained.normalise(small), [(height, width)])
            objects = objects[objects[:, 5] >= lowest].cpu()
            objects[:, :4] *= torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
            yield Found(picture.name, image, objects)
    refuse_nothing(paths, count, EXTENSIONS)


def draw_boxes(found: Found, classes: Sequence[str], folder: Path) -> Path:
    """Write an image with its boxes as a PNG into a folder; its path."""
    from retable.figures.detection import draw_one

    path = folder / Path(found.name).with_suffix(".png")
    try:
        draw_one(found.image, found.objects, classes, path)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written ({error.strerror})") from error
    return path


@dataclass(frozen=True)
class Mask:
    """What a segmentation model makes of a file.

    Attributes:
        name: the file's, relative to the folder or archive that was given.
        mask: uint8 of the file's own shape: labels (H, W), or those of a volume (X, Y, Z), as its set has them.
        file: what the model was given, and how its predictions became the mask.
    """

    name: str
    mask: "np.ndarray"
    file: "Unlabelled"


def predict_masks(trained: "Trained", paths: Sequence[Path], left_out: Counter[str] | None = None) -> "Iterator[Mask]":
    """The mask of every file below the paths, in the order of their names; one file at a time is in memory.

    Args:
        paths: files of the kind that the task's set is made of, folders and archives of them.
        left_out: counts the files that were left out, by reason.

    Raises:
        DataError: one line naming the file, if something can't be read.
    """
    import numpy as np
    import torch

    from retable.config.build import build
    from retable.config.targets import check_targets
    from retable.tasks.build import HINT

    check_targets(trained.config, trained.path, ("data",), trained.trust, HINT)
    data = build(trained.config["data"], "data", seed=0, augment=None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, count = trained.task.to(device).eval(), 0
    with tempfile.TemporaryDirectory() as scratch:
        for path in paths:
            for picture in find_pictures(path, Path(scratch), data.suffixes, left_out):
                file, count = picture.unlabelled(data, trained.image_shape), count + 1
                labels = task.predict(trained.normalise(torch.from_numpy(np.array(file.images)))).numpy()
                yield Mask(picture.name, file.mask(labels), file)
    refuse_nothing(paths, count, data.suffixes)


def write_mask(found: Mask, trained: "Trained", folder: Path) -> dict[str, float]:
    """Write a mask and, beside it, its image with the mask laid over it; the share of the image that each class takes.

    Raises:
        ConfigError: a folder that cannot be written to.
    """
    from retable.data.formats.pictures import write_picture
    from retable.figures.segmentation import indexed, overlay

    drawn = found.file.drawn(found.mask)
    path = folder / found.name
    try:
        if found.file.affine is None:
            write_picture(indexed(found.mask, trained.classes), path.with_name(f"{path.name}.mask.png"))
        else:
            import nibabel

            stem = path.name.removesuffix(".gz").removesuffix(".nii")
            volume = nibabel.Nifti1Image(found.mask, found.file.affine).to_bytes()
            atomic.write_bytes(path.with_name(f"{stem}_mask.nii.gz"), gzip.compress(volume, mtime=0))
        picture = overlay(found.file.shown, drawn, trained.classes, trained.task.scored)
        write_picture(picture, path.with_name(f"{path.name}.overlay.png"))
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written ({error.strerror or error})") from error
    first = 0 if found.file.affine is None else 1  # of a volume's labels, 0 is no class
    return {trained.classes[label]: float((found.mask == label + first).mean()) for label in trained.task.scored}


def run_lengths(found: Mask, classes: Sequence[str]) -> list[dict[str, object]]:
    """The region of each class in COCO's compressed run lengths, column by column; of a volume of each slice."""
    import numpy as np
    from pycocotools import mask as coco

    volume = found.mask.ndim == 3
    slices = [(z, found.mask[..., z]) for z in range(found.mask.shape[2])] if volume else [(None, found.mask)]
    rows = []
    for place, labels in slices:
        for label, name in enumerate(classes):
            region = labels == label + volume
            if region.any():
                encoded = coco.encode(np.asfortranarray(region, np.uint8))
                where = {"image": found.name} | ({"slice": place} if volume else {})
                rows.append(
                    where | {"class": name, "size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
                )
    return rows
