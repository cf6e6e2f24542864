"""The charts of a table as SVG that stands inside a page: what `curves` has computed, drawn by `drawing`.

Legends are the page's own, so that 25 of them cost the drawing no room. The same runs give the same bytes.
"""

from dataclasses import dataclass

import matplotlib

from retable.report.curves import HUES, Bars
from retable.report.drawing import DASHES, STYLE, bar_panel, line_panel, own_ids
from retable.report.evaluated import Evaluated


@dataclass(frozen=True)
class Key:
    """A legend's entry: the look number of a line, its text, and what is to be said of it."""

    look: int
    label: str

    @property
    def colour(self) -> int:
        return self.look % HUES

    @property
    def dash(self) -> str:
        """As SVG's stroke-dasharray, for a swatch."""
        style = DASHES[self.look // HUES % len(DASHES)]
        return "none" if style == "solid" else " ".join(f"{length:g}" for length in style[1])


@dataclass(frozen=True)
class Chart:
    """One chart. panels: SVG texts that stand side by side, or one below the other on a phone."""

    title: str
    panels: tuple[str, ...]
    keys: tuple[Key, ...] = ()
    note: str = ""


def charts(evaluated: Evaluated) -> list[Chart]:
    """All charts of a table."""
    found = []
    with matplotlib.rc_context(STYLE):
        for number, plot in enumerate(evaluated.plots):
            drawn = [bar_panel(p.entries, p.metric) if isinstance(p, Bars) else line_panel(p) for p in plot.panels]
            panels = tuple(own_ids(svg, number, place) for place, svg in enumerate(drawn))
            found.append(Chart(plot.title, panels, tuple(Key(*key) for key in plot.keys), plot.note))
    return found
