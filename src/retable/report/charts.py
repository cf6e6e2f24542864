"""The charts of a table as SVG that stands inside a page: what `curves` has computed, drawn by `drawing`.

Legends are the page's own, so that 25 of them cost the drawing no room. The same runs give the same bytes.
"""

import matplotlib

from retable.report.curves import Bars
from retable.report.drawing import STYLE, bar_panel, line_panel, own_ids
from retable.report.evaluated import Evaluated
from retable.report.plots import Chart, Key


def charts(evaluated: Evaluated) -> list[Chart]:
    """All charts of a table."""
    found = []
    with matplotlib.rc_context(STYLE):
        for number, plot in enumerate(evaluated.plots):
            drawn = [bar_panel(p.entries, p.metric) if isinstance(p, Bars) else line_panel(p) for p in plot.panels]
            panels = tuple(own_ids(svg, number, place) for place, svg in enumerate(drawn))
            found.append(Chart(plot.title, panels, tuple(Key(*key) for key in plot.keys), plot.note))
    return found
