"""Plain arrays between the readers and the device: what every reader gives, checked once on creation."""

from dataclasses import dataclass

import numpy as np

from ablate.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """Images with one class each.

    Args:
        images: uint8, shape (N, C, H, W), values 0-255.
        targets: int64, shape (N,), class indices.

    Raises:
        DataError: a wrong type or shape, or unequal numbers of images and targets.
    """

    images: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(f"images are {self.images.dtype} {self.images.shape}, not uint8 (N, C, H, W)")
        if self.targets.dtype != np.int64 or self.targets.ndim != 1:
            raise DataError(f"targets are {self.targets.dtype} {self.targets.shape}, not int64 (N,)")
        if len(self.images) != len(self.targets):
            raise DataError(f"{len(self.images)} images but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: np.ndarray) -> "ImageSet":
        """The images and targets at the positions `index`, in that order."""
        return ImageSet(self.images[index], self.targets[index])


@dataclass(frozen=True)
class Splits:
    """What a task trains on and what it is judged on.

    Raises:
        DataError: an empty part, image sizes that differ, or a target that names no class.
    """

    train: ImageSet
    val: ImageSet
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, part in (("training", self.train), ("validation", self.val)):
            if not len(part):
                raise DataError(f"no {name} images")
            low, high = int(part.targets.min()), int(part.targets.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(f"{name} targets range from {low} to {high}, classes from 0 to {len(self.classes) - 1}")
        if self.train.images.shape[1:] != self.val.images.shape[1:]:
            raise DataError(
                f"training images are {self.train.images.shape[1:]}, validation images {self.val.images.shape[1:]}"
            )
