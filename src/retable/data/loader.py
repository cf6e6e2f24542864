"""Mini-batches from tensors that lie on the device already: no workers, no copies.

Several mini-batches, a chunk, are gathered by one index_select, augmented and normalised together, and handed out one
by one, as plain (images, targets). A step of Lightning costs about as much host time as a small network's whole
mini-batch, though; a module that knows how to split a chunk is handed whole ones.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler, SequentialSampler

CHUNK_BYTES = 16_000_000  # of normalised float32 images; more saves no host time worth its memory
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


def mixed_seed(*parts: int) -> int:
    """A seed for a torch.Generator from several whole numbers, all of whose bits depend on all of theirs."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batches_per_chunk(batch_size: int, image_shape: tuple[int, ...]) -> int:
    """How many mini-batches fit CHUNK_BYTES; at least 1, at most CHUNK_BATCHES."""
    return max(1, min(CHUNK_BATCHES, CHUNK_BYTES // (4 * batch_size * math.prod(image_shape))))


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
    ) -> None:
        self.images, self.targets = images, targets
        self.batch_size, self.chunk, self.whole = batch_size, chunk, whole
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
        device, step = self.images.device, self.batch_size * self.chunk
        order = generator = None
        if isinstance(self.sampler, EpochOrder):
            order = self.sampler.permutation().to(device)
        if self.augment is not None:
            epoch = getattr(self.sampler, "epoch", 0)
            generator = torch.Generator(device).manual_seed(mixed_seed(self.seed, epoch, 1))
        for start in range(0, len(self.targets), step):
            if order is None:
                images, targets = self.images[start : start + step], self.targets[start : start + step]
            else:
                index = order[start : start + step]
                images, targets = self.images.index_select(0, index), self.targets.index_select(0, index)
            if self.augment is not None:
                images = images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images
                if targets.ndim == 1:
                    images = self.augment(images, generator)
                else:
                    images, targets = self.augment(images, generator, targets)
            # Masks are kept as bytes and widened here: losses index classes with int64. Boxes stay what they are.
            targets = targets if targets.is_floating_point() else targets.long()
            yield Chunk(self.normalise(images), targets, self.batch_size)
