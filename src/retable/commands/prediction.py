"""`retable predict CHECKPOINT IMAGES...`: the label of each image, and the accuracy where labels are known (A1.7).

Images are files or folders of any format that pillow reads, zip and tar archives of them, CIFAR batches, or idx files.
Labels are known for CIFAR batches, for idx images whose label file lies beside them, and for images in folders that are
named like a class.
"""

import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from retable.errors import DataError
from retable.run.restore import Trained

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Item:
    """One image to label: its name, uint8 pixels (C, H, W), its label where it is known."""

    name: str
    image: np.ndarray
    label: int | None


@dataclass(frozen=True)
class Prediction:
    """The label that a model gives an image, and how sure it is in [0, 1]."""

    name: str
    label: str
    probability: float
    truth: str | None


def predict(trained: Trained, paths: Sequence[Path]) -> list[Prediction]:
    """Label every image below the paths, in the order of their names.

    Raises:
        DataError: one line naming the file, if something can't be read or has the wrong shape.
    """
    with tempfile.TemporaryDirectory() as scratch:
        items = [item for path in paths for item in _items(path, trained, Path(scratch))]
    if not items:
        raise DataError(f"{', '.join(map(str, paths))}: no images; accepted: {', '.join(sorted(_SUFFIXES))}")
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


def _items(path: Path, trained: Trained, scratch: Path) -> Iterator[Item]:
    if path.is_dir():
        yield from _folder(path, trained, path)
    elif not path.exists():
        raise DataError(f"{path}: no such file")
    elif path.suffix.lower() in _SUFFIXES:
        yield _image(path, trained, path.name, path)
    elif zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        yield from _folder(unpack(path, scratch), trained, path)
    else:
        yield from _set(path, trained)


def _folder(folder: Path, trained: Trained, shown: Path) -> Iterator[Item]:
    """All images below a folder but hidden ones; `shown` is what the user calls the folder."""
    names = (p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    for name in sorted(names):
        if not any(part.startswith((".", "__MACOSX")) for part in name.parts):
            yield _image(folder / name, trained, str(name), shown / name)


def _image(path: Path, trained: Trained, name: str, shown: Path) -> Item:
    """One picture, resized and converted to what the model takes."""
    channels, height, width = trained.image_shape
    try:
        with Image.open(path) as picture:
            picture = picture.convert("L" if channels == 1 else "RGB")
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(picture, np.uint8)
    except Exception as error:  # a damaged picture can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{shown}: not a readable image ({reason.replace(str(path), path.name)})") from error
    folder = path.parent.name
    label = trained.classes.index(folder) if folder in trained.classes else None
    return Item(name, pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy(), label)


def unpack(path: Path, scratch: Path) -> Path:
    """A new folder in `scratch` with what a zip or tar archive holds. Raises DataError."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                if hasattr(tarfile, "data_filter"):
                    archive.extractall(folder, filter="data")
                else:  # Python before 3.11.4: the same care by hand
                    archive.extractall(folder, [member for member in archive if _harmless(member)])
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from error
    return folder


def _harmless(member: tarfile.TarInfo) -> bool:
    """Whether a member is a plain file or folder that stays below the folder it is unpacked into."""
    name = PurePosixPath(member.name)
    return (member.isfile() or member.isdir()) and not name.is_absolute() and ".." not in name.parts


def _set(path: Path, trained: Trained) -> Iterator[Item]:
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
