"""What a table's page shows beside the values of its cells: counts of the data by class, pictures side by side, and
the images on which a first model did worst.

class_tables:
  - title: Pixels of the training patches by class
    of: confusion.train            a key of result.json: counts by name, or a confusion matrix, whose rows are added
    classes: [CSF, GM, WM]
    count: data.counts.train       how many images (patches) these are; and their `unit`
    published: {total: [787058, 672458, 846788], share: [34.12, 29.15, 36.71], count: 9009}
pictures:
  - stitched                                             of every cell
  - {picture: curves, cells: [batch 8, batch 64]}
compare:
  - {picture: first_and_best, experiment: gland/models, cell: fcn, beside: best, images: 3}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retable.errors import ConfigError
from retable.experiment.fields import Fields, is_list, is_number

TOTAL, SHARE, COUNT = "total", "share", "count"
Counts = tuple[float | None, ...]


@dataclass(frozen=True)
class ClassTable:
    """Counts by class, and what was published of them.

    of: a dotted key of result.json. without: the classes that have no part in the shares. count, unit: the key of how
    many images these are of, and what they are called. added: a key of the config that holds a list: as many of the
    first lines make the total. published: lines by name, the last of which may be `total` and `share` (in %);
    published_count: of images.
    """

    title: str
    of: str
    classes: tuple[str, ...]
    without: tuple[str, ...] = ()
    count: str | None = None
    unit: str = "images"
    added: str | None = None
    published: Mapping[str, Counts] = field(default_factory=dict)
    published_count: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Beside:
    """One of the runs' pictures, by its file's stem, for the cells side by side."""

    picture: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Compare:
    """A picture that a sweep draws of two finished runs of one seed: the images on which the first did worst.

    experiment, cell: the first; beside: the cell of this table whose run is the second, and gets the picture.
    """

    picture: str
    experiment: str
    cell: str
    beside: str
    images: int = 3


def parse_class_tables(table: Fields) -> tuple[ClassTable, ...]:
    """The counts by class that a table shows.  Raises: ConfigError."""
    entries = table.entries("class_tables", "a list of mappings with title, of and classes")
    return tuple(parse_class_table(f"{table.where}: class_tables[{n}]", entry) for n, entry in enumerate(entries))


def parse_class_table(where: str, entry: Any) -> ClassTable:
    fields = Fields.of(where, entry, set(ClassTable.__dataclass_fields__) - {"published_count"})
    classes = fields.texts("classes")
    if not classes:
        raise fields.fault("classes", "a list of the classes' names")
    published = dict(Fields.of(f"{where}: published", fields.data.get("published") or {}, _names(fields)).data)
    count = published.pop(COUNT, None)
    for name, values in published.items():
        if not is_list(values) or len(values) != len(classes) or not all(v is None or is_number(v) for v in values):
            raise ConfigError(f"{where}: published: {name}={values!r} is not accepted; accepted is a number a class")
    return ClassTable(
        title=fields.text("title"),
        of=fields.text("of"),
        classes=classes,
        without=fields.names("without", classes) if fields.has("without") else (),
        count=fields.text("count") if fields.has("count") else None,
        unit=fields.text("unit", "images"),
        added=fields.text("added") if fields.has("added") else None,
        published={str(name): tuple(values) for name, values in published.items()},
        published_count=None if count is None else Fields(f"{where}: published", {COUNT: count}).whole(COUNT, 0),
        note=fields.text("note") if fields.has("note") else "",
    )


def _names(fields: Fields) -> list[str]:
    """Any name of a line is accepted, as text."""
    published = fields.data.get("published")
    return [name for name in published if isinstance(name, str)] if isinstance(published, Mapping) else []


def parse_pictures(table: Fields, cells: Sequence[str]) -> tuple[Beside, ...]:
    """The pictures that a table shows side by side.  Raises: ConfigError."""
    found = []
    accepted = "a list of pictures' names, or of {picture: curves, cells: [...]}"
    for number, entry in enumerate(table.entries("pictures", accepted)):
        given = {"picture": entry} if isinstance(entry, str) else entry
        fields = Fields.of(f"{table.where}: pictures[{number}]", given, ("picture", "cells"))
        found.append(
            Beside(fields.text("picture"), fields.names("cells", cells) if fields.has("cells") else tuple(cells))
        )
    return tuple(found)


def parse_compare(table: Fields, cells: Sequence[str]) -> tuple[Compare, ...]:
    """The pictures that a sweep of a table draws of two runs.  Raises: ConfigError."""
    found = []
    accepted = "a list of {picture, experiment, cell, beside, images}"
    for number, entry in enumerate(table.entries("compare", accepted)):
        fields = Fields.of(f"{table.where}: compare[{number}]", entry, Compare.__dataclass_fields__)
        texts = (fields.text(key) for key in ("picture", "experiment", "cell"))
        found.append(Compare(*texts, fields.choice("beside", cells), fields.whole("images", 1, 3)))
    return tuple(found)
