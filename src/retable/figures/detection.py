"""Figures of a run of detection: classes, image features, boxes, confusions, average precision."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from retable.figures.classification import TRAIN, VAL, confusion_matrix
from retable.figures.saving import save
from retable.figures.segmentation import PREDICTED, TRUE

MOST_POINTS = 5000  # images in the plane of t-SNE; of larger sets evenly spaced ones
BEFORE, AFTER = "#999999", TRAIN


def draw(task: Any, data: Any, folder: Path, title: str, seed: int) -> None:
    """Every figure of a finished run."""
    classes, before = task.classes, task.before
    class_distribution(data.splits.by_name, classes, folder / "class_distribution.png", title)
    features(task, data, folder / "features.png", title, seed)
    columns = (*classes, "background")
    for split in filter(task.has_seen, ("val", "test")):
        matrix = task.results(split)["confusion"].tolist()
        confusion_matrix(matrix, columns, folder / f"confusion_{split}.png", f"{title} · {split}")
    bars = {"after training": task.results("val")["ap50"]}
    if before is not None:
        text = f"{title} · val, before training"
        confusion_matrix(before["confusion"].tolist(), columns, folder / "confusion_before.png", text)
        bars = {"before training": before["ap50"]} | bars
    average_precision(bars, classes, folder / "average_precision.png", f"{title} · val")
    before_and_after(task, data.splits.val.images, folder / "boxes.png", f"{title} · val")


def class_distribution(splits: dict[str, Any], classes: Sequence[str], path: Path, title: str) -> None:
    """Number of boxes of each class and split."""
    bars = {}
    for (name, images), colour in zip(splits.items(), (TRAIN, VAL, TRUE), strict=False):
        labels = images.targets[..., 4]
        bars[name] = np.bincount(labels[labels >= 0].astype(int), minlength=len(classes)), None, colour
    _by_class(bars, classes, "boxes", path, title)


def average_precision(bars: dict[str, Sequence[float]], classes: Sequence[str], path: Path, title: str) -> None:
    """Average precision at IoU 0.5 of each class, by heading; classes without objects have no bar."""
    drawn = {}
    for number, (heading, values) in enumerate(bars.items()):
        texts = ["" if math.isnan(value) else f"{value:.2f}" for value in values]
        drawn[heading] = np.nan_to_num(values), texts, (BEFORE, AFTER)[number - len(bars)]
    _by_class(drawn, classes, "AP at IoU 0.5", path, title, 1.08)


def features(task: Any, data: Any, path: Path, title: str, seed: int) -> None:
    """The images in the plane, coloured by the class of the largest box: before training, else as they are now."""
    before = (task.before or {}).get("plane")
    found = plane(task, data, seed) if before is None else before
    if not found:
        return
    points, labels = found["points"].numpy(), found["labels"].numpy()
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.add_subplot()
    colours = colormaps["tab10" if len(task.classes) <= 10 else "tab20"].colors
    for label, name in enumerate(task.classes):
        own = labels == label
        if own.any():
            axis.scatter(*points[own].T, s=14, color=colours[label % len(colours)], label=name)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    when = "after training" if before is None else "before training"
    text = f"{title} · the whole set, {len(points):,} images, {when}:\nt-SNE of image features, by the largest box"
    figure.suptitle(text, fontsize=9)
    save(figure, path)


def plane(task: Any, data: Any, seed: int) -> dict[str, torch.Tensor]:
    """t-SNE (van der Maaten and Hinton 2008) of the features of all images with a box, under the model as it is.

    Returns:
        points (N, 2) and labels (N,), the class of each image's largest box; {} for fewer than four images.
    """
    from sklearn.manifold import TSNE

    sets = data.splits.distinct.values()
    found_labels = [(split, index, int(label)) for split in sets for index, label in enumerate(largest(split.targets))]
    having = [one for one in found_labels if one[2] >= 0]
    if len(having) < 4:
        return {}
    chosen = [having[i] for i in np.unique(np.linspace(0, len(having) - 1, MOST_POINTS).round().astype(int))]
    found = []
    training = task.training
    task.eval()
    with torch.inference_mode():
        for start in range(0, len(chosen), 8):
            images = np.stack([split.images[index] for split, index, _ in chosen[start : start + 8]])
            found.append(task.model.features(data.normalise(torch.from_numpy(images).to(task.device))).float().cpu())
    task.train(training)
    values = torch.cat(found).numpy()
    perplexity = min(30.0, (len(values) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
    return {"points": torch.from_numpy(points), "labels": torch.tensor([label for *_, label in chosen])}


def largest(targets_NM5: np.ndarray) -> np.ndarray:
    """The label of each image's largest box, -1 where there is none."""
    areas = (targets_NM5[..., 2] - targets_NM5[..., 0]) * (targets_NM5[..., 3] - targets_NM5[..., 1])
    indices = np.where(targets_NM5[..., 4] >= 0, areas, -1).argmax(1)
    return np.take_along_axis(targets_NM5[..., 4], indices[:, None], 1)[:, 0].astype(int)


def before_and_after(task: Any, images_NCHW: np.ndarray, path: Path, title: str) -> None:
    """Three images a class, a row a class: true boxes, and those detected before and after training."""
    shown = task.shown("val")
    if not shown:
        return
    confident, objects = task.confident("val"), task.objects("val")
    kept = (task.before or {}).get("detections")
    states = ([] if kept is None else [("before", kept)]) + [("after", dict(enumerate(confident)))]
    labels = sorted({label for label, _ in shown})
    columns = max(sum(own == label for own, _ in shown) for label in labels) * len(states)
    height, width = images_NCHW.shape[2:]
    tile = 2.0
    size = (tile * columns, tile * height / width * len(labels) + 0.16 * len(labels) + 0.6)
    figure = Figure(figsize=size)
    grid = figure.subplots(len(labels), columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for row, label in enumerate(labels):
        indices = [index for own, index in shown if own == label]
        for number, index in enumerate(indices):
            for offset, (state, detections) in enumerate(states):
                axis = grid[row, number * len(states) + offset]
                found = detections.get(index, torch.zeros(0, 6))
                picture(axis, images_NCHW[index], objects[index], found, task.classes)
                text = f"{task.classes[label]}, {state}" if number == 0 else state
                axis.set_title(text, fontsize=6.5, pad=2)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.55 / size[1], 0.03, 0.14)
    text = f"{title}: true boxes green, detected ones orange with their scores"
    figure.suptitle(text, fontsize=8, y=1 - 0.12 / size[1])
    save(figure, path)


def picture(
    axis: Any,
    image_CHW: np.ndarray,
    objects: torch.Tensor,
    detections: torch.Tensor,
    classes: Sequence[str],
    text_size: float = 5.0,
) -> None:
    """An image, uint8 (3, H, W), with objects (m, 5) and detections (n, 6)."""
    axis.imshow(image_CHW.transpose(1, 2, 0))
    for rows, colour in ((objects, TRUE), (detections, PREDICTED)):
        for x1, y1, x2, y2, label, *score in rows.tolist():
            axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, color=colour, lw=1))
            if score:
                text = f"{classes[int(label)]} {score[0]:.2f}"
                axis.text(
                    x1, y1, text, fontsize=text_size, color="white", va="bottom", backgroundcolor=colour
                ).set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85})
    axis.set_xlim(-0.5, image_CHW.shape[2] - 0.5)
    axis.set_ylim(image_CHW.shape[1] - 0.5, -0.5)


def draw_one(image_CHW: np.ndarray, detections: torch.Tensor, classes: Sequence[str], path: Path) -> None:
    """Write an image, uint8 (3, H, W), with detections (n, 6) as a PNG of seven inches in width."""
    height, width = image_CHW.shape[1:]
    figure = Figure(figsize=(7.0, 7.0 * height / width))
    picture(figure.add_axes((0, 0, 1, 1)), image_CHW, torch.zeros(0, 5), detections, classes, 8.0)
    figure.axes[0].axis("off")
    save(figure, path)


def _by_class(
    bars: dict[str, tuple[Any, Any, str]], classes: Sequence[str], name: str, path: Path, title: str, top: float = 0
) -> None:
    """Bars of several kinds for each class. Args: bars: by kind its heights, the texts on them and its colour."""
    figure = Figure(figsize=(max(4.5, 0.8 * len(classes) + 1), 3.2), layout="constrained")
    axis = figure.add_subplot()
    width = 0.8 / len(bars)
    for number, (label, (heights, texts, colour)) in enumerate(bars.items()):
        indices = np.arange(len(classes)) + (number - (len(bars) - 1) / 2) * width
        axis.bar_label(axis.bar(indices, heights, width, label=label, color=colour), texts, fontsize=7)
    axis.set_xticks(range(len(classes)), classes, rotation=30, ha="right", fontsize=8)
    axis.set_ylabel(name)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    if top:
        axis.set_ylim(0, top)
    figure.suptitle(title, fontsize=10)
    save(figure, path)
