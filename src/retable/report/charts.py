"""Charts of a table from its runs, as SVG that stands inside a page: curves of all cells, and bars against the
published values.

Legends are the page's own, so that 25 of them cost the drawing no room. The same runs give the same bytes. How they are
drawn: `drawing`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import matplotlib

from retable.experiment.metrics import Metric
from retable.experiment.table import Table
from retable.report.drawing import (
    COLOURS,
    DASHES,
    STYLE,
    Line,
    bar_panel,
    line_panel,
    looks,
    own_ids,
    shared_limits,
)
from retable.report.evaluated import Evaluated, Row
from retable.report.layout import covers, labels, places, quality_of
from retable.report.runs import RunRecord

MOST_BARS = 16  # cells in one bar chart of a table that has columns


@dataclass(frozen=True)
class Key:
    """A legend's entry: the look number of a line, its text, and what is to be said of it."""

    look: int
    label: str

    @property
    def colour(self) -> int:
        return self.look % len(COLOURS)

    @property
    def dash(self) -> str:
        """As SVG's stroke-dasharray, for a swatch."""
        style = DASHES[self.look // len(COLOURS) % len(DASHES)]
        return "none" if style == "solid" else " ".join(f"{length:g}" for length in style[1])


@dataclass(frozen=True)
class Chart:
    """One chart. panels: SVG texts that stand side by side, or one below the other on a phone."""

    title: str
    panels: tuple[str, ...]
    keys: tuple[Key, ...] = ()
    note: str = ""


def charts(evaluated: Evaluated) -> list[Chart]:
    """All charts of a table; those that have nothing to show are left out."""
    table, rows = evaluated.table, evaluated.rows
    with matplotlib.rc_context(STYLE):
        drawn = curve_charts(table, rows)
        quality = quality_of(table)
        if quality:
            drawn += [late_chart(table, rows, quality), best_chart(table, rows, quality)]
        drawn += bar_charts(table, rows)
    found = [chart for chart in drawn if chart and chart.panels]
    return [Chart(c.title, tuple(own_ids(p, i, j) for j, p in enumerate(c.panels)), c.keys, c.note)
            for i, c in enumerate(found)]  # fmt: skip


def curve_charts(table: Table, rows: Sequence[Row]) -> list[Chart]:
    """Train and validation of every run, a chart a quantity (accuracy, loss): the cells' mean over seeds."""
    drawn = []
    for name in quantities(table, rows):
        panels, seen, banded, cut = [], {}, False, False
        parts = {part: lines_of(rows, f"{part}/{name}", factor(table, f"{part}/{name}")) for part in ("train", "val")}
        limits = shared_limits(parts.values())
        for part, lines in parts.items():
            if lines:
                panels.append(line_panel(lines, label(table, f"{part}/{name}"), title_of(table, part), limits))
                seen |= {line.look: line.label for line in lines}
                banded |= any(line.banded for line in lines)
                cut |= any(line.cut for line in lines)
        keys = tuple(Key(look, text) for look, text in sorted(seen.items()))
        title = f"{name.replace('_', ' ')} per epoch, all runs"
        drawn.append(Chart(title[0].upper() + title[1:], tuple(panels), keys, explain(banded, cut)))
    return drawn


def late_chart(table: Table, rows: Sequence[Row], metric: Metric) -> Chart:
    """One metric of all runs from epoch 2 on, where the curves lie close together."""
    assert metric.column is not None
    lines = [since(line, 2) for line in lines_of(rows, metric.column, metric.scale)]
    lines = [line for line in lines if len(line.points) > 1]
    name = metric.column.partition("/")[2].replace("_", " ")
    title = f"{title_of(table, 'val')} {name} of all runs from epoch 2 on"
    panel = line_panel(lines, label(table, metric.column), title, None, titled=False) if lines else None
    keys = tuple(Key(line.look, line.label) for line in looks(lines))
    note = explain(any(line.banded for line in lines), any(line.cut for line in lines))
    return Chart(title[0].upper() + title[1:], (panel,) if panel else (), keys, note)


def best_chart(table: Table, rows: Sequence[Row], metric: Metric) -> Chart | None:
    """Train and validation of the two cells that are best by the metric; in a table of one cell of that one."""
    assert metric.column is not None
    name = metric.column.partition("/")[2]
    rated = [row for row in rows if metric.name in row.entries and row.entries[metric.name].mean is not None]
    rated.sort(key=lambda row: row.entries[metric.name].mean or 0.0, reverse=metric.better == "higher")
    best = {row.cell.name for row in rated[:2]}
    if len(rows) < 2 or not best:
        return None
    lines = []
    for place, part in enumerate(("val", "train")):
        found = lines_of(rows, f"{part}/{name}", factor(table, f"{part}/{name}"))
        shown = [line for line in found if line.label in best and not line.cut]
        shown.sort(key=lambda line: [row.cell.name for row in rated].index(line.label))
        lines += [
            Line(index + place * len(COLOURS), f"{line.label}, {title_of(table, part)}", line.points)
            for index, line in enumerate(shown)
        ]
    if not any(len(line.points) > 1 for line in lines):
        return None
    title = f"Train and {title_of(table, 'val')} of the two best"
    panel = line_panel(lines, label(table, metric.column), title, None, titled=False)
    keys = tuple(Key(line.look, line.label) for line in sorted(lines, key=lambda line: line.look % len(COLOURS)))
    return Chart(title, (panel,), keys, explain(any(line.banded for line in lines), False))


def bar_charts(table: Table, rows: Sequence[Row]) -> list[Chart]:
    """One chart of all cells; of a large table with columns, such as E.1, one chart a row of the table."""
    if len(rows) <= MOST_BARS or not table.columns:
        return [bar_chart(table, rows)]
    drawn = []
    for place in places([row.cell for row in rows], table.rows):
        chart = bar_chart(table, [row for row in rows if covers(row.cell, table.rows, place)])
        drawn.append(replace(chart, title=f"{chart.title}: {', '.join(labels(table, table.rows, place))}"))
    return drawn


def bar_chart(table: Table, rows: Sequence[Row]) -> Chart:
    """A panel a metric: the cells' means with their standard deviation beside the published values."""
    panels, published, spread = [], False, False
    for metric in (metric for metric in table.metrics.values() if metric.shown):
        found = [(row.cell.name, row.entries[metric.name]) for row in rows]
        if any(entry.mean is not None for _, entry in found):
            panels.append(bar_panel(found, metric))
            published |= any(entry.published for _, entry in found)
            spread |= any(entry.std for _, entry in found)
    said = ["bar: mean over seeds"]
    said += ["line: ± sample standard deviation"] if spread else []
    said += ["diamond: published value, thick line: published range"] if published else []
    title = "Regenerated against published" if published else "Regenerated figures"
    return Chart(title, tuple(panels), (), "; ".join(said))


def quantities(table: Table, rows: Sequence[Row]) -> list[str]:
    """What has a train or a val column and is one of the table's metrics, and the loss: accuracy, loss."""
    asked = [m.column for m in table.metrics.values() if m.column and m.reach is None]
    recorded = {column for row in rows for record in row.runs for column in record.history}
    columns = [column for column in [*asked, "train/loss", "val/loss"] if column in recorded]
    return list(dict.fromkeys(c.partition("/")[2] for c in columns if c.startswith(("train/", "val/"))))


def lines_of(rows: Sequence[Row], column: str, scale: float) -> list[Line]:
    """A line a cell over the runs that its figures are made of, and one for each other run, in the cell's look."""
    lines = []
    for look, row in enumerate(rows):
        used = set(map(id, row.finished))
        groups = [(row.finished, False)] + [((record,), True) for record in row.runs if id(record) not in used]
        for records, cut in groups:
            points = points_of(records, column, scale)
            if points:
                lines.append(Line(look, row.cell.name, points, cut))
    return lines


def points_of(records: Sequence[RunRecord], column: str, scale: float) -> tuple[tuple[int, float, float, float], ...]:
    values: dict[int, list[float]] = {}
    for record in records:
        for epoch, value in zip(record.history.get("epoch", ()), record.history.get(column, ()), strict=False):
            if math.isfinite(value):
                values.setdefault(int(epoch), []).append(value * scale)
    return tuple((epoch, fmean(found), min(found), max(found)) for epoch, found in sorted(values.items()))


def since(line: Line, epoch: int) -> Line:
    return Line(line.look, line.label, tuple(point for point in line.points if point[0] >= epoch), line.cut)


def explain(banded: bool, cut: bool) -> str:
    said = ["line: mean over seeds; band: lowest to highest seed"] if banded else []
    said += ["thin line with a cross: a run that failed, diverged or has not ended, and is in no mean"] if cut else []
    return "; ".join(said)


def factor(table: Table, column: str) -> float:
    """The scale to the published unit, also for the column whose twin alone is a metric."""
    name = column.partition("/")[2]
    by_column = {m.column: m.scale for m in table.metrics.values() if m.column}
    twins = [scale for other, scale in by_column.items() if other.partition("/")[2] == name]
    return by_column.get(column, twins[0] if twins else 1.0)


def label(table: Table, column: str) -> str:
    """E.g. `accuracy (%)`."""
    name = column.partition("/")[2]
    units = [m.unit for m in table.metrics.values() if m.column and m.column.partition("/")[2] == name and m.unit]
    return name.replace("_", " ") + (f" ({units[0]})" if units else "")


def title_of(table: Table, part: str) -> str:
    """How the publication calls the data: B1 calls its validation data test."""
    names = {m.name for m in table.metrics.values() if m.column and m.column.startswith(f"{part}/")}
    return "test" if part == "val" and "test" in names else {"val": "validation"}.get(part, part)
