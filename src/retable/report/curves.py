"""What the charts of a table show, computed once and without a drawing library: lines, bars, legends.

How they are drawn: `drawing`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from retable.experiment.metrics import Curve, Metric, NotThere
from retable.experiment.table import Table
from retable.report.layout import covers, heading, labels, quality_of, settings_of, split_and_name
from retable.report.plots import HUES
from retable.report.rows import Entry, Row, rated
from retable.report.runs import RunRecord

MOST_BARS = 16  # cells in one bar chart of a table that has columns
OWN_AXIS = 0.2  # of what the lines reach in the middle: one that stays below has an axis of its own


@dataclass(frozen=True)
class Line:
    """A metric an epoch: mean, lowest and highest over the seeds that have the epoch.

    look: its number, for colour and dash. cut: of a run in no mean. published: the publication's own curve.
    """

    look: int
    label: str
    points: tuple[tuple[int, float, float, float], ...]
    cut: bool = False
    published: bool = False

    @property
    def banded(self) -> bool:
        return any(high > low for _, _, low, high in self.points)

    @property
    def top(self) -> float:
        return max(high for *_, high in self.points)


@dataclass(frozen=True)
class Panel:
    """Lines on one pair of axes. limits: of the y-axis, where another panel shares it. titled: if the title shows."""

    title: str
    axis: str
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None = None
    titled: bool = True


@dataclass(frozen=True)
class Bars:
    """One metric's values, a bar a cell."""

    metric: Metric
    entries: tuple[tuple[str, Entry], ...]


@dataclass(frozen=True)
class Plot:
    """One chart: panels that stand side by side, its legend as (look, text), and the note below it."""

    title: str
    panels: tuple[Panel | Bars, ...]
    keys: tuple[tuple[int, str], ...] = ()
    note: str = ""


def plots(table: Table, rows: Sequence[Row]) -> list[Plot]:
    """All charts of a table; those that have nothing to show are left out."""
    found = curve_plots(table, rows)
    if quality := quality_of(table):
        found += [late_plot(table, rows, quality), best_plot(table, rows, quality)]
    return [plot for plot in [*found, *bar_plots(table, rows)] if plot.panels]


def curve_plots(table: Table, rows: Sequence[Row]) -> list[Plot]:
    """Train and validation of every run, a chart a quantity (accuracy, loss), with the curves that were published."""
    found = []
    summaries = all(record.summary for row in rows for record in row.runs)
    for name in quantities(table, rows):
        panels = []
        for split, column in columns_of(rows, name).items():
            axis, lines = label(table, column), lines_of(rows, column, factor(table, column))
            single = max((len(line.points) for line in lines), default=0) < 2
            if single and (split == "test" or summaries):  # used once, at the end
                continue
            metric = next((m for m in table.metrics.values() if m.column == column and m.reach is None), None)
            lines += published_lines(rows, metric) if metric else []
            for own in by_size(lines) if name == "loss" else [lines]:
                title = title_of(table, split)
                title += f", {', '.join(dict.fromkeys(x.label for x in own))}" if len(own) < len(lines) else ""
                panels += [Panel(title, axis, tuple(own))] if own else []
        limits = shared_limits(panel.lines for panel in panels) if len(panels) == 2 else None
        found.append(plot(f"{name.replace('_', ' ')} per epoch, all runs", [replace(p, limits=limits) for p in panels]))
    for metric in table.metrics.values():
        drawn = published_lines(rows, metric) if metric.column is None else []
        if drawn:
            panel = Panel(metric.name, heading(metric), (*metric_lines(table, rows, metric), *drawn), titled=False)
            found.append(plot(f"{metric.name.replace('_', ' ')} per epoch, all runs", [panel]))
    return found


def late_plot(table: Table, rows: Sequence[Row], metric: Metric) -> Plot:
    """One metric of all runs from epoch 2 on, where the curves lie close together."""
    assert metric.column is not None
    lines = [since(line, 2) for line in (*lines_of(rows, metric.column, metric.scale), *published_lines(rows, metric))]
    lines = [line for line in lines if len(line.points) > 1]
    split, name = split_and_name(metric.column)
    name = name.replace("_", " ")
    title = f"{title_of(table, split)} {name}".strip() + " of all runs from epoch 2 on"
    panels = [Panel(title, label(table, metric.column), tuple(lines), titled=False)]
    return plot(title, panels if any(not line.published for line in lines) else [])


def best_plot(table: Table, rows: Sequence[Row], metric: Metric) -> Plot:
    """Train and validation of the two cells that are best by the metric, from epoch 2 on."""
    assert metric.column is not None
    quality, name = split_and_name(metric.column)
    columns = columns_of(rows, name)
    order = [row.cell.name for row in rated(rows, metric)]
    lines = []
    for place, split in enumerate(split for split in (quality, "train") if split in columns):
        found = lines_of(rows, columns[split], factor(table, columns[split]))
        shown = [since(line, 2) for line in found if line.label in order[:2] and not line.cut]
        shown.sort(key=lambda line: order.index(line.label))
        hues = [line.look % HUES for line in shown]  # those of the other charts, where they tell the two apart
        hues = hues if len(set(hues)) == len(hues) else list(range(len(hues)))
        lines += [
            Line(hue + place * HUES, ", ".join(filter(None, (line.label, title_of(table, split)))), line.points)
            for hue, line in zip(hues, shown, strict=True)
            if line.points
        ]
    titles = ["train"] if "train" in columns else []
    titles += [title for title in [title_of(table, quality)] if title and title != "train"]
    title = f"{' and '.join(titles) or name.replace('_', ' ')} of the two best from epoch 2 on"
    lines.sort(key=lambda line: line.look % HUES)
    if len(rows) < 2 or not any(len(line.points) > 1 for line in lines):
        return Plot(title, ())
    found_plot = plot(title, [Panel(title, label(table, metric.column), tuple(lines), titled=False)])
    return replace(found_plot, keys=tuple((line.look, line.label) for line in lines))


def plot(title: str, panels: Sequence[Panel]) -> Plot:
    """A chart of lines, with its legend and the note that its lines need."""
    lines = [line for panel in panels for line in panel.lines]
    keys = {line.look: f"{line.label}, published" if line.published else line.label for line in lines}
    notes = ["line: mean over seeds; band: lowest to highest seed"] if any(line.banded for line in lines) else []
    if any(line.cut for line in lines):
        notes.append("thin line with a cross: a run that failed, diverged or has not ended, and is in no mean")
    if any(line.published for line in lines):
        notes.append("dashed line: the published curve")
    return Plot(title[0].upper() + title[1:], tuple(panels), tuple(sorted(keys.items())), "; ".join(notes))


def bar_plots(table: Table, rows: Sequence[Row]) -> list[Plot]:
    """One chart of all cells; of a large table with columns, such as E.1, one chart a row of the table."""
    if len(rows) <= MOST_BARS or not table.columns:
        return [bar_plot(table, rows)]
    found = []
    for place in settings_of([row.cell for row in rows], table.rows):
        own = bar_plot(table, [row for row in rows if covers(row.cell, table.rows, place)])
        found.append(replace(own, title=f"{own.title}: {', '.join(labels(table, table.rows, place))}"))
    return found


def bar_plot(table: Table, rows: Sequence[Row]) -> Plot:
    """A panel a metric: the cells' means with their standard deviation beside the published values."""
    panels = []
    for metric in (metric for metric in table.metrics.values() if metric.shown):
        entries = tuple((row.cell.name, row.entries[metric.name]) for row in rows)
        if any(entry.mean is not None for _, entry in entries):
            panels.append(Bars(metric, entries))
    drawn = [entry for panel in panels for _, entry in panel.entries]
    notes = ["bar: mean over seeds" if any(entry.n > 1 for entry in drawn) else "bar: one seed"]
    notes += ["line: ± sample standard deviation"] if any(entry.std for entry in drawn) else []
    published = any(entry.published for entry in drawn)
    notes += ["diamond: published value, thick line: published range"] if published else []
    title = "Regenerated against published" if published else "Regenerated figures"
    return Plot(title, tuple(panels), (), "; ".join(notes))


def quantities(table: Table, rows: Sequence[Row]) -> list[str]:
    """What the table's metrics name and runs record an epoch, and the loss: accuracy, loss."""
    asked = [m.column for m in table.metrics.values() if m.column and m.reach is None]
    recorded = {column for row in rows for record in row.runs for column in record.history}
    columns = [column for column in [*asked, "train/loss", "val/loss"] if column in recorded]
    return list(dict.fromkeys(split_and_name(column)[1] for column in columns if not column.startswith("grad_norm/")))


def columns_of(rows: Sequence[Row], name: str) -> dict[str, str]:
    """The recorded column of each split that is of this quantity, training first."""
    recorded = dict.fromkeys(column for row in rows for record in row.runs for column in record.history)
    found: dict[str, str] = {}
    for column in recorded:
        split, own = split_and_name(column)
        if own == name:
            found.setdefault(split, column)
    return {split: found[split] for split in ("train", "val", "", "test") if split in found}


def lines_of(rows: Sequence[Row], column: str, scale: float) -> list[Line]:
    """A line a cell over the runs that its values are made of, and one for each other run, in the cell's look."""
    lines = []
    for look, row in enumerate(rows):
        used = set(map(id, row.finished))
        groups = [(row.finished, False)] + [((record,), True) for record in row.runs if id(record) not in used]
        for records, cut in groups:
            if points := points_of([column_curve(record, column, scale) for record in records]):
                lines.append(Line(look, row.cell.name, points, cut))
    return lines


def metric_lines(table: Table, rows: Sequence[Row], metric: Metric) -> list[Line]:
    """As `lines_of`, of a metric that is made of others; finished runs alone."""
    lines = []
    for look, row in enumerate(rows):
        curves = []
        for record in row.finished:
            try:
                curves.append(metric.curve(record, table.metrics))
            except NotThere:
                continue
        if points := points_of(curves):
            lines.append(Line(look, row.cell.name, points))
    return lines


def published_lines(rows: Sequence[Row], metric: Metric) -> list[Line]:
    """The published curves, in their cells' colours and a dash that no cell has; none of sample data."""
    first = HUES * math.ceil(len(rows) / HUES)
    found = []
    for look, row in enumerate(rows):
        value, entry = row.cell.published.get(metric.name), row.entries.get(metric.name)
        if value and value.curve and entry and entry.published and row.finished:
            points = tuple((epoch, y, y, y) for epoch, y in sorted(value.curve.items()))
            found.append(Line(first + look, row.cell.name, points, published=True))
    return found


def column_curve(record: RunRecord, column: str, scale: float) -> Curve:
    values = zip(record.history.get("epoch", ()), record.history.get(column, ()), strict=False)
    return {int(epoch): value * scale for epoch, value in values if math.isfinite(value)}


def points_of(curves: Iterable[Curve]) -> tuple[tuple[int, float, float, float], ...]:
    values: dict[int, list[float]] = {}
    for curve in curves:
        for epoch, value in curve.items():
            values.setdefault(epoch, []).append(value)
    return tuple((epoch, fmean(found), min(found), max(found)) for epoch, found in sorted(values.items()))


def by_size(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines that share an axis, and those that it would flatten: cells trained by losses of different size."""
    if not lines:
        return []
    middle = median(line.top for line in lines)
    small = [line for line in lines if line.top < OWN_AXIS * middle]
    return [[line for line in lines if line not in small], *([small] if small else [])]


def since(line: Line, epoch: int) -> Line:
    return replace(line, points=tuple(point for point in line.points if point[0] >= epoch))


def shared_limits(splits: Iterable[Sequence[Line]]) -> tuple[float, float] | None:
    """One y-axis for train and validation, unless one would flatten the other (a validation loss that explodes)."""
    ranges = []
    for lines in splits:
        values = [value for line in lines for _, _, low, high in line.points for value in (low, high)]
        if values:
            ranges.append((min(values), max(values)))
    if len(ranges) < 2:
        return None
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if high <= low or any(top - bottom < 0.25 * (high - low) for bottom, top in ranges):
        return None
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def factor(table: Table, column: str) -> float:
    """The scale to the published unit, also for the column whose twin alone is a metric."""
    name = split_and_name(column)[1]
    by_column = {m.column: m.scale for m in table.metrics.values() if m.column}
    twins = [scale for other, scale in by_column.items() if split_and_name(other)[1] == name]
    return by_column.get(column, twins[0] if twins else 1.0)


def label(table: Table, column: str) -> str:
    """E.g. `accuracy (%)`."""
    name = split_and_name(column)[1]
    units = [m.unit for m in table.metrics.values() if m.column and split_and_name(m.column)[1] == name and m.unit]
    return name.replace("_", " ") + (f" ({units[0]})" if units else "")


def title_of(table: Table, split: str) -> str:
    """How the publication calls the data: B1 calls its validation data test."""
    names = {m.name for m in table.metrics.values() if m.column and split_and_name(m.column)[0] == split}
    return "test" if split == "val" and "test" in names else {"val": "validation"}.get(split, split)
