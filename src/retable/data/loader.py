"""From arrays to mini-batches: sets resident on the training device, iterated over without workers and copies.

Several mini-batches, a chunk, are gathered by one index_select, augmented and normalised together, and handed out one
by one, as plain (images, targets). A step of Lightning costs about as much host time as a small network's whole
mini-batch, though; a module that knows how to split a chunk is handed whole ones. On one core of an AMD EPYC an epoch
of B1.2 takes 7.2 s so, and 30.7 s by a DataLoader and a step of Lightning for each mini-batch (benchmarks/README.md).
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler, SequentialSampler

from retable.data.arrays import Splits
from retable.errors import DataError

CHUNK_BYTES = 16_000_000  # of normalised float32 images; more saves no host time worth its memory
BLOCK_BYTES = 4 * CHUNK_BYTES  # of those of steps recorded as one graph: fewer would be a launch each
CHUNK_BATCHES = 64  # at most so many mini-batches between two looks of Lightning at its progress


class Chunk(NamedTuple):
    """Some mini-batches in a row.

    images: float32 (n, C, H, W), normalised; targets: int64 (n,) or (n, H, W), or boxes, float32 (n, 1 + M, 5). n is a
    multiple of batch_size but at an epoch's end.
    """

    images: torch.Tensor
    targets: torch.Tensor
    batch_size: int

    def batches(self) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Images and targets by mini-batch."""
        return self.images.split(self.batch_size), self.targets.split(self.batch_size)

    def first(self, count: int) -> "Chunk":
        """The first so many mini-batches, or all of them."""
        end = count * self.batch_size
        return Chunk(self.images[:end], self.targets[:end], self.batch_size)


def mixed_seed(*parts: int) -> int:
    """A seed for a torch.Generator from several whole numbers, all of whose bits depend on all of theirs."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batches_per_chunk(batch_size: int, image_shape: tuple[int, ...], block: int = 1) -> int:
    """How many mini-batches fit CHUNK_BYTES; at least 1, at most CHUNK_BATCHES.

    Args:
        block: a number of them, at least 1, of which it is to be a multiple, where that many fit BLOCK_BYTES.
    """
    size = 4 * batch_size * math.prod(image_shape)
    most = max(1, min(CHUNK_BATCHES, CHUNK_BYTES // size))
    return max(block, most - most % block) if block * size <= BLOCK_BYTES else most


class EpochOrder(Sampler[int]):
    """The order of an epoch: a permutation that depends on the seed and the epoch alone, on every device."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def permutation(self) -> torch.Tensor:
        """int64 (length,) on the CPU."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        return torch.randperm(self.length, generator=generator)

    def __iter__(self) -> Iterator[int]:
        return iter(self.permutation().tolist())

    def __len__(self) -> int:
        return self.length


class DeviceLoader:
    """Iterates over mini-batches of images that are resident on a device, an epoch a turn.

    Args:
        images: uint8 or float32 (N, C, H, W); targets: int64 (N,), uint8 masks (N, H, W), or float32 boxes
            (N, 1 + M, 5); all on one device.
        batch_size: images a mini-batch; the last one may be smaller.
        normalise: uint8 images or float images in [0, 1] -> float32 images as the model takes them.
        seed: of the order and the augmentation.
        shuffle: a new order each epoch; False: the order they are stored in.
        augment: None, or (float32 images in [0, 1], generator on the device) -> images; for masks, which it is given as
            a third argument, -> (images, masks). It draws for a chunk at once, so its draws depend on `chunk` also.
        chunk: mini-batches that are prepared together.
        device: where mini-batches are wanted, if that is not where the images lie.
        whole: hand out each `Chunk` as it is, in place of its mini-batches (images, targets).
    """

    def __init__(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        batch_size: int,
        normalise: Callable[[torch.Tensor], torch.Tensor],
        seed: int = 0,
        shuffle: bool = True,
        augment: Callable[..., Any] | None = None,
        chunk: int = 1,
        whole: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.images, self.targets = images, targets
        self.batch_size, self.chunk, self.whole = batch_size, chunk, whole
        self.device = device or images.device
        self.normalise, self.augment, self.seed = normalise, augment, seed
        length = len(targets)
        self.batch_sampler = None  # Lightning asks every loader that has a sampler
        # Lightning tells by this very class that an order is fixed, and warns where it wants one.
        self.sampler: Any = EpochOrder(length, seed) if shuffle else SequentialSampler(range(length))

    @property
    def batches(self) -> int:
        """Mini-batches an epoch."""
        return math.ceil(len(self.targets) / self.batch_size)

    def __len__(self) -> int:
        """Items an epoch: mini-batches, or whole chunks."""
        return math.ceil(self.batches / self.chunk) if self.whole else self.batches

    def __iter__(self) -> Iterator[Chunk | tuple[torch.Tensor, torch.Tensor]]:
        for chunk in self._chunks():
            if self.whole:
                yield chunk
            else:
                yield from zip(*chunk.batches(), strict=True)

    def _chunks(self) -> Iterator[Chunk]:
        # A generator: Lightning calls iter() once before it sets the first epoch, so the epoch is read at next().
        device, step = self.device, self.batch_size * self.chunk
        order = generator = None
        if isinstance(self.sampler, EpochOrder):
            order = self.sampler.permutation().to(self.images.device)
        if self.augment is not None:
            epoch = getattr(self.sampler, "epoch", 0)
            generator = torch.Generator(device).manual_seed(mixed_seed(self.seed, epoch, 1))
        for start in range(0, len(self.targets), step):
            if order is None:  # copies, as what is done to a batch must not reach the set, which may be a read-only map
                images, targets = (of[start : start + step].clone() for of in (self.images, self.targets))
            else:
                index = order[start : start + step]
                images, targets = self.images.index_select(0, index), self.targets.index_select(0, index)
            images, targets = images.to(device), targets.to(device)
            if self.augment is not None:
                images = images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images
                if targets.ndim == 1:
                    images = self.augment(images, generator)
                else:
                    images, targets = self.augment(images, generator, targets)
            # Masks are kept as bytes and widened here: losses index classes with int64. Boxes stay what they are.
            targets = targets if targets.is_floating_point() else targets.long()
            yield Chunk(self.normalise(images), targets, self.batch_size)


Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of each channel
STATISTICS_SLICE = 2**20  # pixels counted at once, of which each takes nine bytes meanwhile
COPY_SLICE = 2048  # images transformed at once when a set is enlarged: bounds the memory of the float copies
# Of the images that torchvision's pretrained models were trained with, by channel (torchvision's documentation).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Tensors = dict[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Resident:
    """A set as read, with what all runs on it share.

    key: names the files and all arguments that the rest depends on; counts: read, left_out, train, val and test; mean,
    std: of each channel of the images scaled to [0, 1]; tensors: images and targets of each split, by device.
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
                name: tuple(torch.from_numpy(np.array(array)).to(device) for array in (split.images, split.targets))
                for name, split in self.splits.by_name.items()
            }
        return self.tensors[device]

    @property
    def size(self) -> int:
        """Bytes of all images and targets."""
        return sum(split.images.nbytes + split.targets.nbytes for split in self.splits.distinct.values())

    def mapped(self) -> Tensors:
        """Images and targets of train, val and test as they lie in the cache's files; must not be written to."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return {
                name: tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in (split.images, split.targets))
                for name, split in self.splits.by_name.items()
            }


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a device; infinite where that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


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
    step = max(1, STATISTICS_SLICE // math.prod(images.shape[2:]))
    for channel in range(images.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), step):
            counts += np.bincount(images[start : start + step, channel].ravel(), minlength=256)
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
        part, labels = (of[start : start + COPY_SLICE].clone() for of in (images, targets))
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
