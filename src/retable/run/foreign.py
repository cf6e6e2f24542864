"""A LightningModule and a LightningDataModule of somebody's own, which know nothing of this project: built and checked.

A config with a section `module` (conf/lightning.yaml) is such a run; `retable.run.foreign_train` trains it.
"""

import enum
import functools
import io
import pickle
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.seed import isolate_rng
from torch.optim.lr_scheduler import ReduceLROnPlateau

from retable.config.build import LIBRARIES, build, refuse_unknown_keys, target_of
from retable.config.one_lightning import is_of_the_other
from retable.errors import ConfigError, first_line
from retable.models.weights import code_in
from retable.run import devices, facts
from retable.run.loggers import silent_loggers
from retable.run.output import quieten_lightning
from retable.run.record import PLAIN
from retable.training.schedule import length_of


def make_module(config: dict[str, Any]) -> pl.LightningModule:
    """The LightningModule; seed torch before.

    Raises:
        ConfigError: one line, for a key that it does not take, and for one without an optimizer or with two.
    """
    module = _build(config, "module", pl.LightningModule)
    chosen, name = config.get("optimizer"), type(module).__name__
    own = is_overridden("configure_optimizers", module)
    if own and chosen:
        raise ConfigError(f"optimizer={chosen.get('name')}: {name} has its own (configure_optimizers); accepted: none")
    if not own and not chosen:
        raise ConfigError(
            f"module._target_={config['module']['_target_']}: has no configure_optimizers; accepted: a module that has,"
            " or an option of optimizer, e.g. optimizer=adam"
        )
    if not own:
        module.configure_optimizers = functools.partial(_optimizers, config, module)
    return module


def make_data(config: dict[str, Any]) -> pl.LightningDataModule:
    """The LightningDataModule.  Raises: ConfigError, one line."""
    return _build(config, "data", pl.LightningDataModule)


def _build(config: dict[str, Any], section: str, kind: type) -> Any:
    node = config.get(section) or {}
    if not node.get("_target_"):
        raise ConfigError(
            f"{section}: task={config['task'].get('name')} names none; accepted: a {kind.__name__}, as {section}:"
            " {_target_: file.Class}" + (" (a module's own loaders are not used)" if section == "data" else "")
        )
    target = target_of(node, section)
    if not (isinstance(target, type) and issubclass(target, kind)):
        hint = "; `lightning` was imported before retable, which makes the two one" if is_of_the_other(target) else ""
        raise ConfigError(f"{section}._target_={node['_target_']}: is no pytorch_lightning.{kind.__name__}{hint}")
    for key, value in node.items():
        refuse_unknown_keys(value, f"{section}.{key}")
    try:
        given = {key: instantiate(v, _convert_="all") if isinstance(v, dict | list) else v for key, v in node.items()}
    except HydraException as error:
        raise ConfigError(f"{section}: {first_line(error)}") from error
    return build(given, section)


def _optimizers(config: dict[str, Any], module: pl.LightningModule) -> dict[str, Any]:
    """What configure_optimizers gives for a module that has none."""
    optimizer = build(config["optimizer"], "optimizer", [p for p in module.parameters() if p.requires_grad])
    node = config.get("scheduler") or {}
    if not node.get("_target_"):
        return {"optimizer": optimizer}
    interval = node.get("interval", "epoch")
    known = length_of(interval, module._trainer) | _direction(config)
    scheduler = build(node, "scheduler", optimizer, ignore=("interval",), **known)
    settings = {"scheduler": scheduler, "interval": interval, "monitor": config["task"]["metric"]}
    return {"optimizer": optimizer, "lr_scheduler": settings}


def _direction(config: dict[str, Any]) -> dict[str, str]:
    """Which values of `task.metric` are the better, for a scheduler that waits for them; torch's takes the lower ones.

    Raises:
        ConfigError: where nothing says it before the first step.
    """
    node = config.get("scheduler") or {}
    target = target_of(node, "scheduler") if node.get("_target_") else None
    if "mode" in node or not (isinstance(target, type) and issubclass(target, ReduceLROnPlateau)):
        return {}
    mode = config["task"].get("mode")
    if mode is None:
        raise ConfigError(
            f"task.mode: scheduler={node.get('name')} asks which values of {config['task']['metric']} are the better"
            " before the first is logged; accepted: max, min"
        )
    return {"mode": mode}


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Refuse a config that would not run: builds both, and tries a step of each pair of classes once in a process.

    Returns:
        {"parameters": number of learnable parameters}.

    Raises:
        ConfigError: one line; also for a metric that is not logged in a first step.
    """
    if config["trainer"].get("cuda_graph"):
        raise ConfigError("trainer.cuda_graph=true: accepted with a module of somebody's own: false")
    module, scheduler = make_module(config), config.get("scheduler") or {}
    if scheduler.get("_target_") and not config.get("optimizer"):
        has = f"{type(module).__name__} has its own (configure_optimizers)"
        raise ConfigError(f"scheduler={scheduler.get('name')}: {has}; accepted: none")
    _direction(config)
    _check_monitored(config, _tried(config, module).logged)
    return {"parameters": facts.count_parameters(module)}


class _Tried(NamedTuple):
    """What is logged in a first step: all names that Lightning has for it, and those of validation; directions."""

    logged: list[str]
    of_validation: set[str]
    higher_is_better: dict[str, bool]


_TRIED: dict[Any, _Tried] = {}


def _tried(config: dict[str, Any], module: pl.LightningModule | None = None) -> _Tried:
    key = (config["module"]["_target_"], (config["data"] or {}).get("_target_"), *sorted(config["task"].items()))
    if key not in _TRIED:
        _TRIED[key] = _try(config, make_module(config) if module is None else module, make_data(config))
    return _TRIED[key]


def directions(config: dict[str, Any]) -> dict[str, bool]:
    """Whether the highest value is the best, by name: of what declares it, and of task.metric with a task.mode."""
    stated = config["task"].get("mode")
    known = _tried(config).higher_is_better
    return known | ({config["task"]["metric"]: stated == "max"} if stated else {})


def check_validated(config: dict[str, Any], ended_before: str) -> None:
    """Refuse a training that ends before its first validation, where that is what logs `task.metric`.

    Asked at a training's start, whose random numbers stay as they are.

    Args:
        ended_before: see `retable.run.first_validation`.
    """
    metric = config["task"]["metric"]
    with isolate_rng(include_cuda=torch.cuda.is_initialized()):
        of_validation = _tried(config).of_validation
    if metric in of_validation:
        raise ConfigError(
            f"{ended_before}, which is what logs task.metric={metric}; accepted: a longer training, or a smaller"
            " trainer.val_check_interval or trainer.check_val_every_n_epoch"
        )


_LARGE = ("state_dict", "optimizer_states")  # of tensors


def _check_monitored(config: dict[str, Any], logged: list[str]) -> None:
    """Refuse a callback that monitors what is not logged, unless a callback of somebody's own may log it."""
    for name, node in ({} if _may_log_more(config) else config.get("callbacks") or {}).items():
        if node.get("monitor") not in (None, *logged) and node.get("strict", True):
            accepted = ", ".join(logged) or "nothing is logged"
            raise ConfigError(f"callbacks.{name}.monitor={node['monitor']}: is not logged; accepted: {accepted}")


def _may_log_more(config: dict[str, Any]) -> bool:
    """Whether there are callbacks of somebody's own, which no trial has."""
    nodes = (config.get("callbacks") or {}).values()
    return any(node["_target_"].split(".")[0] not in LIBRARIES for node in nodes)


def empty_root() -> str:
    """The root folder of a Trainer that keeps nothing: one of this process's, in which nothing lies.

    Lightning takes up the newest `hpc_ckpt_*.ckpt` of its root folder, by default the working directory, wherever it
    sees SLURM's variables: another job's weights.
    """
    return _empty_folder().name


@functools.cache
def _empty_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="retable-")  # goes with the process


def _try(config: dict[str, Any], module: pl.LightningModule, data: pl.LightningDataModule) -> _Tried:
    """Take a step of training and one of validation.

    Raises:
        ConfigError: where `task.metric` is not logged, or nobody says which of its values is the better.
    """
    quieten_lightning()
    kind, _ = devices.resolve(config["trainer"]["device"])
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    kind = "gpu" if kind == "cuda" else "cpu"
    quiet |= {"default_root_dir": empty_root(), "logger": False}
    trainer = pl.Trainer(fast_dev_run=1, accelerator=kind, devices=1, **quiet)
    trainer.loggers = silent_loggers(config, empty_root())  # Lightning's own for a fast_dev_run have no folder
    trainer.fit(module, datamodule=data)
    _check_kept(config, trainer, module, data)
    declared = declared_directions(trainer)
    check_metric(config, list(scalars(trainer)), declared)
    of_training = {item.meta.name for item in trainer.fit_loop.epoch_loop._results.values()}
    trained = {f"{name}{part}" for name in of_training for part in ("", "_step", "_epoch")}
    for callback in trainer.early_stopping_callbacks if not _may_log_more(config) else ():  # the module's own
        if callback.strict and callback.monitor not in trainer.callback_metrics:
            where = f"module._target_={config['module']['_target_']}: its EarlyStopping"
            accepted = ", ".join(trainer.callback_metrics)
            raise ConfigError(f"{where} monitors {callback.monitor}, which is not logged; accepted: {accepted}")
    return _Tried(list(trainer.callback_metrics), set(trainer.callback_metrics) - trained, declared)


def _check_kept(
    config: dict[str, Any], trainer: pl.Trainer, module: pl.LightningModule, data: pl.LightningDataModule
) -> None:
    """Refuse what a module or a DataModule adds to its checkpoints that a stopped run could not go on from."""
    content = trainer._checkpoint_connector.dump_checkpoint()
    drop_objects(content, module, data)
    kept, where = io.BytesIO(), f"module._target_={config['module']['_target_']}"
    try:
        torch.save({key: value for key, value in content.items() if key not in _LARGE}, kept)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(f"{where}: its checkpoints cannot be written ({first_line(error)})") from error
    kept.seek(0)
    if found := code_in(kept):
        raise ConfigError(f"{where}: its checkpoints hold {', '.join(found)}; accepted: {PLAIN}")


def drop_objects(checkpoint: dict[str, Any], *of: pl.LightningModule | pl.LightningDataModule) -> None:
    """Leave out hyperparameters that are objects: with them no checkpoint could be read without executing code.

    They are in the run's config. The others are what Lightning's `load_from_checkpoint` builds the module with.
    """
    for part in of:
        kept = checkpoint.get(part.CHECKPOINT_HYPER_PARAMS_KEY)
        if kept is not None:
            plain = {key: value for key, value in kept.items() if _is_plain(value)}
            checkpoint[part.CHECKPOINT_HYPER_PARAMS_KEY] = plain
            checkpoint.pop(part.CHECKPOINT_HYPER_PARAMS_TYPE, None)  # omegaconf's, now a dict


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return type(value) is dict and _is_plain([*value, *value.values()])
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str | None) and not isinstance(value, enum.Enum)


def check_metric(config: dict[str, Any], logged: list[str], directions: Mapping[str, bool]) -> None:
    metric = config["task"]["metric"]
    if metric not in logged:
        raise ConfigError(f"task.metric={metric}: is not logged; accepted: {', '.join(logged) or 'nothing is logged'}")
    if config["task"].get("mode") is None and metric not in directions:
        raise ConfigError(f"task.mode: {metric} does not say which of its values is the better; accepted: max, min")


def declared_directions(trainer: pl.Trainer) -> dict[str, bool]:
    """Whether the highest value is the best, by name, of what was logged as a torchmetrics.Metric that says so."""
    loop = trainer.fit_loop.epoch_loop
    logged = [item for results in (loop._results, loop.val_loop._results) for item in results.values()]
    values = {item.meta.name: item.value for item in logged}
    return {
        name: value.higher_is_better
        for name, value in values.items()
        if isinstance(getattr(value, "higher_is_better", None), bool)
    }


def scalars(trainer: pl.Trainer) -> dict[str, float]:
    """What has been logged up to now: of a metric that is logged by step and by epoch, the epoch's value."""
    logged = trainer.callback_metrics
    forked = {f"{name}_{part}" for name in logged for part in ("step", "epoch")}
    return {name: float(value) for name, value in logged.items() if name not in forked}
