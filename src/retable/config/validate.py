"""What every run's config must satisfy, whatever its task: checked without torch, before anything runs.

Classes and functions of this package check their own arguments (retable.checks) when `run.assemble.check` builds them,
which happens before a sweep's first run. The table here has what no such class takes: keys of sections that belong to
the sweep, to Lightning's Trainer, and arguments of torch's optimizers and schedulers, which accept too much.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from retable import checks
from retable.config import instead, precisions
from retable.config.keys import is_foreign, lookup
from retable.config.stepping import DDP
from retable.errors import ConfigError


def _limit(key: str, value: object) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    share = isinstance(value, float) and 0 < value <= 1
    if not whole and not share:
        raise checks.refuse(key, value, "a number of batches (1, 2, ...) or a share in (0, 1]")


def _limit_or_none(key: str, value: object) -> None:
    if isinstance(value, bool) or value not in (0, 0.0):
        _limit(key, value)


def _plugins(key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(node, dict) and "_target_" in node for node in value):
        raise checks.refuse(key, value, "a list of classes of Lightning's plugins, e.g. [{_target_: my.Precision}]")


_TIME = re.compile(r"\d+:\d\d:\d\d:\d\d")


def _limit_or_time(key: str, value: object) -> None:
    if not (isinstance(value, str) and _TIME.fullmatch(value) and value.strip("0:")):
        try:
            _limit(key, value)
        except ValueError:
            raise checks.refuse(
                key, value, "a number of batches (1, 2, ...), a share in (0, 1], or days:hours:minutes:seconds"
            ) from None


def _devices(key: str, value: object) -> None:
    try:
        checks.integer(key, value, 1)
    except ValueError:
        accepted = "a whole number of at least 1; CUDA_VISIBLE_DEVICES=0,2 says which GPUs there are"
        raise checks.refuse(key, value, accepted) from None


def _max_time(key: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and _TIME.fullmatch(value)):
        raise checks.refuse(key, value, "days:hours:minutes:seconds, e.g. 00:12:00:00, or null")


def _max_epochs(key: str, value: object) -> None:
    if type(value) is not int or value != -1:
        checks.integer(key, value, 1)


def _cosine(key: str, value: object) -> None:
    if value == -1:  # conf/scheduler/cosine.yaml
        reason = "it follows trainer.max_epochs=-1, which is no length; accepted: a whole number of at least 1"
        raise ValueError(f"{key}={value}: {reason}")
    checks.integer(key, value, 1)


def _profiler(key: str, value: object) -> None:
    if not isinstance(value, dict) or "_target_" not in value:
        checks.one_of(key, value, (None, "simple", "advanced", "pytorch"))


def _optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """The check of a key that may be null."""
    return lambda key, value: None if value is None else check(key, value)


def _count_or(*words: str) -> Callable[[str, Any], Any]:
    """The check of a key that is one of some words, or a whole number of at least 1."""

    def check(key: str, value: object) -> None:
        if value not in words and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise checks.refuse(key, value, f"{', '.join(words)}, or a whole number of at least 1")

    return check


def _betas(key: str, value: object) -> None:
    pair = isinstance(value, list) and len(value) == 2
    if not pair or not all(isinstance(b, int | float) and not isinstance(b, bool) and 0 <= b < 1 for b in value):
        raise checks.refuse(key, value, "two numbers in [0, 1)")


def _every(key: str, value: object) -> None:
    try:
        checks.seconds(key, 1 if value in ("auto", "epoch") else value)
    except ValueError:
        raise checks.refuse(key, value, "auto, epoch, or a time like 30s, 10m") from None


def _command(key: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise checks.refuse(key, value, "a shell command, or null")


def _tags(key: str, value: object) -> None:
    if not isinstance(value, list) or any(isinstance(tag, list | dict) for tag in value):
        raise checks.refuse(key, value, "a list of words, e.g. [first,night]")


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "seed": lambda k, v: checks.integer(k, v, 0, 2**32 - 1),
    "loss.l1": lambda k, v: checks.number(k, v, 0, math.inf),
    "optimizer.lr": lambda k, v: checks.number(k, v, 0, math.inf, open_low=True),
    "optimizer.weight_decay": lambda k, v: checks.number(k, v, 0, math.inf),
    "optimizer.momentum": lambda k, v: checks.number(k, v, 0, 1, open_high=True),
    "optimizer.betas": _betas,
    "scheduler.interval": lambda k, v: checks.one_of(k, v, ("epoch", "step")),
    "scheduler.T_max": _cosine,
    "scheduler.eta_min": lambda k, v: checks.number(k, v, 0),
    "scheduler.step_size": lambda k, v: checks.integer(k, v, 1),
    "scheduler.gamma": lambda k, v: checks.number(k, v, 0, open_low=True),
    "scheduler.factor": lambda k, v: checks.number(k, v, 0, 1, open_low=True, open_high=True),
    "scheduler.patience": lambda k, v: checks.integer(k, v, 0),
    "trainer.max_epochs": _max_epochs,
    "trainer.max_steps": lambda k, v: v == -1 or checks.integer(k, v, 1),
    "trainer.precision": lambda k, v: checks.one_of(k, str(v), precisions.NAMES),
    "trainer.compile": checks.boolean,
    "trainer.log_every_n_steps": lambda k, v: checks.integer(k, v, 0),
    "trainer.min_steps": _optional(lambda k, v: checks.integer(k, v, 1)),
    "trainer.min_epochs": _optional(lambda k, v: checks.integer(k, v, 1)),
    "trainer.max_time": _max_time,
    "trainer.overfit_batches": _limit_or_none,
    "trainer.num_sanity_val_steps": lambda k, v: checks.integer(k, v, -1),
    "trainer.val_check_interval": _limit_or_time,
    "trainer.check_val_every_n_epoch": _optional(lambda k, v: checks.integer(k, v, 1)),
    "trainer.gradient_clip_val": _optional(lambda k, v: checks.number(k, v, 0)),
    "trainer.gradient_clip_algorithm": lambda k, v: checks.one_of(k, v, ("norm", "value")),
    "trainer.accumulate_grad_batches": lambda k, v: checks.integer(k, v, 1),
    "trainer.profiler": _profiler,
    "trainer.deterministic": lambda k, v: checks.one_of(k, v, (True, False, "warn")),
    "trainer.detect_anomaly": checks.boolean,
    "trainer.benchmark": lambda k, v: checks.one_of(k, v, (None, True, False)),
    "trainer.device": lambda k, v: checks.one_of(k, v, ("auto", "cpu", "cuda")),
    "trainer.cuda_graph": checks.boolean,
    "trainer.limit_train_batches": _limit,
    "trainer.limit_val_batches": _limit,
    "trainer.limit_test_batches": _optional(_limit_or_none),
    "trainer.limit_predict_batches": _optional(_limit),
    "trainer.inference_mode": checks.boolean,
    "trainer.enable_progress_bar": checks.boolean,
    "trainer.enable_model_summary": checks.boolean,
    "trainer.enable_autolog_hparams": checks.boolean,
    "trainer.reload_dataloaders_every_n_epochs": lambda k, v: checks.integer(k, v, 0),
    "trainer.sync_batchnorm": checks.boolean,
    "trainer.plugins": _plugins,
    "trainer.strategy": lambda k, v: checks.one_of(k, v, ("auto", *DDP)),
    "trainer.devices": _devices,
    "trainer.num_nodes": lambda k, v: checks.integer(k, v, 1),
    "trainer.validate_first": checks.boolean,
    "tags": _tags,
    "checkpoint.last": checks.boolean,
    "checkpoint.best": checks.boolean,
    "checkpoint.every": _every,
    "logger.tensorboard": checks.boolean,
    "sweep.workers": _count_or("auto"),
    "sweep.fuse": _count_or("auto", "never"),
    "sweep.mps": lambda k, v: checks.one_of(k, v, ("auto", "never")),
    "data.cache": checks.folder,
    "output": checks.folder,
    "sweep.dir": checks.folder,
    "sweep.timeout": _optional(checks.seconds),
    "sweep.stalled": _optional(checks.seconds),
    "sweep.budget": _optional(checks.seconds),
    "sweep.on_end": _command,
    "sweep.same_reason_limit": _optional(lambda k, v: checks.integer(k, v, 1)),
    "sweep.threads": lambda k, v: checks.integer(k, v, 1),
    "sweep.retry_failed": checks.boolean,
    "sweep.retrain_changed": checks.boolean,
    "sweep.preview": checks.boolean,
    "sweep.wait": checks.boolean,
    "sweep.cancel_removed": checks.boolean,
    "sweep.runs_per_job": lambda k, v: checks.integer(k, v, 1),
    "sweep.assumptions": checks.boolean,
    "sweep.on_failure": lambda k, v: checks.one_of(k, v, ("continue", "stop")),
}
_ABSENT = object()
_GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "init", "dropout", "activation", "augment", "early_stop")
_SECTIONS = (*_GROUPS, "module", "trainer", "callbacks", "checkpoint", "logger", "task", "sweep")
# Groups that a module of somebody's own does not take, and the keys that its task has.
_NOT_FOREIGN = ("model", "loss", "init", "dropout", "activation", "augment", "early_stop")
_FOREIGN_TASK = ("name", "metric", "mode")
# Sections that nothing else checks for keys which are not used, each with its keys.
_CLOSED = {
    section: [path.partition(".")[2] for path in CHECKS if path.startswith(f"{section}.")]
    for section in ("trainer", "checkpoint", "logger", "sweep")
}


def validate(config: dict[str, Any]) -> None:
    """Refuse values that no run can have.

    Raises:
        ConfigError: `<key>=<value>: accepted: ...`, one line.
    """
    for section in _SECTIONS:
        if config.get(section, {}) is None and section in _NOT_FOREIGN and is_foreign(config):
            continue
        if not isinstance(config.get(section, {}), dict):
            raise ConfigError(f"{section}={config[section]}: accepted: a mapping")
    for path, check in CHECKS.items():
        value = lookup(config, path, _ABSENT)
        if value is not _ABSENT:
            try:
                check(path, value)
            except ValueError as error:
                raise ConfigError(str(error)) from error
    for section, known in _CLOSED.items():
        for key in config.get(section) or {}:
            if section == "logger" and isinstance(config[section][key], dict) and "_target_" in config[section][key]:
                continue
            if key not in known and (refusal := instead.refusal(f"{section}.{key}")) is not None:
                raise ConfigError(refusal)
            if key not in known and (section, key) != ("checkpoint", "name"):
                raise ConfigError(f"{section}.{key}: no such key; accepted: {', '.join(known)}")
    for section in ("scheduler", "early_stop"):
        node = config.get(section) or {}
        if node.get("_target_") is None and (unread := [key for key in node if key not in ("name", "_target_")]):
            raise ConfigError(f"{section}.{unread[0]}: nothing reads it with {section}={node.get('name')}")
    for name, node in (config.get("callbacks") or {}).items():
        if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
            raise ConfigError(f"callbacks.{name}: accepted: a mapping with the callback's class in _target_")
    if is_foreign(config):
        _validate_foreign(config)
    _validate_ranks(config.get("trainer") or {})
    _validate_end(config)
    interval = (config.get("trainer") or {}).get("val_check_interval", 1.0)
    if (config.get("trainer") or {}).get("check_val_every_n_epoch", 1) is None and isinstance(interval, float):
        raise ConfigError(
            f"trainer.val_check_interval={interval}: accepted with trainer.check_val_every_n_epoch=null: a number of"
            " batches, counted over all epochs, or a time"
        )


def _validate_foreign(config: dict[str, Any]) -> None:
    name = config["task"].get("name")
    for group in _NOT_FOREIGN:
        if config.get(group) is not None:
            raise ConfigError(
                f"{group}={(config[group] or {}).get('name')}: task={name} is a LightningModule of its own, which takes"
                f" none; accepted: keys of module, data, trainer and logger"
            )
    if (config.get("trainer") or {}).get("compile"):
        raise ConfigError(
            f"trainer.compile=true: task={name} is a LightningModule of its own; accepted: false (it may compile itself"
            " in configure_model)"
        )
    for key in config["task"]:
        if key not in _FOREIGN_TASK:
            raise ConfigError(f"task.{key}: no such key; accepted: {', '.join(_FOREIGN_TASK)}")
    try:
        checks.one_of("task.mode", config["task"].get("mode"), (None, "max", "min"))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _validate_end(config: dict[str, Any]) -> None:
    """Refuse a training that nothing would end."""
    trainer = config.get("trainer") or {}
    if trainer.get("max_epochs") != -1 or trainer.get("max_steps", -1) != -1 or trainer.get("max_time") is not None:
        return
    classes = [str(node["_target_"]).rpartition(".")[2] for node in (config.get("callbacks") or {}).values()]
    if not (config.get("early_stop") or {}).get("_target_") and not {"EarlyStopping", "Timer"} & set(classes):
        raise ConfigError(
            "trainer.max_epochs=-1: nothing would end the training; accepted with trainer.max_steps, trainer.max_time,"
            " early_stop=... or callbacks=early_stopping"
        )


def _validate_ranks(trainer: dict[str, Any]) -> None:
    strategy = trainer.get("strategy", "auto")
    counts = {key: trainer.get(key, 1) for key in ("devices", "num_nodes")}
    for key, count in counts.items():
        if strategy not in DDP and count != 1:
            raise ConfigError(
                f"trainer.{key}={count}: accepted with trainer.strategy={strategy}: 1; trainer=ddp has more"
            )
    if strategy in DDP and set(counts.values()) == {1}:
        raise ConfigError(f"trainer.devices=1: accepted with trainer.strategy={strategy}: 2 or more")
    if strategy in DDP and trainer.get("cuda_graph"):
        raise ConfigError(f"trainer.cuda_graph=true: accepted with trainer.strategy={strategy}: false")
