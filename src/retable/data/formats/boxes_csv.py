"""RetinaNet's CSV form: `path,x1,y1,x2,y2,class` a box, `path,,,,,` an image without boxes, `class,id` a class.

The form of github.com/fizyr/keras-retinanet and of report A3. Paths are relative to the images' folder.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from retable.data.formats.boxes import Annotated, Annotations, Box, coordinates, existing, label_of
from retable.errors import DataError

FORM = "path,x1,y1,x2,y2,class, or path,,,,, for an image without boxes"


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names by label from a `class,id` file.

    Raises:
        DataError: naming the row: a malformed one, a name or id that is there twice; ids other than 0, 1, 2, ...
    """
    names: dict[int, str] = {}
    for where, row in _rows(path):
        name, number = row if len(row) == 2 else ("", "")
        if not name or not number.strip().isdecimal():
            raise DataError(f"{where}: {','.join(row)!r}, accepted: class,id with a whole number as id")
        if int(number) in names or name in names.values():
            raise DataError(f"{where}: {','.join(row)!r} is there twice, accepted: each class and each id once")
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
            raise DataError(f"{where}: {','.join(row)!r}, accepted: {FORM}")
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
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                number = reader.line_num
                fields = [field.strip() for field in row]
                if any(fields):
                    yield f"{path}, row {number}", fields
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected: a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}, row {number + 1}: no CSV in UTF-8 ({error})") from error
