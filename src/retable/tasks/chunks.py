"""The optimizer steps of a chunk of mini-batches, taken in one step of Lightning's by a plain loop.

An epoch of B1.2 takes 6.4 s in chunks, as a loop written by hand does, and 25 s by steps through Lightning with a
DataLoader and `self.log` (one CPU thread, medians of benchmarks/step.py). How it works: docs/explain/chunks.md.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytorch_lightning as pl
import torch

from retable.data.loader import Chunk
from retable.training.captured import BLOCK, CapturedStep
from retable.training.gradients import GRAD_NORM_EVERY
from retable.training.rates import RatesOnDevice

Tensors = Sequence[torch.Tensor]


class Stepped(Protocol):
    """What a chunk's steps ask of a task (retable.tasks.base.Task).

    company: None, or what takes the steps in place of `take_steps`.
    """

    trainer: pl.Trainer
    company: Callable[..., tuple[Tensors, Tensors]] | None

    def trained_parameters(self) -> Iterable[torch.nn.Parameter]: ...

    def autocast(self, enabled: bool = True) -> AbstractContextManager[None]: ...

    def shared_step(self, split: str, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, Any]: ...

    def penalised(self, loss: torch.Tensor) -> torch.Tensor: ...

    def take_norms(self) -> None: ...


class ChunkSteps:
    """Trains a task on chunks, and advances Lightning's own counters of optimizer steps and mini-batches.

    Args:
        task: in training.
        optimizer: the task's.
        recorded: whether a step is recorded and replayed (retable.training.captured).
    """

    def __init__(self, task: Stepped, optimizer: torch.optim.Optimizer, recorded: bool) -> None:
        self.task, self.optimizer = task, optimizer
        self._rates = RatesOnDevice(optimizer) if recorded else None
        self._recorded = CapturedStep(self.step, self._rates, task.trained_parameters()) if recorded else None

    @property
    def rate(self) -> float:
        """The learning rate of the next steps."""
        return self.optimizer.param_groups[0]["lr"]

    def train_on(self, chunk: Chunk) -> tuple[Tensors, Tensors, Tensors, list[int], int]:
        """Take an optimizer step for every mini-batch of a chunk, or for as many as `max_steps` leaves.

        Returns:
            Losses, each of a mini-batch, or of several (K,); what is kept of the outputs, and targets, of the same
            images; the sizes of the mini-batches; and how many steps were taken before.
        """
        trainer = self.task.trainer
        loop = trainer.fit_loop.epoch_loop
        progress = loop.manual_optimization.optim_step_progress
        sizes = [len(targets) for targets in chunk.batches()[1]]
        if trainer.max_steps != -1:
            left = trainer.max_steps - trainer.global_step
            trainer.should_stop = left <= len(sizes)
            chunk, sizes = chunk.first(left), sizes[:left]
        first, last_chunk = trainer.global_step, trainer.is_last_batch
        norms_at = [step for step in range(len(sizes)) if (first + step + 1) % GRAD_NORM_EVERY == 0]
        if last_chunk and len(sizes) - 1 not in norms_at:
            norms_at.append(len(sizes) - 1)
        take = self.take_steps if self.task.company is None else self.task.company
        losses, kept = take(chunk, norms_at)
        for counted in (progress.total, progress.current):
            counted.ready += len(sizes)
            counted.completed += len(sizes)
        loop._batches_that_stepped += len(sizes) - 1  # by which loggers count; Lightning adds the last one
        return losses, kept, [chunk.targets], sizes, first

    def take_steps(self, chunk: Chunk, norms_at: Collection[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Train on mini-batches one after another.

        Args:
            norms_at: the steps, from 0, after which the gradients' norms are taken.

        Returns:
            Losses, each of a mini-batch, or of several (K,), and what is kept of the outputs of the same images.
        """
        images, targets = chunk.batches()
        take_step = self._recorded or self.step
        losses, kept, step = [], [], 0
        while step < len(images):
            taken = BLOCK if self._recorded is not None and self._starts_block(images, step, norms_at) else 1
            if taken > 1:
                span = slice(step * chunk.batch_size, (step + taken) * chunk.batch_size)
                loss, kept_of_batch = self._recorded.block(chunk.images[span], chunk.targets[span])
            else:
                loss, kept_of_batch = take_step(images[step], targets[step])
            step += taken
            losses.append(loss)
            kept.append(kept_of_batch)
            if step - 1 in norms_at:
                self.task.take_norms()
        return losses, kept

    def _starts_block(self, images: Tensors, step: int, norms_at: Collection[int]) -> bool:
        """Whether the next `BLOCK` mini-batches can be one graph, of which only the last step's gradients can be seen.

        Args:
            images: of all mini-batches.
            step: number of the next one.
            norms_at: see `take_steps`.
        """
        last = step + BLOCK - 1
        fits = last < len(images) and not any(step <= at < last for at in norms_at)
        return fits and self._recorded.takes(images[step]) and self._recorded.takes(images[last])

    def step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on a mini-batch: its loss, and what is kept of its outputs."""
        task = self.task
        self.optimizer.zero_grad()
        with task.autocast():
            loss, kept = task.shared_step("train", x, y)
            total = task.penalised(loss)
        with task.autocast(False):  # backward stays outside autocast, as torch asks
            total.backward()
        (self._rates or self.optimizer).step()
        return loss.detach(), kept
