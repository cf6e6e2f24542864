"""Somebody's own LightningModule and LightningDataModule, made those of one of several processes (`trainer=ddp`).

The run is the one that a single process trains: its mini-batches, in its order, each cut into shares; the gradient that
of the whole mini-batch's mean loss, also where it can't be cut evenly; what is logged, of all shares (`sync_dist`).
Validation and test are no such matter of speed: each process goes through all of them, so that no item counts twice
where they can't be cut evenly.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from retable.data.loader import mixed_seed
from retable.errors import ConfigError
from retable.training.ranks import Ranks


class SharedBatches:
    """The lists of indices of a batch sampler, of each of them this rank's share.

    Attributes:
        factors: of each mini-batch of the epoch so far, what makes the mean of the ranks' mean losses its mean loss.
    """

    def __init__(self, batches: Any, rank: int, world: int) -> None:
        self.batches, self.rank, self.world = batches, rank, world
        self.sampler = getattr(batches, "sampler", None)  # for what seeds it, or tells it the epoch
        self.batch_size, self.drop_last = getattr(batches, "batch_size", None), getattr(batches, "drop_last", False)
        self.factors: list[float] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        self.factors = []
        for batch in self.batches:
            if len(batch) < self.world:
                raise ConfigError(
                    f"trainer.strategy=ddp: {len(batch)} items are left to a mini-batch of {self.world} processes;"
                    " accepted: drop_last=True, or another batch size"
                )
            first, end = (len(batch) * rank // self.world for rank in (self.rank, self.rank + 1))
            self.factors.append((end - first) * self.world / len(batch))
            yield batch[first:end]


class OwnShare(pl.Callback):
    """What a rank's Trainer has beside its record: each mini-batch's factor, and random numbers of the rank's own.

    Args:
        seed: the run's.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.factor = seed, 1.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, idx: int) -> None:
        if idx == 0 and trainer.global_rank:  # the order of the epoch has been drawn, the same for all
            torch.manual_seed(mixed_seed(self.seed, trainer.current_epoch, 3 + trainer.global_rank))
        self.factor = trainer.train_dataloader.batch_sampler.factors[idx]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Ranks().agree(pl_module)

    on_test_start = on_validation_start


def share(module: pl.LightningModule, data: pl.LightningDataModule, rank: int, world: int, seed: int) -> OwnShare:
    """Make a module and its data those of a rank.

    Returns:
        The callback that the rank's Trainer needs.
    """
    own = OwnShare(seed)
    whole, step, log = data.train_dataloader, module.training_step, module.log

    @functools.wraps(step)
    def training_step(*args: Any, **kwargs: Any) -> Any:
        return scaled(step(*args, **kwargs), own.factor)

    @functools.wraps(log)
    def log_of_all(*args: Any, **kwargs: Any) -> None:
        log(*args, **kwargs | {"sync_dist": True})

    data.train_dataloader = functools.wraps(whole)(lambda: shared(whole(), rank, world))
    module.log = log_of_all
    if module.automatic_optimization:
        module.training_step = training_step
    return own


def scaled(output: Any, factor: float) -> Any:
    """What a training step returned, its loss multiplied."""
    if factor == 1 or output is None:
        return output
    return {**output, "loss": output["loss"] * factor} if isinstance(output, Mapping) else output * factor


def shared(loader: Any, rank: int, world: int) -> DataLoader:
    """A loader of this rank's share of each of a loader's mini-batches.

    Raises:
        ConfigError: for what can't be shared: several loaders, a set that is iterated over, a loader of another class.
    """
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise ConfigError(
            f"trainer.strategy=ddp: train_dataloader gives a {type(loader).__name__}; accepted: one DataLoader of"
            " mini-batches, of a set with a length"
        )
    given: dict[str, Callable[..., Any] | Any] = {
        key: getattr(loader, key)
        for key in ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
    }
    given |= {key: getattr(loader, key) for key in ("generator", "prefetch_factor", "persistent_workers")}
    return DataLoader(loader.dataset, batch_sampler=SharedBatches(loader.batch_sampler, rank, world), **given)
