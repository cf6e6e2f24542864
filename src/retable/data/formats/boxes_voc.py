"""PASCAL VOC's form of boxes: an XML file an image in Annotations, images in JPEGImages, lists in ImageSets/Main.

Source: M. Everingham, J. Winn, "The PASCAL Visual Object Classes Challenge 2012 Development Kit". The top left pixel is
(1, 1) there and both ends of a box belong to it, so that 1 is taken off xmin and ymin. Objects marked as difficult are
kept.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from retable.data.formats.boxes import Annotated, Annotations, Box, coordinates, existing, label_of
from retable.errors import DataError


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
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected: a name a line") from error
    if len(path.parts) < 4:
        path = path.absolute()
    return [path.parents[2] / "Annotations" / f"{line.split()[0]}.xml" for line in lines if line.strip()]


def _parsed(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}), expected: an XML file") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{file}: no XML ({error})") from error


def _objects(file: Path, root: ElementTree.Element) -> Iterator[tuple[str, ElementTree.Element]]:
    for number, item in enumerate(root.findall("object"), start=1):
        yield f"{file}, object {number}", item


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise DataError(f"{where}: has no {name}, accepted: VOC's form")
    return text
