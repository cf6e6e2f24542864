"""Light drawings of a sweep as SVG that stands inside a page: curves, effects of a setting, parallel coordinates.

Written out by hand, because a sweep's page is made at the end of every sweep, where matplotlib's second and a half
would be most of it. Colours are the page's CSS variables; every mark has its value as a title, which a browser shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 24.0, 40.0
HUES = 8  # colours; a look's number is its colour and, beyond them, its dash
DASHES = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0))

Point = tuple[float, float, float, float]  # at, mean, lowest, highest


@dataclass(frozen=True)
class Key:
    """A legend's entry: the number of a line's look, and its text."""

    look: int
    label: str

    @property
    def colour(self) -> int:
        return self.look % HUES

    @property
    def dash(self) -> str:
        return dash(self.look)


@dataclass(frozen=True)
class Chart:
    """One chart. panels: SVG texts that stand side by side, or one below the other on a phone; note: a text below."""

    title: str
    panels: tuple[str, ...]
    keys: tuple[Key, ...] = ()
    note: str = ""


def dash(look: int) -> str:
    """The dashes of a line by its look, as SVG's stroke-dasharray; colours repeat after eight.

    >>> dash(0), dash(8)
    ('none', '5 2')
    """
    return " ".join(f"{length:g}" for length in DASHES[look // HUES % len(DASHES)]) or "none"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within a range, at most about so many.

    >>> ticks(0.0, 1.0), ticks(3.0, 47.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10, 20, 30, 40])
    """
    if not math.isfinite(high - low) or high <= low:
        return [low]
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """A range that holds all values with a margin."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(high) * 0.05 or 0.5
    return low - margin, high + margin


class _Axes:
    """A frame with its scales, to which marks are added."""

    def __init__(self, title: str, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.title, self.across, self.up = title, across, up
        self.parts = [f'<text x="{_LEFT:g}" y="15" class="plot-title">{escape(title)}</text>']

    def x(self, value: float) -> float:
        low, high = self.across
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1.0)

    def y(self, value: float) -> float:
        low, high = self.up
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / ((high - low) or 1.0)

    def grid(self, marks: Sequence[tuple[float, str]], label: str) -> None:
        """Lines and numbers on the left, the given marks below."""
        for value in ticks(*self.up):
            at = self.y(value)
            self.parts.append(
                f'<path d="M{_LEFT:g} {at:.1f}H{WIDTH - _RIGHT:g}" class="plot-grid"/>'
                f'<text x="{_LEFT - 6:g}" y="{at + 3.5:.1f}" text-anchor="end">{value:.6g}</text>'
            )
        room = max(4, int((WIDTH - _LEFT - _RIGHT) / max(1, len(marks)) / 6))
        for value, text in marks:
            self.parts.append(
                f'<text x="{self.x(value):.1f}" y="{HEIGHT - _BOTTOM + 16:g}" text-anchor="middle">'
                f"<title>{escape(text)}</title>{escape(shorten(text, room))}</text>"
            )
        self.parts.append(
            f'<text x="{(WIDTH + _LEFT) / 2:g}" y="{HEIGHT - 6:g}" text-anchor="middle">{escape(label)}</text>'
        )

    def svg(self, followed: bool = False) -> str:
        """The drawing. Args: followed: whether the page shows values under the pointer, for which it needs the axes."""
        frame = [_LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM, _TOP, *self.across, *self.up]
        data = f' data-frame="{" ".join(f"{value:.6g}" for value in frame)}"' if followed else ""
        return (
            f'<svg{data} viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" class="plot" aria-label="{escape(self.title)}">'
            + "".join(self.parts)
            + "</svg>"
        )


def curves(
    lines: Sequence[tuple[int, str, Sequence[Point]]], title: str, up: tuple[float, float], cut: Sequence[int] = ()
) -> str:
    """Lines over epochs with the band of their seeds.

    Args:
        lines: (look, label, points).
        up: the axis's range.
        cut: indices of the lines that are thin and end in a cross.
    """
    at = [point[0] for _, _, points in lines for point in points]
    axes = _Axes(title, (min(at), max(at)) if max(at) > min(at) else (min(at) - 1, max(at) + 1), up)
    axes.grid([(value, f"{value:g}") for value in ticks(min(at), max(at)) if value == int(value)], "epoch")
    for place, (look, label, points) in enumerate(lines):
        marks, ended = [], place in cut
        if any(high > low for _, _, low, high in points):
            above = [f"{axes.x(x):.1f} {axes.y(high):.1f}" for x, _, _, high in points]
            below = [f"{axes.x(x):.1f} {axes.y(low):.1f}" for x, _, low, _ in reversed(points)]
            marks.append(f'<path d="M{"L".join([*above, *below])}Z" class="plot-band"/>')
        path = "L".join(f"{axes.x(x):.1f} {axes.y(mean):.1f}" for x, mean, _, _ in points)
        kind = "plot-line plot-cut" if ended else "plot-line"
        marks.append(f'<path d="M{path}" class="{kind}" stroke-dasharray="{dash(look)}"/>')
        if ended:
            x, y = axes.x(points[-1][0]), axes.y(points[-1][1])
            marks.append(f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" class="plot-line plot-cut"/>')
        elif len(points) == 1:
            marks.append(f'<circle cx="{axes.x(points[0][0]):.1f}" cy="{axes.y(points[0][1]):.1f}" r="3"/>')
        axes.parts.append(
            f'<g class="line line-{look}" style="--own:var(--c{look % HUES})">'
            f"<title>{escape(label)}</title>{''.join(marks)}</g>"
        )
    return axes.svg(followed=True)


def effect(values: Sequence[tuple[str, Point]], setting: str, title: str, up: tuple[float, float]) -> str:
    """What a setting does: for each of its values the mean of all cells that have it, and the lowest and highest."""
    axes = _Axes(title, (-0.5, len(values) - 0.5), up)
    axes.grid([(place, text) for place, (text, _) in enumerate(values)], setting)
    path = "L".join(f"{axes.x(place):.1f} {axes.y(point[1]):.1f}" for place, (_, point) in enumerate(values))
    axes.parts.append(f'<g style="--own:var(--c0)"><path d="M{path}" class="plot-line"/>')
    for place, (text, (_, mean, low, high)) in enumerate(values):
        x = axes.x(place)
        axes.parts.append(
            f'<path d="M{x:.1f} {axes.y(low):.1f}V{axes.y(high):.1f}" class="plot-range"/>'
            f'<circle cx="{x:.1f}" cy="{axes.y(mean):.1f}" r="4"><title>{escape(setting)} {escape(text)}: {mean:.6g},'
            f" cells from {low:.6g} to {high:.6g}</title></circle>"
        )
    axes.parts.append("</g>")
    return axes.svg()


def parallel(
    names: Sequence[str], lines: Sequence[tuple[str, Sequence[float], float]], marks: Sequence[Sequence[str]]
) -> str:
    """Parallel coordinates: a line a cell through an axis a setting; the last axis is the value, which colours it.

    Args:
        names: of the axes.
        lines: (label, place on each axis from 0 to 1, share of the best from 0 to 1).
        marks: each axis's labels, evenly spaced from bottom to top.
    """
    width = max(WIDTH, 110.0 * len(names))
    across = [60 + place * (width - 120) / max(1, len(names) - 1) for place in range(len(names))]
    top, bottom = 34.0, HEIGHT - 16

    def y(share: float) -> float:
        return bottom - share * (bottom - top)

    parts = []
    for label, heights, share in lines:
        path = "L".join(f"{x:.1f} {y(height):.1f}" for x, height in zip(across, heights, strict=True))
        parts.append(
            f'<path d="M{path}" class="plot-parallel" style="--share:{100 * share:.0f}%">'
            f"<title>{escape(label)}</title></path>"
        )
    for x, name, texts in zip(across, names, marks, strict=True):
        parts.append(f'<path d="M{x:.1f} {top:g}V{bottom:g}" class="plot-axis"/>')
        head = escape(shorten(name, 16))
        parts.append(f'<text x="{x:.1f}" y="16" text-anchor="middle" class="plot-title">{head}</text>')
        for place, text in enumerate(texts):
            share = place / (len(texts) - 1) if len(texts) > 1 else 0.5
            parts.append(f'<text x="{x + 5:.1f}" y="{y(share) + 4:.1f}">{escape(shorten(text, 12))}</text>')
    return (
        f'<svg viewBox="0 0 {width:g} {HEIGHT:g}" role="img" class="plot" aria-label="parallel coordinates">'
        + "".join(parts)
        + "</svg>"
    )


def shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
