"""Examples of the flipped copies of report B2.3, with the outlines of their labels."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from retable.data.arrays import ImageSet
from retable.figures.saving import save
from retable.figures.segmentation import picture

SHOWN = 3


def draw(images: ImageSet, path: Path, title: str) -> None:
    """Some images and, beside each, those of its copies that are in the set ("<name> left-right", "<name> up-down")."""
    index = {name: number for number, name in enumerate(images.names)}
    copies = {name: [other for other in index if other.startswith(f"{name} ")] for name in index if " " not in name}
    whole = [name for name in copies if len(copies[name]) == max(map(len, copies.values()))][:SHOWN]
    rows = [[name, *copies[name]] for name in whole]
    figure = Figure(figsize=(2.2 * max(map(len, rows)), 2.4 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for names, line in zip(rows, axes, strict=True):
        for name, axis in zip(names, line, strict=True):
            axis.imshow(picture(np.array(images.images[index[name]])))
            axis.contour(images.targets[index[name]] == 1, levels=[0.5], colors="white", linewidths=0.9)
            axis.set_title(name, fontsize=8)
            axis.axis("off")
    figure.suptitle(f"{title} · training images and their copies; white: labels", fontsize=9)
    save(figure, path)
