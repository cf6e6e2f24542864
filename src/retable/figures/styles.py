"""One image of report E with its mask in each of the three styles that E.3 compares."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from retable.figures.saving import save
from retable.figures.segmentation import picture

NAMES = {"boundary": "boundary line on white", "grey": "filled on grey", "black": "filled on black"}


def draw(data: Any, path: Path, title: str) -> None:
    """The first training image, and what a network is trained on in each style, from 0 (black) to 1 (white).

    Args:
        data: VentricleData, prepared.
    """
    train = data.splits.train
    name = train.names[0]
    styles = data.in_styles(name)
    figure = Figure(figsize=(2.3 * (1 + len(NAMES)), 2.9), layout="constrained")
    axes = figure.subplots(1, 1 + len(NAMES))
    axes[0].imshow(picture(np.array(train.images[0])))
    axes[0].set_title(f"{name}, input", fontsize=8)
    for axis, (style, text) in zip(axes[1:], NAMES.items(), strict=True):
        axis.imshow(styles[style], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"{text}{' (this run)' if style == data.style else ''}", fontsize=8)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"{title} · one image in three mask styles", fontsize=9)
    save(figure, path)
