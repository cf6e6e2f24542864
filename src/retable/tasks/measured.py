"""How a task measures a split: what is accumulated mini-batch by mini-batch, and which metrics that gives.

A split is "train", "val" or "test"; all three are accumulated alike, in tensors on the device, and read once an epoch.
"""

import contextlib
import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import nn

from retable.data.arrays import ImageSet
from retable.training.captured import CapturedStep
from retable.training.losses_seen import LossesSeen
from retable.training.ranks import Ranks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Measured(pl.LightningModule):
    """A model with its loss and its metrics by split.

    A subclass writes `reset`, `update` and `compute`, and what else differs from the defaults.

    Args:
        model: (N, C, H, W) images -> outputs.
        loss: (outputs, targets) -> scalar, the mean over the batch.

    Attributes:
        epoch_metrics: what the last epoch gave, by full name.
        cuda_graph: on a GPU, record training steps and evaluations once and replay them (retable.training.captured).
        fixed_work: whether the work of a step depends on nothing but shapes, so that it can be recorded.
        ranks: None, or what these processes ask each other (retable.training.ranks).
        validated_at: how many optimizer steps had been taken at the last validation; None before the first.
    """

    fixed_work = True
    _losses_seen: LossesSeen

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.epoch_metrics: dict[str, float] = {}
        self.cuda_graph = False
        self.ranks: Ranks | None = None
        self.validated_at: int | None = None
        self._losses: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._sizes: dict[tuple[int, ...], torch.Tensor] = {}
        self._evaluations: dict[str, tuple[tuple[int, ...], CapturedStep]] = {}
        self._trained: dict[str, Any] | None = None

    @classmethod
    def channels(cls, node: dict[str, Any], num_classes: int) -> int:
        """Outputs that a model needs, from the task's config node and the data's number of classes."""
        return num_classes

    def output_shape(self, n: int, num_classes: int, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """The shape that a model's outputs must have for n images (n, *image_shape)."""
        return (n, num_classes)

    def targets_like(self, n: int, image_shape: tuple[int, int, int]) -> torch.Tensor | None:
        """Targets of n images in the type and shape that the loss is given, of any value.

        None for a task whose constructor has seen already that its model and its loss fit each other.
        """
        return torch.empty(n, dtype=torch.int64)

    # What a subclass writes -------------------------------------------------------------------------------------------

    @abstractmethod
    def reset(self, split: str) -> None:
        """Start the accumulation over a split."""

    @abstractmethod
    def update(self, split: str, kept: Any, targets: torch.Tensor) -> None:
        """Accumulate what `shared_step` kept, in tensors on the device.

        Args:
            kept: of training, the tensors that were kept of several mini-batches, concatenated; else of one mini-batch.
            targets: theirs.
        """

    @abstractmethod
    def compute(self, split: str) -> dict[str, float]:
        """A split's metrics by bare name, e.g. {"accuracy": 0.98}, from all that it was updated with."""

    def compute_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a mini-batch, for tasks whose targets the loss does not take as they are."""
        return self.loss(outputs, targets)

    def reduce_output(self, outputs: torch.Tensor) -> torch.Tensor:
        """What is kept of a mini-batch's detached outputs, e.g. the predicted class."""
        return outputs

    def shared_step(self, split: str, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Loss of a mini-batch of any split, and what is kept of its outputs for `update`: of training, a tensor."""
        outputs = self.model(images)
        return self.compute_loss(outputs, targets), self.reduce_output(outputs.detach())

    def metrics(self, split: str) -> dict[str, bool]:
        """The metrics of a split by bare name, in the order of `metrics_of`, each with whether higher is better."""
        return {"loss": False}

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimizer is given."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def split_counts(self, split: str) -> dict[str, Any]:
        """The counts behind a split's metrics by name, e.g. "confusion": plain values."""
        return {}

    def counts(self, data: Any) -> dict[str, Any]:
        """The counts behind the last epoch's metrics, for result.json: `split_counts` by name, then by split."""
        found: dict[str, Any] = {}
        for split, counts in self.counted().items():
            for name, values in counts.items():
                found.setdefault(name, {})[split] = values
        return found

    def image_metrics(self, split: str) -> "dict[str, np.ndarray]":
        """Metrics of a split that are means over images, by bare name: the value of each image, bool or float (N,)."""
        return {}

    def tables(
        self, split: str, images: ImageSet, normalise: Callable[[torch.Tensor], torch.Tensor]
    ) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """A split's metrics by class, and by image.

        Args:
            images: the split's, in the order in which they were seen.
            normalise: images as stored -> as the model takes them.
        """
        import pandas as pd

        return pd.DataFrame(), pd.DataFrame({"image": list(images.names)})

    def draw(self, folder: Path, data: Any, config: dict[str, Any], title: str) -> None:
        """Write what a finished run of this task has to show as PNG files into a folder."""

    # What is accumulated ----------------------------------------------------------------------------------------------

    def evaluate_batch(self, split: str, images: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a mini-batch's loss and outputs to a split's metrics."""
        loss, kept = self._evaluation(split)(images, targets)
        self._losses[split] += loss.double() * len(targets)
        self._counts[split] += len(targets)
        self.update(split, kept, targets)

    def _evaluation(self, split: str) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, Any]]:
        """What gives a mini-batch's loss and what is kept of its outputs; recorded where training steps are."""

        def evaluate(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, Any]:
            with self.autocast():
                return self.shared_step(split, images, targets)

        if not (self.cuda_graph and self.fixed_work and self.device.type == "cuda"):
            return functools.partial(self.shared_step, split)
        weights = (*self.model.parameters(), *self.model.buffers())
        addresses = (*(w.data_ptr() for w in weights), torch.is_autocast_enabled("cuda"))
        if self._evaluations.get(split, (None,))[0] != addresses:  # a recording knows the weights by these
            self._evaluations[split] = addresses, CapturedStep(evaluate)
        return self._evaluations[split][1]

    def metrics_of(self, split: str) -> dict[str, float]:
        """A split's loss and metrics, e.g. {"val/loss": 0.1, "val/accuracy": 0.98}."""
        loss = float(self._losses[split]) / max(self._counts[split], 1)
        return {f"{split}/loss": loss} | {f"{split}/{name}": value for name, value in self.compute(split).items()}

    def has_seen(self, split: str) -> bool:
        """Whether this process has accumulated a split: not so when training was finished before it began."""
        return self._counts.get(split, 0) > 0

    def counted(self) -> dict[str, dict[str, Any]]:
        """`split_counts` of each split that was seen: of training also where the process that saw it was killed."""
        known = {split: self.split_counts(split) for split in ("train", "val", "test") if self.has_seen(split)}
        return known if self._trained is None else {"train": self._trained} | known

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the counts of training, which nothing gives again: validation can be done once more."""
        checkpoint["validated_at"] = self.validated_at
        checkpoint["train_counts"] = self.split_counts("train") if self.has_seen("train") else self._trained

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._trained, self.validated_at = checkpoint.get("train_counts"), checkpoint.get("validated_at")

    def start(self, split: str) -> None:
        """Forget what was accumulated of a split."""
        self.reset(split)
        self._losses[split] = torch.zeros((), device=self.device, dtype=torch.float64)
        self._counts[split] = 0

    def _take_in(
        self,
        losses: Sequence[torch.Tensor],
        kept: Sequence[torch.Tensor],
        targets: Sequence[torch.Tensor],
        sizes: Sequence[int],
        first: int,
    ) -> None:
        """Add mini-batches in a row to the training metrics.

        Args:
            losses: each of a mini-batch, or of several (K,); kept, targets: of the same images in the same order.
            sizes: of the mini-batches.
            first: optimizer steps before the first of them.
        """
        loss_K = torch.cat([loss.view(-1) for loss in losses])
        sizes_K = torch.tensor(sizes, dtype=torch.float64)
        outputs, truth = torch.cat(kept), torch.cat(targets)
        if self.ranks is not None:
            loss_K, sizes_K, outputs, truth = self.ranks.joined(loss_K, sizes_K, outputs, truth)
        self._losses["train"] += (loss_K.double() * self._on_device(sizes_K, loss_K.device)).sum()
        self._counts["train"] += int(sizes_K.sum())
        self.update("train", outputs, truth)
        self._losses_seen.add(first * self.trainer.accumulate_grad_batches, loss_K)

    def _on_device(self, sizes_K: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Sizes of mini-batches on a device. They are the same ones again and again, and to copy them is to wait."""
        if sizes_K.device == device:
            return sizes_K
        key = tuple(sizes_K.tolist())
        if key not in self._sizes:
            self._sizes[key] = sizes_K.to(device)
        return self._sizes[key]

    def autocast(self, wanted: bool = True) -> contextlib.AbstractContextManager[Any]:
        """Autocast for one step, where the caller has it on: a context over a chunk would keep casts of old weights."""
        kind = self.device.type
        if not torch.is_autocast_enabled(kind):
            return contextlib.nullcontext()
        return torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=wanted, cache_enabled=False)
