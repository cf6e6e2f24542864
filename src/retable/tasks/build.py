"""A Task from a config and from what its data look like; also from what a checkpoint says of both."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from retable.config.build import build, parameters, target_of
from retable.config.keys import own
from retable.config.targets import check_targets
from retable.errors import ConfigError, DataError, RetableError
from retable.tasks.measured import Measured
from retable.training.init import default

BUILT = ("model", "activation", "loss", "task")  # sections of a config that a trained model is made of
HINT = "--trust"


class Described(Protocol):
    """What a task needs to know of its data.

    classes: names by label; image_shape: (C, H, W); levels: see `ImageData.levels`.
    """

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    levels: tuple[float, ...] | None


def make_task(config: dict[str, Any], data: Described, device: str = "cpu") -> Measured:
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
        _refuse_to_draw_anew(config, model)
        build(config["init"], "init", model)
        loss = _make_loss(config["loss"])
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
    task.scheduler_interval = config["scheduler"].get("interval", "epoch")
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


def rebuilt(kept: Mapping[str, Any], where: Path, state: Mapping[str, torch.Tensor], trust: bool = False) -> Measured:
    """The task that a `description` in a checkpoint is of, new; made only where the weights beside it are of its size.

    Args:
        where: the file, for messages.
        state: the weights in the checkpoint; they are yet to be loaded.
        trust: whether classes that neither this project nor the working directory's provides may be called.

    Raises:
        DataError: for a config that names what may not be called, and for weights that are not finite.
        RuntimeError: for weights that are not of that model.
        ConfigError, KeyError, TypeError: for what is no description.
    """
    check_targets(kept["config"], where, BUILT, trust, HINT)
    config = kept["config"] | {"init": {"_target_": "retable.training.default"}}  # the weights come from the file
    if "weights" in parameters(target_of(config["model"], "model")):  # nor from where training took its own
        config = config | {"model": config["model"] | {"weights": "none"}}

    class Kept:
        classes = tuple(kept["classes"])
        image_shape = tuple(kept["image_shape"])
        levels = kept.get("levels")

    try:
        wanted = {key: tuple(value.shape) for key, value in make_task(config, Kept(), "meta").state_dict().items()}
    except RetableError:
        raise
    except Exception:  # a model of a user's own that cannot be made without memory
        wanted = {key: tuple(value.shape) for key, value in state.items()}
    for key in dict.fromkeys((*wanted, *state)):
        found = tuple(state[key].shape) if key in state else None
        if found != wanted.get(key):
            raise RuntimeError(f"{key}: {wanted.get(key) or 'nothing'} of that model, {found or 'nothing'} in the file")
    for key, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DataError(f"{where}: {key} holds values that are not finite; accepted: weights that are")
    return make_task(config, Kept())


def _make_model(config: dict[str, Any], data: Described) -> nn.Module:
    known = parameters(target_of(config["model"], "model"))
    dropout = build({"_target_": "retable.models.parts.Dropout"} | config["dropout"], "dropout")
    if "dropout" not in known and dropout.p > 0:
        raise ConfigError(f"dropout={dropout.p}: model={config['model'].get('name')} takes no dropout; accepted: none")
    chosen, name = config["activation"].get("name"), config["model"].get("name")
    if "activation" not in known and chosen != "relu":
        raise ConfigError(f"activation={chosen}: model={name} has its own; accepted: relu")
    activation = _activation(config["activation"])
    task = target_of(config["task"], "task")
    channels = task.channels(config["task"], len(data.classes))
    context = {"activation": activation, "dropout": dropout, "num_classes": channels, "classes": tuple(data.classes)}
    return build(config["model"], "model", in_shape=tuple(data.image_shape), **context)


def _refuse_to_draw_anew(config: dict[str, Any], model: nn.Module) -> None:
    """Refuse an initialisation of weights that were not drawn but loaded."""
    node = config["init"]
    if getattr(model, "weights_source", None) is not None and target_of(node, "init") is not default:
        raise ConfigError(
            f"init={node.get('name')}: draws anew what model.weights={config['model'].get('weights')} brings along;"
            " accepted: default, or model.weights=none"
        )


def _make_loss(node: dict[str, Any]) -> nn.Module:
    loss = build(node, "loss", ignore=("l1",))
    # An epoch's loss is put together from means.
    if isinstance(loss, nn.modules.loss._Loss) and loss.reduction != "mean":
        raise ConfigError(f"loss.reduction={loss.reduction}: accepted: mean")
    return loss


def _activation(node: dict[str, Any]) -> Callable[[], nn.Module]:
    """What makes a layer: the class, with the keys that its node has."""
    target = target_of(node, "activation")
    given = {key: value for key, value in node.items() if key not in ("name", "_target_")}
    if not given:
        return target
    build(node, "activation")  # refuses what the class does not take
    return functools.partial(target, **given)


def _make_optimizer(node: dict[str, Any], weights: Any) -> torch.optim.Optimizer:
    return build(node, "optimizer", weights)


def _make_scheduler(node: dict[str, Any], optimizer: torch.optim.Optimizer, **context: Any) -> Any:
    return build(node, "scheduler", optimizer, ignore=("interval",), **context)
