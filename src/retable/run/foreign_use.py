"""What is done with a trained LightningModule of somebody's own: Lightning's loops over its own DataModule."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.model_helpers import is_overridden

from retable.config import precisions
from retable.config.targets import check_targets
from retable.errors import ConfigError, DataError, first_line, shortened
from retable.run import devices, foreign
from retable.run.foreign_train import merged
from retable.run.loggers import silent_loggers
from retable.run.output import quieten_lightning
from retable.tasks.build import HINT

ALONE = "predictions"  # what a tensor is called that comes without a name


@dataclass
class TrainedModule:
    """A LightningModule in evaluation mode.

    Attributes:
        config: resolved config of the run, its DataModule among it.
        name: the run's name.
        path: the checkpoint's file.
        trust: whether its config may name whatever it likes.
    """

    module: pl.LightningModule
    config: dict[str, Any]
    name: str
    path: Path
    trust: bool = False


def load_module(content: Mapping[str, Any], path: Path, trust: bool = False) -> TrainedModule:
    """The module of a checkpoint, with its weights.

    Args:
        content: what the checkpoint holds, plain values.

    Raises:
        ConfigError, DataError: one line; nothing that it names was imported where that is not allowed.
    """
    kept = content["retable"]
    parts = [kept["config"].get(key) for key in ("module", "data", "task", "trainer")]
    if (
        not all(isinstance(part, dict) for part in parts)
        or not isinstance(kept.get("name"), str)
        or not isinstance(content.get("state_dict"), dict)
    ):
        raise DataError(f"{path}: not a checkpoint of a run of this project")
    check_targets(kept["config"], path, ("module", "data"), trust, HINT)
    module = foreign.make_module(kept["config"])
    try:
        module.on_load_checkpoint(dict(content))
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise DataError(f"{path}: weights do not fit the module of its config ({first_line(error)})") from error
    return TrainedModule(module.eval(), kept["config"], str(kept["name"]), path, trust)


def measured(
    trained: TrainedModule, split: str | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, float]]:
    """What the module logs of a split of its data.

    Args:
        split: val or test; None: test where both the module and its data have one.
        settings: arguments of the DataModule that differ from the run's.

    Raises:
        ConfigError: one line.
    """
    data = _data(trained, settings)
    has = {
        name: is_overridden(f"{step}_step", trained.module) and is_overridden(f"{name}_dataloader", data)
        for name, step in (("val", "validation"), ("test", "test"))
    }
    split = split or ("test" if has["test"] else "val")
    if not has.get(split):
        accepted = ", ".join(name for name in has if has[name]) or "none"
        raise ConfigError(f"--split {split}: accepted for {trained.name}: {accepted}")
    run = {"val": _trainer(trained).validate, "test": _trainer(trained).test}[split]
    return split, merged(run(trained.module, datamodule=data, verbose=False))


def predictions(trained: TrainedModule, settings: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """What the module's `predict_step` gives for its data's `predict_dataloader`, in one array a name.

    Raises:
        ConfigError: one line, for data without such a loader, and for predictions that are no tensors.
    """
    data = _data(trained, settings)
    if not is_overridden("predict_dataloader", data):
        raise ConfigError(f"{trained.name}: its {type(data).__name__} has no predict_dataloader")
    try:
        found = _trainer(trained).predict(trained.module, datamodule=data) or []
    except MisconfigurationException as error:
        reason = first_line(error)
        if "`batch_size" in reason:  # Lightning makes the loader of a prediction anew
            reason = "Lightning's predict takes a DataLoader whose batch_size is given by name, as batch_size=32"
        raise ConfigError(f"{trained.name}: {reason}") from error
    several = found and isinstance(found[0], list)  # loaders
    arrays: dict[str, np.ndarray] = {}
    for number, batches in enumerate(found if several else [found]):
        start = f"{number}/" if several else ""
        arrays |= {start + name: values for name, values in _joined(trained, batches).items()}
    return arrays


def _joined(trained: TrainedModule, batches: list[Any]) -> dict[str, np.ndarray]:
    named = [_named(batch) for batch in batches]
    if not named or any(batch is None or batch.keys() != named[0].keys() for batch in named):
        raise ConfigError(
            f"{trained.name}: its predict_step gives {_kinds(batches[0]) if batches else 'nothing'};"
            " accepted: a tensor, or several in a tuple, a list or a dictionary, with nothing else"
        )
    try:
        return {
            name: torch.cat([_whole(batch[name]) for batch in named]).numpy()  # type: ignore[index]
            for name in named[0]
        }
    except RuntimeError as error:
        raise ConfigError(f"{trained.name}: its predictions do not fit one array ({first_line(error)})") from error


def _kinds(batch: Any) -> str:
    """What a batch's prediction is, and of what: `dict (p: Tensor, note: str)`."""
    parts = batch.items() if isinstance(batch, Mapping) else enumerate(batch) if isinstance(batch, list | tuple) else ()
    inner = ", ".join(f"{name}: {type(value).__name__}" for name, value in parts)
    return type(batch).__name__ + (f" ({shortened(inner)})" if inner else "")


def _named(batch: Any) -> dict[str, torch.Tensor] | None:
    """The tensors of a batch by name; None where something else is among them."""
    if isinstance(batch, torch.Tensor):
        return {ALONE: batch}
    parts = batch if isinstance(batch, Mapping) else dict(enumerate(batch)) if isinstance(batch, list | tuple) else {}
    tensors = parts and all(isinstance(value, torch.Tensor) for value in parts.values())
    return {str(name): value for name, value in parts.items()} if tensors else None


def _whole(values: torch.Tensor) -> torch.Tensor:
    values = values.detach().cpu()
    values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy does not know
    return values if values.ndim else values[None]


def _data(trained: TrainedModule, settings: Mapping[str, Any] | None) -> pl.LightningDataModule:
    config = trained.config | {"data": trained.config["data"] | dict(settings or {})}
    pl.seed_everything(config["seed"], workers=True, verbose=False)  # what `setup` draws is what it drew in training
    return foreign.make_data(config)


def _trainer(trained: TrainedModule) -> pl.Trainer:
    quieten_lightning()
    kind, _ = devices.resolve("auto")
    precision = str(trained.config["trainer"]["precision"])
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(
        accelerator="gpu" if kind == "cuda" else "cpu",
        devices=1,
        default_root_dir=foreign.empty_root(),
        precision=precisions.lightnings(precision if kind == "cuda" else precisions.without_gpu(precision)),
        logger=silent_loggers(trained.config, foreign.empty_root()),
        limit_predict_batches=trained.config["trainer"].get("limit_predict_batches"),
        plugins=[LightningEnvironment()],
        **quiet,
    )
