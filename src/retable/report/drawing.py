"""The charts of a table as SVG that stands inside a page: what `curves` has computed, as lines with bands, and bars.

Colours are CSS variables with a fallback (`var(--c0,#0072b2)`), so that one drawing serves light, dark and print; text
stays text. Legends are the page's own, so that 25 of them cost the drawing no room. The same runs give the same bytes.
"""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from retable.experiment.metrics import Metric
from retable.report.curves import Bars, Panel
from retable.report.evaluated import Evaluated
from retable.report.plots import DASHES, HUES, Chart, Key, shorten
from retable.report.rows import Entry

# Distinct to the colour-blind, too, after Okabe and Ito; the page has a lighter set for its dark mode.
COLOURS = ("#0072b2", "#d55e00", "#00855f", "#b0528a", "#8a6d00", "#c1121f", "#6a3d9a", "#5c5c5c")
_INK, _GRID = "#212121", "#d1d1d1"
_VARIABLES = {_INK: "ink", _GRID: "grid"} | {colour: f"c{index}" for index, colour in enumerate(COLOURS)}
_WIDTH, _HEIGHT = 5.4, 3.4
_STYLE = {"svg.hashsalt": "retable", "svg.fonttype": "none", "path.simplify": True, "path.simplify_threshold": 0.3}


def charts(evaluated: Evaluated) -> list[Chart]:
    """All charts of a table."""
    found = []
    with matplotlib.rc_context(_STYLE):
        for number, plot in enumerate(evaluated.plots):
            drawn = [bar_panel(p.entries, p.metric) if isinstance(p, Bars) else line_panel(p) for p in plot.panels]
            panels = tuple(own_ids(svg, number, place) for place, svg in enumerate(drawn))
            found.append(Chart(plot.title, panels, tuple(Key(*key) for key in plot.keys), plot.note))
    return found


def line_panel(panel: Panel) -> str:
    """One axis with its lines, as SVG; each line is a group of class `line-<look>`."""
    lines = panel.lines
    figure = Figure(figsize=(_WIDTH, _HEIGHT))
    axis = figure.add_axes((0.62 / _WIDTH, 0.14, 1 - 0.72 / _WIDTH, 0.76 if panel.titled else 0.83))
    few = len({line.look for line in lines}) <= 8
    for line in lines:
        colour = COLOURS[line.look % HUES]
        dashes = DASHES[line.look // HUES % len(DASHES)]
        style: Any = (0, dashes) if dashes else "solid"
        epochs, means, lows, highs = zip(*line.points, strict=True)
        if line.banded:
            band = axis.fill_between(epochs, lows, highs, color=colour, alpha=0.14 if few else 0.07, linewidth=0)
            band.set_gid(f"line-{line.look}")
        marker = {"marker": "x", "markevery": [len(epochs) - 1]} if line.cut else {}
        if len(epochs) == 1 and not line.cut:
            marker = {"marker": "o", "markersize": 4}
        width = 0.9 if line.cut else 1.1 if line.published else 1.6 if few else 1.2
        (drawn,) = axis.plot(
            epochs,
            means,
            color=colour,
            linestyle=style,
            linewidth=width,
            **marker,
        )
        drawn.set_gid(f"line-{line.look}")
    if panel.limits:
        axis.set_ylim(*panel.limits)
    first, last = min(line.points[0][0] for line in lines), max(line.points[-1][0] for line in lines)
    axis.set_xlim(first - 0.02 * (last - first) - 0.1, last + 0.02 * (last - first) + 0.1)
    axis.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch", color=_INK)
    axis.set_ylabel(panel.axis, color=_INK)
    return framed(_svg(figure, axis, panel.title, titled=panel.titled), axis)


def framed(svg: str, axis: Axes) -> str:
    """A drawing that says where its axes lie, in its own units and in those of the data, for values under a pointer."""
    width, height = (72 * size for size in axis.figure.get_size_inches())
    place = axis.get_position()
    frame = [place.x0 * width, place.x1 * width, (1 - place.y0) * height, (1 - place.y1) * height]
    numbers = " ".join(f"{value:.6g}" for value in [*frame, *axis.get_xlim(), *axis.get_ylim()])
    return svg.replace(' role="img"', f' role="img" data-frame="{numbers}"', 1)


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
    axis.set_yticks(range(len(found)), [shorten(name, 26) for name, _ in found])
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(metric.unit + (f" (axis starts at {float(f'{low:.3g}'):g})" if low else ""), color=_INK)
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
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)  # the page's style sheet has one for all
    svg = re.sub(r' (?:d|x|y|transform|points)="[^"]*"', lambda found: _short(found[0]), svg)
    svg = re.sub(r'<g id="(line-\d+)">', r'<g class="line \1">', svg)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name},{colour})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _short(attribute: str) -> str:
    """Numbers to a ten-thousandth of a unit, 1/72 inch, finer than the four digits that a pointer shows; in a path of
    straight lines alone the letter L is implied."""
    short = re.sub(r"-?\d+\.\d{5,}", lambda number: f"{float(number[0]):.4f}".rstrip("0").rstrip("."), attribute)
    return re.sub(r" ?\n(?:L )?", " ", short) if re.fullmatch(r' d="[ML\s\d.-]*"', short) else short


def own_ids(svg: str, chart: int, panel: int) -> str:
    """Ids that no other drawing of the page has."""
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>f{chart}{panel}-", svg)
