"""Sets in memory: the last one that this process read, what is computed from it once, and its enlarged form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from retable.data.arrays import Splits
from retable.data.loader import mixed_seed
from retable.errors import DataError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of each channel
COPY_SLICE = 2048  # images transformed at once when a set is enlarged: bounds the memory of the float copies
# Of the images that torchvision's pretrained models were trained with, by channel (torchvision's documentation).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Tensors = dict[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Resident:
    """A set as read, with what all runs on it share.

    key: names the files and all arguments that the rest depends on; counts: read, left_out, train, val and test; mean,
    std: of each channel of the images scaled to [0, 1]; tensors: images and targets of each part, by device.
    """

    key: str
    splits: Splits
    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tensors: dict[torch.device, Tensors] = field(default_factory=dict)

    def on(self, device: torch.device) -> Tensors:
        """Images and targets of train, val and test, moved to `device` the first time only."""
        if device not in self.tensors:
            # np.array: the cached arrays are read-only maps of files, which torch would warn about.
            self.tensors[device] = {
                name: tuple(torch.from_numpy(np.array(array)).to(device) for array in (part.images, part.targets))
                for name, part in self.splits.parts.items()
            }
        return self.tensors[device]


_last: list[Resident] = []


def resident(key: str, load: Callable[[], Resident]) -> Resident:
    """The set named `key`: the last one, if it has that key, so that a worker's next run of a task finds it here."""
    if not _last or _last[0].key != key:
        _last.clear()  # before loading: two sets need not fit
        _last.append(load())
    return _last[0]


def statistics(images: np.ndarray, scale: str, known: Sequence[Sequence[float]] | None = None) -> Statistics:
    """Mean and deviation of each channel that `data.scale` stands for; 0 and 1 for float32 images, which are scaled.

    Args:
        known: `channel_statistics` of these images, where they have been taken before.

    Raises:
        DataError: images that have no ImageNet statistics.
    """
    channels = images.shape[1]
    if scale == "unit" or images.dtype != np.uint8:
        return (0.0,) * channels, (1.0,) * channels
    if scale == "standard":
        return channel_statistics(images) if known is None else (tuple(known[0]), tuple(known[1]))
    if channels == 1:  # a grey image is three equal channels to a pretrained model
        return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
    if channels != 3:
        raise DataError(f"data.scale=imagenet: accepted for images of 1 or 3 channels, not {channels}")
    return IMAGENET_MEAN, IMAGENET_STD


def channel_statistics(images: np.ndarray) -> Statistics:
    """Mean and standard deviation of each channel of uint8 images (N, C, H, W), scaled to [0, 1].

    Exact to float64: taken from how often each of the 256 values occurs. A constant channel's deviation is given as 1.
    """
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), 4096):
            counts += np.bincount(images[start : start + 4096, channel].ravel(), minlength=256)
        mean = float(counts @ levels / counts.sum())
        std = float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
        means.append(mean)
        stds.append(std or 1.0)
    return tuple(means), tuple(stds)


def enlarged(
    images: torch.Tensor, targets: torch.Tensor, copies: Callable[..., Any], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The originals, behind them all first copies, then all second ones, and so on.

    Args:
        images: uint8 (N, C, H, W), or float32.
        targets: int64 (N,), which the copies share, or uint8 masks (N, H, W), which are transformed with their images.
        copies: (float32 images in [0, 1], seed) -> one such tensor a transform, or, given masks too, one pair
            (images, masks) a transform. It is given slices, each with its seed.

    Returns:
        Images of the same type (uint8: rounded and clipped) and targets, on the same device.
    """
    masks = targets.ndim == 3
    image_parts, mask_parts = [images], [targets]
    for number, start in enumerate(range(0, len(images), COPY_SLICE)):
        part, labels = images[start : start + COPY_SLICE], targets[start : start + COPY_SLICE]
        if images.dtype == torch.uint8:
            part = part.to(torch.float32).div_(255)
        seed_here = mixed_seed(seed, number, 2)
        made = copies(part, seed_here, labels) if masks else [(c, labels) for c in copies(part, seed_here)]
        for place, (copy, labels_of_copy) in enumerate(made, start=1):
            if place == len(image_parts):
                image_parts.append(torch.empty_like(images))
                mask_parts.append(torch.empty_like(targets))
            if images.dtype == torch.uint8:
                copy = (copy * 255).round_().clamp_(0, 255).to(torch.uint8)
            image_parts[place][start : start + len(part)] = copy
            mask_parts[place][start : start + len(part)] = labels_of_copy
    return torch.cat(image_parts), torch.cat(mask_parts)
