"""Figures of one run, as PNG: curves, gradient norms, and a classifier's confusions, mistakes and samples.

Drawn from the history and from the counts of the last epoch, with matplotlib's object interface, which keeps no global
state and so is safe in a worker.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from retable.figures.saving import save

MOST_LAYERS = 16
MOST_PANELS, MOST_IN_A_ROW = 18, 6

TRAIN, VAL = "#0072B2", "#D55E00"  # the colour-blind see them differ too (Okabe and Ito)


def curves(rows: list[dict[str, Any]], path: Path, title: str, others: Sequence[str] = ()) -> None:
    """Every metric that has a train or a val column, an axis each, train and validation together.

    Args:
        rows: a history's.
        path: of the PNG; none is written where no metric is drawn.
        title: above the axes.
        others: columns that get an axis each besides.
    """
    keys = (key.split("/") for row in rows for key in row if key.startswith(("train/", "val/")) and key not in others)
    names = list(dict.fromkeys(parts[1] for parts in keys if len(parts) == 2))  # dice/<class> would fill the page
    panels = {name: [(f"{split}/{name}", split) for split in ("train", "val")] for name in names}
    panels |= {name: [(name, "")] for name in others}
    if not panels:
        return
    if len(panels) > MOST_PANELS:
        title += f" · {MOST_PANELS} of {len(panels)} metrics"
        panels = dict(itertools.islice(panels.items(), MOST_PANELS))
    columns = len(panels) if len(panels) <= MOST_IN_A_ROW else MOST_IN_A_ROW
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * lines), layout="constrained")
    for index, (name, drawn) in enumerate(panels.items()):
        axis = figure.add_subplot(lines, columns, index + 1)
        for column, split in drawn:
            keyed = ((row["epoch"], row.get(column)) for row in rows)
            points = [(epoch, value) for epoch, value in keyed if value is not None]
            if points:
                colour = VAL if split == "val" else TRAIN
                axis.plot(*zip(*points, strict=True), color=colour, label=split, marker="o" * (len(points) < 2))
        _label(axis, name.replace("_", " "))
        if name not in others:
            axis.legend(frameon=False)
    _entitle(figure, title)
    save(figure, path)


def gradient_norms(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Gradient norm of each layer per epoch, on a logarithmic scale."""
    names = [key for key in rows[-1] if key.startswith("grad_norm/")]
    if not names:  # nothing was trained
        return
    if len(names) > MOST_LAYERS:  # evenly from the first to the last: nobody distinguishes more lines than that
        title += f" · {MOST_LAYERS} of {len(names)} layers"
        names = [names[i * (len(names) - 1) // (MOST_LAYERS - 1)] for i in range(MOST_LAYERS)]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.add_subplot()
    for index, name in enumerate(names):
        values = [row.get(name, np.nan) for row in rows]
        label, style = name.removeprefix("grad_norm/"), "-" if index < 10 else "--"
        axis.plot([row["epoch"] for row in rows], values, style, label=label, marker="o" * (len(rows) < 2))
    if any(row.get(name, 0) > 0 for row in rows for name in names):
        axis.set_yscale("log")
    _label(axis, "gradient norm")
    axis.legend(frameon=False, fontsize=7)
    _entitle(figure, title)
    save(figure, path)


def _entitle(figure: Figure, title: str) -> None:
    """Set a title, in several lines: a run's name may be longer than its figure is wide."""
    figure.suptitle("\n".join(wrap(title, int(11 * figure.get_figwidth()))), fontsize=10)


def confusion_matrix(
    matrix_CC: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str, shares: bool = False
) -> None:
    """Counts by true and predicted class, or each count's share of its true class, which is the colour in any case."""
    counts = np.asarray(matrix_CC)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(3.6, 0.46 * len(classes) + 1.2)
    figure = Figure(figsize=(side + 0.4, side), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.5 else "black"
            text = f"{100 * share[row, column]:.1f} %" if shares else str(count)
            axis.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
    _entitle(figure, title)
    save(figure, path)


def misclassified(
    images_NCHW: np.ndarray,
    targets_N: np.ndarray,
    predictions_N: np.ndarray,
    classes: Sequence[str],
    path: Path,
    title: str,
    most: int = 50,
) -> None:
    """The first misclassified images with their true and predicted labels; uint8 images (N, C, H, W)."""
    wrong = np.flatnonzero(targets_N != predictions_N)
    shown = wrong[:most]
    columns = 10
    rows = max(1, -(-len(shown) // columns))
    # One axis with one picture: an axis an image would take a hundred times as long to lay out.
    gap = max(4, images_NCHW.shape[2] // 4)
    tiles = [images_NCHW[shown[row * columns : (row + 1) * columns]] for row in range(rows)]
    sheet, corners = _sheet(tiles, columns, gap)
    height = rows * 1.05 + 0.6
    figure = Figure(figsize=(columns * 1.05, height))
    axis = figure.add_axes((0.01, 0.01, 0.98, 1 - 0.4 / height))
    _show(axis, sheet)
    axis.axis("off")
    for place, (top, left) in zip(shown, (corner for line in corners for corner in line), strict=True):
        label = f"{classes[targets_N[place]]} → {classes[predictions_N[place]]}"
        axis.text(left + images_NCHW.shape[3] / 2, top - 0.5, label, ha="center", va="bottom", fontsize=6.5)
    axis.set_ylim(sheet.shape[0] - 0.5, -gap)
    axis.set_title(f"{title}: {len(wrong)} of {len(targets_N)} misclassified, true → predicted", fontsize=10)
    save(figure, path)


def class_samples(
    images_NCHW: np.ndarray, targets_N: np.ndarray, classes: Sequence[str], path: Path, seed: int, each: int = 10
) -> None:
    """Ten random images of each class, a row a class (a 10x10 sheet for ten classes)."""
    generator = np.random.default_rng(seed)
    chosen = [generator.permutation(np.flatnonzero(targets_N == label))[:each] for label in range(len(classes))]
    sheet, _ = _sheet([images_NCHW[indices] for indices in chosen], each, gap=2)
    figure = Figure(figsize=(6.2, 0.56 * len(classes) + 0.2), layout="constrained")
    axis = figure.add_subplot()
    _show(axis, sheet)
    pitch = images_NCHW.shape[2] + 2
    axis.set_yticks([(row + 0.5) * pitch for row in range(len(classes))], classes, fontsize=8)
    axis.set_xticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    save(figure, path)


def _sheet(rows: Sequence[np.ndarray], columns: int, gap: int) -> tuple[np.ndarray, list[list[tuple[int, int]]]]:
    """Rows of uint8 images (n, C, H, W) as one white picture (H', W', C), and each image's top left corner."""
    _, channels, height, width = rows[0].shape
    sheet = np.full((len(rows) * (height + gap), columns * (width + gap) - gap, channels), 255, np.uint8)
    corners = []
    for row, images in enumerate(rows):
        corners.append([(row * (height + gap), column * (width + gap)) for column in range(len(images))])
        for image, (top, left) in zip(images, corners[-1], strict=True):
            sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet, corners


def _show(axis: Any, sheet_HWC: np.ndarray) -> None:
    grey = sheet_HWC.shape[2] == 1
    axis.imshow(sheet_HWC[..., 0] if grey else sheet_HWC, cmap="gray" if grey else None, vmin=0, vmax=255)


def _label(axis: Any, name: str) -> None:
    axis.set_xlabel("epoch")
    axis.set_ylabel(name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
