"""Brain tissue in T1 MRI (report A2): patches of IBSR-18 volumes, background left out of everything.

Source of the set: Internet Brain Segmentation Repository, IBSR-18, Center for Morphometric Analysis, Massachusetts
General Hospital.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from retable import checks
from retable.data.arrays import IGNORE, ImageSet, Splits, Unlabelled, blank
from retable.data.formats.nifti import SUFFIXES, Volume, find_pair, has_volume, normalised, read_nifti, read_volume
from retable.data.module import ImageData
from retable.data.samples.volumes import VERSION, write_volumes
from retable.errors import DataError

CLASSES = ("CSF", "GM", "WM")
_AT_ONCE = 4096  # patches cut at once: what they are copied through takes little beside the patches themselves


@dataclass(frozen=True)
class Patches:
    """Patches of a volume: images float32 (M, 1, S, S), targets uint8 (M, S, S), corners (M, 3): slice, row, column."""

    images: np.ndarray
    targets: np.ndarray
    corners: np.ndarray


@dataclass(frozen=True)
class Uncut:
    """A volume's normalised intensities, float32 (X, Y, Z), its targets, uint8, and where patches are to be cut."""

    number: int
    image: np.ndarray
    targets: np.ndarray
    corners: np.ndarray


class BrainData(ImageData):
    """Patches of volumes below `<root>/ibsr18`, cut from slices along the third axis.

    Training: overlapping patches without background and with all classes (`balanced_corners`). Validation: a grid that
    covers each slice, patches of background alone left out; background is IGNORE there. Intensities are normalised
    volume by volume (retable.data.formats.nifti.normalised).

    Args:
        train, val: numbers of volumes, 1 for IBSR_01.
        patch_size: pixels a side (the report tried 16, 32 and 40).
        stride: of the training patches.
        min_pixels: of each class in a training patch.
        **base: see ImageData.

    A folder without any of the training volumes can be evaluated on (all of `val`), not trained on.
    """

    folder: ClassVar[str] = "ibsr18"
    sample_version: ClassVar[int] = VERSION
    extras = ("volumes",)  # by `volume` and `patches`
    suffixes = SUFFIXES

    def __init__(
        self,
        train: Sequence[int] = (1, 3, 5),
        val: Sequence[int] = (13,),
        patch_size: int = 16,
        stride: int = 1,
        min_pixels: int = 60,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        for key, numbers in (("train", train), ("val", val)):
            if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not numbers:
                raise checks.refuse(key, numbers, "a list of numbers of volumes, e.g. [1, 3, 5]")
            for number in numbers:
                checks.integer(key, number, 0)
            if len(set(numbers)) < len(numbers):
                raise checks.refuse(key, list(numbers), "each volume once")
        both = sorted(set(train) & set(val))
        if both:
            raise checks.refuse("val", list(val), f"volumes that are not trained on; {_name(both[0])} is in both")
        checks.integer("patch_size", patch_size, 2)
        checks.integer("stride", stride, 1)
        checks.integer("min_pixels", min_pixels, 0)
        self.train, self.val = list(train), list(val)
        self.patch_size, self.stride, self.min_pixels = patch_size, stride, min_pixels

    def files(self) -> dict[int, tuple[Path, Path]]:
        """Image and labels of each volume by its number."""
        return {number: find_pair(self.location, _name(number)) for number in self._numbers()}

    def read(self, files: dict[int, tuple[Path, Path]]) -> Splits:
        counts: dict[str, list[int]] = {}
        train, val, empty = [], [], 0
        for number, pair in files.items():
            volume = read_volume(_name(number), *pair)
            counts[volume.name] = np.bincount(volume.labels_XYZ.ravel(), minlength=4).tolist()
            if number in self.train:
                corners = balanced_corners(volume.labels_XYZ, self.patch_size, self.stride, self.min_pixels)
                train.append(self._uncut(number, volume, corners))
            else:
                corners, left_out = grid_corners(volume.labels_XYZ, self.patch_size)
                if not len(corners):
                    raise DataError(f"{self.location}: {volume.name} holds background alone; accepted: tissue labels")
                val.append(self._uncut(number, volume, corners))
                empty += left_out
        whole = self._set(val)
        if train and not sum(len(volume.corners) for volume in train):
            raise DataError(
                f"{self.location}: no patch of {self.patch_size}x{self.patch_size} pixels without background holds"
                f" {self.min_pixels} pixels of each class; accepted: a smaller data.patch_size or data.min_pixels"
            )
        left_out = {"validation patch of background alone": empty} if empty else {}
        extra = {"class_counts": counts}
        return Splits(self._set(train) if train else whole, whole, CLASSES, left_out=left_out, extra=extra)

    def reading(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("train", "val", "patch_size", "stride", "min_pixels")}
        return own | {"elsewhere": self._location is not None}

    def make_sample(self, folder: Path) -> None:
        write_volumes(folder, [_name(number) for number in (1, 3, 5, 13)])

    def volume(self, number: int) -> Volume:
        """A volume by its number. Raises DataError."""
        return read_volume(_name(number), *find_pair(self.location, _name(number)))

    def patches(self, volume: Volume, corners_M3: np.ndarray) -> Patches:
        """The patches of a volume with given corners."""
        found = self._uncut(0, volume, corners_M3)
        return Patches(
            cut(found.image, corners_M3, self.patch_size)[:, None],
            cut(found.targets, corners_M3, self.patch_size),
            corners_M3,
        )

    def unlabelled(self, path: Path, shape: tuple[int, int, int]) -> Unlabelled:
        """A stripped volume: all patches of a grid that hold anything but zeros. Its mask has the labels of IBSR-18."""
        scan, size = read_nifti(path), self.patch_size
        image_XYZ = scan.values.astype(np.float32)
        brain_XYZ = image_XYZ != 0
        if not np.isfinite(image_XYZ).all() or not brain_XYZ.any():
            raise DataError(f"{path}: voxels that are not finite, or all 0; accepted: a brain with zeros around it")
        corners, _ = grid_corners(brain_XYZ.astype(np.uint8), size)
        patches = cut(padded_to(normalised(image_XYZ), size), corners, size)[:, None]
        middle = int(np.median(corners[:, 0]))
        low, high = np.quantile(image_XYZ, (0.0, 0.999))
        grey = np.clip((image_XYZ[..., middle] - low) / ((high - low) or 1.0), 0, 1)

        def mask(labels_MHW: np.ndarray) -> np.ndarray:
            return np.where(brain_XYZ, stitched(labels_MHW, corners, brain_XYZ.shape, 0) + 1, 0).astype(np.uint8)

        def drawn(mask_XYZ: np.ndarray) -> np.ndarray:
            found = mask_XYZ[..., middle]
            return np.where(found == 0, IGNORE, found - 1).astype(np.uint8)

        return Unlabelled(patches, np.uint8(255 * grey)[None], mask, drawn, scan.affine)

    def describe(self) -> str:
        """The table of class counts that the report prints, of the training volumes."""
        counts = self.splits.extra["class_counts"]
        return class_table({name: counts[name] for name in map(_name, self.train) if name in counts})

    def _numbers(self) -> list[int]:
        """The volumes to read. In a folder that `read_at` named, those to train on may all be missing."""
        if self._location is not None and not any(has_volume(self._location, _name(number)) for number in self.train):
            return self.val
        return self.train + self.val

    def _uncut(self, number: int, volume: Volume, corners_M3: np.ndarray) -> Uncut:
        image = padded_to(normalised(volume.image_XYZ), self.patch_size)
        labels = padded_to(volume.labels_XYZ, self.patch_size)
        return Uncut(number, image, np.where(labels == 0, IGNORE, labels - 1).astype(np.uint8), corners_M3)

    def _set(self, volumes: Sequence[Uncut]) -> ImageSet:
        # Cut into place: overlapping patches of 40x40 pixels of three volumes take 0.8 GB; not to be held twice.
        size, corners = self.patch_size, np.concatenate([uncut.corners for uncut in volumes])
        images = blank((len(corners), 1, size, size), np.float32)
        targets = blank((len(corners), size, size), np.uint8)
        start = 0
        for uncut in volumes:
            stop = start + len(uncut.corners)
            cut(uncut.image, uncut.corners, size, images[start:stop, 0])
            cut(uncut.targets, uncut.corners, size, targets[start:stop])
            start = stop
        volume = np.concatenate([np.full(len(uncut.corners), uncut.number) for uncut in volumes])
        about = {"volume": volume} | {key: corners[:, axis] for axis, key in enumerate(("slice", "row", "column"))}
        names = [f"{_name(n)} z{z} x{x} y{y}" for n, (z, x, y) in zip(volume, corners, strict=True)]
        return ImageSet(images, targets, {"name": np.array(names), **about})


def class_table(counts: dict[str, list[int]]) -> str:
    """Voxels by volume and label, a total row, and the shares of the labels 1, 2 and 3 without background.

    >>> print(class_table({"a": [5, 1, 2, 1], "b": [5, 0, 3, 3]}))
    volume               0         1         2         3
    a                    5         1         2         1
    b                    5         0         3         3
    total               10         1         5         4
    share                    10.00 %   50.00 %   40.00 %
    """
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    rows = {**counts, "total": total}
    lines = [f"{'volume':<12}" + "".join(f"{label:>10}" for label in range(4))]
    lines += [f"{name:<12}" + "".join(f"{count:>10}" for count in row) for name, row in rows.items()]
    tissue = sum(total[1:]) or 1
    shares = "".join(f"{100 * count / tissue:>8.2f} %" for count in total[1:])
    return "\n".join([*lines, f"{'share':<12}" + " " * 10 + shares])


def _name(number: int) -> str:
    return f"IBSR_{number:02}"


# Square patches of a volume's slices: balanced ones to train on, a grid to validate on, and back again.


def balanced_corners(labels_XYZ: np.ndarray, size: int, stride: int, min_pixels: int) -> np.ndarray:
    """Where overlapping patches hold no background pixel and at least `min_pixels` of each of the labels 1, 2 and 3.

    Every window's count of a label is read off a summed-area table, so the cost does not depend on the patch size.

    Returns:
        (M, 3) int64: slice, row and column of each patch's first pixel, in that order.
    """
    rows, columns, slices = labels_XYZ.shape
    if min(rows, columns) < size:
        return np.empty((0, 3), np.int64)
    good = np.ones((-(-(rows - size + 1) // stride), -(-(columns - size + 1) // stride), slices), bool)
    for label in range(4):
        counts = _window_counts(labels_XYZ == label, size, stride)
        good &= counts == 0 if label == 0 else counts >= min_pixels
    row, column, place = np.nonzero(good)
    order = np.lexsort((column, row, place))
    return np.stack([place, row * stride, column * stride], 1)[order]


def grid_corners(labels_XYZ: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Where non-overlapping patches that cover each slice hold anything but background.

    Where a slice's side is no multiple of `size`, the last patches reach beyond it.

    Returns:
        (M, 3) int64 corners as above, and the number of patches of background alone, which are left out.
    """
    padded = padded_to(labels_XYZ, size)
    rows, columns, slices = (padded.shape[0] // size, padded.shape[1] // size, padded.shape[2])
    filled = (padded > 0).reshape(rows, size, columns, size, slices).any((1, 3))
    row, column, place = np.nonzero(filled)
    order = np.lexsort((column, row, place))
    return np.stack([place, row * size, column * size], 1)[order], int((~filled).sum())


def padded_to(values_XYZ: np.ndarray, size: int) -> np.ndarray:
    """The volume with zeros behind its first two axes, so that both are multiples of `size`."""
    more = [(0, -side % size) for side in values_XYZ.shape[:2]]
    return np.pad(values_XYZ, [*more, (0, 0)]) if any(pad for _, pad in more) else values_XYZ


def cut(values_XYZ: np.ndarray, corners_M3: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """The patches with the given corners, (M, size, size), written to `out` where it is given."""
    windows = np.lib.stride_tricks.sliding_window_view(values_XYZ, (size, size), (0, 1))
    out = np.empty((len(corners_M3), size, size), values_XYZ.dtype) if out is None else out
    for start in range(0, len(corners_M3), _AT_ONCE):
        place, row, column = corners_M3[start : start + _AT_ONCE].T
        out[start : start + _AT_ONCE] = windows[row, column, place]
    return out


def stitched(patches_MHW: np.ndarray, corners_M3: np.ndarray, shape: tuple[int, int, int], fill: int) -> np.ndarray:
    """The volume (X, Y, Z) whose non-overlapping patches are given; `fill` where there is none."""
    size = patches_MHW.shape[1]
    padded = np.full((-(-shape[0] // size) * size, -(-shape[1] // size) * size, shape[2]), fill, patches_MHW.dtype)
    blocks = padded.reshape(padded.shape[0] // size, size, padded.shape[1] // size, size, shape[2])
    blocks[corners_M3[:, 1] // size, :, corners_M3[:, 2] // size, :, corners_M3[:, 0]] = patches_MHW
    return padded[: shape[0], : shape[1]]


def _window_counts(mask_XYZ: np.ndarray, size: int, stride: int) -> np.ndarray:
    """How many voxels each window of size x size in the first two axes holds."""
    table = np.zeros((mask_XYZ.shape[0] + 1, mask_XYZ.shape[1] + 1, mask_XYZ.shape[2]), np.int32)
    np.cumsum(mask_XYZ, 0, np.int32, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], 1, np.int32, out=table[1:, 1:])
    high, low = table[size:], table[:-size]
    counts = high[:, size:] - high[:, :-size] - low[:, size:] + low[:, :-size]
    return counts[::stride, ::stride]
