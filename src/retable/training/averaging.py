"""Averaged weights: what is validated, tested and kept in place of the last ones.

Lightning's `WeightAveraging` swaps the average in while it validates. Before the first update the average is a copy of
the untrained weights, and a run that is continued behind its last epoch never reaches the hook that leaves the average
in the module; both are mended here.
"""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from retable import checks
from retable.errors import ConfigError


class Averaging(WeightAveraging):
    """What EMA and SWA have in common."""

    @property
    def _begun(self) -> bool:
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swapped = self._begun
        if self._swapped:
            self._swap_models(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._swapped:
            self._swap_models(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._leave(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._leave(pl_module)

    def _leave(self, pl_module: pl.LightningModule) -> None:
        if self._begun:
            self._copy_average_to_current(pl_module)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        if self._begun:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class EMA(Averaging):
    """An exponential moving average: after each step, average = decay * average + (1 - decay) * weights.

    Args:
        decay: in [0, 1).
        from_step: the average begins with the weights after this optimizer step, from 0.

    Raises:
        ValueError: an argument that is not accepted.
    """

    def __init__(self, decay: float = 0.999, from_step: int = 0) -> None:
        checks.number("decay", decay, 0, 1, open_high=True)
        checks.integer("from_step", from_step, 0)
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.from_step = from_step

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx + 1 >= self.from_step


class SWA(Averaging):
    """Stochastic weight averaging: the mean of the weights after each epoch from `start` on.

    The mean is taken before the epoch's validation, so that an epoch's values are those of the weights that are kept.
    Running statistics of batch norms are averaged, too, where the paper takes them anew.

    Args:
        start: a share of the epochs (0.75), or an epoch (15), at whose end the mean begins.

    Raises:
        ValueError: an argument that is not accepted.

    Reference: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization.
    """

    def __init__(self, start: float = 0.75) -> None:
        checks.number("start", start, 0, 1 if isinstance(start, float) else math.inf)
        super().__init__()
        self.start = start

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.max_epochs == -1 and isinstance(self.start, float):
            raise ConfigError(
                f"callbacks.swa.start={self.start}: a share of the epochs, and trainer.max_epochs=-1 leaves their"
                " number open; accepted: an epoch, e.g. 15"
            )
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        first = math.ceil(self.start * trainer.max_epochs) if isinstance(self.start, float) else self.start
        if trainer.is_last_batch and trainer.current_epoch + 1 >= first:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
