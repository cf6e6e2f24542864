"""Loggers of Lightning that a run has beside its own files: CSV, Weights & Biases, MLflow, anybody's.

A run that is continued goes on in the same run of its loggers, whose names for it are kept in loggers.json.
"""

import contextlib
import importlib.util
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from filelock import FileLock
from pytorch_lightning.callbacks import DeviceStatsMonitor, LearningRateMonitor
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger

from retable import atomic
from retable.config.build import build, target_of
from retable.config.identity import identity
from retable.config.keys import is_foreign
from retable.errors import ConfigError, first_line
from retable.run import files

_PACKAGES = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}


def check_loggers(config: dict[str, Any], callbacks: Iterable[pl.Callback]) -> None:
    """Refuse a logger that is none or whose package is missing, and a callback that wants one where there is none.

    Raises:
        ConfigError: one line.
    """
    for name, node in _nodes(config).items():
        target = target_of(node, f"logger.{name}")
        if not (isinstance(target, type) and issubclass(target, Logger)):
            raise ConfigError(
                f"logger.{name}._target_={node['_target_']}: accepted: a class derived from Lightning's Logger"
            )
        for kind, package in _PACKAGES.items():
            if issubclass(target, kind) and importlib.util.find_spec(package) is None:
                raise ConfigError(f"logger={name}: needs {package}; install it by: pip install 'retable[{package}]'")
    if not _nodes(config) and not config["logger"].get("tensorboard"):
        for callback in callbacks:
            if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor):
                kind = type(callback).__name__
                raise ConfigError(f"callbacks: {kind} has nowhere to write; accepted: with a logger, e.g. logger=csv")


def make_loggers(
    config: dict[str, Any], directory: Path, run: dict[str, Any], callbacks: Iterable[pl.Callback]
) -> list[Logger]:
    """The loggers that a config names, given the run's name, its table, its tags and its hyperparameters.

    Args:
        directory: the run's.
        run: what run.json says.

    Raises:
        ConfigError: one line, for what `check_loggers` refuses, and keys and values that a logger refuses.
    """
    check_loggers(config, callbacks)
    path = directory / files.LOGGERS
    known = atomic.read_json(path) or {}
    name = run.get("name", directory.name)
    table = next((text.partition("=")[2] for text in run.get("overrides", ()) if text.startswith("experiment=")), None)
    tags = [str(tag) for tag in config.get("tags") or ()]
    made: list[Logger] = []
    for key, node in _nodes(config).items():
        target = target_of(node, f"logger.{key}")
        context: dict[str, Any] = {"save_dir": directory}
        if issubclass(target, WandbLogger):
            os.environ.setdefault("WANDB_SILENT", "true")
            known.setdefault(key, secrets.token_hex(4))
            labels = [*filter(None, [table]), *tags]
            context |= {"name": name, "id": known[key], "resume": "allow", "tags": labels, "group": table}
        elif issubclass(target, MLFlowLogger):
            labels = {"table": table} if table else {}
            context |= {"run_name": name, "run_id": known.get(key)}
            context |= {"tags": labels | ({"tags": ",".join(tags)} if tags else {})}
        elif issubclass(target, TensorBoardLogger):
            context |= {"name": "", "version": key}
        else:
            context |= {"name": name}
        context = {argument: value for argument, value in context.items() if argument not in node}
        try:
            logger = build(node, f"logger.{key}", **context)
            with _alone(node):
                if isinstance(logger, MLFlowLogger):
                    known[key] = logger.run_id
                if config["trainer"].get("enable_autolog_hparams", True):
                    logger.log_hyperparams(identity(config))
        except ImportError as error:
            raise ConfigError(f"logger={key}: a package is missing ({first_line(error)})") from error
        made.append(logger)
    if known:
        atomic.write_json(path, known)
    if _wants_steps(config, callbacks):
        made.insert(0, _Steps(directory, name="", version="steps"))  # which is what `self.logger` is
    return made


def silent_loggers(config: dict[str, Any], folder: Path | str, callbacks: Iterable[pl.Callback] = ()) -> list[Logger]:
    """As many that write nothing, for where a run's module and callbacks ask for a logger and no run is written.

    Args:
        folder: what they say that they write to.
    """
    return [_Silent(str(folder)) for _ in range(len(_nodes(config)) + _wants_steps(config, callbacks))]


class _Silent(DummyLogger):
    save_dir = log_dir = ""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.save_dir = self.log_dir = folder


def _wants_steps(config: dict[str, Any], callbacks: Iterable[pl.Callback]) -> bool:
    """Whether Lightning gets a logger of TensorBoard's, beside the events that a run writes itself: where somebody's
    own module may write to it, or a callback has no other."""
    own = is_foreign(config) and bool(config["logger"].get("tensorboard"))
    asks = any(isinstance(callback, LearningRateMonitor | DeviceStatsMonitor) for callback in callbacks)
    return own or (asks and not _nodes(config))


class _Steps(TensorBoardLogger):
    """Events below the run's; its hyperparameters stand beside those already, so that Lightning's are left out."""

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        if metrics:
            super().log_hyperparams(params, metrics, step)


def close_loggers(loggers: Iterable[Logger], finished: bool) -> None:
    """End the loggers' runs, as a process may train another one after this one; with what became of it."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if finished else 1)
        else:
            logger.finalize("success" if finished else "failed")


def _nodes(config: dict[str, Any]) -> dict[str, Any]:
    return {name: node for name, node in config["logger"].items() if isinstance(node, dict)}


def _alone(node: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Alone with MLflow's database, which several workers would make at once."""
    address = str(node.get("tracking_uri") or "")
    if not address.startswith("sqlite:///"):
        return contextlib.nullcontext()
    return FileLock(f"{address.removeprefix('sqlite:///')}.lock")
