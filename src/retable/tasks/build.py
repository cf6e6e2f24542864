"""A Task from a config and from what its data look like; also from what a checkpoint says of both."""

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from retable.config.build import build, parameters, target_of
from retable.config.keys import own
from retable.errors import ConfigError, DataError
from retable.models.parts import Dropout
from retable.tasks.base import Task


class Described(Protocol):
    """What a task needs to know of its data.

    classes: names by label; image_shape: (C, H, W); levels: see `ImageData.levels`.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    levels: tuple[float, ...] | None


def make_task(config: dict[str, Any], data: Described, device: str = "cpu") -> Task:
    """The LightningModule with its model initialised; seed torch before.

    Args:
        config: resolved config.
        data: says what images look like and which classes there are.
        device: "cpu", or "meta" to check a config at no cost.

    Raises:
        ConfigError: one line, for a key, value or combination that is not accepted.
    """
    with torch.device(device):
        model = _make_model(config, data)
        build(config["init"], "init", model)
        loss = build(config["loss"], "loss", ignore=("l1",))
    scheduler = functools.partial(_make_scheduler, config["scheduler"]) if config["scheduler"]["_target_"] else None
    task = build(
        config["task"],
        "task",
        ignore=("metric",),
        model=model,
        loss=loss,
        l1=config["loss"].get("l1", 0.0),
        classes=data.classes,
        levels=data.levels,
        optimizer=functools.partial(_make_optimizer, config["optimizer"]),
        scheduler=scheduler,
    )
    task.save_hyperparameters(description(config, data), logger=False)
    return task


def description(config: dict[str, Any], data: Described) -> dict[str, Any]:
    """What `rebuilt` makes a task from, as a checkpoint keeps it: plain values only."""
    return {
        "config": own(config),
        "classes": list(data.classes),
        "levels": None if data.levels is None else [float(v) for v in data.levels],
        "image_shape": [int(n) for n in data.image_shape],
    }


def rebuilt(kept: Mapping[str, Any], where: str) -> Task:
    """The task that a `description` in a checkpoint is of; its weights are to be loaded.

    Args:
        where: the file, for messages.

    Raises:
        DataError: for a config that names something else than torch modules, which could be called in their place.
        ConfigError, KeyError, TypeError: for what is no description.
    """
    config = kept["config"] | {"init": {"_target_": "retable.training.init.default"}}  # the weights come from the file
    if config["model"].get("weights") is not None:  # nor from the file or address that training began with
        config = config | {"model": config["model"] | {"weights": "none"}}
    for part in ("model", "activation", "loss", "task"):  # os.system has a name too
        target = target_of(config[part], part)
        if not (isinstance(target, type) and issubclass(target, nn.Module)):
            raise DataError(f"{where}: refused, {part}._target_={config[part]['_target_']} is no torch module")

    class Kept:
        classes = tuple(kept["classes"])
        image_shape = tuple(kept["image_shape"])
        levels = kept.get("levels")

    return make_task(config, Kept())


def _make_model(config: dict[str, Any], data: Described) -> nn.Module:
    known = parameters(target_of(config["model"], "model"))
    dropout = Dropout(**config["dropout"])
    if "dropout" not in known and dropout.p > 0:
        raise ConfigError(f"dropout={dropout.p}: model={config['model'].get('name')} takes no dropout; accepted: none")
    chosen, name = config["activation"].get("name"), config["model"].get("name")
    if "activation" not in known and chosen != "relu":
        raise ConfigError(f"activation={chosen}: model={name} has its own; accepted: relu")
    activation = target_of(config["activation"], "activation")
    task = target_of(config["task"], "task")
    channels = task.channels(config["task"], len(data.classes))
    context = {"activation": activation, "dropout": dropout, "num_classes": channels, "classes": tuple(data.classes)}
    return build(config["model"], "model", in_shape=tuple(data.image_shape), **context)


def _make_optimizer(node: dict[str, Any], weights: Any) -> torch.optim.Optimizer:
    return build(node, "optimizer", weights)


def _make_scheduler(node: dict[str, Any], optimizer: torch.optim.Optimizer) -> Any:
    return build(node, "scheduler", optimizer)
