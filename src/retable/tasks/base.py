"""What all tasks share: an ordinary `training_step`, one row of metrics an epoch, and a faster way through many steps.

`training_step` gives Lightning the loss of a mini-batch (images, targets), so any Trainer trains a Task. Lightning's
own work at each step costs about as much as a small network's step, though (measured in retable.tasks.chunks). Where
nothing wants to see single steps (retable.run.steps decides), the data come as chunks of mini-batches, each of which
goes through one `training_step` by a hand-written loop, with no host synchronisation and no logging. It is the same
training, bit for bit on a CPU, and `trainer.global_step` counts optimizer steps either way: the loop advances
Lightning's own counter.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from retable import checks
from retable.data.loader import Chunk, batches_per_chunk
from retable.errors import ConfigError, DataError
from retable.tasks.build import rebuilt
from retable.tasks.chunks import ChunkSteps
from retable.tasks.measured import Measured
from retable.training.captured import keep_on_device
from retable.training.gradients import GRAD_NORM_EVERY, GradientNorms
from retable.training.losses_seen import LossesSeen
from retable.training.memory import keep_freed_memory
from retable.training.schedule import length_of

_NEVER = 2**62  # epochs


class Diverged(Exception):
    """The loss became NaN or infinite: a result, not a failure."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"loss not finite at epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


class Interrupted(Exception):
    """The run was asked to stop; it goes on from its checkpoint."""


class Task(Measured):
    """A model with its loss, its optimizer and the metrics by which it is compared.

    A subclass writes `reset`, `update` and `compute`, and what else differs from the defaults of
    `retable.tasks.measured.Measured`.

    Args:
        model, loss: see `Measured`, whose attributes it has, too.
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> learning-rate scheduler, or None; given `total_steps`, the training's, where
            `scheduler_interval` is "step".
        l1: weight of the penalty l1 * sum(|parameter|); not part of the reported loss.

    Attributes:
        scheduler_interval: when the scheduler is stepped: "epoch" or "step".
        lr: None, or a learning rate in place of the optimizer's own, as `Tuner.lr_find` sets it.
        any_size: whether images of other sizes than those trained on are accepted.
        shareable: whether several processes can train it together, each on its share of a mini-batch.
        company: None, or what takes a chunk's steps in place of `take_steps`, together with other runs
            (retable.run.fused).
    """

    any_size = False
    shareable = True

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        l1: float = 0.0,
    ) -> None:
        super().__init__(model, loss)
        self.save_hyperparameters(ignore=("model", "loss", "optimizer", "scheduler"), logger=False)
        checks.number("l1", l1, 0)
        self.l1 = l1
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self.scheduler_interval = "epoch"
        self.lr: float | None = None
        self.company: Callable[..., tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]] | None = None
        self.should_interrupt: Callable[[], bool] = _never
        self.on_chunk: Callable[[int, float], None] = _nothing
        self._seconds = {"train": 0.0, "val": 0.0}
        self._pending: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._first_pending = 0
        self._chunks: ChunkSteps | None = None
        self._clock, self._training_since_clock = 0.0, False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The model's outputs."""
        return self.model(images)

    def setup(self, stage: str) -> None:
        """Refuse several processes that do not know of each other: each would train, and count, on its own."""
        if self.ranks is None and self.trainer.world_size > 1:
            raise ConfigError(
                f"Trainer(devices={self.trainer.num_devices}, num_nodes={self.trainer.num_nodes}): a Task's processes"
                " share mini-batches and counts; accepted: one, or trainer=ddp of retable train and sweep"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self._make_optimizer(self.trained_parameters())
        for group in optimizer.param_groups if self.lr is not None else ():
            group["lr"] = self.lr
        if self._make_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self._make_scheduler(optimizer, **length_of(self.scheduler_interval, self._trainer))
        config = {"scheduler": scheduler, "interval": self.scheduler_interval, "monitor": "val/loss"}
        if isinstance(scheduler, ReduceLROnPlateau):  # Lightning would step it behind the epoch's checkpoint
            config["frequency"] = _NEVER
        return {"optimizer": optimizer, "lr_scheduler": config}

    def on_train_start(self) -> None:
        if self.device.type == "cpu":
            keep_freed_memory()
        self._norms = GradientNorms(self.model)
        self._losses_seen = LossesSeen(self._diverge, self.on_chunk)
        optimizer = self.optimizers(use_pl_optimizer=False)
        recorded = self.cuda_graph and self.device.type == "cuda" and not self.automatic_optimization
        keep_on_device(optimizer, recorded)
        if self.automatic_optimization:
            return
        self._chunks = ChunkSteps(self, optimizer, recorded)

    def on_train_epoch_start(self) -> None:
        self.start("train")
        self._norms.reset()
        self._losses_seen.forget()
        self._pending = []
        self._seconds = {"train": 0.0, "val": 0.0}
        self.epoch_metrics = {}
        self._last_lr = self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]  # of an epoch without a step
        self._clock = time.perf_counter()

    def training_step(self, batch: Any, index: int) -> torch.Tensor | None:
        """The loss of a mini-batch (images, targets); None of a chunk, all of whose mini-batches it trains on."""
        self._training_since_clock = True
        if isinstance(batch, Chunk):
            self._last_lr = self._chunks.rate
            self._take_in(*self._chunks.train_on(batch))
            self._end_if_asked()
            return None
        self._end_if_asked()
        images, targets = batch
        if not self._pending:
            self._first_pending = self.trainer.global_step
            self._most_pending = batches_per_chunk(len(targets), images.shape[1:])
        with self.autocast():
            loss, kept = self.shared_step("train", images, targets)
            weight = 1 if self.ranks is None else self.ranks.weight(len(targets), loss.device)
            total = self.penalised(loss if weight == 1 else loss * weight)
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
        self.validated_at = self.trainer.global_step
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

    # Beside the hooks -------------------------------------------------------------------------------------------------

    def take_steps(self, chunk: Chunk, norms_at: Collection[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """See `ChunkSteps.take_steps`."""
        return self._chunks.take_steps(chunk, norms_at)

    def take_norms(self) -> None:
        """Note the gradients' norms as they are now."""
        self._norms.take()

    def penalised(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss with the L1 penalty, as it is minimised."""
        if self.l1 == 0:
            return loss
        return loss + self.l1 * torch.stack(torch._foreach_norm(list(self.model.parameters()), 1)).sum()

    def _end_if_asked(self) -> None:
        if self.should_interrupt():
            raise Interrupted

    def _take_in_pending(self) -> None:
        if self._pending:
            losses, kept, targets = zip(*self._pending, strict=True)
            self._pending = []
            self._take_in(losses, kept, targets, [len(y) for y in targets], self._first_pending)

    def _diverge(self, batch: int) -> None:
        raise Diverged(self.current_epoch + 1, batch // self.trainer.accumulate_grad_batches + 1)

    def _step_scheduler(self) -> None:
        """Step the schedulers that Lightning does not."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            if "val/loss" in self.epoch_metrics:
                scheduler.step(self.epoch_metrics["val/loss"])
        elif scheduler is not None and not self.automatic_optimization:
            scheduler.step()

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a run that began step by step go on in chunks, or the reverse: Lightning counts the two by themselves."""
        super().on_load_checkpoint(checkpoint)
        if "loops" not in checkpoint:  # weights alone
            return
        loops = checkpoint["loops"]["fit_loop"]
        alone = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        in_chunks = loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]
        steps = max(alone["completed"], in_chunks["completed"])
        for counter in (alone, in_chunks):
            counter |= dict.fromkeys(counter, steps)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the run that trains it: a copy, as for averaged weights, reports to nobody."""
        hooks = {"should_interrupt": _never, "on_chunk": _nothing, "company": None, "_evaluations": {}, "_chunks": None}
        return super().__getstate__() | hooks

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = "cpu",
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool = True,
        **given: Any,
    ) -> "Task":
        """A trained task from a checkpoint.

        That of a run says all that it is made from. That of a task made by hand needs the objects it was made from:
        `Classification.load_from_checkpoint(path, model=..., loss=..., optimizer=...)`. No pickled code is executed
        unless weights_only is false. Arguments as Lightning's.

        Raises:
            DataError: for a checkpoint that does not hold what a task is made from, or holds a task of another kind.
        """
        if given:
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only=weights_only, **given
            )
        content = torch.load(checkpoint_path, map_location=map_location, weights_only=weights_only)
        kept = content.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if "config" not in kept:
            raise DataError(f"{checkpoint_path}: of no run of this project; accepted: with model=, loss=, optimizer=")
        task = rebuilt(kept, checkpoint_path, content["state_dict"])
        if not isinstance(task, cls):
            raise DataError(f"{checkpoint_path}: a {type(task).__name__}; accepted: a {cls.__name__}")
        task.on_load_checkpoint(content)
        task.load_state_dict(content["state_dict"], strict=strict is not False)
        return task.to(map_location)


def _never() -> bool:
    return False


def _nothing(done: int, loss: float) -> None:
    pass
