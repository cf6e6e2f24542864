"""Images with their boxes, and what makes a box invalid; `retable.data.formats.annotations` reads them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from retable.errors import DataError

MOST_JSON, MOST_XML = 2**30, 2**22  # bytes of a file
MOST_SHOWN, MOST_NAME = 400, 4096  # letters of what is cited, and of a path


class Box(NamedTuple):
    """A box in pixels, 0 <= x1 < x2 <= width, its label, and where it stands, e.g. `train.csv, row 7`."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: int
    where: str


@dataclass(frozen=True)
class Annotated:
    """An image with its boxes, and where it is first named."""

    image: Path
    boxes: tuple[Box, ...]
    where: str


@dataclass(frozen=True)
class Annotations:
    """What one annotation file says.

    images: in the order in which they are first named; files: all files that were read beside the images; left_out:
    numbers of boxes that the format itself excludes, by reason.
    """

    images: list[Annotated]
    files: list[Path]
    left_out: Mapping[str, int] = field(default_factory=dict)


def coordinates(values: Mapping[str, object], where: str) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 as numbers. Raises DataError naming the place and the first that is none."""
    found = []
    for name, value in values.items():
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise DataError(f"{where}: {name}={short(value)}, accepted: a number of pixels")
        found.append(number)
    x1, y1, x2, y2 = found
    return x1, y1, x2, y2


def label_of(name: object, classes: Sequence[str], where: str) -> int:
    """A class's label. Raises DataError naming the place and the known classes."""
    if name not in classes:
        raise DataError(f"{where}: unknown class {short(name)}, accepted: {', '.join(classes)}")
    return list(classes).index(name)


def existing(image: Path, where: str) -> Path:
    """The image itself. Raises DataError naming the place and the file, if it is missing or no plain file."""
    try:
        found = image.is_file()
    except OSError:  # a name that is too long to be one
        found = False
    if not found:
        raise DataError(f"{where}: no such image: {short(image)}")
    return image


def short(value: object) -> str:
    """What a file says, for a message, however much it is."""
    if isinstance(value, list | dict) and (len(value) > 9 or any(isinstance(item, list | dict) for item in value)):
        return f"a {type(value).__name__} of {len(value)}"
    shown = str(value) if isinstance(value, Path) else repr(value)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."


def refuse_shared_images(splits: Mapping[str, Annotations]) -> None:
    """Refuse an image that two splits of a set name. Raises DataError."""
    seen: dict[Path, str] = {}
    for annotations in splits.values():
        for item in annotations.images:
            if item.image in seen:
                raise DataError(f"{item.where}: {item.image.name} is in {seen[item.image]} too, accepted: in one split")
        seen |= {item.image: item.where for item in annotations.images}


def valid_boxes(
    images: Iterable[Annotated], sizes: Mapping[Path, tuple[int, int]], drop_invalid: bool
) -> tuple[list[Annotated], dict[str, int]]:
    """The images with those boxes that have an area and lie within their image.

    Args:
        sizes: (height, width) of each image.
        drop_invalid: leave invalid boxes out.

    Returns:
        The images, and how many boxes were left out, by reason.

    Raises:
        DataError: for the first invalid box, where they are not to be left out.
    """
    kept, faults = [], []
    for item in images:
        height, width = sizes[item.image]
        found = {box: _fault(box, width, height) for box in item.boxes}
        faults += [(box, *fault) for box, fault in found.items() if fault]
        kept.append(replace(item, boxes=tuple(box for box in item.boxes if not found[box])))
    if faults and not drop_invalid:
        box, reason, accepted = faults[0]
        shown = ", ".join(f"{value:g}" for value in box[:4])
        raise DataError(
            f"{box.where}: box {shown} is {reason}, accepted: {accepted}"
            f" (invalid boxes in all: {len(faults)}; data.drop_invalid=true leaves them out)"
        )
    return kept, dict(Counter(f"boxes {reason}" for _, reason, _ in faults))


def _fault(box: Box, width: int, height: int) -> tuple[str, str] | None:
    """What is wrong with a box, and what is accepted; None for a valid one."""
    if box.x1 >= box.x2 or box.y1 >= box.y2:
        return "without area", "x1 < x2 and y1 < y2"
    if box.x1 < 0 or box.y1 < 0 or box.x2 > width or box.y2 > height:
        return "outside the image", f"within {width}x{height} pixels"
    return None
