"""Several processes that train one model together, each on its share of every mini-batch (`trainer=ddp`).

Mini-batches are those of one process, cut into shares, so that the run is the same run: the mean of the ranks'
gradients is made the gradient of the whole mini-batch's mean loss, also where the last one can't be cut evenly. That
holds for losses that are means over images. What was predicted is put together before it is counted, so that all ranks
have the same counts.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn

from retable.errors import ConfigError


class Ranks:
    """What one rank has to ask the others. Each method is a collective: every rank calls it, at the same point."""

    def weight(self, size: int, device: torch.device) -> float:
        """The factor of the mean loss of this rank's share, of `size` images: 1 where all shares are of one size."""
        total = torch.tensor(float(size), device=device)
        distributed.all_reduce(total)
        return size * distributed.get_world_size() / float(total)

    def joined(
        self, loss_K: torch.Tensor, sizes_K: torch.Tensor, kept: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """K mini-batches' mean losses, sizes, kept outputs and targets: of this rank's shares -> of the whole."""
        sizes_K = sizes_K.to(loss_K.device)
        sums = torch.stack([loss_K.double() * sizes_K, sizes_K])
        distributed.all_reduce(sums)
        return sums[0] / sums[1], sums[1], _gathered(kept), _gathered(targets)

    def agree(self, module: nn.Module) -> None:
        """Give every rank the buffers (running statistics) of the first."""
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def _gathered(values: torch.Tensor) -> torch.Tensor:
    """(n, ...) of this rank -> those of all ranks, one behind the other."""
    kind = values.dtype
    plain = values.to(torch.uint8) if kind == torch.bool else values.contiguous()
    count = torch.tensor([len(plain)], device=plain.device)
    counts = [torch.empty_like(count) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, count)
    most = max(map(int, counts))
    padded = torch.cat([plain, plain.new_zeros(most - len(plain), *plain.shape[1:])])
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[: int(n)] for part, n in zip(parts, counts, strict=True)]).to(kind)


class Shares:
    """A loader's mini-batches (images, targets), of each of them this rank's share.

    Args:
        loader: a `retable.data.loader.DeviceLoader`; all ranks' give the same.
        rank, world: which of how many.

    Raises:
        ConfigError: where the last mini-batch has fewer images than there are ranks.
    """

    def __init__(self, loader: Any, rank: int, world: int) -> None:
        left = len(loader.targets) % loader.batch_size
        if 0 < left < world:
            raise ConfigError(
                f"data.batch_size={loader.batch_size}: leaves {left} of {len(loader.targets):,} images to the last"
                f" mini-batch; accepted with trainer.devices={world}: one that leaves none, or at least {world}"
            )
        self.loader, self.rank, self.world = loader, rank, world
        self.sampler, self.batch_sampler = loader.sampler, None  # Lightning sets the sampler's epoch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for batch in self.loader:
            yield tuple(part.tensor_split(self.world)[self.rank] for part in batch)
