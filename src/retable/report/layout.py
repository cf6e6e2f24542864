"""Where a table's values stand: as published, for every format.

Pivoted where the table says rows (and columns), else a line a cell. A cell that says nothing of a column's keys (a
baseline) stands in every column of its line; where the publication has no cell, there is no value.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retable.config.keys import canonical
from retable.experiment.metrics import Metric, Published
from retable.experiment.table import Cell, Table
from retable.report.rows import ByEpoch, Entry, Row


@dataclass(frozen=True)
class Layout:
    """Lines of values under groups of columns.

    corner: what the lines' labels are values of. groups: each group's label, empty where there are none; each holds
    every metric. lines: each line's label and its entries, a metric a column; None where the publication has no cell.
    """

    corner: str
    groups: tuple[str, ...]
    metrics: tuple[Metric, ...]
    lines: tuple[tuple[str, tuple[Entry | None, ...]], ...]

    @property
    def columns(self) -> list[Metric]:
        """The metric of each column."""
        return [metric for _ in self.groups for metric in self.metrics]

    @property
    def heads(self) -> list[str]:
        """Each column's head in one line."""
        return [f"{group} {heading(metric)}".strip() for group in self.groups for metric in self.metrics]


def layout(table: Table, rows: Sequence[Row], metrics: tuple[Metric, ...]) -> Layout:
    """A table's layout: a line a cell, too, where rows and columns give two cells one place, or a cell none.

    Args: metrics: those that are shown.
    """
    plain = tuple((row.cell.name, tuple(row.entries[m.name] for m in metrics)) for row in rows)
    if not table.rows:
        return Layout("", ("",), metrics, plain)
    cells = [row.cell for row in rows]
    columns = settings_of(cells, table.columns) if table.columns else [()]
    lines, placed = [], set()
    for line in settings_of(cells, table.rows, partial=True):
        own = [row for row in rows if at(row.cell, table.rows) == line]
        entries: list[Entry | None] = []
        for column in columns:
            row = next((row for row in own if covers(row.cell, table.columns, column)), None)
            entries += [row.entries[m.name] if row else None for m in metrics]
            placed |= {row.cell.name} if row else set()
        lines.append((" ".join(labels(table, table.rows, line)), tuple(entries)))
    if len(placed) < len(rows):
        return Layout("", ("",), metrics, plain)
    groups = tuple(" ".join(labels(table, table.columns, column, alone=True)) for column in columns)
    return Layout(" ".join(short(key) for key in table.rows), groups, metrics, tuple(lines))


def epoch_layout(one: ByEpoch) -> Layout:
    """What was published epoch by epoch: a line an epoch, a column a cell."""
    return Layout("epoch", one.cells, (one.metric,), tuple((str(epoch), entries) for epoch, entries in one.lines))


def at(cell: Cell, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(cell.match.get(key) for key in keys)


def covers(cell: Cell, keys: Sequence[str], place: tuple[Any, ...]) -> bool:
    return all(key not in cell.match or cell.match[key] == value for key, value in zip(keys, place, strict=True))


def settings_of(cells: Sequence[Cell], keys: Sequence[str], partial: bool = False) -> list[tuple[Any, ...]]:
    """The distinct values of the keys, in the cells' order; without `partial` those that a cell states in full."""
    found = [at(cell, keys) for cell in cells if partial or all(key in cell.match for key in keys)]
    return list({canonical(place): place for place in found}.values()) or [tuple(None for _ in keys)]


def labels(table: Table, keys: Sequence[str], place: tuple[Any, ...], alone: bool = False) -> list[str]:
    """How the publication calls the values; a value that a cell leaves open is not named.

    Args: alone: whether nothing beside the values names their keys, so that a number has its key: lr 0.1.
    """
    found = []
    for key, value in zip(keys, place, strict=True):
        if value is not None:
            own = f"{short(key)} {value}" if alone and isinstance(value, int | float) else str(value)
            found.append(table.labels.get(key, {}).get(str(value), own))
    return found


def short(key: str) -> str:
    """What a table calls a key: by its last word, or by its group where that word says nothing by itself.

    >>> short("optimizer.lr"), short("dropout.p"), short("activation.name")
    ('lr', 'dropout', 'activation')
    """
    parts = key.split(".")
    return parts[-2] if parts[-1] in ("name", "p") and len(parts) > 1 else parts[-1]


SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_and_name(column: str) -> tuple[str, str]:
    """The split that a column is of, and what it is; no split where its name says none.

    >>> split_and_name("val/accuracy"), split_and_name("valid_acc")
    (('val', 'accuracy'), ('val', 'acc'))
    >>> split_and_name("grad_norm/fc"), split_and_name("accuracy")
    (('', 'grad_norm/fc'), ('', 'accuracy'))
    """
    found = re.match(r"([a-z]+)[/_.](.+)", column)
    return (SPLITS[found[1]], found[2]) if found and found[1] in SPLITS else ("", column)


def quality_of(table: Table) -> Metric | None:
    """The metric that says which cell is best: the first of validation that is no loss, else one not of training."""
    found = [m for m in table.metrics.values() if m.column and m.reach is None and not m.column.endswith("loss")]
    own = {m.name: split_and_name(m.column or "")[0] for m in found}
    return next((m for wanted in ("val", "", "test") for m in found if own[m.name] == wanted), None)


def heading(metric: Metric) -> str:
    return metric.name.replace("_", " ") + (f" ({metric.unit})" if metric.unit else "")


def published_text(published: Published) -> str:
    """As many digits as were published, so that 46 is not 46.00; `98-99`, `-3 to -1`."""
    if published.value is not None:
        return f"{published.value:.10g}"
    low, high = (f"{end:.10g}" for end in (published.low, published.high))
    return f"{low} to {high}" if low.startswith("-") else f"{low}-{high}"
