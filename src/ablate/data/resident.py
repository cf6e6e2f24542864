"""Sets in memory: the last one that this process read, what is computed from it once, and its enlarged form."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ablate.data.arrays import Splits
from ablate.data.loader import mixed_seed

COPY_SLICE = 2048  # images transformed at once when a set is enlarged: bounds the memory of the float copies

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Resident:
    """A set as read, with what all runs on it share.

    key: names the files and all arguments that the rest depends on; counts: read, left_out, train, val; mean, std: of
    each channel of the images scaled to [0, 1]; tensors: train and val images and targets by device.
    """

    key: str
    splits: Splits
    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tensors: dict[torch.device, Tensors] = field(default_factory=dict)

    def on(self, device: torch.device) -> Tensors:
        """Train images (uint8) and targets (int64), then validation's, moved to `device` the first time only."""
        if device not in self.tensors:
            train, val = self.splits.train, self.splits.val
            # np.array: the cached arrays are read-only maps of files, which torch would warn about.
            parts = (np.array(part) for part in (train.images, train.targets, val.images, val.targets))
            self.tensors[device] = tuple(torch.from_numpy(part).to(device) for part in parts)
        return self.tensors[device]


_last: list[Resident] = []


def resident(key: str, load: Callable[[], Resident]) -> Resident:
    """The set named `key`: the last one, if it has that key, so that a worker's next run of a task finds it here."""
    if not _last or _last[0].key != key:
        _last.clear()  # before loading: two sets need not fit
        _last.append(load())
    return _last[0]


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
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
    images: torch.Tensor,
    targets: torch.Tensor,
    copies: Callable[[torch.Tensor, int], list[torch.Tensor]],
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The originals, behind them all first copies, then all second ones, and so on.

    Args:
        images: uint8 (N, C, H, W); targets: int64 (N,).
        copies: (float32 images in [0, 1], seed) -> one such tensor a transform. It is given slices, each with its seed.

    Returns:
        uint8 images, rounded and clipped, and int64 targets, on the same device.
    """
    parts = [images]
    for number, start in enumerate(range(0, len(images), COPY_SLICE)):
        part = images[start : start + COPY_SLICE].to(torch.float32).div_(255)
        for place, copy in enumerate(copies(part, mixed_seed(seed, number, 2)), start=1):
            if place == len(parts):
                parts.append(torch.empty_like(images))
            parts[place][start : start + len(part)] = (copy * 255).round_().clamp_(0, 255).to(torch.uint8)
    return torch.cat(parts), targets.repeat(len(parts))
