"""Whether a run's optimizer steps go through Lightning one by one, or many in one Lightning step.

Both ways are the same training (retable.tasks.base); the second is two to four times as fast for small networks. It
hides the single steps from the Trainer and its callbacks, so it is taken only where none of them asks for a step.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from retable.config.build import target_of
from retable.config.stepping import counting_steps, wanting_steps
from retable.data.module import ImageData
from retable.errors import ConfigError
from retable.tasks.base import Task
from retable.training.captured import BLOCK

# What a callback or a task may do at each step.
_STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_STEP_METHODS = (
    *_STEP_HOOKS,
    "training_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
)


def choose(
    config: dict[str, Any], task: pl.LightningModule, data: pl.LightningDataModule, callbacks: Sequence[Callback]
) -> dict[str, Any]:
    """How a run takes its steps; tells the task and its data so.

    Returns:
        {"in_chunks": true or false, "because": the reason in a few words}, for the log and result.json.

    Raises:
        ConfigError: for a step that is to be recorded (trainer.cuda_graph) where something asks for single steps.
    """
    reasons = list(_reasons(config, task, data, callbacks))
    if config["trainer"].get("cuda_graph") and config["trainer"].get("compile"):
        raise ConfigError("trainer.cuda_graph=true: accepted with trainer.compile=true: false")
    if config["trainer"].get("cuda_graph") and not reasons:
        in_chunks, because = True, "trainer.cuda_graph=true"  # chunks of one mini-batch where a limit counts them
    elif config["trainer"].get("cuda_graph"):
        raise ConfigError(f"trainer.cuda_graph=true: accepted with {reasons[0]}: false")
    else:
        reasons += counting_steps(config["trainer"])
        in_chunks, because = not reasons, reasons[0] if reasons else "nothing asks for single steps"
    if in_chunks:
        task.automatic_optimization = False
        data.whole_chunks = True
        data.block = BLOCK if config["trainer"].get("cuda_graph") else None
    return {"in_chunks": in_chunks, "because": because}


def _reasons(
    config: dict[str, Any], task: pl.LightningModule, data: pl.LightningDataModule, callbacks: Sequence[Callback]
) -> Iterator[str]:
    if not isinstance(task, Task):
        yield f"task._target_={config['task']['_target_']}"
        return
    if not isinstance(data, ImageData):
        yield f"data._target_={config['data']['_target_']}"
    for method in _STEP_METHODS:
        if getattr(type(task), method) is not getattr(Task, method):
            yield f"{type(task).__name__}.{method}"
    for callback in callbacks:
        if _wants_steps(callback):
            yield f"callback {type(callback).__name__}"
    yield from wanting_steps(config)
    step = getattr(target_of(config["optimizer"], "optimizer"), "step", None)
    closure = None if step is None else inspect.signature(step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:  # it evaluates a step's loss several times
        yield f"optimizer._target_={config['optimizer']['_target_']}"


def _wants_steps(callback: Callback) -> bool:
    if isinstance(callback, GradientAccumulationScheduler | StochasticWeightAveraging):
        return True  # at an epoch's start they change what a step is
    if isinstance(callback, ModelCheckpoint) and not callback._every_n_train_steps:
        return callback._train_time_interval is not None
    return any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in _STEP_HOOKS)
