"""Images with boxes in three forms of annotations, and what makes a box invalid.

RetinaNet's CSV, the form of github.com/fizyr/keras-retinanet and of report A3: `path,x1,y1,x2,y2,class` a box,
`path,,,,,` an image without boxes, `class,id` a class; paths are relative to the images' folder.

COCO's JSON (cocodataset.org, "Data format"): images, categories, and annotations with `bbox` = [x, y, width, height].
Crowd regions (`iscrowd`) are no single objects and are left out, and counted.

PASCAL VOC's XML (M. Everingham, J. Winn, "The PASCAL Visual Object Classes Challenge 2012 Development Kit"): a file an
image in Annotations, images in JPEGImages, lists in ImageSets/Main. The top left pixel is (1, 1) there and both ends of
a box belong to it, so that 1 is taken off xmin and ymin. Objects marked as difficult are kept.
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from retable.data.formats.files import content, open_plain, text
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
            raise DataError(f"{where}: {name}={_short(value)}, accepted: a number of pixels")
        found.append(number)
    x1, y1, x2, y2 = found
    return x1, y1, x2, y2


def label_of(name: object, classes: Sequence[str], where: str) -> int:
    """A class's label. Raises DataError naming the place and the known classes."""
    if name not in classes:
        raise DataError(f"{where}: unknown class {_short(name)}, accepted: {', '.join(classes)}")
    return list(classes).index(name)


def existing(image: Path, where: str) -> Path:
    """The image itself. Raises DataError naming the place and the file, if it is missing or no plain file."""
    try:
        found = image.is_file()
    except OSError:  # a name that is too long to be one
        found = False
    if not found:
        raise DataError(f"{where}: no such image: {_short(image)}")
    return image


def _short(value: object) -> str:
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


# RetinaNet's CSV

CSV_FORM = "path,x1,y1,x2,y2,class, or path,,,,, for an image without boxes"


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names by label from a `class,id` file.

    Raises:
        DataError: naming the row: a malformed one, a name or id that is there twice; ids other than 0, 1, 2, ...
    """
    names: dict[int, str] = {}
    for where, row in _rows(path):
        name, number = row if len(row) == 2 else ("", "")
        if not name or not number.strip().isdecimal():
            raise DataError(f"{where}: {_short(','.join(row))}, accepted: class,id with a whole number as id")
        if int(number) in names or name in names.values():
            raise DataError(f"{where}: {_short(','.join(row))} is there twice, accepted: each class and each id once")
        names[int(number)] = name
    if sorted(names) != list(range(len(names))) or not names:
        shown = ", ".join(map(str, sorted(names))) or "none"
        raise DataError(f"{path}: ids {shown}, accepted: 0, 1, 2, ... without a gap")
    return tuple(names[label] for label in range(len(names)))


def read_csv(path: Path, images: Path, classes: Sequence[str]) -> Annotations:
    """Read an annotation file.

    Args:
        images: folder that paths are relative to.
        classes: names by label.

    Raises:
        DataError: naming the file and the row: a malformed one, an unknown class, an image that does not exist.
    """
    found: dict[str, tuple[str, list[Box]]] = {}
    for where, row in _rows(path):
        if len(row) != 6 or not row[0]:
            raise DataError(f"{where}: {_short(','.join(row))}, accepted: {CSV_FORM}")
        name, *numbers, class_name = row
        if name not in found:
            existing(images / name, where)
            found[name] = where, []
        if any((*numbers, class_name)):
            box = coordinates(dict(zip(("x1", "y1", "x2", "y2"), numbers, strict=True)), where)
            found[name][1].append(Box(*box, label_of(class_name, classes, where), where))
    items = [Annotated(images / name, tuple(boxes), where) for name, (where, boxes) in found.items()]
    return Annotations(items, [path])


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The place and the fields of each row but empty ones."""
    number = 0
    try:
        with open_plain(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                number = reader.line_num
                fields = [field.strip() for field in row]
                if any(fields):
                    yield f"{path}, row {number}", fields
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}, row {number + 1}: no CSV in UTF-8 ({error})") from error


# COCO's JSON


def coco_classes(path: Path) -> tuple[str, ...]:
    """Names of the categories in the order of their ids, which need not be 0, 1, 2, ... Raises DataError."""
    categories = _categories(path, _json(path))
    return tuple(categories[number] for number in sorted(categories))


def read_coco(path: Path, images: Path, classes: Sequence[str]) -> Annotations:
    """Read an annotation file.

    Args:
        images: folder that `file_name` is relative to.
        classes: names by label.

    Raises:
        DataError: naming the file and the element: one without its keys, an unknown class, a missing image.
    """
    content = _json(path)
    categories = _categories(path, content)
    found: dict[Any, tuple[Path, list[Box], str]] = {}
    for number, image in enumerate(content["images"]):
        where = f"{path}, images[{number}]"
        _need(where, image, ("id", "file_name"))
        if image["id"] in found:
            raise DataError(f"{where}: id={_short(image['id'])} is there twice, accepted: each image once")
        found[image["id"]] = existing(images / str(image["file_name"])[:MOST_NAME], where), [], where
    crowds = 0
    for number, item in enumerate(content["annotations"]):
        where = f"{path}, annotations[{number}]"
        _need(where, item, ("image_id", "category_id", "bbox"))
        if item["image_id"] not in found:
            raise DataError(f"{where}: image_id={_short(item['image_id'])}, accepted: the id of one of images")
        if item.get("iscrowd"):
            crowds += 1
            continue
        if not isinstance(item["bbox"], list) or len(item["bbox"]) != 4:
            raise DataError(f"{where}: bbox={_short(item['bbox'])}, accepted: [x, y, width, height]")
        x, y, width, height = coordinates(dict(zip(("x", "y", "width", "height"), item["bbox"], strict=True)), where)
        label = label_of(categories.get(item["category_id"], item["category_id"]), classes, where)
        found[item["image_id"]][1].append(Box(x, y, x + width, y + height, label, where))
    items = [Annotated(image, tuple(boxes), where) for image, boxes, where in found.values()]
    return Annotations(items, [path], {"boxes of crowds": crowds} if crowds else {})


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text(path, "a JSON file", MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({' '.join(str(error).split())})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: has no list of {key}, accepted: COCO's form with images, annotations, categories")
    return content


def _categories(path: Path, content: dict[str, Any]) -> dict[Any, str]:
    for number, category in enumerate(content["categories"]):
        _need(f"{path}, categories[{number}]", category, ("id", "name"))
    if len({isinstance(category["id"], str) for category in content["categories"]}) > 1:
        raise DataError(f"{path}, categories: ids that are numbers beside names, accepted: ids of one kind")
    return {category["id"]: str(category["name"]) for category in content["categories"]}


def _need(where: str, element: Any, keys: Sequence[str]) -> None:
    for key in keys:
        if not isinstance(element, dict) or element.get(key) is None:
            raise DataError(f"{where}: has no {key}, accepted: an element with {', '.join(keys)}")
        if key.endswith("id") and not isinstance(element[key], int | str):
            raise DataError(f"{where}: {key} is a {type(element[key]).__name__}, accepted: a number or a name")


# PASCAL VOC's XML


def voc_classes(path: Path) -> tuple[str, ...]:
    """Names of all objects in the files that a list names, sorted. Raises DataError."""
    names = {_text(item, "name", where) for file in _listed(path) for where, item in _objects(file, _parsed(file))}
    if not names:
        raise DataError(f"{path}: names no image with objects, expected: at least one")
    return tuple(sorted(names))


def read_voc(path: Path, images: Path, classes: Sequence[str]) -> Annotations:
    """Read the annotations that a list names.

    Args:
        path: the list, <set>/ImageSets/Main/<name>.txt; annotations lie in <set>/Annotations.
        images: folder that `filename` is relative to.
        classes: names by label.

    Raises:
        DataError: naming the XML file and the object: a malformed one, an unknown class, an image that does not exist.
    """
    found, files = [], [path]
    for file in _listed(path):
        root = _parsed(file)
        boxes = []
        for where, item in _objects(file, root):
            label = label_of(_text(item, "name", where), classes, where)
            ends = {end: _text(item, f"bndbox/{end}", where) for end in ("xmin", "ymin", "xmax", "ymax")}
            x1, y1, x2, y2 = coordinates(ends, where)
            boxes.append(Box(x1 - 1, y1 - 1, x2, y2, label, where))
        image = existing(images / _text(root, "filename", str(file)), str(file))
        found.append(Annotated(image, tuple(boxes), str(file)))
        files.append(file)
    return Annotations(found, files)


def _listed(path: Path) -> list[Path]:
    """The XML file of each name in a list, the first word of a line."""
    lines = text(path, "a name a line").splitlines()
    if len(path.parts) < 4:
        path = path.absolute()
    return [path.parents[2] / "Annotations" / f"{line.split()[0]}.xml" for line in lines if line.strip()]


def _parsed(file: Path) -> ElementTree.Element:
    raw = content(file, MOST_XML)
    # Entities can make a line of text gigabytes; VOC's files have none. A text of two bytes a letter could hide them.
    if b"<!" in raw.replace(b"<!--", b"") or b"\0" in raw:
        raise DataError(f"{file}: holds declarations, accepted: elements and their text")
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: no XML ({error})") from error


def _objects(file: Path, root: ElementTree.Element) -> Iterator[tuple[str, ElementTree.Element]]:
    for number, item in enumerate(root.findall("object"), start=1):
        yield f"{file}, object {number}", item


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise DataError(f"{where}: has no {name}, accepted: VOC's form")
    return text
