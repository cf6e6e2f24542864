"""Pictures of report A2: slices at three heights, whole slices stitched from predicted patches, training patches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from retable.data.arrays import IGNORE
from retable.data.formats.nifti import Volume
from retable.data.sets.brain import grid_corners, stitched
from retable.figures.saving import save
from retable.figures.segmentation import colours, sheet

HEIGHTS = {"top": 0.75, "middle": 0.5, "bottom": 0.25}  # shares of the slices that hold tissue
PATCHES = 6
_MARGIN = 5  # voxels around the tissue that are shown
_TILE = 1.7  # inches across


def draw(data: Any, folder: Path, predict: Callable[[np.ndarray], np.ndarray], title: str) -> None:
    """slices.png of all volumes, stitched.png of the first of either split, patches.png of training patches.

    Args:
        data: BrainData, prepared; predict: float32 patches (N, 1, S, S) -> uint8 labels (N, S, S).
    """
    overview, whole = [], []
    for number in data.train + data.val:
        volume = data.volume(number)
        truth = np.where(volume.labels_XYZ == 0, IGNORE, volume.labels_XYZ - 1).astype(np.uint8)
        name = f"{volume.name} {'train' if number in data.train else 'val'}"
        heights = at_heights(volume.labels_XYZ)
        shown = [picture for z in heights.values() for picture in _pictures(volume, (truth,), z, data.classes)]
        overview.append((f"{name}\nz {', '.join(map(str, heights.values()))}", volume, shown))
        if number in (data.train[0], data.val[0]):
            corners, _ = grid_corners(volume.labels_XYZ, data.patch_size)
            found = predict(data.patches(volume, corners).images)
            predicted = stitched(found, corners, truth.shape, IGNORE)
            predicted[truth == IGNORE] = IGNORE  # background is no class, and has no prediction
            whole += [
                (f"{name}\n{height}, z {z}", volume, _pictures(volume, (predicted, truth), z, data.classes))
                for height, z in heights.items()
            ]
    headings = [f"{height}: {what}" for height in HEIGHTS for what in ("input", "truth")]
    _sheet(overview, headings, data.classes, folder / "slices.png", title)
    _sheet(whole, ("input", "prediction", "truth"), data.classes, folder / "stitched.png", title)
    _patches(data, folder / "patches.png", predict, title)


def at_heights(labels_XYZ: np.ndarray) -> dict[str, int]:
    """The slices at HEIGHTS of the part of a volume that holds tissue."""
    filled = np.flatnonzero((labels_XYZ > 0).any((0, 1)))
    return {name: int(filled[round(share * (len(filled) - 1))]) for name, share in HEIGHTS.items()}


def _pictures(volume: Volume, maps: Sequence[np.ndarray], z: int, classes: Sequence[str]) -> list[np.ndarray]:
    """A slice and its label maps, cut to where the volume holds tissue in any slice, so that all are at one scale."""
    tissue = (volume.labels_XYZ > 0).any(2)
    rows, columns = (np.flatnonzero(tissue.any(axis)) for axis in (1, 0))
    box = tuple(slice(max(0, side[0] - _MARGIN), side[-1] + _MARGIN + 1) for side in (rows, columns))
    # The first axis to the right and the second upwards: anterior is on top in IBSR's volumes.
    image, *labels = (values[(*box, z)].T[::-1] for values in (volume.image_XYZ, *maps))
    return [image, *(colours(each, classes) for each in labels)]


def _sheet(
    rows: Sequence[tuple[str, Volume, Sequence[np.ndarray]]],
    headings: Sequence[str],
    classes: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """A row for each (name, volume, pictures); voxels keep their proportions."""
    aspects = [volume.zooms[1] / volume.zooms[0] for _, volume, _ in rows]
    heights = [shown[0].shape[0] / shown[0].shape[1] * each for (*_, shown), each in zip(rows, aspects, strict=True)]
    size = (_TILE * len(headings) + 0.5, _TILE * sum(heights) + 0.05 * len(rows) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(headings), squeeze=False, height_ratios=heights)
    for (name, _, pictures), aspect, line in zip(rows, aspects, axes, strict=True):
        for axis, shown in zip(line, pictures, strict=True):
            axis.imshow(shown, cmap="gray" if shown.ndim == 2 else None, aspect=aspect, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=7)
    for axis, heading in zip(axes[0], headings, strict=True):
        axis.set_title(heading, fontsize=8)
    names = ("blue", "orange", "green")
    legend = ", ".join(f"{colour} {name}" for colour, name in zip(names, classes, strict=True))
    figure.suptitle(title, fontsize=9)
    figure.supxlabel(f"{legend}, grey background", fontsize=7)
    save(figure, path)


def _patches(data: Any, path: Path, predict: Callable[[np.ndarray], np.ndarray], title: str) -> None:
    train = data.splits.train
    part = train.take(np.unique(np.linspace(0, len(train) - 1, PATCHES).round().astype(int)))
    names = [name.replace(" ", "\n", 1) for name in part.names]
    text = f"{title} · training patches"
    sheet(part.images, part.targets, [predict(part.images)], names, [""] * len(names), data.classes, path, text)
