"""The training loop that all tasks share: many mini-batches in one Lightning step, one row of metrics an epoch.

Lightning's per-step machinery costs about as much as a small network's own step. A chunk of mini-batches therefore goes
through one `training_step`; inside it stands the hand-written loop, with no host synchronisation and no logging.
`trainer.global_step`, `max_steps` and batch limits still count optimizer steps: the loop advances Lightning's own
counter, and chunks hold one mini-batch where a limit is set (retable.data.loader).
"""

import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import nn

from retable.data.arrays import ImageSet
from retable.training.captured import CapturedStep, keep_on_device
from retable.training.gradients import GRAD_NORM_EVERY, GradientNorms
from retable.training.memory import keep_freed_memory

if TYPE_CHECKING:
    import pandas as pd


class Diverged(Exception):
    """The loss became NaN or infinite: a result, not a failure."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"loss not finite at epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


class Interrupted(Exception):
    """The run was asked to stop; it goes on from its checkpoint."""


class Task(pl.LightningModule):
    """A model with its loss, its optimizer and the metrics by which it is compared.

    A split is "train", "val" or "test"; all three are accumulated alike. A subclass writes `reset`, `update` and
    `compute`, and what else differs from the defaults below.

    Args:
        model: (N, C, H, W) images -> outputs.
        loss: (outputs, targets) -> scalar, the mean over the batch.
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> learning-rate scheduler, stepped once an epoch, or None.
        l1: weight of the penalty l1 * sum(|parameter|); not part of the reported loss.

    Attributes:
        cuda_graph: on a GPU, record the training step once and replay it (retable.training.captured).
        any_size: whether images of other sizes than those trained on are accepted.
        fixed_work: whether the work of a training step depends on nothing but shapes, so that it can be recorded.
    """

    any_size = False
    fixed_work = True

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss, self.l1 = model, loss, l1
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self.epoch_metrics: dict[str, float] = {}
        self.cuda_graph = False
        self.should_interrupt: Callable[[], bool] = lambda: False
        self.on_chunk: Callable[[int, float], None] = lambda done, loss: None
        self._seconds = {"train": 0.0, "val": 0.0}
        self._losses: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}

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

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimizer is given."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def counts(self, data: Any) -> dict[str, Any]:
        """The counts behind the last epoch's metrics, for result.json: plain values."""
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

    # The loop ---------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self._make_optimizer(self.trained_parameters())
        if self._make_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self._make_scheduler(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}

    def on_fit_start(self) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        self._norms = GradientNorms(self.model)

    def on_train_start(self) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        recorded = self.cuda_graph and self.device.type == "cuda"
        keep_on_device(optimizer, recorded)
        self._take_step = CapturedStep(self._step, optimizer, self.trained_parameters()) if recorded else self._step

    def on_train_epoch_start(self) -> None:
        self.start("train")
        self._norms.reset()
        self._seconds = {"train": 0.0, "val": 0.0}
        self.epoch_metrics = {}
        self._clock = time.perf_counter()

    def training_step(self, chunk: Any, index: int) -> None:
        """Train on every mini-batch of a chunk in turn."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        images, targets = chunk.batches()
        if self.trainer.max_steps != -1:
            left = self.trainer.max_steps - self.trainer.global_step
            images, targets = images[:left], targets[:left]
            self.trainer.should_stop = left <= len(images)
        last_chunk = index + 1 == self.trainer.num_training_batches
        first = self.trainer.global_step
        losses, kept = [], []
        for step, (x, y) in enumerate(zip(images, targets, strict=True)):
            progress.increment_ready()
            loss, kept_of_batch = self._take_step(x, y)
            progress.increment_completed()
            losses.append(loss)
            kept.append(kept_of_batch)
            if (first + step + 1) % GRAD_NORM_EVERY == 0 or (last_chunk and step + 1 == len(images)):
                self._norms.take()
        self._end_of_chunk(losses, kept, targets, first)

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on a mini-batch: its loss, and what is kept of its outputs."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        loss, kept = self.shared_step("train", x, y)
        total = loss if self.l1 == 0 else loss + self.l1 * self._l1_norm()
        # Backward stays outside autocast, as torch asks.
        if torch.is_autocast_enabled(self.device.type):
            with torch.autocast(self.device.type, enabled=False):
                total.backward()
        else:
            total.backward()
        optimizer.step()
        return loss.detach(), kept

    def _end_of_chunk(
        self, losses: list[torch.Tensor], kept: list[torch.Tensor], targets: tuple[torch.Tensor, ...], first: int
    ) -> None:
        loss_K = torch.stack(losses)
        sizes_K = torch.tensor([len(y) for y in targets], dtype=torch.float64)
        self._losses["train"] += (loss_K.double() * sizes_K.to(loss_K.device)).sum()
        self._counts["train"] += int(sizes_K.sum())
        self.update("train", torch.cat(kept), torch.cat(targets))
        finite = torch.isfinite(loss_K)
        if not bool(finite.all()):
            raise Diverged(self.current_epoch + 1, first + int((~finite).nonzero()[0]) + 1)
        self.on_chunk(len(losses), float(loss_K[-1]))
        if self.should_interrupt():
            raise Interrupted

    def on_validation_epoch_start(self) -> None:
        if not self.trainer.sanity_checking:
            now = time.perf_counter()
            self._seconds["train"] = now - getattr(self, "_clock", now)
            self._clock = now
        self.start("val")

    def validation_step(self, chunk: Any, index: int) -> None:
        self.evaluate_batch("val", chunk.images, chunk.targets)

    def on_validation_epoch_end(self) -> None:
        metrics = self.metrics_of("val")
        self.epoch_metrics |= metrics
        self._seconds["val"] = time.perf_counter() - self._clock
        self.log_dict(metrics)

    def on_test_epoch_start(self) -> None:
        self.start("test")

    def test_step(self, chunk: Any, index: int) -> None:
        self.evaluate_batch("test", chunk.images, chunk.targets)

    def on_test_epoch_end(self) -> None:
        self.epoch_metrics |= self.metrics_of("test")

    def evaluate_batch(self, split: str, images: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a mini-batch's loss and outputs to a split's metrics."""
        loss, kept = self.shared_step(split, images, targets)
        self._losses[split] += loss.double() * len(targets)
        self._counts[split] += len(targets)
        self.update(split, kept, targets)

    def metrics_of(self, split: str) -> dict[str, float]:
        """A split's loss and metrics, e.g. {"val/loss": 0.1, "val/accuracy": 0.98}."""
        loss = float(self._losses[split]) / max(self._counts[split], 1)
        return {f"{split}/loss": loss} | {f"{split}/{name}": value for name, value in self.compute(split).items()}

    def has_seen(self, split: str) -> bool:
        """Whether this process has accumulated a split: not so when training was finished before it began."""
        return self._counts.get(split, 0) > 0

    def start(self, split: str) -> None:
        """Forget what was accumulated of a split."""
        self.reset(split)
        self._losses[split] = torch.zeros((), device=self.device, dtype=torch.float64)
        self._counts[split] = 0

    def on_train_epoch_end(self) -> None:
        if "val/loss" not in self.epoch_metrics:
            self._seconds["train"] = time.perf_counter() - self._clock
        count = self._counts["train"]
        metrics = self.metrics_of("train")
        metrics |= {key: value for key, value in self.epoch_metrics.items() if key.startswith("val/")}
        metrics["lr"] = self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]
        metrics |= {f"grad_norm/{name}": value for name, value in self._norms.means().items()}
        metrics |= {f"seconds/{split}": value for split, value in self._seconds.items()}
        metrics["images_per_second"] = count / max(self._seconds["train"], 1e-9)
        self.epoch_metrics = metrics
        self.log_dict({key: value for key, value in metrics.items() if key.startswith("train/")})
        self._step_scheduler()

    def _step_scheduler(self) -> None:
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            if "val/loss" in self.epoch_metrics:
                scheduler.step(self.epoch_metrics["val/loss"])
        elif scheduler is not None:
            scheduler.step()

    def _l1_norm(self) -> torch.Tensor:
        return torch.stack(torch._foreach_norm(list(self.model.parameters()), 1)).sum()
