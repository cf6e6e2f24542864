"""Whether a training of so many steps or epochs gets as far as its first validation, by what Lightning knows of it."""

import math

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler


def ended_before(trainer: pl.Trainer) -> str:
    """The setting by which training ends before its first validation, with where that would be; "" where none does.

    "" also where nobody knows before: of a module that steps its optimizers itself, of an epoch without a length, of a
    time.

    Args:
        trainer: at the start of a training, its loaders made.
    """
    every, at, batches = trainer.check_val_every_n_epoch, trainer.val_check_batch, trainer.num_training_batches
    if at is None:  # a time
        return ""
    if every is not None and trainer.max_epochs not in (None, -1) and trainer.max_epochs < every:
        return f"trainer.max_epochs={trainer.max_epochs}: training ends before its first validation, in epoch {every}"
    at = batches if at == math.inf else at
    if trainer.max_steps == -1 or at == math.inf or (batches == math.inf and every not in (None, 1)):
        return ""
    if not trainer.lightning_module.automatic_optimization or any(
        isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks
    ):
        return ""
    before = at - 1 if every in (None, 1) else (every - 1) * batches + at - 1
    epochs, within = (0, before) if batches == math.inf else divmod(before, int(batches))
    each = trainer.accumulate_grad_batches
    steps = within // each + (epochs and epochs * math.ceil(batches / each))  # an epoch's last batch always steps
    if steps < trainer.max_steps:
        return ""
    return f"trainer.max_steps={trainer.max_steps}: training ends before its first validation, after step {steps + 1}"
