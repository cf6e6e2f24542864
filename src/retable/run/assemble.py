"""From a config to its parts: data, task, rules. Also how a config is checked before anything runs."""

import os
from typing import Any

import pytorch_lightning as pl
import torch

from retable import checks
from retable.config.build import build
from retable.config.keys import is_foreign
from retable.config.validate import validate
from retable.errors import ConfigError
from retable.run import ddp, foreign
from retable.tasks.base import Task
from retable.tasks.build import make_task
from retable.training.augment import Augment

_FLOAT_BYTES = 4


def make_data(config: dict[str, Any]) -> pl.LightningDataModule:
    """The task's DataModule with its files read (not yet on a device).

    Raises:
        ConfigError, DataError: one line.
    """
    if is_foreign(config):
        return foreign.make_data(config)
    node = config["augment"]
    transforms = [build(node[name], f"augment.{name}") for name in node["transforms"]]
    augment = Augment(node["mode"], transforms) if transforms else None
    data = build(config["data"], "data", seed=config["seed"], augment=augment)
    data.prepare()
    return data


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Refuse a config that would not run, without training: reads the data, builds everything without memory.

    Returns:
        {"parameters": number of learnable parameters}.

    Raises:
        ConfigError, DataError: one line.
    """
    validate(config)
    if is_foreign(config):
        return foreign.check(config)
    data = make_data(config)
    task = make_task(config, data, "meta")
    _check_output(config, task, data)
    task.configure_optimizers()
    if config["trainer"].get("cuda_graph") and not task.fixed_work:
        raise ConfigError(f"trainer.cuda_graph=true: accepted by task={config['task']['name']}: false")
    if ddp.is_asked_for(config):
        ddp.check(config, task)
    make_early_stop(config)
    best_is_highest(config, task)
    count = count_parameters(task)
    _check_memory(config, count)
    return {"parameters": count}


def _check_memory(config: dict[str, Any], count: int) -> None:
    """Refuse a model whose weights and gradients alone are larger than the machine's memory."""
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return
    needed = 2 * _FLOAT_BYTES * count
    if needed > available:
        raise ConfigError(
            f"model={config['model'].get('name')}: {count:,} parameters need {needed / 2**30:,.0f} GiB; accepted: what"
            f" fits this machine's {available / 2**30:,.0f} GiB"
        )


def _check_output(config: dict[str, Any], task: Task, data: pl.LightningDataModule) -> None:
    """Refuse a model whose outputs the task or the loss does not take, e.g. a class an image where a mask is wanted."""
    shape, name = tuple(data.image_shape), config["model"].get("name")
    with torch.no_grad(), torch.device("meta"):
        outputs = task.model.eval()(torch.empty(2, *shape))
        wanted = task.output_shape(2, data.num_classes, shape)
        if tuple(outputs.shape) != wanted:
            raise ConfigError(
                f"model={name}: gives outputs of shape {tuple(outputs.shape[1:])} an image; accepted by"
                f" task={config['task']['name']}: {wanted[1:]}"
            )
        try:
            if (targets := task.targets_like(2, shape)) is not None:
                task.compute_loss(outputs, targets)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"loss={config['loss'].get('name')}: does not fit task={config['task']['name']} ({reason})"
            ) from error


def best_is_highest(config: dict[str, Any], task: Task) -> bool:
    """Whether an epoch is the better the higher its `task.metric` is.

    Raises:
        ConfigError: for a metric that the task does not compute.
    """
    known = {f"{split}/{name}": higher for split in ("val", "train") for name, higher in task.metrics(split).items()}
    try:
        checks.one_of("task.metric", config["task"]["metric"], known)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return known[config["task"]["metric"]]


def make_early_stop(config: dict[str, Any]) -> Any:
    """The rule of retable.training.early_stop that a config names, or None. Raises ConfigError."""
    node = config.get("early_stop") or {}  # runs from before the rules were there have none
    return build(node, "early_stop") if node.get("_target_") else None


def count_parameters(task: Task) -> int:
    """Learnable parameters of a task's model."""
    return sum(p.numel() for p in task.model.parameters() if p.requires_grad)
