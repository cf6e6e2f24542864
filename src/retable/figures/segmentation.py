"""Pictures of a segmentation run: some predictions, and the best and the worst images by dice."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from retable.data.arrays import IGNORE
from retable.figures.saving import save
from retable.metrics import segmentation as metrics

TRUE, PREDICTED = "#009E73", "#D55E00"  # outlines; the colour-blind see them differ too (Okabe and Ito)
_IGNORED = (0.55, 0.55, 0.55)
_TILE = 128  # pixels of a tile at least; smaller images are enlarged by a whole number


def draw(task: Any, data: Any, folder: Path, title: str) -> None:
    """samples.png (five images) and best_worst.png (three each, by dice) of the test split, else of validation."""
    split = "test" if data.splits.test is not None else "val"
    images = data.splits.by_name[split]
    split = split if task.has_seen(split) else "val"
    seen = len(task.matrices(split))
    shown = np.unique(np.linspace(0, seen - 1, 5).round().astype(int))
    _sheet(task, data, images, shown, [""] * len(shown), folder / "samples.png", f"{title} · {split}")
    order, scores = ranked(task.matrices(split), task.scored)
    if len(order) >= 2:
        each = min(3, len(order) // 2)
        chosen = np.concatenate([order[:each], order[-each:]])
        labels = [f"dice {scores[i]:.3f}" for i in chosen]
        text = f"{title} · {split}: the {each} best and the {each} worst of {len(order)} by dice"
        _sheet(task, data, images, chosen, labels, folder / "best_worst.png", text)


def ranked(matrices_NCC: torch.Tensor, scored: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the images from the best dice to the worst, and each image's dice, the mean over `scored` classes.

    An image in which no such class is present or predicted has no dice and is left out of the order.
    """
    scores = metrics.image_dice(matrices_NCC)[:, list(scored)].nanmean(1).numpy()
    order = np.argsort(-scores, kind="stable")
    return order[~np.isnan(scores[order])], scores


def _sheet(task: Any, data: Any, split: Any, indices: np.ndarray, notes: Sequence[str], path: Path, title: str) -> None:
    images = np.array(split.images[indices])
    truth = task.labels(torch.from_numpy(np.array(split.targets[indices])).long()).numpy()
    predicted = task.predict(data.normalise(torch.from_numpy(images))).numpy()
    names = [split.names[index] for index in indices]
    sheet(images, truth, [predicted], names, notes, task.classes, path, title)


def sheet(
    images_NCHW: np.ndarray,
    truth_NHW: np.ndarray,
    predictions: Sequence[np.ndarray],
    names: Sequence[str],
    notes: Sequence[str],
    classes: Sequence[str],
    path: Path,
    title: str,
    headings: Sequence[str] = ("prediction",),
) -> None:
    """A row an image: input, truth, each prediction, and the input with the outlines of truth and first prediction.

    Args:
        images_NCHW: as stored: uint8, or float32 of any range.
        truth_NHW: labels, IGNORE shown in grey; predictions: labels, an array (N, H, W) for each heading.
        names, notes: what stands beside each row.
    """
    count, _, height, width = images_NCHW.shape
    factor = max(1, -(-_TILE // max(height, width)))
    columns = ["input", "truth", *headings, "outlines"]
    gap = 6
    tile_h, tile_w = height * factor, width * factor
    canvas = np.ones((count * (tile_h + gap), len(columns) * (tile_w + gap) - gap, 3))
    figure_w = 1.7 * len(columns) * max(1.0, width / height) ** 0.5 + 1.2
    figure_h = (figure_w - 0.8) * canvas.shape[0] / canvas.shape[1] + 0.8
    figure = Figure(figsize=(figure_w, figure_h), layout="constrained")
    axis = figure.add_subplot()
    for row in range(count):
        top = row * (tile_h + gap)
        plain = picture(images_NCHW[row])
        tiles = [plain, colours(truth_NHW[row], classes), *(colours(p[row], classes) for p in predictions), plain]
        for column, tile in enumerate(tiles):
            left = column * (tile_w + gap)
            big = tile.repeat(factor, 0).repeat(factor, 1)
            canvas[top : top + tile_h, left : left + tile_w] = big
        left = (len(columns) - 1) * (tile_w + gap)
        extent = (
            left - 0.5 + np.arange(width) * factor + factor / 2,
            top - 0.5 + np.arange(height) * factor + factor / 2,
        )
        for labels, colour in ((truth_NHW[row], TRUE), (predictions[0][row], PREDICTED)):
            for label in range(1 if len(classes) == 2 else 0, len(classes)):
                region = (labels == label).astype(float)
                if 0 < region.sum() < region.size:
                    axis.contour(*extent, region, levels=[0.5], colors=colour, linewidths=0.9)
        note = f"{names[row]}\n{notes[row]}" if notes[row] else names[row]
        axis.text(-gap, top + tile_h / 2, note, ha="right", va="center", fontsize=7)
    axis.imshow(canvas)
    for column, heading in enumerate(columns):
        axis.text(column * (tile_w + gap) + tile_w / 2, -gap, heading, ha="center", fontsize=8)
    axis.set_xlim(-0.45 * tile_w, canvas.shape[1] - 0.5)  # room for the names on the left
    axis.set_ylim(canvas.shape[0] - gap - 0.5, -0.5)
    axis.axis("off")
    figure.suptitle("\n".join(wrap(title, int(13 * figure_w))), fontsize=9)  # a run's name may be long
    figure.supxlabel(_legend(classes), fontsize=7)
    save(figure, path)


def colours(labels_HW: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """RGB in [0, 1], shape (H, W, 3): black and white for two classes, a colour a class for more; IGNORE is grey."""
    palette = np.array(_palette(len(classes)))
    shown = palette[np.where(labels_HW == IGNORE, 0, labels_HW)]
    shown[labels_HW == IGNORE] = _IGNORED
    return shown


def indexed(labels_HW: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """A mask as a picture with a palette: its pixels are labels, its colours those of `colours`."""
    picture = Image.fromarray(labels_HW)
    picture.putpalette([round(255 * value) for colour in _palette(len(classes)) for value in colour])
    return picture


def overlay(image_CHW: np.ndarray, labels_HW: np.ndarray, classes: Sequence[str], shown: Sequence[int]) -> Image.Image:
    """An image with the labels in `shown` laid over it, half transparent."""
    values, two = picture(image_CHW), len(classes) == 2
    palette = np.array([to_rgb(PREDICTED)] * 2 if two else _palette(len(classes)))
    over = np.isin(labels_HW, list(shown))
    values[over] = (values[over] + palette[labels_HW[over]]) / 2
    return Image.fromarray((255 * values).round().astype(np.uint8))


def _palette(count: int) -> list[tuple[float, ...]]:
    if count == 2:
        return [(0, 0, 0), (1, 1, 1)]
    cycle = colormaps["tab10" if count <= 10 else "tab20"].colors
    return [cycle[index % len(cycle)] for index in range(count)]


def _legend(classes: Sequence[str]) -> str:
    lines = "outlines: truth green, prediction orange"
    if len(classes) == 2:
        return f"white: {classes[1]}; {lines}"
    names = ("blue", "orange", "green", "red", "purple", "brown", "pink", "grey", "olive", "cyan")
    if len(classes) <= len(names):
        shown = ", ".join(f"{names[index]} {name}" for index, name in enumerate(classes))
        return f"{shown}; not counted: dark grey; {lines}"
    return lines


def picture(image_CHW: np.ndarray) -> np.ndarray:
    """RGB in [0, 1], shape (H, W, 3); float images from their smallest to their largest value."""
    if image_CHW.dtype == np.uint8:
        values = image_CHW.astype(float) / 255
    else:
        low, high = float(image_CHW.min()), float(image_CHW.max())
        values = (image_CHW - low) / ((high - low) or 1.0)
    rgb = values.transpose(1, 2, 0)
    return rgb.repeat(3, 2) if rgb.shape[2] == 1 else rgb[..., :3]
