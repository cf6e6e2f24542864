"""Files of boxes in three forms.

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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from retable.data.formats.boxes import (
    MOST_JSON,
    MOST_NAME,
    MOST_XML,
    Annotated,
    Annotations,
    Box,
    coordinates,
    existing,
    label_of,
    short,
)
from retable.data.formats.files import content, open_plain, text
from retable.errors import DataError, in_one_line

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
            raise DataError(f"{where}: {short(','.join(row))}, accepted: class,id with a whole number as id")
        if int(number) in names or name in names.values():
            raise DataError(f"{where}: {short(','.join(row))} is there twice, accepted: each class and each id once")
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
            raise DataError(f"{where}: {short(','.join(row))}, accepted: {CSV_FORM}")
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
            raise DataError(f"{where}: id={short(image['id'])} is there twice, accepted: each image once")
        found[image["id"]] = existing(images / str(image["file_name"])[:MOST_NAME], where), [], where
    crowds = 0
    for number, item in enumerate(content["annotations"]):
        where = f"{path}, annotations[{number}]"
        _need(where, item, ("image_id", "category_id", "bbox"))
        if item["image_id"] not in found:
            raise DataError(f"{where}: image_id={short(item['image_id'])}, accepted: the id of one of images")
        if item.get("iscrowd"):
            crowds += 1
            continue
        if not isinstance(item["bbox"], list) or len(item["bbox"]) != 4:
            raise DataError(f"{where}: bbox={short(item['bbox'])}, accepted: [x, y, width, height]")
        x, y, width, height = coordinates(dict(zip(("x", "y", "width", "height"), item["bbox"], strict=True)), where)
        label = label_of(categories.get(item["category_id"], item["category_id"]), classes, where)
        found[item["image_id"]][1].append(Box(x, y, x + width, y + height, label, where))
    items = [Annotated(image, tuple(boxes), where) for image, boxes, where in found.values()]
    return Annotations(items, [path], {"boxes of crowds": crowds} if crowds else {})


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text(path, "a JSON file", MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({in_one_line(error)})") from error
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
