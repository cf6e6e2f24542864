"""Charts of a table from its runs, as SVG that stands inside a page: curves of all cells, and bars against the
published values.

Colours are CSS variables with a fallback (`var(--c0,#0072b2)`), so that one drawing serves light, dark and print; text
stays text. Legends are the page's own, so that 25 of them cost the drawing no room. The same runs give the same bytes.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablate.report.metric_schema import Metric
from ablate.report.runs import RunRecord
from ablate.report.schema import Table
from ablate.report.table import Entry, Row

# Told apart by the colour-blind too, after Okabe and Ito; the page has a lighter set for its dark mode.
COLOURS = ("#0072b2", "#d55e00", "#00855f", "#b0528a", "#8a6d00", "#c1121f", "#6a3d9a", "#5c5c5c")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_INK, _GRID = "#212121", "#d1d1d1"
_VARIABLES = {_INK: "ink", _GRID: "grid"} | {colour: f"c{index}" for index, colour in enumerate(COLOURS)}
_WIDTH, _HEIGHT = 5.4, 3.4
_STYLE = {"svg.hashsalt": "ablate", "svg.fonttype": "none", "path.simplify": True, "path.simplify_threshold": 0.3}


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


@dataclass(frozen=True)
class Line:
    """A metric an epoch: mean, lowest and highest over the seeds that have the epoch. cut: of a run in no mean."""

    look: int
    label: str
    points: tuple[tuple[int, float, float, float], ...]
    cut: bool = False

    @property
    def banded(self) -> bool:
        return any(high > low for _, _, low, high in self.points)


def charts(table: Table, rows: Sequence[Row]) -> list[Chart]:
    """All charts of a table; those that have nothing to show are left out. Args: rows: of `table_rows`."""
    with matplotlib.rc_context(_STYLE):
        drawn = curve_charts(table, rows)
        quality = quality_of(table)
        if quality:
            drawn += [late_chart(table, rows, quality), best_chart(table, rows, quality)]
        drawn.append(bar_chart(table, rows))
    found = [chart for chart in drawn if chart and chart.panels]
    return [Chart(c.title, tuple(_own_ids(p, i, j) for j, p in enumerate(c.panels)), c.keys, c.note)
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
    keys = tuple(Key(line.look, line.label) for line in unique(lines))
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


def quality_of(table: Table) -> Metric | None:
    """The metric that says which cell is best: the first on validation data that is no loss."""
    found = [m for m in table.metrics.values() if m.column and m.reach is None and m.column.startswith("val/")]
    return next((m for m in found if not m.column.endswith("loss")), None)  # type: ignore[union-attr]


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


def unique(lines: Sequence[Line]) -> list[Line]:
    return list({line.look: line for line in lines}.values())


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


def shared_limits(parts: Any) -> tuple[float, float] | None:
    """One y-axis for train and validation, unless one would flatten the other (a validation loss that explodes)."""
    ranges = []
    for lines in parts:
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


def line_panel(
    lines: Sequence[Line], name: str, title: str, limits: tuple[float, float] | None, titled: bool = True
) -> str:
    """One axis with its lines, as SVG; each line is a group of class `line-<look>`."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT))
    axis = figure.add_axes((0.62 / _WIDTH, 0.14, 1 - 0.72 / _WIDTH, 0.76 if titled else 0.83))
    few = len(unique(lines)) <= 8
    for line in lines:
        colour = COLOURS[line.look % len(COLOURS)]
        style = DASHES[line.look // len(COLOURS) % len(DASHES)]
        epochs, means, lows, highs = zip(*line.points, strict=True)
        if line.banded:
            band = axis.fill_between(epochs, lows, highs, color=colour, alpha=0.14 if few else 0.07, linewidth=0)
            band.set_gid(f"line-{line.look}")
        marker = {"marker": "x", "markevery": [len(epochs) - 1]} if line.cut else {}
        if len(epochs) == 1 and not line.cut:
            marker = {"marker": "o", "markersize": 4}
        (drawn,) = axis.plot(
            epochs, means, color=colour, linestyle=style, linewidth=0.9 if line.cut else 1.6 if few else 1.2, **marker
        )
        drawn.set_gid(f"line-{line.look}")
    if limits:
        axis.set_ylim(*limits)
    first, last = min(line.points[0][0] for line in lines), max(line.points[-1][0] for line in lines)
    axis.set_xlim(first - 0.02 * (last - first) - 0.1, last + 0.02 * (last - first) + 0.1)
    axis.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch", color=_INK)
    axis.set_ylabel(name, color=_INK)
    return _svg(figure, axis, title, titled=titled)


def bar_panel(found: Sequence[tuple[str, Entry]], metric: Metric) -> str:
    """Horizontal bars, the first cell on top; the axis starts at 0 where that leaves differences to be seen."""
    longest = max(len(name) for name, _ in found)
    names = min(2.3, 0.085 * longest + 0.2)
    height = 0.25 * len(found) + 0.85
    figure = Figure(figsize=(_WIDTH, height))
    axis = figure.add_axes((names / _WIDTH, 0.5 / height, 1 - (names + 0.2) / _WIDTH, 1 - 0.85 / height))
    low, high = span([entry for _, entry in found])
    for place, (_, entry) in enumerate(found):
        if entry.mean is not None:
            axis.barh(
                place, entry.mean - low, left=low, height=0.62, color=COLOURS[0], alpha=0.85 if entry.best else 0.5
            )
        if entry.mean is not None and entry.std is not None:
            axis.errorbar(entry.mean, place, xerr=entry.std, color=_INK, capsize=2.5, linewidth=1.1, zorder=4)
        elif entry.mean is None:
            axis.text(low, place, f" {entry.words.split(',')[0]}", va="center", fontsize=8, color=_INK)
        if entry.published and entry.published.value is not None:
            axis.plot(entry.published.value, place, "D", color=COLOURS[1], markersize=5)
        elif entry.published and entry.published.low is not None:
            axis.plot(
                [entry.published.low, entry.published.high], [place] * 2, color=COLOURS[1], linewidth=3.2, zorder=3
            )
    axis.set_xlim(low, high)
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_yticks(range(len(found)), [shorten(name) for name, _ in found])
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(metric.unit + (f" (axis starts at {low:g})" if low else ""), color=_INK)
    return _svg(figure, axis, metric.name.replace("_", " "), across=False)


def span(entries: Sequence[Entry]) -> tuple[float, float]:
    """Limits of a bar axis: from 0, or from a round number below, where all values are in the axis's upper half."""
    values = []
    for entry in entries:
        if entry.mean is not None:
            values += [entry.mean - (entry.std or 0.0), entry.mean + (entry.std or 0.0)]
        if entry.published:
            values += [v for v in (entry.published.value, entry.published.low, entry.published.high) if v is not None]
    low, high = min(values), max(values)
    if low < 0.6 * high or high <= 0:
        bottom = min(0.0, low * 1.08)
        return bottom, max(high, 0.0) + 0.06 * ((high - bottom) or 1.0)
    reach = max(high - low, 0.01 * high)
    step = 10 ** math.floor(math.log10(reach))
    bottom = math.floor((low - 0.25 * reach) / step) * step
    return (max(0.0, round(bottom, 10)), high + 0.08 * reach)


def shorten(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _svg(figure: Figure, axis: Axes, title: str, across: bool = True, titled: bool = True) -> str:
    if titled:
        # Not the axis's own title, which matplotlib lays out at length to keep it clear of ticks.
        place = axis.get_position()
        figure.text(place.x0, place.y1 + 0.09 / figure.get_figheight(), title, fontsize=10, color=_INK)
    axis.ticklabel_format(axis="x" if not across else "y", useOffset=False)
    axis.set_facecolor("none")
    figure.set_facecolor("none")
    axis.grid(axis="y" if across else "x", color=_GRID, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(colors=_INK, labelsize=9, length=0 if not across else 2.5)
    axis.spines[["top", "right"]].set_visible(False)
    for spine in axis.spines.values():
        spine.set_color(_INK)
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(file.getvalue(), title)


def _inline(svg: str, title: str) -> str:
    """A drawing as it stands in an HTML page: no prologue, no metadata, no size of its own, colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    named = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    svg = re.sub(r"<svg[^>]*>", f'<svg {box[0]} role="img" aria-label="{named}">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<g id="(line-\d+)">', r'<g class="line \1">', svg)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name},{colour})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _own_ids(svg: str, chart: int, panel: int) -> str:
    """Ids that no other drawing of the page has."""
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>f{chart}{panel}-", svg)
