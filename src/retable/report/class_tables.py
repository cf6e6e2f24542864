"""Counts of a table's data by class, as its runs recorded them, beside the published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retable.config.keys import lookup
from retable.experiment.shown import SHARE, TOTAL, ClassTable, Counts
from retable.report.rows import Row
from retable.report.runs import RunRecord


@dataclass(frozen=True)
class Counted:
    """One table of counts. cells: whose runs they are, empty where it is all of them; count: of images."""

    table: ClassTable
    cells: tuple[str, ...]
    lines: Mapping[str, Counts]
    count: int | None
    compared: bool

    @property
    def title(self) -> str:
        return self.table.title + (f": {', '.join(self.cells)}" if self.cells else "")

    @property
    def sides(self) -> list[tuple[str, list[list[str]]]]:
        """(heading, lines of texts, the head first) of what was counted and, on real data, of what was published."""
        found = [("regenerated", texts(self.table, self.lines, self.count))]
        published = self.table.published
        if self.compared and (published or self.table.published_count):
            found.append(("published", texts(self.table, published, self.table.published_count)))
        return found


def class_tables(tables: Sequence[ClassTable], rows: Sequence[Row]) -> list[Counted]:
    """One for each of the tables, or several where the cells' data differ."""
    found = []
    for table in tables:
        groups: dict[tuple[Any, ...], list[str]] = {}
        finished = [(row.cell.name, row.finished[0]) for row in rows if row.finished]
        for cell, record in finished:
            lines = counted(table, record)
            number = lookup(record.result, table.count) if table.count else None
            number = number if isinstance(number, int) else None
            key = (tuple(lines.items()), number, record.source == "real")
            if lines:
                groups.setdefault(key, []).append(cell)
        for (items, number, real), cells in groups.items():
            found.append(Counted(table, tuple(cells) if len(groups) > 1 else (), dict(items), number, real))
    return found


def counted(table: ClassTable, record: RunRecord) -> dict[str, Counts]:
    """Lines of counts by name with their total and shares; empty where the run recorded none of this shape."""
    found = lookup(record.result, table.of)
    width = len(table.classes)
    if isinstance(found, Mapping):
        lines = {str(name): tuple(values) for name, values in found.items() if fits(values, width)}
    else:
        matrix = found if isinstance(found, list) and all(fits(row, width) for row in found) else []
        lines = {TOTAL: tuple(sum(row) for row in matrix)} if len(matrix) == width else {}
    if not lines:
        return {}
    if TOTAL not in lines:
        added = lookup(record.config, table.added) if table.added else None
        first = list(lines.values())[: len(added) if isinstance(added, (list, tuple)) else len(lines)]
        lines[TOTAL] = tuple(sum(column) for column in zip(*first, strict=True))
    shared = [name not in table.without for name in table.classes]
    whole = sum(count for count, own in zip(lines[TOTAL], shared, strict=True) if own)
    if whole:
        lines[SHARE] = tuple(100 * n / whole if own else None for n, own in zip(lines[TOTAL], shared, strict=True))
    return lines


def fits(values: Any, width: int) -> bool:
    return isinstance(values, list) and len(values) == width and all(isinstance(value, int) for value in values)


def texts(table: ClassTable, lines: Mapping[str, Counts], count: int | None) -> list[list[str]]:
    """A table of texts, the head first; how many images stands in its corner."""
    corner = "" if count is None else f"{count:,} {table.unit}"
    return [[corner, *table.classes], *([name, *(spelt(v, name) for v in values)] for name, values in lines.items())]


def spelt(value: float | None, line: str) -> str:
    """E.g. `1,997,248`, of a share `63.22 %`."""
    if value is None:
        return "–"
    return f"{round(value, 2):g} %" if line == SHARE else f"{value:,.0f}"
