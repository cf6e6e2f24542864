"""The data of task `leaves`: photographs, a folder a species, below data/leaves/train and data/leaves/val."""

from pathlib import Path

import numpy as np
from PIL import Image

from retable.data import ImageData, ImageSet, Splits, read_image

SPECIES = ("oak", "beech", "birch")


class PhotoData(ImageData):
    """Images resized to a square, with their species as labels.

    Args:
        size: pixels a side.
        **base: the keys of every data set (root, fraction, batch_size, ...).
    """

    folder = "leaves"  # below data.root

    def __init__(self, size: int = 32, **base) -> None:
        super().__init__(**base)
        self.size = size

    def files(self) -> list[Path]:
        folders = [self.location / split / species for split in ("train", "val") for species in SPECIES]
        files = [file for folder in folders for file in sorted(folder.glob("*.png"))]
        return files or self.expect([folder / "*.png" for folder in folders])

    def read(self, files: list[Path]) -> Splits:
        by_split = {split: [f for f in files if f.parent.parent.name == split] for split in ("train", "val")}
        return Splits(self._images(by_split["train"]), self._images(by_split["val"]), SPECIES)

    def _images(self, files: list[Path]) -> ImageSet:
        images = [read_image(file, (self.size, self.size)) for file in files]
        labels = [SPECIES.index(file.parent.name) for file in files]
        return ImageSet(np.stack(images), np.array(labels))

    def make_sample(self, folder: Path) -> None:
        """Draw three shapes, so that everything can be tried without a photograph."""
        draw = np.random.default_rng(0)
        rows, columns = np.mgrid[-1:1:32j, -1:1:32j]
        for split, count in (("train", 60), ("val", 20)):
            for label, species in enumerate(SPECIES):
                (folder / split / species).mkdir(parents=True)
                for number in range(count):
                    angle, radius = np.arctan2(rows, columns) + draw.uniform(0, 1), np.hypot(rows, columns)
                    inside = radius < draw.uniform(0.4, 0.7) * (1 + 0.5 * np.cos((label + 2) * angle))
                    picture = draw.normal(90, 15, (32, 32, 3))
                    picture[inside] += draw.uniform(60, 120, 3)
                    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
                    image.save(folder / split / species / f"{number:03}.png")
