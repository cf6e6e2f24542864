"""The figures of report D2: the top images with the field outlined, the averaged maps, each image's discrepancy map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from scipy.ndimage import gaussian_filter

from retable.figures.saving import render
from retable.receptive.empirical import EFFECTIVE_LEVEL, LEVEL, Average, Top
from retable.receptive.segments import Remaining
from retable.receptive.theoretical import Span

# From the palette of Okabe and Ito: visible on dark and on bright images, also to the colour-blind.
_EMPIRICAL, _THEORETICAL = "#f0e442", "#56b4e9"
_NO_DATA = "#bbbbbb"
DPI = 150
_SIDE = 2.3  # width of an image in inches


def top_images(
    path: Path, title: str, found: Sequence[Top], maps: Sequence[np.ndarray], spans: Sequence[tuple[Span, Span]]
) -> None:
    """Plot the images that activate a unit most, with both fields outlined.

    Args:
        maps: drop in activation per pixel (H, W), of each image.
        spans: rows and columns of the theoretical field within each image.
    """
    figure, axes = _grid(len(found), title, legend=True)
    for axis, top, values, ((first, last), (left, right)) in zip(axes, found, maps, spans, strict=False):
        _photograph(axis, top.pixels)
        box = Rectangle((left - 0.5, first - 0.5), right - left + 1, last - first + 1)
        box.set(fill=False, edgecolor=_THEORETICAL, linestyle="dashed", linewidth=1.6)
        axis.add_patch(box)
        _outline(axis, values, LEVEL)
        axis.set_title(f"{_short(top.name)}\nactivation {top.activation:.3g}", fontsize=7)
    handles = [
        Line2D([], [], color=_THEORETICAL, linestyle="dashed", label="theoretical field"),
        Line2D([], [], color=_EMPIRICAL, label=f"drop above {LEVEL:.0%} of the image's largest"),
    ]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    legend.get_frame().set(facecolor="#555555", edgecolor="none", alpha=1)  # on which yellow can be seen
    for text in legend.get_texts():
        text.set_color("white")
    render(figure, path, DPI)


def discrepancy_maps(path: Path, title: str, found: Sequence[Top], maps: Sequence[np.ndarray]) -> None:
    """Plot the discrepancy map of each image as a fraction of its activation, on one colour scale."""
    figure, axes = _grid(len(found), title, extra=0.9)
    drops = [
        values / abs(top.activation) if top.activation else values for top, values in zip(found, maps, strict=True)
    ]
    limit = max(max(float(np.nanmax(np.abs(drop))) for drop in drops), 1e-6)
    drawn = None
    for axis, top, drop in zip(axes, found, drops, strict=False):
        drawn = axis.imshow(drop, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{_short(top.name)}\nlargest drop {np.nanmax(drop):.0%}", fontsize=7)
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.8, aspect=30)
    bar.set_label("drop in activation / activation", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    render(figure, path, DPI)


def averages(
    path: Path, title: str, empirical: Average, effective: Average, size: tuple[int | None, int | None]
) -> None:
    """Plot the averaged discrepancy map beside the averaged gradient, centred on the theoretical field.

    Args:
        empirical, effective: maps of one shape and origin.
        size: rows and columns of the theoretical field; None: all of the image's.
    """
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    drops, slopes = figure.subplots(1, 2)
    limit = max(float(np.nanmax(np.abs(empirical.values))), 1e-12)
    relative = effective.values / max(float(np.nanmax(effective.values)), 1e-30)
    panels = (
        (drops, empirical, empirical.values, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}, LEVEL, "empirical"),
        # The root shows what is faint: gradients fall off as a Gaussian does.
        (slopes, effective, relative**0.5, {"cmap": "magma", "vmin": 0, "vmax": 1}, EFFECTIVE_LEVEL**0.5, "effective"),
    )
    labels = {"empirical": "mean drop in activation", "effective": "root of (mean |gradient| / its largest)"}
    parts = {"empirical": f"{LEVEL:.0%}", "effective": f"{EFFECTIVE_LEVEL:.2%}"}
    for axis, average, values, look, level, name in panels:
        row, column = average.origin
        edges = (-column - 0.5, values.shape[1] - column - 0.5, values.shape[0] - row - 0.5, -row - 0.5)
        drawn = axis.imshow(values, extent=edges, **look)
        if name == "empirical":
            _outline(axis, values, level, edges, "#1a1a1a")
        else:  # smoothed, or single pixels would be outlined
            _outline(axis, gaussian_filter(np.nan_to_num(relative), 2) ** 0.5, level, edges)
        if None not in size:
            box = Rectangle((-size[1] / 2, -size[0] / 2), size[1], size[0])
            box.set(fill=False, edgecolor="#0072b2" if name == "empirical" else _THEORETICAL, linestyle="dashed")
            box.set_linewidth(1.6)
            axis.add_patch(box)
        axis.set(xlim=_limits(edges[0], edges[1], size[1]), ylim=_limits(edges[3], edges[2], size[0])[::-1])
        axis.set_facecolor(_NO_DATA)
        axis.set_title(f"{name}: {labels[name]}\noutlined above {parts[name]} of the largest", fontsize=8)
        axis.set_xlabel("pixels from the centre of the theoretical field", fontsize=8)
        axis.tick_params(labelsize=7)
        figure.colorbar(drawn, ax=axis, shrink=0.85).ax.tick_params(labelsize=7)
    handles: list[Artist] = [Patch(color=_NO_DATA, label="outside of most images")]
    if None not in size:
        handles.insert(0, Line2D([], [], color=_THEORETICAL, linestyle="dashed", label="theoretical field"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    render(figure, path, DPI)


def remaining(path: Path, title: str, found: Sequence[Top], left: Sequence[Remaining], names: Sequence[str]) -> None:
    """Plot what is left of each image when segments are removed until its class would flip.

    Args: names: class names by label.
    """
    from skimage.segmentation import mark_boundaries

    figure, axes = _grid(2 * len(found), title, columns=min(2 * len(found), 4))
    for index, (top, rest) in enumerate(zip(found, left, strict=True)):
        image = np.broadcast_to(top.pixels, (3, *top.pixels.shape[1:])).transpose(1, 2, 0) / 255
        axes[2 * index].imshow(mark_boundaries(image, rest.segments, color=(0.94, 0.89, 0.26)))
        axes[2 * index].set_title(f"{_short(top.name)}\n{_short(names[rest.label])} {rest.scores[0]:.3g}", fontsize=7)
        axes[2 * index + 1].imshow(np.where(rest.kept[..., None], image, 0.5))
        ends = "flips no more" if rest.flipped is None else f"one segment less: {_short(names[rest.flipped])}"
        segments = len(rest.scores) - 1
        kept = f"{rest.segments.max() + 1 - segments} segments left, {rest.scores[-1]:.3g}"
        axes[2 * index + 1].set_title(f"{kept}\n{ends}", fontsize=7)
    render(figure, path, DPI)


def _grid(
    count: int, title: str, columns: int | None = None, legend: bool = False, extra: float = 0.0
) -> tuple[Figure, Any]:
    """A figure with axes for images, at most 5 in a row; `extra` inches are added to its width."""
    rows = -(-count // (columns or 5))
    columns = columns or -(-count // rows)
    height = rows * (_SIDE + 0.25) + 0.3 + (0.3 if legend else 0)
    figure = Figure(figsize=(max(columns * _SIDE, 4.2) + extra, height), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes


def _photograph(axis: Axes, pixels: np.ndarray) -> None:
    axis.imshow(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))


def _outline(axis: Axes, values: np.ndarray, level: float, edges: Any = None, colour: str = _EMPIRICAL) -> None:
    """Outline where a map exceeds `level` times its maximum."""
    largest = np.nanmax(values, initial=0.0)
    if largest > 0:
        shown = np.ma.masked_invalid(np.pad(values, 1, constant_values=0))  # closes lines at the image's border
        height, width = values.shape
        left, right, bottom, top = edges or (-0.5, width - 0.5, height - 0.5, -0.5)
        columns = np.r_[left, np.arange(width) + left + 0.5, right]
        rows = np.r_[top, np.arange(height) + top + 0.5, bottom]
        axis.contour(columns, rows, shown, [level * largest], colors=colour, linewidths=1.3)


def _limits(low: float, high: float, size: int | None) -> tuple[float, float]:
    """The theoretical field with a margin, or all of the map if the field is the whole image."""
    if size is None:
        return low, high
    return -0.58 * size, 0.58 * size


def _short(name: str, length: int = 24) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
