"""Runs of a LightningModule and a LightningDataModule of somebody's own, which know nothing of this project.

A config with a section `module` (conf/lightning.yaml) is such a run. What it leaves behind is what every run leaves:
the metrics are those that the module logs, under the names that it gives them, the values of an epoch's end. An epoch's
random numbers depend on the seed and the epoch alone, so that a run that was stopped goes on from its last epoch as if
it had not been. What only a `Task` gives (counts, confusion matrices, pictures, chunks, predictions) is left out.
"""

import functools
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from pytorch_lightning.utilities.model_helpers import is_overridden

from retable import atomic
from retable.config.build import build, target_of
from retable.config.identity import identity
from retable.config.one_lightning import is_of_the_other
from retable.data.loader import mixed_seed
from retable.errors import ConfigError, RetableError, first_line
from retable.run import beside, checkpoints, devices, facts, files
from retable.run.foreign_data import fingerprint, same_items
from retable.run.output import quieten_lightning
from retable.run.record import Record
from retable.run.result import note_start, phases, result_of
from retable.run.tensorboard import write_images
from retable.tasks.base import Diverged, Interrupted

_SPLIT = re.compile(r"^(train|val|test)_")
_NEVER = 2**62  # epochs
_WARM_UP, _STEPS = 2, 5  # of an estimate
_LOOK_EVERY = 32  # steps between two looks at their losses, which on a GPU wait for it
# What a run of this project's own says of its data, where nothing is known.
_UNKNOWN = SimpleNamespace(fingerprint=None, counts={}, classes=(), splits=SimpleNamespace(extra={}))


# The parts ------------------------------------------------------------------------------------------------------------


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
    target = target_of(node, section)
    if not (isinstance(target, type) and issubclass(target, kind)):
        hint = "; `lightning` was imported before retable, which makes the two one" if is_of_the_other(target) else ""
        raise ConfigError(f"{section}._target_={node['_target_']}: is no pytorch_lightning.{kind.__name__}{hint}")
    try:
        given = {key: instantiate(v, _convert_="all") if isinstance(v, dict | list) else v for key, v in node.items()}
    except HydraException as error:
        raise ConfigError(f"{section}: {first_line(error)}") from error
    # A node's name is a label elsewhere; here it may be an argument.
    return build(given, section, **({"name": node["name"]} if "name" in node else {}))


def _optimizers(config: dict[str, Any], module: pl.LightningModule) -> dict[str, Any]:
    """What configure_optimizers gives for a module that has none."""
    optimizer = build(config["optimizer"], "optimizer", [p for p in module.parameters() if p.requires_grad])
    node = config.get("scheduler") or {}
    if not node.get("_target_"):
        return {"optimizer": optimizer}
    scheduler = build(node, "scheduler", optimizer)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": config["task"]["metric"]}}


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Refuse a config that would not run: builds both, and tries a step of each pair of classes once in a process.

    Returns:
        {"parameters": number of learnable parameters}.

    Raises:
        ConfigError: one line; also for a metric that is not logged in a first step.
    """
    if config["trainer"].get("cuda_graph"):
        raise ConfigError("trainer.cuda_graph=true: accepted with a module of somebody's own: false")
    module = make_module(config)
    tried = (config["module"]["_target_"], config["data"]["_target_"], *sorted(config["task"].items()))
    if tried not in _TRIED:
        metrics, directions = _try(config, module, make_data(config))
        _check_metric(config, metrics, directions)
        _TRIED.add(tried)
    return {"parameters": count_parameters(module)}


_TRIED: set[Any] = set()


def _try(
    config: dict[str, Any], module: pl.LightningModule, data: pl.LightningDataModule
) -> tuple[list[str], dict[str, bool]]:
    """What is logged in a step of training and one of validation, and the directions that are declared."""
    quieten_lightning()
    kind, _ = devices.resolve(config["trainer"]["device"])
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(fast_dev_run=1, accelerator="gpu" if kind == "cuda" else "cpu", devices=1, **quiet)
    trainer.fit(module, datamodule=data)
    return list(_scalars(trainer)), declared_directions(trainer)


def _check_metric(config: dict[str, Any], logged: list[str], directions: Mapping[str, bool]) -> None:
    metric = config["task"]["metric"]
    if metric not in logged:
        raise ConfigError(f"task.metric={metric}: is not logged; accepted: {', '.join(logged) or 'nothing is logged'}")
    if config["task"].get("mode") is None and metric not in directions:
        raise ConfigError(f"task.mode: {metric} does not say which of its values is the better; accepted: max, min")


class _Stopwatch(pl.Callback):
    """When each step of training, and each of validation, had ended."""

    def __init__(self) -> None:
        self.train: list[float] = []
        self.val: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._note(trainer, self.train)

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._note(trainer, self.val)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._note(trainer, self.val)

    def _note(self, trainer: pl.Trainer, times: list[float]) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())


def calibrate(config: dict[str, Any], kind: str) -> dict[str, float | None]:
    """What `retable.run.calibrate` estimates, for such a run; its time is None where its loaders have no length."""
    quieten_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    watch, settings = _Stopwatch(), config["trainer"]
    limits = {"limit_train_batches": _WARM_UP + _STEPS, "limit_val_batches": 2, "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    device = {"accelerator": "gpu" if kind == "cuda" else "cpu", "devices": 1}
    precision = {"precision": devices.LIGHTNINGS.get(settings["precision"], settings["precision"])}
    trainer = pl.Trainer(max_epochs=1, logger=False, callbacks=[watch], **limits, **quiet, **device, **precision)
    trainer.fit(make_module(config), datamodule=make_data(config))
    memory = facts.peak_memory_mb(kind)
    found = {"seconds": None, "host_mb": memory["host"], "gpu_mb": memory["gpu"]}
    measured = watch.train[min(_WARM_UP, len(watch.train) - 2) :]
    if len(measured) < 2:
        return found
    found["seconds_per_step"] = per_step = (measured[-1] - measured[0]) / (len(measured) - 1)
    per_val = (watch.val[-1] - watch.val[0]) / (len(watch.val) - 1) if len(watch.val) > 1 else 0.0
    try:
        steps, val_steps = (
            limited(len(loader) if loader is not None else 0, settings[limit])
            for loader, limit in (
                (trainer.train_dataloader, "limit_train_batches"),
                (trainer.val_dataloaders, "limit_val_batches"),
            )
        )
    except TypeError:
        return found
    epochs = settings["max_epochs"]
    if settings["max_steps"] != -1:
        epochs = min(epochs, settings["max_steps"] / steps)
    return found | {"seconds": epochs * (steps * per_step + val_steps * per_val)}


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


def _scalars(trainer: pl.Trainer) -> dict[str, float]:
    """What has been logged up to now: of a metric that is logged by step and by epoch, the epoch's value."""
    logged = trainer.callback_metrics
    forked = {f"{name}_{part}" for name in logged for part in ("step", "epoch")}
    return {name: float(value) for name, value in logged.items() if name not in forked}


def limited(batches: int, limit: float) -> float:
    """Batches of an epoch under a limit of the Trainer: a number of them, or a share."""
    return min(batches, limit) if isinstance(limit, int) else max(1, batches * limit)


def count_parameters(module: pl.LightningModule) -> int:
    """Learnable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# The run --------------------------------------------------------------------------------------------------------------


class Logged(Record):
    """Writes an epoch's row of what the module has logged, and makes the epoch's random numbers its own.

    Args:
        seed: the run's.
        on_chunk, should_interrupt: as for `execute`.
        on_data: called with the fingerprint of the data, and what it covers, before the first step.
        higher_is_better: None for what the metric itself declares.
        **record: as for `Record`.
    """

    def __init__(
        self,
        *,
        seed: int,
        on_chunk: Callable[[int, float], None],
        should_interrupt: Callable[[], bool],
        on_data: Callable[[str, str], None],
        higher_is_better: bool | None,
        **record: Any,
    ) -> None:
        super().__init__(higher_is_better=higher_is_better, **record)
        self.seed, self.on_chunk, self.should_interrupt, self.on_data = seed, on_chunk, should_interrupt, on_data
        self._losses: list[torch.Tensor] = []
        self._of_validation: set[str] = set()
        self._before: set[str] = set()
        self._validated = False
        self._plateaus: list[tuple[Any, int]] = []
        self._seconds = {"train": 0.0, "val": 0.0}
        self._clock = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        loaders = {"training": trainer.train_dataloader, "validation": trainer.val_dataloaders}
        self.on_data(*fingerprint(trainer.datamodule, loaders))
        # Lightning steps these behind the epoch's checkpoint, which would not know of it.
        self._plateaus = [
            (c, c.frequency) for c in trainer.lr_scheduler_configs if c.reduce_on_plateau and c.interval == "epoch"
        ]
        for config, _ in self._plateaus:
            config.frequency = _NEVER

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds, self._validated = {"train": 0.0, "val": 0.0}, False
        loop, epoch = trainer.fit_loop, trainer.current_epoch
        seed = mixed_seed(self.seed, epoch)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        for loader in loop._combined_loader.flattened:
            for holder in (loader, getattr(loader, "sampler", None)):
                generator = getattr(holder, "generator", None)
                if isinstance(generator, torch.Generator):
                    generator.manual_seed(seed)
        # Lightning has made the iterator of a process's first epoch before this, when nothing was seeded.
        if epoch == 0 or loop.is_resuming:
            iter(loop._data_fetcher)
        self._clock = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor):
            self._losses.append(loss.detach())
        if len(self._losses) == _LOOK_EVERY or trainer.is_last_batch:
            self._look(trainer)
        if self.should_interrupt():
            raise Interrupted

    def _look(self, trainer: pl.Trainer) -> None:
        if self._losses:
            losses = torch.stack([loss.float().mean() for loss in self._losses]).cpu()
            finite, self._losses = torch.isfinite(losses), []
            if not finite.all():
                late = len(losses) - 1 - int((~finite).nonzero()[0])
                raise Diverged(trainer.current_epoch + 1, trainer.global_step - late)
            self.on_chunk(len(losses), float(losses[-1]))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = set(trainer.callback_metrics)
        now = time.perf_counter()
        self._seconds["train"], self._clock = self._seconds["train"] + now - self._clock, now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._of_validation |= set(trainer.callback_metrics) - self._before
        self._validated = True
        now = time.perf_counter()
        self._seconds["val"], self._clock = self._seconds["val"] + now - self._clock, now

    def metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """An epoch's row: what was logged in it, learning rate, seconds."""
        for config, frequency in self._plateaus:
            if (trainer.current_epoch + 1) % frequency == 0 and config.monitor in trainer.callback_metrics:
                pl_module.lr_scheduler_step(config.scheduler, trainer.callback_metrics[config.monitor])
        if self.higher_is_better is None:
            self.higher_is_better = declared_directions(trainer).get(self.metric)
        self._seconds["train"] += time.perf_counter() - self._clock
        # Lightning goes on giving what an earlier validation found.
        stale = set() if self._validated else self._of_validation
        row = {name: value for name, value in _scalars(trainer).items() if name not in stale | {"epoch", "step"}}
        if trainer.optimizers:
            row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        return row | {f"seconds/{part}": value for part, value in self._seconds.items()}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"higher_is_better": self.higher_is_better}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.higher_is_better = state_dict["higher_is_better"]

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        # They are in the config; objects among them would keep the checkpoint from being read without executing code.
        kept = checkpoint.get(pl_module.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if not all(isinstance(value, int | float | str | None) for value in kept.values()):
            del checkpoint[pl_module.CHECKPOINT_HYPER_PARAMS_KEY]


def _fit(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    record: Logged,
    config: dict[str, Any],
) -> None:
    """Train from the checkpoint, where there is one, to the end; then use the test set once, where there is one.

    Raises:
        ConfigError: where the metric was never logged.
    """
    found = checkpoints.usable(record.directory)
    # Each entry seeded: what `setup` draws (random_split) is then the same in a run that goes on.
    seeded = functools.partial(pl.seed_everything, config["seed"], workers=True, verbose=False)
    if found is None and config["trainer"].get("validate_first"):
        seeded()
        record.before_training(merged(trainer.validate(module, datamodule=data, verbose=False)))
    seeded()
    trainer.fit(module, datamodule=data, ckpt_path=found, weights_only=True)
    if not record.rows:
        return
    logged = dict.fromkeys(name for row in record.rows for name in files.metrics_of(row))
    declared = {} if record.higher_is_better is None else {record.metric: record.higher_is_better}
    _check_metric(config, list(logged), declared)
    if is_overridden("test_step", module) and is_overridden("test_dataloader", data):
        seeded()
        record.add(merged(trainer.test(module, datamodule=data, verbose=False)))


def merged(results: list[Mapping[str, float]]) -> dict[str, float]:
    """What each of several loaders gave."""
    return {name: value for found in results for name, value in found.items()}


def execute(
    config: dict[str, Any],
    directory: Path,
    kind: str,
    make_trainer: Callable[[Record], pl.Trainer],
    on_epoch: Callable[[dict[str, Any]], None],
    **hooks: Any,
) -> dict[str, Any]:
    """What `retable.run.execute.execute` does of such a run, under its lock.

    Args:
        config: with the precision that it comes to.
        kind: "cpu" or "cuda".
        make_trainer: gives the Trainer of config's `trainer` for a record.
        hooks: on_chunk, should_interrupt.
    """
    clock = time.perf_counter()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    module, data, mode = make_module(config), make_data(config), config["task"].get("mode")
    run = atomic.read_json(directory / files.RUN) or {}
    about = SimpleNamespace(**vars(_UNKNOWN) | {"fingerprint": run.get("fingerprint"), "covers": None})
    note_start(directory, run, config, about)

    def note_data(found: str, covers: str) -> None:
        if about.fingerprint is not None and not same_items(about.fingerprint, found):
            raise RetableError(f"{directory}: was begun with other data; remove the directory to train it anew")
        about.fingerprint, about.covers = found, covers
        note_start(directory, run, config, about)

    kept = config.get("checkpoint") or {"last": True, "best": False}
    record = Logged(
        directory=directory,
        metric=config["task"]["metric"],
        higher_is_better=None if mode is None else mode == "max",
        extra={"config": config, "name": run["name"]},
        events=beside.events(kind) if config["logger"].get("tensorboard", False) else None,
        keep_best=kept["best"],
        seed=config["seed"],
        on_data=note_data,
        on_epoch=on_epoch,
        **hooks,
    )
    trainer = make_trainer(record)
    seconds = {"setup": time.perf_counter() - clock}
    outcome: dict[str, Any] = {"status": files.FINISHED}
    try:
        _fit(trainer, module, data, record, config)
    except Interrupted:
        record.close()
        return {"status": files.INTERRUPTED, "epochs": record.epochs}
    except Diverged as error:
        outcome = {"status": files.DIVERGED, "reason": str(error)}
        outcome["diverged"] = {"epoch": error.epoch, "step": error.step}
    except BaseException:
        record.close()
        raise
    record.close(identity(config))
    files.write_history(directory / files.HISTORY, record.rows)  # a loss of power may have left less than a checkpoint
    seconds |= phases(record)
    clock = time.perf_counter()
    if outcome["status"] == files.FINISHED:
        with beside.drawing(kind):
            _draw(directory, record, config)
        if config["logger"].get("tensorboard"):
            write_images(directory, record.epochs)
    seconds["figures"] = time.perf_counter() - clock
    seconds["total"] = seconds["setup"] + record.seconds
    hooks["should_interrupt"]()  # a directory that is gone gets no result
    seen = SimpleNamespace(model=module, counts=lambda data: {})
    result = outcome | result_of(config, run, record, seen, about, kind, trainer.global_step)
    result["data"]["covers"] = about.covers
    result |= {"stepping": {"in_chunks": False, "because": f"module={type(module).__name__}"}, "seconds": seconds}
    atomic.sync(directory)  # before a result says that all of it is there
    atomic.write_json(directory / files.RESULT, result)
    atomic.sync(directory)  # and before anything is deleted that is not needed any more
    checkpoints.settle(directory, kept)
    return result


def _draw(directory: Path, record: Logged, config: dict[str, Any]) -> None:
    """Curves, train_loss and val_loss in one panel as train/loss and val/loss are."""
    from retable.figures.classification import curves

    rows = [{_SPLIT.sub(r"\1/", name): value for name, value in row.items()} for row in record.rows]
    curves(rows, directory / files.FIGURES / "curves.png", f"{config['task']['name']} · {directory.name}")
