"""Plain arrays between the readers and the device: what every reader gives, checked once on creation."""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retable.errors import DataError

IGNORE = 255  # the label of pixels that count neither in a loss nor in a metric
_TAKEN = 2**22  # bytes of images copied in one go
_SLICE = 2**22  # pixels of masks looked at in one go
_IN_MEMORY = 16 * 2**20  # bytes; what is larger goes to a file at once, where there is a folder for it

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


def blank(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array to be filled by a reader; what it holds at first is undefined.

    While a set is read for the cache, a large one is a memory-mapped file of the cache's, so that it takes no memory
    that the system could not have back: sets may be larger than memory.

    Raises:
        DataError: no room on the cache's disk.
    """
    folder, size = _folder.get(), math.prod(shape) * np.dtype(dtype).itemsize
    if folder is None or size <= _IN_MEMORY:
        return np.empty(tuple(shape), dtype)
    try:
        handle, name = tempfile.mkstemp(dir=folder, suffix=".npy")
        os.close(handle)
        array = np.lib.format.open_memmap(name, "w+", np.dtype(dtype), tuple(shape))
        if hasattr(os, "posix_fallocate"):  # a page that finds no room when it is written to ends the process
            with open(name, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(name))
    except OSError as error:
        raise DataError(f"data.cache={folder.parent}: cannot be written ({error.strerror or error})") from error
    return array


@contextlib.contextmanager
def large_ones_in(folder: Path) -> Iterator[None]:
    """Have `blank` make its large arrays in a folder."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


@dataclass(frozen=True)
class ImageSet:
    """Images with one class each, with a label mask each, or with boxes.

    Args:
        images: uint8 (N, C, H, W), values 0-255; or float32, for intensities that are normalised already.
        targets: int64 (N,), class indices; or uint8 (N, H, W), a label a pixel, IGNORE where it does not count; or
            float32 (N, 1 + M, 5), boxes x1, y1, x2, y2, label in pixels (`box_targets`).
        about: further arrays with a row an image, by name, e.g. `name` (text), `patient`, `spacing` in mm a pixel.

    Raises:
        DataError: a wrong type or shape, or unequal numbers of images and targets.
    """

    images: np.ndarray
    targets: np.ndarray
    about: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images, targets = self.images, self.targets
        if images.dtype not in (np.uint8, np.float32) or images.ndim != 4:
            raise DataError(f"images are {images.dtype} {images.shape}, not uint8 or float32 (N, C, H, W)")
        if (targets.dtype, targets.ndim) not in ((np.int64, 1), (np.uint8, 3), (np.float32, 3)):
            raise DataError(
                f"targets are {targets.dtype} {targets.shape}, not int64 (N,), uint8 (N, H, W) or float32 (N, 1 + M, 5)"
            )
        if len(images) != len(targets):
            raise DataError(f"{len(images)} images but {len(targets)} targets")
        if self.masks and images.shape[2:] != targets.shape[1:]:
            raise DataError(f"images of {images.shape[2:]} pixels but masks of {targets.shape[1:]}")
        for name, values in self.about.items():
            if len(values) != len(images):
                raise DataError(f"{len(images)} images but {len(values)} values of {name}")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def masks(self) -> bool:
        """Whether targets are label masks."""
        return self.targets.dtype == np.uint8

    @property
    def boxes(self) -> bool:
        """Whether targets are boxes."""
        return self.targets.dtype == np.float32

    @property
    def names(self) -> list[str]:
        """What each image is called; its number where the reader gave no name."""
        return [str(name) for name in self.about.get("name", range(len(self)))]

    def take(self, index: np.ndarray) -> "ImageSet":
        """The images, their targets and what is known about them at the positions `index`, in that order."""
        images, targets = (blank((len(index), *own.shape[1:]), own.dtype) for own in (self.images, self.targets))
        step = max(1, _TAKEN * len(self) // max(1, self.images.nbytes))
        for start in range(0, len(index), step):  # a piece at a time, as numpy makes a copy of what is taken
            piece = slice(start, start + step)
            images[piece], targets[piece] = self.images[index[piece]], self.targets[index[piece]]
        return ImageSet(images, targets, {k: v[index] for k, v in self.about.items()})

    def largest(self) -> int:
        """The largest label, IGNORE left out; -1 where there is none."""
        if self.boxes:
            return int(self.targets[..., 4].max(initial=-1))
        if not self.masks:
            return int(self.targets.max(initial=-1))
        # One more wraps IGNORE, the largest byte, to 0; in slices, as it takes a copy.
        step = max(1, _SLICE // math.prod(self.targets.shape[1:]))
        slices = (self.targets[start : start + step] for start in range(0, len(self), step))
        return max((int((part + np.uint8(1)).max(initial=1)) - 1 for part in slices), default=-1)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets behind one another; the only one itself."""
    if len(sets) == 1:
        return sets[0]
    about = {key: np.concatenate([images.about[key] for images in sets]) for key in sets[0].about}
    whole = []
    for arrays in ([images.images for images in sets], [images.targets for images in sets]):
        whole.append(blank((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype))
        np.concatenate(arrays, out=whole[-1])
    return ImageSet(*whole, about)


def box_targets(
    boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], most: int
) -> np.ndarray:
    """Boxes of images as one array, padded to `most` boxes an image.

    Args:
        boxes: (n, 4) of each image: x1, y1, x2, y2 in pixels; labels: (n,); sizes: (height, width) of each image.

    Returns:
        float32 (N, 1 + most, 5). Row 0 of an image is its own extent, (0, 0, width, height), which on a canvas shared
        by images of several sizes is not known otherwise; then come its boxes. The label of row 0 and of padding is -1.
    """
    targets = np.zeros((len(sizes), 1 + most, 5), np.float32)
    targets[..., 4] = -1
    for row, own_boxes, own_labels, (height, width) in zip(targets, boxes, labels, sizes, strict=True):
        row[0, 2:4] = width, height
        row[1 : 1 + len(own_labels), :4] = np.reshape(own_boxes, (-1, 4))
        row[1 : 1 + len(own_labels), 4] = own_labels
    return targets


@dataclass(frozen=True)
class Unlabelled:
    """A file without labels as a segmentation model takes it, and the way back.

    Args:
        images: (n, C, H, W) as `ImageSet.images`: one image, or all patches of a volume.
        shown: uint8 (C, H0, W0), the file's own pixels, or a slice of a volume, to draw upon.
        mask: uint8 labels (n, H, W) -> a mask of the file's own shape, uint8.
        drawn: that mask -> (H0, W0), class indices of what `shown` shows, IGNORE where there is no class.
        affine: of a volume, (4, 4), voxel indices to millimetres.
    """

    images: np.ndarray
    shown: np.ndarray
    mask: Callable[[np.ndarray], np.ndarray]
    drawn: Callable[[np.ndarray], np.ndarray] = field(default=lambda mask: mask)
    affine: np.ndarray | None = None


@dataclass(frozen=True)
class Splits:
    """What a task is trained and evaluated on.

    Args:
        train, val: used in every epoch.
        classes: names by label.
        test: used once, after training; None where validation is all there is.
        left_out: how many items were found and not used, by reason.
        codes: number of values that a mask may have, where that is not the number of classes (`ImageData.levels`).
        extra: plain values to keep with the arrays, e.g. counts that a report prints.

    Raises:
        DataError: an empty split, image sizes that differ, or a target that names no class.
    """

    train: ImageSet
    val: ImageSet
    classes: tuple[str, ...]
    test: ImageSet | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    codes: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, images in self.by_name.items():
            name = {"train": "training", "val": "validation"}.get(name, name)
            if not len(images):
                raise DataError(f"no {name} images")
            low = 0 if images.masks or images.boxes else int(images.targets.min())
            high, most = images.largest(), (self.codes or len(self.classes)) - 1
            if low < 0 or high > most:
                raise DataError(f"{name} targets range from {low} to {high}, classes from 0 to {most}")
            if images.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(f"training images are {self.train.images.shape[1:]}, {name} {images.images.shape[1:]}")

    @property
    def by_name(self) -> dict[str, ImageSet]:
        """train, val and, where there is one, test."""
        splits = {"train": self.train, "val": self.val}
        return splits if self.test is None else splits | {"test": self.test}

    @property
    def distinct(self) -> dict[str, ImageSet]:
        """The same, each set once: validation may be the test set."""
        found: dict[int, tuple[str, ImageSet]] = {}
        for name, images in self.by_name.items():
            found.setdefault(id(images), (name, images))
        return dict(found.values())
