"""Images with boxes, as every reader of annotations gives them, and what makes a box invalid."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from retable.errors import DataError


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
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise DataError(f"{where}: {name}={value!r}, accepted: a number of pixels")
        found.append(number)
    x1, y1, x2, y2 = found
    return x1, y1, x2, y2


def label_of(name: object, classes: Sequence[str], where: str) -> int:
    """A class's label. Raises DataError naming the place and the known classes."""
    if name not in classes:
        raise DataError(f"{where}: unknown class {name!r}, accepted: {', '.join(classes)}")
    return list(classes).index(name)


def existing(image: Path, where: str) -> Path:
    """The image itself. Raises DataError naming the place and the file, if it is missing."""
    if not image.is_file():
        raise DataError(f"{where}: no such image: {image}")
    return image


def apart(parts: Mapping[str, Annotations]) -> None:
    """Refuse an image that two parts of a set name. Raises DataError."""
    seen: dict[Path, str] = {}
    for annotations in parts.values():
        for item in annotations.images:
            if item.image in seen:
                raise DataError(f"{item.where}: {item.image.name} is in {seen[item.image]} too, accepted: in one part")
        seen |= {item.image: item.where for item in annotations.images}


def valid_boxes(
    images: Iterable[Annotated], sizes: Mapping[Path, tuple[int, int]], drop_invalid: bool
) -> tuple[list[Annotated], dict[str, int]]:
    """The images with those boxes that have an area and lie within their image.

    Args:
        sizes: (width, height) of each image.
        drop_invalid: leave invalid boxes out.

    Returns:
        The images, and how many boxes were left out, by reason.

    Raises:
        DataError: for the first invalid box, where they are not to be left out.
    """
    kept, faults = [], []
    for item in images:
        found = {box: _fault(box, *sizes[item.image]) for box in item.boxes}
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
