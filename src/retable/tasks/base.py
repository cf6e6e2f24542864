"""What all tasks share: an ordinary `training_step`, one row of metrics an epoch, and a faster way through many steps.

`training_step` gives Lightning the loss of a mini-batch (images, targets), so any Trainer trains a Task. Lightning's
own work at each step costs about as much as a small network's step, though. Where nothing wants to see single steps
(retable.run.steps decides), the data come as chunks of mini-batches, each of which goes through one `training_step` by
a hand-written loop, with no host synchronisation and no logging. It is the same training, bit for bit on a CPU, and
`trainer.global_step` counts optimizer steps either way: the loop advances Lightning's own counter.
"""

import contextlib
import functools
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from retable.data.arrays import ImageSet
from retable.data.loader import Chunk, batches_per_chunk
from retable.errors import ConfigError, DataError
from retable.training.captured import BLOCK, CapturedStep, keep_on_device
from retable.training.gradients import GRAD_NORM_EVERY, GradientNorms
from retable.training.losses_seen import LossesSeen
from retable.training.memory import keep_freed_memory
from retable.training.ranks import Ranks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


_NEVER = 2**62  # epochs


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
        scheduler: optimizer -> learning-rate scheduler, or None; given `total_steps`, the training's, where
            `scheduler_interval` is "step".
        l1: weight of the penalty l1 * sum(|parameter|); not part of the reported loss.

    Attributes:
        scheduler_interval: when the scheduler is stepped: "epoch" or "step".
        lr: None, or a learning rate in place of the optimizer's own, as `Tuner.lr_find` sets it.
        cuda_graph: on a GPU, record the training step once and replay it (retable.training.captured).
        any_size: whether images of other sizes than those trained on are accepted.
        shareable: whether several processes can train it together, each on its share of a mini-batch.
        ranks: None, or what these processes ask each other (retable.training.ranks).
        company: None, or what takes a chunk's steps in place of `take_steps`, together with other runs
            (retable.run.fused).
        fixed_work: whether the work of a training step depends on nothing but shapes, so that it can be recorded.
    """

    any_size = False
    fixed_work = True
    shareable = True

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        l1: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=("model", "loss", "optimizer", "scheduler"), logger=False)
        self.model, self.loss, self.l1 = model, loss, l1
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self.scheduler_interval = "epoch"
        self.lr: float | None = None
        self.epoch_metrics: dict[str, float] = {}
        self.cuda_graph = False
        self.ranks: Ranks | None = None
        self.company: Callable[..., tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]] | None = None
        self.should_interrupt: Callable[[], bool] = _never
        self.on_chunk: Callable[[int, float], None] = _nothing
        self._seconds = {"train": 0.0, "val": 0.0}
        self._losses: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._sizes: dict[tuple[int, ...], torch.Tensor] = {}
        self._evaluations: dict[str, tuple[tuple[int, ...], CapturedStep]] = {}
        self._pending: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._first_pending = 0
        self._clock, self._training_since_clock = 0.0, False

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

    def counts(self, data: Any) -> dict[str, Any]:
        """The counts behind the last epoch's metrics, for result.json: plain values."""
        return {}

    def image_metrics(self, split: str) -> "dict[str, np.ndarray]":
        """Metrics of a split that are means over images, by bare name: the figure of each image, bool or float (N,)."""
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

    # Lightning's hooks ------------------------------------------------------------------------------------------------

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The model's outputs."""
        return self.model(images)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self._make_optimizer(self.trained_parameters())
        for group in optimizer.param_groups if self.lr is not None else ():
            group["lr"] = self.lr
        if self._make_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self._make_scheduler(optimizer, **self._length())
        config = {"scheduler": scheduler, "interval": self.scheduler_interval, "monitor": "val/loss"}
        if isinstance(scheduler, ReduceLROnPlateau):  # Lightning would step it behind the epoch's checkpoint
            config["frequency"] = _NEVER
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _length(self) -> dict[str, int]:
        """What a scheduler that counts steps is told of the training's length; without a Trainer, a length to try."""
        if self.scheduler_interval != "step":
            return {}
        steps = 1000 if self._trainer is None else self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError("scheduler.interval=step: a training without an end; accepted: with trainer.max_epochs")
        return {"total_steps": int(steps)}

    def on_train_start(self) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        self._norms = GradientNorms(self.model)
        self._losses_seen = LossesSeen(self._diverge, self.on_chunk)
        if self.automatic_optimization:
            return
        optimizer = self.optimizers(use_pl_optimizer=False)
        recorded = self.cuda_graph and self.device.type == "cuda"
        keep_on_device(optimizer, recorded)
        self._recorded = CapturedStep(self._step, optimizer, self.trained_parameters()) if recorded else None
        self._take_step = self._recorded or self._step

    def on_train_epoch_start(self) -> None:
        self.start("train")
        self._norms.reset()
        self._losses_seen.forget()
        self._pending = []
        self._seconds = {"train": 0.0, "val": 0.0}
        self.epoch_metrics = {}
        self._clock = time.perf_counter()

    def training_step(self, batch: Any, index: int) -> torch.Tensor | None:
        """The loss of a mini-batch (images, targets); None of a chunk, all of whose mini-batches it trains on."""
        self._training_since_clock = True
        if isinstance(batch, Chunk):
            return self._train_on(batch)
        if self.should_interrupt():
            raise Interrupted
        images, targets = batch
        if not self._pending:
            self._first_pending = self.trainer.global_step
            self._most_pending = batches_per_chunk(len(targets), images.shape[1:])
        with self.autocast():
            loss, kept = self.shared_step("train", images, targets)
            weight = 1 if self.ranks is None else self.ranks.weight(len(targets), loss.device)
            total = self._penalised(loss if weight == 1 else loss * weight)
        self._pending.append((loss.detach(), kept, targets))
        if len(self._pending) == self._most_pending:
            self._take_in_pending()
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self._last_lr = optimizer.param_groups[0]["lr"]
        step = self.trainer.global_step + 1
        if step % GRAD_NORM_EVERY == 0 or self.trainer.is_last_batch:
            self._norms.take()
        if step == self.trainer.max_steps:
            self.trainer.should_stop = True  # Lightning would end without validating what it has trained

    def on_validation_epoch_start(self) -> None:
        now = time.perf_counter()
        if self._training_since_clock:
            self._seconds["train"] += now - self._clock
            self._training_since_clock = False
        self._clock = now
        if self.ranks is not None:
            self.ranks.agree(self.model)
        self.start("val")

    def validation_step(self, batch: Any, index: int) -> None:
        self.evaluate_batch("val", *batch)

    def on_validation_epoch_end(self) -> None:
        metrics = self.metrics_of("val")
        self.epoch_metrics |= metrics
        now = time.perf_counter()
        self._seconds["val"] += now - self._clock
        self._clock = now
        self.log_dict(metrics)

    def on_test_epoch_start(self) -> None:
        self.start("test")

    def test_step(self, batch: Any, index: int) -> None:
        self.evaluate_batch("test", *batch)

    def on_test_epoch_end(self) -> None:
        metrics = self.metrics_of("test")
        self.epoch_metrics |= metrics
        self.log_dict(metrics)

    def predict_step(self, batch: Any, index: int) -> Any:
        """What `reduce_output` makes of the outputs, e.g. predicted classes; targets beside the images are left out."""
        return self.reduce_output(self(batch if isinstance(batch, torch.Tensor) else batch[0]))

    def on_train_epoch_end(self) -> None:
        self._take_in_pending()
        self._losses_seen.look(wait=True)
        if self._training_since_clock:
            self._seconds["train"] += time.perf_counter() - self._clock
        count = self._counts["train"]
        metrics = self.metrics_of("train")
        metrics |= {key: value for key, value in self.epoch_metrics.items() if key.startswith("val/")}
        metrics["lr"] = self._last_lr
        metrics |= {f"grad_norm/{name}": value for name, value in self._norms.means().items()}
        metrics |= {f"seconds/{split}": value for split, value in self._seconds.items()}
        metrics["images_per_second"] = count / max(self._seconds["train"], 1e-9)
        self.epoch_metrics = metrics
        shown = metrics if self.loggers else {key: v for key, v in metrics.items() if key.startswith("train/")}
        self.log_dict({key: value for key, value in shown.items() if not key.startswith("val/")})
        self._step_scheduler()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a run go on in the other way than it began: Lightning counts the steps of each way by themselves."""
        if "loops" not in checkpoint:  # weights alone
            return
        loops = checkpoint["loops"]["fit_loop"]
        alone = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        in_chunks = loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]
        steps = max(alone["completed"], in_chunks["completed"])
        for counter in (alone, in_chunks):
            counter |= dict.fromkeys(counter, steps)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the run that trains it: a copy, as for averaged weights, tells nobody anything."""
        hooks = {"should_interrupt": _never, "on_chunk": _nothing, "company": None, "_evaluations": {}}
        return super().__getstate__() | hooks

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = "cpu", **given: Any) -> "Task":
        """A trained task from a checkpoint.

        That of a run says all that it is made from. That of a task made by hand needs the objects it was made from:
        `Classification.load_from_checkpoint(path, model=..., loss=..., optimizer=...)`. No pickled code is executed.

        Raises:
            DataError: for a checkpoint that says of no task, or of one of another kind, what it is made from.
        """
        if given:
            return super().load_from_checkpoint(checkpoint_path, map_location, weights_only=True, **given)
        from retable.tasks.build import rebuilt

        content = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        kept = content.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if "config" not in kept:
            raise DataError(f"{checkpoint_path}: of no run of this project; accepted: with model=, loss=, optimizer=")
        task = rebuilt(kept, checkpoint_path, content["state_dict"])
        if not isinstance(task, cls):
            raise DataError(f"{checkpoint_path}: a {type(task).__name__}; accepted: a {cls.__name__}")
        task.on_load_checkpoint(content)
        task.load_state_dict(content["state_dict"])
        return task.to(map_location)

    # Metrics of a split -----------------------------------------------------------------------------------------------

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
        places = (*(w.data_ptr() for w in weights), torch.is_autocast_enabled("cuda"))
        if self._evaluations.get(split, (None,))[0] != places:  # a recording knows them by their places
            self._evaluations[split] = places, CapturedStep(evaluate)
        return self._evaluations[split][1]

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

    def _take_in_pending(self) -> None:
        if self._pending:
            losses, kept, targets = zip(*self._pending, strict=True)
            self._pending = []
            self._take_in(losses, kept, targets, [len(y) for y in targets], self._first_pending)

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

    def _diverge(self, batch: int) -> None:
        raise Diverged(self.current_epoch + 1, batch // self.trainer.accumulate_grad_batches + 1)

    # A chunk in one step ----------------------------------------------------------------------------------------------

    def _train_on(self, chunk: Chunk) -> None:
        """Take an optimizer step for every mini-batch of a chunk."""
        loop = self.trainer.fit_loop.epoch_loop
        progress = loop.manual_optimization.optim_step_progress
        sizes = [len(targets) for targets in chunk.batches()[1]]
        if self.trainer.max_steps != -1:
            left = self.trainer.max_steps - self.trainer.global_step
            self.trainer.should_stop = left <= len(sizes)
            chunk, sizes = chunk.first(left), sizes[:left]
        first, last_chunk = self.trainer.global_step, self.trainer.is_last_batch
        self._last_lr = self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]
        norms_at = [step for step in range(len(sizes)) if (first + step + 1) % GRAD_NORM_EVERY == 0]
        if last_chunk and len(sizes) - 1 not in norms_at:
            norms_at.append(len(sizes) - 1)
        take = self.take_steps if self.company is None else self.company
        losses, kept = take(chunk, norms_at)
        for counted in (progress.total, progress.current):
            counted.ready += len(sizes)
            counted.completed += len(sizes)
        loop._batches_that_stepped += len(sizes) - 1  # by which loggers count; Lightning adds the last one
        self._take_in(losses, kept, [chunk.targets], sizes, first)
        if self.should_interrupt():
            raise Interrupted

    def take_steps(self, chunk: Chunk, norms_at: Collection[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Train on mini-batches one after another.

        Args:
            norms_at: the steps, from 0, after which the gradients' norms are taken.

        Returns:
            Losses, each of a mini-batch, or of several (K,), and what is kept of the outputs of the same images.
        """
        images, targets = chunk.batches()
        losses, kept, step = [], [], 0
        while step < len(images):
            taken = BLOCK if self._recorded is not None and self._starts_block(images, step, norms_at) else 1
            if taken > 1:
                span = slice(step * chunk.batch_size, (step + taken) * chunk.batch_size)
                loss, kept_of_batch = self._recorded.block(chunk.images[span], chunk.targets[span])
            else:
                loss, kept_of_batch = self._take_step(images[step], targets[step])
            step += taken
            losses.append(loss)
            kept.append(kept_of_batch)
            if step - 1 in norms_at:
                self._norms.take()
        return losses, kept

    def _starts_block(self, images: Sequence[torch.Tensor], step: int, norms_at: Collection[int]) -> bool:
        """Whether the next `BLOCK` mini-batches of a chunk can be one graph: its last gradients alone can be seen.

        Args:
            images: of all mini-batches.
            step: number of the next one.
            norms_at: see `take_steps`.
        """
        last = step + BLOCK - 1
        fits = last < len(images) and not any(step <= at < last for at in norms_at)
        return fits and self._recorded.takes(images[step]) and self._recorded.takes(images[last])

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on a mini-batch: its loss, and what is kept of its outputs."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        with self.autocast():
            loss, kept = self.shared_step("train", x, y)
            total = self._penalised(loss)
        with self.autocast(False):  # backward stays outside autocast, as torch asks
            total.backward()
        optimizer.step()
        return loss.detach(), kept

    def autocast(self, wanted: bool = True) -> contextlib.AbstractContextManager[Any]:
        """A step's own context where the caller has one, which may span a chunk: its cache would keep old weights."""
        kind = self.device.type
        if not torch.is_autocast_enabled(kind):
            return contextlib.nullcontext()
        return torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=wanted, cache_enabled=False)

    def take_norms(self) -> None:
        """Note the gradients' norms as they are now."""
        self._norms.take()

    def _penalised(self, loss: torch.Tensor) -> torch.Tensor:
        if self.l1 == 0:
            return loss
        return loss + self.l1 * torch.stack(torch._foreach_norm(list(self.model.parameters()), 1)).sum()

    def _step_scheduler(self) -> None:
        """Step the schedulers that Lightning does not."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            if "val/loss" in self.epoch_metrics:
                scheduler.step(self.epoch_metrics["val/loss"])
        elif scheduler is not None and not self.automatic_optimization:
            scheduler.step()


def _never() -> bool:
    return False


def _nothing(done: int, loss: float) -> None:
    pass
