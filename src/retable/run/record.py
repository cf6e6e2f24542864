"""The callback that leaves a run's files behind, once an epoch: history.csv, TensorBoard events, last.ckpt.

All that a resumed run needs is in the checkpoint, the history and the random states with it, so that what a resumed run
writes is what an uninterrupted one would have written.
"""

import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping

from retable.config.identity import identity
from retable.config.keys import canonical
from retable.errors import RetableError
from retable.models.weights import code_in
from retable.run import checkpoints, files

# What a run goes on from is read without executing code.
PLAIN = "numbers, text, tensors, NumPy's arrays, and lists, tuples, sets and dictionaries of them"


class Record(Checkpoint):
    """Writes an epoch's row and checkpoint when all its metrics are known.

    Being a Lightning `Checkpoint` it runs after every other hook of the epoch's end, also the module's.

    Args:
        directory: the run directory.
        metric: column that says which epoch was best, e.g. "val/accuracy".
        higher_is_better: whether the highest value is the best, or the lowest.
        extra: plain values to keep in the checkpoint, so that it can be used without its directory.
        events: None, or what writes TensorBoard's events: (directory, first epoch to purge or None) -> `Events`.
        on_epoch: called with each finished row.
        early_stop: None, or a rule of retable.training.early_stop.
        keep_best: whether the best epoch's checkpoint is kept beside the last one's.
        every: seconds that may be lost: an epoch has no checkpoint where the next one ends in time. 0: each has one.
        asked: whether somebody asks to stop. The epoch that is being trained then gets a checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        metric: str,
        higher_is_better: bool,
        extra: dict[str, Any],
        events: Callable[[Path, int | None], Any] | None,
        on_epoch: Any,
        early_stop: Any = None,
        keep_best: bool = False,
        every: float = 0.0,
        asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.directory, self.metric, self.higher_is_better, self.extra = directory, metric, higher_is_better, extra
        self.on_epoch, self.early_stop = on_epoch, early_stop
        self.keep_best, self.every, self.asked = keep_best, every, asked
        self.rows: list[dict[str, Any]] = []
        self.writes = True  # of several processes that train together the first alone
        self.earlier_seconds = 0.0
        self.fused = 0  # runs that took steps together with this one, itself among them, at most; 0: it was alone
        self._start = time.perf_counter()
        self._open_events, self._events = events, None
        self._rng: dict[str, Any] | None = None
        self._saved, self._saved_at, self._ended_at = 0, time.monotonic(), time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training and validation up to now, those before an interruption included."""
        return self.earlier_seconds + time.perf_counter() - self._start

    @property
    def best(self) -> dict[str, Any]:
        """The row that is best by the run's metric; {} before the first.

        Of equals it is the first that was trained: epoch 0, before training, is best only where it beats them all.
        """
        return self._best_of(self.rows)

    @property
    def trained(self) -> list[dict[str, Any]]:
        """The rows of epochs that were trained."""
        return [row for row in self.rows if row["epoch"] > 0]

    def _best_of(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        rated = [row for row in rows if not math.isnan(row.get(self.metric, math.nan))]
        sign = 1 if self.higher_is_better else -1
        return max(rated, key=lambda row: (sign * row[self.metric], row["epoch"] > 0), default={})

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return self.rows[-1]["epoch"] if self.rows else 0

    @property
    def stopped_after(self) -> int | None:
        """The epoch after which the early stopping rule ended training, or None."""
        return None if self.early_stop is None else self.early_stop.stops_after(self.rows)

    @property
    def saved(self) -> bool:
        """Whether a run that stops now goes on from its last epoch."""
        return self._saved == self.epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()
        self._saved_at = self._ended_at = time.monotonic()
        stopped = self.stopped_after is not None or any(map(_has_stopped, trainer.callbacks))
        trainer.should_stop = trainer.should_stop or stopped  # killed just before its end
        if self._rng is not None:
            restore_rng(self._rng)
            self._rng = None
        if self._open_events is not None:
            begun = self.rows or (self.directory / "train").exists()  # also where it starts over
            self._events = self._open_events(self.directory, self.epochs + 1 if begun else None)
            if self.rows and self.epochs == 0:
                self._events.write(self.rows[0])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **self.metrics(trainer, pl_module)}
        self.rows.append(row)
        if self.stopped_after is not None:
            trainer.should_stop = True
        best = self.keep_best and self._best_of(self.trained) is row
        due = best or self._is_due(trainer)
        if self.writes and due:
            files.write_history(self.directory / files.HISTORY, self.rows)
        elif self.writes:
            files.append_history(self.directory / files.HISTORY, self.rows)
        if self._events is not None:
            self._events.write(row)
        if due:
            self._save(trainer, best)
        self.on_epoch(row)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.saved:  # something has ended training after its last epoch
            self._save(trainer, False)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether the epoch that has just ended is to have a checkpoint."""
        now = time.monotonic()
        lasted, self._ended_at = now - self._ended_at, now
        if now - self._saved_at + lasted >= self.every or self.asked() or trainer.should_stop:
            return True
        if trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs:
            return True
        return trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps

    def _save(self, trainer: pl.Trainer, best: bool) -> None:
        temporary = self.directory / f".{files.CHECKPOINT}"
        trainer.save_checkpoint(temporary)
        if self.writes and not self._saved and (found := code_in(temporary)):
            temporary.unlink()
            raise RetableError(f"callbacks: a checkpoint holds {', '.join(found)}; accepted: {PLAIN}")
        if self.writes:
            checkpoints.put(self.directory, temporary, best)
        self._saved, self._saved_at = self.epochs, time.monotonic()

    def metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """What an epoch's row holds beside its number and its step."""
        return pl_module.epoch_metrics

    def before_training(self, metrics: dict[str, float]) -> None:
        """Note what validation before the first epoch gave, as epoch 0."""
        self.rows = [{"epoch": 0, "step": 0, **metrics}]

    def add(self, metrics: dict[str, float]) -> None:
        """Add metrics to the last epoch's row: those of the test set, which is used once."""
        self.rows[-1] |= metrics
        if self.writes:
            files.write_history(self.directory / files.HISTORY, self.rows)

    def close(self, hyperparameters: dict[str, Any] | None = None) -> None:
        """End the event files, with the run's hyperparameters and final metrics for the HParams tab."""
        if self._events is None:
            return
        self._events.close()
        if hyperparameters is not None and self.rows:
            from retable.run.tensorboard import write_hparams

            write_hparams(self.directory, hyperparameters)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds, "rng": rng_state(), "fused": self.fused}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.earlier_seconds, self._rng = state_dict["rows"], state_dict["seconds"], state_dict["rng"]
        self.fused = state_dict.get("fused", 0)
        self._saved = self.epochs

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        """Refuse a checkpoint that was put there from another run, whose end would be taken for this one's.

        A key that only one of both has is new, and what may differ by the machine is not looked at.
        """
        kept = checkpoint.get("retable") or {}
        its, ours = (identity(one.get("config") or {}) for one in (kept, self.extra))
        for key in (key for key in its if key in ours and key not in ("trainer.precision", "model.weights")):
            if its[key] != ours[key] and canonical(its[key]) != canonical(ours[key]):
                said = f"its checkpoint is of another run ({key}={its[key]}); accepted: its own, or none"
                raise RetableError(f"{self.directory}: {said}")

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        checkpoint["retable"] = self.extra


def _has_stopped(callback: pl.Callback) -> bool:
    """Whether a callback of Lightning's ended training in the epoch that a checkpoint was written in."""
    return isinstance(callback, EarlyStopping) and (
        callback.wait_count >= callback.patience or callback.stopped_epoch > 0
    )


def rng_state() -> dict[str, Any]:
    """States of all random generators as plain values and tensors, which load without unpickling code."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": list(random.getstate()[1]),
        "python_gauss": random.getstate()[2],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Set all random generators to a state of `rng_state`."""
    torch.set_rng_state(state["torch"].cpu())
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    random.setstate((3, tuple(state["python"]), state["python_gauss"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
