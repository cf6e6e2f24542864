"""Sets of pictures: which files a folder holds, which mask belongs to which image, and all pairs read at one size."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retable import checks
from retable.data.arrays import ImageSet, blank
from retable.data.formats.files import plain_files
from retable.data.formats.pictures import EXTENSIONS, Size, image_and_size, labels_and_size
from retable.errors import DataError

PATIENCE = 2.0  # seconds of reading before it says how far it is


class Pair(NamedTuple):
    """An image file, its mask file, and what the two are called together."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Pairs:
    """The pairs of a set by split, the lists that name them, and how many pictures are left out, by reason.

    labels: label of each value of the masks, where the files that are there decide it.
    """

    train: list[Pair]
    val: list[Pair] = field(default_factory=list)
    test: list[Pair] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)


def size_of(key: str, value: Any) -> Size:
    """(height, width) of a whole number, which stands for both, or of [height, width]. Raises ValueError."""
    try:
        height, width = (value, value) if isinstance(value, int) else value
        checks.integer(key, height, 1)
        checks.integer(key, width, 1)
    except (TypeError, ValueError):
        raise checks.refuse(key, value, "a whole number of at least 1, [height, width]") from None
    return height, width


def pictures_in(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """The picture files of a folder (EXTENSIONS; hidden ones are none), by name.

    Args:
        left_out: counts what is named like a picture and is no plain file of the folder, by reason.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    try:
        named = [file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS and file.name[0] != "."]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}), expected: a folder of pictures") from error
    found = sorted(plain_files(named, folder, left_out))
    if not found:
        raise DataError(f"{folder}: holds no pictures, expected: files {', '.join(EXTENSIONS)}")
    return found


def pictures_below(
    folder: Path, left_out: Counter[str] | None = None, suffixes: Sequence[str] = EXTENSIONS
) -> list[Path]:
    """The picture files in a folder and the folders below it, but hidden ones, by name, relative to it.

    Args:
        left_out: as for `pictures_in`.
        suffixes: how the names end that are meant.
    """
    named = (file for file in folder.rglob("*") if file.name.lower().endswith(tuple(suffixes)))
    named = [file for file in named if not any(p.startswith((".", "__MACOSX")) for p in file.relative_to(folder).parts)]
    return sorted(file.relative_to(folder) for file in plain_files(named, folder, left_out))


def pair(images: Iterable[Path], masks: Iterable[Path], image: str = "{}", mask: str = "{}") -> list[Pair]:
    """Pair images with masks by their names without extension.

    Args:
        images, masks: files; each one must find its partner.
        image, mask: how the names are made of the part that an image and its mask share, e.g. `{}_Segmentation`.

    Returns:
        The pairs, called by their images' names, in the order of these, numbers in them by value (2 before 10).

    Raises:
        DataError: a file without a partner, two files of one name, a name of another form.
    """
    image_by, mask_by = _by_key(images, image), _by_key(masks, mask)
    for key, file in image_by.items():
        if key not in mask_by:
            folder = next(iter(mask_by.values()), file).parent
            raise DataError(f"{file}: its mask is missing, expected: {folder / mask.format(key)}.*")
    for key, file in mask_by.items():
        if key not in image_by:
            folder = next(iter(image_by.values()), file).parent
            raise DataError(f"{file}: the image of this mask is missing, expected: {folder / image.format(key)}.*")
    return [Pair(image_by[key].stem, image_by[key], mask_by[key]) for key in sorted(image_by, key=_natural)]


def disjoint(first: Sequence[Pair], second: Sequence[Pair]) -> None:
    """Refuse an image whose name is in both splits. Raises DataError."""
    names = {pair.name: pair.image for pair in first}
    for name, image, _ in second:
        if name in names:
            raise DataError(f"{image}: is in two splits of the set ({names[name]}), accepted: in one")


def read_pairs(pairs: Sequence[Pair], size: Size, labels: Mapping[int, int], what: str) -> ImageSet:
    """Read RGB images with their masks, in threads: Pillow decodes without Python's lock.

    Args:
        size: (height, width) of all.
        labels: see `read_labels`.
        what: what is read, for the line that a terminal shows when it takes long.

    Returns:
        Images (N, 3, H, W), masks (N, H, W), and each one's `name`.

    Raises:
        DataError: as `read_image` and `read_labels`; a mask that has not its image's size.
    """
    images, masks = blank((len(pairs), 3, *size), np.uint8), blank((len(pairs), *size), np.uint8)

    def read(place: int) -> None:
        item = pairs[place]
        images[place], image_size = image_and_size(item.image, size, "RGB")
        masks[place], mask_size = labels_and_size(item.mask, labels, size)
        if image_size != mask_size:
            raise DataError(
                f"{item.mask}: {_shown(mask_size)} pixels, but its image {item.image.name} has {_shown(image_size)};"
                " accepted: the same size"
            )

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in _with_progress(pool.map(read, range(len(pairs))), len(pairs), what):
            pass
    return ImageSet(images, masks, {"name": np.array([item.name for item in pairs])})


def _by_key(files: Iterable[Path], form: str) -> dict[str, Path]:
    start, end = form.split("{}")
    found: dict[str, Path] = {}
    for file in files:
        stem = file.stem
        if not (stem.startswith(start) and stem.endswith(end) and len(stem) > len(start) + len(end)):
            raise DataError(f"{file}: accepted: a name like {form.format('NN')}{file.suffix}")
        key = stem[len(start) : len(stem) - len(end)]
        if key in found:
            raise DataError(f"{file}: {found[key].name} has the same name, accepted: one file of a name")
        found[key] = file
    return found


def _natural(key: str) -> list[tuple[bool, int, str]]:
    """Sorts runs of digits by value, before other text."""
    runs = filter(None, re.split(r"(\d+)", key))
    return [(not run.isdecimal(), int(run) if run.isdecimal() else 0, run) for run in runs]


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _with_progress(steps: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    """The steps themselves, with a bar on a terminal once they take long."""
    start = last = time.monotonic()
    shown = False
    for done, step in enumerate(steps, start=1):
        yield step
        now = time.monotonic()
        if now - start > PATIENCE and now - last > 0.5 and sys.stderr.isatty():
            print(f"\rreading {what}: {done} of {total} images", end="", file=sys.stderr, flush=True)
            last, shown = now, True
    if shown:
        print(f"\rreading {what}: {total} of {total} images", file=sys.stderr)
