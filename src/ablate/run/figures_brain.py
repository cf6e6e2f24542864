"""Pictures of report A2: slices at three heights, whole slices stitched from predicted patches, training patches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ablate.data.arrays import IGNORE
from ablate.data.patches import balanced_places, grid_places, stitched
from ablate.run.figures import save
from ablate.run.figures_masks import colours, sheet

HEIGHTS = {"top": 0.75, "middle": 0.5, "bottom": 0.25}  # shares of the slices that hold tissue
PATCHES = 6


def draw(data: Any, folder: Path, predict: Callable[[np.ndarray], np.ndarray], title: str) -> None:
    """slices.png of all volumes, stitched.png and patches.png of the first training and the first validation volume.

    Args:
        data: BrainData; predict: float32 patches (N, 1, S, S) -> uint8 labels (N, S, S).
    """
    rows, whole = [], []
    for number in data.train + data.val:
        volume = data.volume(number)
        truth = np.where(volume.labels_XYZ == 0, IGNORE, volume.labels_XYZ - 1).astype(np.uint8)
        part = "train" if number in data.train else "val"
        heights = at_heights(volume.labels_XYZ)
        rows += [(f"{volume.name} {part}\n{name}, z {z}", volume, (truth,), z) for name, z in heights.items()]
        if number in (data.train[0], data.val[0]):
            places, _ = grid_places(volume.labels_XYZ, data.patch_size)
            found = predict(data.patches(volume, places).images)
            predicted = stitched(found, places, truth.shape, IGNORE)
            predicted[truth == IGNORE] = IGNORE  # background is no class: nothing is said of it
            whole += [(f"{volume.name} {part}\n{n}, z {z}", volume, (predicted, truth), z) for n, z in heights.items()]
    _slices(rows, ("input", "truth"), data.classes, folder / "slices.png", title)
    _slices(whole, ("input", "prediction", "truth"), data.classes, folder / "stitched.png", title)
    _patches(data, folder / "patches.png", predict, title)


def at_heights(labels_XYZ: np.ndarray) -> dict[str, int]:
    """The slices at HEIGHTS of the part of a volume that holds tissue."""
    filled = np.flatnonzero((labels_XYZ > 0).any((0, 1)))
    return {name: int(filled[round(share * (len(filled) - 1))]) for name, share in HEIGHTS.items()}


def _slices(
    rows: Sequence[tuple[str, Any, tuple[np.ndarray, ...], int]],
    headings: Sequence[str],
    classes: Sequence[str],
    path: Path,
    title: str,
) -> None:
    figure = Figure(figsize=(2.3 * len(headings) + 1, 1.95 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(headings), squeeze=False)
    for (name, volume, maps, z), line in zip(rows, axes, strict=True):
        aspect = volume.zooms[1] / volume.zooms[0]
        # The first axis to the right and the second upwards: anterior is on top in IBSR's volumes.
        pictures = [volume.image_XYZ[:, :, z].T[::-1], *(colours(m[:, :, z].T[::-1], classes) for m in maps)]
        for column, (axis, picture) in enumerate(zip(line, pictures, strict=True)):
            axis.imshow(picture, cmap="gray" if picture.ndim == 2 else None, aspect=aspect, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if column == 0:
                axis.set_ylabel(name, fontsize=7)
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading, fontsize=8)
    names = ("blue", "orange", "green")
    figure.suptitle(title, fontsize=9)
    figure.supxlabel(
        ", ".join(f"{n} {c}" for n, c in zip(names, classes, strict=True)) + ", grey background", fontsize=7
    )
    save(figure, path)


def _patches(data: Any, path: Path, predict: Callable[[np.ndarray], np.ndarray], title: str) -> None:
    volume = data.volume(data.train[0])
    places = balanced_places(volume.labels_XYZ, data.patch_size, data.stride, data.min_pixels)
    if not len(places):
        return
    places = places[np.linspace(0, len(places) - 1, min(PATCHES, len(places))).round().astype(int)]
    part = data.patches(volume, places)
    names = [f"{volume.name}\nz {z}, x {x}, y {y}" for z, x, y in places]
    text = f"{title} · training patches"
    sheet(part.images, part.targets, [predict(part.images)], names, [""] * len(names), data.classes, path, text)
