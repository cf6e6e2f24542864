"""COCO's JSON form of boxes: images, categories, and annotations with `bbox` = [x, y, width, height].

Source: cocodataset.org, "Data format". Crowd regions (`iscrowd`) are no single objects and are left out, and counted.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retable.data.formats.boxes import Annotated, Annotations, Box, coordinates, existing, label_of
from retable.errors import DataError


def coco_classes(path: Path) -> tuple[str, ...]:
    """Names of the categories in the order of their ids, which need not be 0, 1, 2, ... Raises DataError."""
    categories = _categories(path, _read(path))
    return tuple(categories[number] for number in sorted(categories))


def read_coco(path: Path, images: Path, classes: Sequence[str]) -> Annotations:
    """Read an annotation file.

    Args:
        images: folder that `file_name` is relative to.
        classes: names by label.

    Raises:
        DataError: naming the file and the element: one without its keys, an unknown class, a missing image.
    """
    content = _read(path)
    categories = _categories(path, content)
    found: dict[Any, tuple[Path, list[Box], str]] = {}
    for number, image in enumerate(content["images"]):
        where = f"{path}, images[{number}]"
        _need(where, image, ("id", "file_name"))
        if image["id"] in found:
            raise DataError(f"{where}: id={image['id']} is there twice, accepted: each image once")
        found[image["id"]] = existing(images / str(image["file_name"]), where), [], where
    crowds = 0
    for number, item in enumerate(content["annotations"]):
        where = f"{path}, annotations[{number}]"
        _need(where, item, ("image_id", "category_id", "bbox"))
        if item["image_id"] not in found:
            raise DataError(f"{where}: image_id={item['image_id']}, accepted: the id of one of images")
        if item.get("iscrowd"):
            crowds += 1
            continue
        if not isinstance(item["bbox"], list) or len(item["bbox"]) != 4:
            raise DataError(f"{where}: bbox={item['bbox']}, accepted: [x, y, width, height]")
        x, y, width, height = coordinates(dict(zip(("x", "y", "width", "height"), item["bbox"], strict=True)), where)
        label = label_of(categories.get(item["category_id"], item["category_id"]), classes, where)
        found[item["image_id"]][1].append(Box(x, y, x + width, y + height, label, where))
    items = [Annotated(image, tuple(boxes), where) for image, boxes, where in found.values()]
    return Annotations(items, [path], {"boxes of crowds": crowds} if crowds else {})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected: a JSON file") from error
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({' '.join(str(error).split())})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: has no list of {key}, accepted: COCO's form with images, annotations, categories")
    return content


def _categories(path: Path, content: dict[str, Any]) -> dict[Any, str]:
    for number, category in enumerate(content["categories"]):
        _need(f"{path}, categories[{number}]", category, ("id", "name"))
    return {category["id"]: str(category["name"]) for category in content["categories"]}


def _need(where: str, element: Any, keys: Sequence[str]) -> None:
    for key in keys:
        if not isinstance(element, dict) or element.get(key) is None:
            raise DataError(f"{where}: has no {key}, accepted: an element with {', '.join(keys)}")
