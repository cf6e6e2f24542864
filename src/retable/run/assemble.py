"""From a config to its parts: data, task, rules. Also how a config is checked before anything runs."""

import math
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import profilers
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import CheckpointIO, LayerSync, Precision
from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.flop_counter import FlopCounterMode

from retable import checks
from retable.config import precisions
from retable.config.build import build, parameters, target_of
from retable.config.keys import is_foreign
from retable.config.stepping import by_several, planned_epochs
from retable.errors import ConfigError, first_line, in_one_line
from retable.run import ddp, devices, facts, foreign, precision
from retable.run.loggers import check_loggers
from retable.tasks.base import Task
from retable.tasks.build import make_task
from retable.training.augment import make_augment
from retable.training.averaging import Averaging

_FLOAT_BYTES = 4
_HALF = ("bf16-true", "16-true")  # weights of 16 bits
# Keys of trainer that may be a share of the batches, with the parts of the set that they are a share of.
_SHARES = {
    "limit_train_batches": ("train",),
    "limit_val_batches": ("val",),
    "limit_test_batches": ("test",),
    "overfit_batches": ("train", "val"),
}


def make_data(config: dict[str, Any]) -> pl.LightningDataModule:
    """The task's DataModule with its files read (not yet on a device).

    Raises:
        ConfigError, DataError: one line.
    """
    if is_foreign(config):
        return foreign.make_data(config)
    data = build(config["data"], "data", seed=config["seed"], augment=make_augment(config["augment"]))
    data.prepare()
    return data


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Refuse a config that would not run, without training: reads the data, builds everything without memory.

    Args:
        config: validated (retable.config.validate) by the process that composed it or read it from a disk.

    Returns:
        {"parameters": number of learnable parameters, "work": of the whole training, by "cpu" and "cuda", each in units
        of its own, for comparison with other runs', inf where no number of steps ends it}; of a module of somebody's
        own the parameters alone.

    Raises:
        ConfigError, DataError: one line.
    """
    if is_foreign(config):
        check_loggers(config, make_callbacks(config, None, Path()))
        make_plugins(config["trainer"])
        make_profiler(config["trainer"], Path())
        if by_several(config["trainer"]):
            ddp.check(config, None)
        return foreign.check(config)
    if config["trainer"]["device"] == "cpu":  # before data are read, which may mean to download them
        devices.precision(config["trainer"]["precision"], "cpu")
    make_plugins(config["trainer"])
    make_profiler(config["trainer"], Path())
    if config["trainer"].get("limit_predict_batches") is not None:
        raise ConfigError(
            f"trainer.limit_predict_batches={config['trainer']['limit_predict_batches']}: accepted by"
            f" task={config['task']['name']}: null; retable predict takes the images that it is given"
        )
    data = make_data(config)
    task = make_task(config, data, "meta")
    operations = _check_output(config, task, data)
    task.configure_optimizers()
    if config["trainer"].get("cuda_graph") and not task.fixed_work:
        raise ConfigError(f"trainer.cuda_graph=true: accepted by task={config['task']['name']}: false")
    if by_several(config["trainer"]):
        ddp.check(config, task)
    _check_epochs(config["trainer"])
    _check_shares(config, data)
    make_early_stop(config, task)
    best_is_highest(config, task)
    check_loggers(config, make_callbacks(config, task, Path()))
    count = facts.count_parameters(task.model)
    _check_memory(config, count)
    return {"parameters": count, "work": _work(config, data, operations)}


def _work(config: dict[str, Any], data: Any, operations: float) -> dict[str, float]:
    """Operations of a training. On a GPU small steps take as long as each other: until then launches take the time.

    Args:
        operations: of the forward pass for one image.
    """
    trainer, batch = config["trainer"], config["data"]["batch_size"]
    batches = math.ceil(data.counts.get("train", 0) / batch)
    limit = trainer["limit_train_batches"]
    epochs = planned_epochs(trainer["max_epochs"]) or math.inf
    steps = max(1, batches * limit if isinstance(limit, float) else min(batches, limit)) * epochs
    steps = steps if trainer["max_steps"] == -1 else min(steps, trainer["max_steps"])
    step = precision.PASSES * operations * batch
    return {"cpu": steps * step, "cuda": steps * max(step, precisions.MIXED_FROM)}


def _check_epochs(trainer: dict[str, Any]) -> None:
    """Refuse a training that ends before its first validation."""
    every, epochs = trainer.get("check_val_every_n_epoch") or 1, trainer["max_epochs"]
    if 0 < epochs < every:
        raise ConfigError(
            f"trainer.check_val_every_n_epoch={every}: nothing would be validated; accepted with"
            f" trainer.max_epochs={epochs}: at most {epochs}"
        )


def _check_shares(config: dict[str, Any], data: Any) -> None:
    """Refuse a validation after more batches than an epoch has, and a share of batches that is less than one of them,
    of a set of this project, whose size is known."""
    trainer, counts = config["trainer"], getattr(data, "counts", {})
    if "train" not in counts:
        return
    copies = len(config["augment"]["transforms"]) if config["augment"]["mode"] == "copies" else 0
    batches = {"train": math.ceil(counts["train"] * (1 + copies) / config["data"]["batch_size"])}
    for split in ("val", "test"):
        if split in counts:
            batches[split] = math.ceil(counts[split] / config["data"]["eval_batch_size"])
    interval = trainer.get("val_check_interval", 1.0)
    counted = trainer.get("check_val_every_n_epoch", 1) is not None and isinstance(interval, int)
    if counted and interval > batches["train"]:
        raise ConfigError(
            f"trainer.val_check_interval={interval}: accepted: at most {batches['train']}, the batches of an epoch"
        )
    for key, splits in _SHARES.items():
        if key == "limit_test_batches" and trainer.get(key) is None:
            key = "limit_val_batches"  # which is then of the test set, too
        share, known = trainer.get(key, 1.0), [batches[split] for split in splits if split in batches]
        if known and isinstance(share, float) and 0 < share * min(known) < 1:
            raise ConfigError(
                f"trainer.{key}={share}: less than one of {min(known)} batches; accepted: at least"
                f" {1 / min(known):.4g}, or a whole number of batches"
            )


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


def _check_output(config: dict[str, Any], task: Task, data: pl.LightningDataModule) -> float:
    """Refuse a model whose outputs the task or the loss does not take, e.g. a class an image where a mask is wanted.

    Returns:
        Floating-point operations of the model's forward pass for one image.
    """
    shape, name = tuple(data.image_shape), config["model"].get("name")
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
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
            reason = in_one_line(error)
            raise ConfigError(
                f"loss={config['loss'].get('name')}: does not fit task={config['task']['name']} ({reason})"
            ) from error
    return counter.get_total_flops() / 2


def best_is_highest(config: dict[str, Any], task: Task) -> bool:
    """Whether an epoch is the better the higher its `task.metric` is.

    Raises:
        ConfigError: for a metric that the task does not compute.
    """
    known = known_metrics(task)
    try:
        checks.one_of("task.metric", config["task"]["metric"], known)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return known[config["task"]["metric"]]


def make_callbacks(config: dict[str, Any], task: Task | None, directory: Path) -> list[pl.Callback]:
    """The callbacks that a config names, in its order.

    `mode: auto` of one that monitors a metric becomes the metric's direction, and a ModelCheckpoint that names no
    folder keeps its files in `checkpoints` of the run.

    Args:
        task: None for a module of somebody's own, of which nobody knows what it will log.
        directory: the run's.

    Raises:
        ConfigError: for a class that is no callback, a value that it refuses, and a metric that the task has not.
    """
    known = {} if task is None else known_metrics(task)
    made = []
    for name, node in (config.get("callbacks") or {}).items():
        key, given = f"callbacks.{name}", dict(node)
        if "monitor" in node and known:
            try:
                checks.one_of(f"{key}.monitor", node["monitor"], known)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        if given.get("mode") == "auto":
            directions = foreign.directions(config) if task is None else known
            if node.get("monitor") not in directions:
                raise ConfigError(f"{key}.mode=auto: accepted: min, max; nobody says which is better")
            given["mode"] = "max" if directions[node["monitor"]] else "min"
        target = target_of(node, key)
        if not (isinstance(target, type) and issubclass(target, pl.Callback)):
            raise ConfigError(f"{key}._target_={node['_target_']}: accepted: a class derived from Lightning's Callback")
        if issubclass(target, ModelCheckpoint) and given.get("dirpath") is None:
            given["dirpath"] = directory / "checkpoints"
        precision_name = str(config["trainer"]["precision"])
        if issubclass(target, Averaging) and precision_name in _HALF:
            raise ConfigError(
                f"{key}: accepted with trainer.precision={precision_name}: none, as a mean of {precision_name} weights"
                f" loses small steps; {precision_name.replace('true', 'mixed')} keeps weights in float32"
            )
        try:
            made.append(build(given, key))
        except MisconfigurationException as error:
            raise ConfigError(f"{key}: {first_line(error)}") from error
    return made


def known_metrics(task: Task) -> dict[str, bool]:
    """What a task logs of validation and training, by column, each with whether higher is better."""
    return {f"{split}/{name}": higher for split in ("val", "train") for name, higher in task.metrics(split).items()}


def make_early_stop(config: dict[str, Any], task: pl.LightningModule) -> Any:
    """The rule of retable.training.early_stop that a config names, or None.

    Raises:
        ConfigError: for a value that it refuses, and for a metric that the task has not.
    """
    node = config.get("early_stop") or {}  # runs from before the rules were there have none
    if not node.get("_target_"):
        return None
    known = known_metrics(task) if isinstance(task, Task) else {}
    column = node.get("metric", "dice")
    if "/" not in column:
        known = {name.removeprefix("val/"): higher for name, higher in known.items() if name.startswith("val/")}
    try:
        if known:
            checks.one_of("early_stop.metric", column, known)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if column not in known and column == config["task"]["metric"]:
        known = {column: best_is_highest(config, task)}
    return build(node, "early_stop", **({"higher_is_better": known[column]} if column in known else {}))


# Keys of trainer/ that are handed to Lightning's Trainer as they are, where a config has them.
_TRAINERS = ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches")
_TRAINERS += ("limit_val_batches", "inference_mode", "reload_dataloaders_every_n_epochs", "enable_autolog_hparams")
_TRAINERS += ("overfit_batches", "num_sanity_val_steps", "val_check_interval", "check_val_every_n_epoch")
_TRAINERS += (
    "log_every_n_steps",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "deterministic",
    "detect_anomaly",
    "benchmark",
)
_PROFILERS = {
    "simple": profilers.SimpleProfiler,
    "advanced": profilers.AdvancedProfiler,
    "pytorch": profilers.PyTorchProfiler,
}
# Plugins of Lightning's whose work is done here.
_NO_PLUGINS = {
    CheckpointIO: "none; a run's checkpoints are its own (conf/checkpoint)",
    ClusterEnvironment: "none; trainer=ddp finds its processes itself",
}
# What Lightning's defaults would be for runs from before a key was there.
_BEFORE = {"num_sanity_val_steps": 0, "deterministic": False}  # not None: it would keep what the last run had set


def trainer_arguments(node: dict[str, Any], directory: Path) -> dict[str, Any]:
    """What a config's trainer/ says, as arguments of Lightning's Trainer.

    Args:
        node: the config's `trainer`, its precision resolved.
        directory: the run's, where a profiler writes.
    """
    given = _BEFORE | {key: node[key] for key in _TRAINERS if key in node}
    given |= {"limit_test_batches": _limit_of_test(node)}
    given |= {"precision": precisions.lightnings(node["precision"])}
    given["profiler"] = make_profiler(node, directory)
    given["plugins"] = make_plugins(node)
    if any(isinstance(plugin, Precision) for plugin in given["plugins"]):
        del given["precision"]  # the plugin says it
    if node.get("sync_batchnorm") and by_several(node):
        given["sync_batchnorm"] = True
    return given


def make_profiler(node: dict[str, Any], directory: Path) -> profilers.Profiler | None:
    """The profiler that a config's trainer/ names, by Lightning's word or by its class, writing to a run's directory.

    Raises:
        ConfigError: for a class that is no profiler, and for a value that it refuses.
    """
    named = node.get("profiler")
    if not isinstance(named, dict):
        return _PROFILERS[named](dirpath=directory, filename="profile") if named else None
    target = target_of(named, "trainer.profiler")
    if not (isinstance(target, type) and issubclass(target, profilers.Profiler)):
        raise ConfigError(
            f"trainer.profiler._target_={named['_target_']}: accepted: a class derived from Lightning's Profiler"
        )
    places = {"dirpath": directory, "filename": "profile"}
    taken = {key: value for key, value in places.items() if key in parameters(target)}
    return build(taken | named, "trainer.profiler")


def _limit_of_test(node: dict[str, Any]) -> float:
    """Batches of the test set that are used, or a share: as of the validation set where trainer does not say it."""
    limit = node.get("limit_test_batches")
    return node["limit_val_batches"] if limit is None else limit


def make_plugins(node: dict[str, Any]) -> list[Any]:
    """Lightning's plugins that a config's trainer/ names.

    Raises:
        ConfigError: for what is none, for a precision beside another one, and for one that does what is done here.
    """
    made: list[Any] = []
    for number, given in enumerate(node.get("plugins") or ()):
        key = f"trainer.plugins.{number}"
        target = target_of(given, key)
        for kind, instead in _NO_PLUGINS.items():
            if isinstance(target, type) and issubclass(target, kind):
                raise ConfigError(f"{key}._target_={given['_target_']}: a {kind.__name__}; accepted: {instead}")
        if not (isinstance(target, type) and issubclass(target, Precision | LayerSync)):
            raise ConfigError(
                f"{key}._target_={given['_target_']}: accepted: a class derived from Lightning's Precision or LayerSync"
            )
        if issubclass(target, Precision) and str(node["precision"]) != "32":
            raise ConfigError(f"trainer.precision={node['precision']}: accepted with {given['_target_']}: 32")
        made.append(build(given, key))
    return made
