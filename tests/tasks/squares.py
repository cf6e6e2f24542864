"""Bright squares on dark 16x16 images: a segmentation set that learns in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from retable.data.arrays import IGNORE, ImageSet, Splits
from retable.data.module import ImageData


class Squares(ImageData):
    """24 images to train, 8 to validate, 8 to test; a square of side 4 to 8 in each, its corner pixel ignored.

    Args:
        levels: see `ImageData.levels`.
        **base: see ImageData; size, holdout, flips and test_parts, of the task whose place it takes, are unused.
    """

    folder = "squares"

    def __init__(
        self,
        levels: list[float] | None = None,
        test_is_val: bool = False,
        size: int = 16,
        holdout: int = 0,
        flips: bool = False,
        test_parts: list[str] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.levels, self.test_is_val = levels, test_is_val

    def files(self) -> list[Path]:
        return self.expect([self.location / "seed.txt"])

    def make_sample(self, folder: Path) -> None:
        (folder / "seed.txt").write_text("7")

    def read(self, files: list[Path]) -> Splits:
        generator = np.random.default_rng(7)
        images = generator.integers(0, 60, (40, 3, 16, 16)).astype(np.uint8)
        masks = np.zeros((40, 16, 16), np.uint8)
        for image, mask in zip(images, masks, strict=True):
            side, (top, left) = generator.integers(4, 9), generator.integers(0, 8, 2)
            image[:, top : top + side, left : left + side] += 150
            mask[top : top + side, left : left + side] = 1
            mask[0, 0] = IGNORE
        names = np.array([f"square_{n:02}" for n in range(40)])
        train, val, test = (
            ImageSet(images[part], masks[part], {"name": names[part]})
            for part in (slice(24), slice(24, 32), slice(32, 40))
        )
        return Splits(train, val, ("dark", "bright"), val if self.test_is_val else test, {"blurred": 2})
