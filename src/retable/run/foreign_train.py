"""Training of a LightningModule of somebody's own: an epoch's row of what it logs, and what the run leaves behind.

What every run leaves is left: the metrics are those that the module logs, under the names that it gives them, the
values of an epoch's end. An epoch's random numbers depend on the seed and the epoch alone, so that a run that was
stopped goes on from its last epoch as if it had not been. What only a `Task` gives (counts, confusion matrices,
pictures, chunks, predictions) is left out.
"""

import contextlib
import functools
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden

from retable import atomic
from retable.config.identity import identity
from retable.data.loader import mixed_seed
from retable.errors import RetableError
from retable.models import plain_numpy
from retable.run import beside, checkpoints, ddp, files, foreign_ranks
from retable.run.first_validation import ended_before
from retable.run.foreign import (
    check_metric,
    check_validated,
    declared_directions,
    drop_objects,
    make_data,
    make_module,
    scalars,
)
from retable.run.foreign_data import fingerprint, same_items
from retable.run.nodes import RankEnvironment
from retable.run.record import Record
from retable.run.result import note_start, phases, result_of
from retable.run.tensorboard import write_images
from retable.tasks.base import Diverged, Interrupted

_SPLIT = re.compile(r"^(train|val|test)_")


_NEVER = 2**62  # epochs


_LOOK_EVERY = 32  # steps between two looks at their losses, which on a GPU wait for it


# What a run of this project's own says of its data, where nothing is known.
_UNKNOWN = SimpleNamespace(fingerprint=None, counts={}, classes=(), splits=SimpleNamespace(extra={}))


class Logged(Record):
    """Writes an epoch's row of what the module has logged, and makes the epoch's random numbers its own.

    Args:
        seed: the run's.
        on_chunk, should_interrupt: as for `execute`.
        on_data: called with the fingerprint of the data, and what it covers, before the first step.
        on_ended_before: called where training ends before its first validation (retable.run.first_validation).
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
        on_ended_before: Callable[[str], None],
        higher_is_better: bool | None,
        **record: Any,
    ) -> None:
        super().__init__(higher_is_better=higher_is_better, asked=should_interrupt, **record)
        self.seed, self.on_chunk, self.should_interrupt, self.on_data = seed, on_chunk, should_interrupt, on_data
        self.on_ended_before = on_ended_before
        self._losses: list[torch.Tensor] = []
        self._of_validation: set[str] = set()
        self._before: set[str] = set()
        self._validated = False
        self._plateaus: list[tuple[Any, int]] = []
        self._watched: dict[str, torch.Tensor] = {}  # what plateaus are judged by, also in epochs without validation
        self._seconds = {"train": 0.0, "val": 0.0}
        self._clock = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        loaders = {"training": trainer.train_dataloader}
        if trainer.check_val_every_n_epoch in (None, 1):  # else there is no loader yet where the first epoch has none
            loaders["validation"] = trainer.val_dataloaders
        found = fingerprint(trainer.datamodule, loaders)
        if not same_items(found[0], trainer.strategy.broadcast(found[0])):
            raise RetableError(f"rank {trainer.global_rank}: not the data of rank 0; accepted: the same on all nodes")
        if self.writes:
            self.on_data(*found)
        if self.writes and not self.rows and (setting := ended_before(trainer)):
            self.on_ended_before(setting)
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
            batches = getattr(loader, "batch_sampler", None)
            for holder in (loader, getattr(loader, "sampler", None), getattr(batches, "sampler", None)):
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
        if (batch_idx + 1) % _LOOK_EVERY == 0 or trainer.is_last_batch:
            self._look(trainer)
        if self.should_interrupt() and self.saved:
            raise Interrupted

    def _look(self, trainer: pl.Trainer) -> None:
        losses, self._losses = [loss.float().mean() for loss in self._losses], []
        values = torch.stack(losses).cpu() if losses else torch.zeros(0)
        finite = torch.isfinite(values)
        if not trainer.strategy.reduce_boolean_decision(bool(finite.all())):  # where one process's is not, none goes on
            late = 0 if finite.all() else len(values) - 1 - int((~finite).nonzero()[0])
            raise Diverged(trainer.current_epoch + 1, trainer.global_step - late)
        if losses:
            self.on_chunk(len(losses), float(values[-1]))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before = set(trainer.callback_metrics)
        now = time.perf_counter()
        self._seconds["train"], self._clock = self._seconds["train"] + now - self._clock, now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._of_validation |= set(trainer.callback_metrics) - self._before
        self._validated = True
        now = time.perf_counter()
        self._seconds["val"], self._clock = self._seconds["val"] + now - self._clock, now

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return super()._is_due(trainer) or not self._saved  # the first one shows whether a run can go on from them

    def metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """An epoch's row: what was logged in it, learning rate, seconds."""
        for config, frequency in self._plateaus:
            if not any(config is one for one in trainer.lr_scheduler_configs):
                continue  # a callback has put another in its place
            if config.monitor in trainer.callback_metrics:
                self._watched[config.monitor] = trainer.callback_metrics[config.monitor]
            if (trainer.current_epoch + 1) % frequency == 0 and config.monitor in self._watched:
                pl_module.lr_scheduler_step(config.scheduler, self._watched[config.monitor])
        if self.higher_is_better is None:
            self.higher_is_better = declared_directions(trainer).get(self.metric)
        self._seconds["train"] += time.perf_counter() - self._clock
        # Lightning goes on giving what an earlier validation found.
        stale = set() if self._validated else self._of_validation
        row = {name: value for name, value in scalars(trainer).items() if name not in stale | {"epoch", "step"}}
        if trainer.optimizers:
            row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        return row | {f"seconds/{part}": value for part, value in self._seconds.items()}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"higher_is_better": self.higher_is_better, "watched": self._watched}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.higher_is_better = state_dict["higher_is_better"]
        self._watched = dict(state_dict.get("watched", {}))

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        drop_objects(checkpoint, pl_module, trainer.datamodule)


def _record(config: dict[str, Any], directory: Path, extra: dict[str, Any], events: Any, **more: Any) -> Logged:
    mode = config["task"].get("mode")
    return Logged(
        directory=directory,
        metric=config["task"]["metric"],
        higher_is_better=None if mode is None else mode == "max",
        extra=extra,
        events=events,
        seed=config["seed"],
        **more,
    )


def _fit(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    record: Logged,
    config: dict[str, Any],
    found: Path | None,
) -> None:
    """Train from the checkpoint, where there is one, to the end; then use the test set once, where there is one.

    Every rank does this.

    Raises:
        ConfigError: where the metric was never logged.
    """
    # Each entry seeded: what `setup` draws (random_split) is then the same in a run that goes on.
    seeded = functools.partial(pl.seed_everything, config["seed"], workers=True, verbose=False)
    if found is None and config["trainer"].get("validate_first"):
        seeded()
        record.before_training(merged(trainer.validate(module, datamodule=data, verbose=False)))
    seeded()
    if config["trainer"]["precision"] == "64-true":
        module.double()  # as Lightning will; it reads a checkpoint's weights before, though
    with plain_numpy.accepted():
        trainer.fit(module, datamodule=data, ckpt_path=found, weights_only=True)
    if not record.rows:
        return
    logged = dict.fromkeys(name for row in record.rows for name in files.metrics_of(row))
    declared = {} if record.higher_is_better is None else {record.metric: record.higher_is_better}
    if record.writes:
        check_metric(config, list(logged), declared)
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
    make_trainer: Callable[..., pl.Trainer],
    callbacks: Sequence[pl.Callback],
    meeting: ddp.Meeting | None,
    **hooks: Any,
) -> dict[str, Any]:
    """What `retable.run.execute.execute` does of such a run, under its lock.

    Args:
        config: with the precision that it comes to.
        kind: "cpu" or "cuda".
        make_trainer: gives the Trainer of config's `trainer` for a record, callbacks, and of several processes `ranks`.
        callbacks: those that config asks for.
        meeting: None, or where the processes that train it together meet.
        hooks: on_epoch, on_chunk, should_interrupt.
    """
    clock = time.perf_counter()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    module, data = make_module(config), make_data(config)
    run = atomic.read_json(directory / files.RUN) or {}
    about = SimpleNamespace(**vars(_UNKNOWN) | {"fingerprint": run.get("fingerprint"), "covers": None})
    note_start(directory, run, config, about)

    def note_data(found: str, covers: str) -> None:
        if about.fingerprint is not None and not same_items(about.fingerprint, found):
            raise RetableError(f"{directory}: was begun with other data; remove the directory to train it anew")
        about.fingerprint, about.covers = found, covers
        note_start(directory, run, config, about)

    kept = config.get("checkpoint") or {"last": True, "best": False}
    events = beside.events(kind) if config["logger"].get("tensorboard", False) else None
    extra = {"config": config, "name": run["name"]}
    every = checkpoints.interval(kept.get("every", "auto"), kind, alone=meeting is None)
    notes = {"on_data": note_data, "on_ended_before": functools.partial(check_validated, config)}
    record = _record(config, directory, extra, events, keep_best=kept["best"], every=every, **notes, **hooks)
    found = checkpoints.usable(directory)
    companions: Any = contextlib.nullcontext()
    if meeting is not None:
        own = foreign_ranks.share(module, data, 0, meeting.env.world, config["seed"])
        ranks = ddp.settings(config["trainer"]["strategy"], kind, meeting.env)
        trainer = make_trainer(record, callbacks=[*callbacks, own], ranks=ranks)
        request = {"directory": str(directory.absolute()), "found": found and str(found.absolute())}
        companions = ddp.companions(config, request, meeting, kind)
    else:
        trainer = make_trainer(record, callbacks=callbacks)
    seconds = {"setup": time.perf_counter() - clock}
    outcome: dict[str, Any] = {"status": files.FINISHED}
    try:
        with companions:
            _fit(trainer, module, data, record, config, found)
    except (Interrupted, RuntimeError) as error:
        record.close()
        if not isinstance(error, Interrupted) and not ddp.ended_elsewhere(error, meeting, hooks["should_interrupt"]):
            raise
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


def follow(
    config: dict[str, Any],
    directory: Path,
    found: Path | None,
    env: RankEnvironment,
    make_trainer: Callable[[Record, pl.Callback], pl.Trainer],
    join: Callable[[], None],
) -> None:
    """Train as another rank than the first: what `execute` does, writing nothing.

    Args:
        found: the checkpoint that all go on from.
        make_trainer: gives the rank's Trainer for a record, with a callback beside those that config asks for.
        join: meets the others; called when all is made.
    """
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    module, data = make_module(config), make_data(config)
    own = foreign_ranks.share(module, data, env.rank, env.world, config["seed"])
    quiet = dict.fromkeys(("on_data", "on_ended_before", "on_epoch", "on_chunk"), lambda *_: None)
    record = _record(config, directory, {}, None, should_interrupt=lambda: False, **quiet)
    record.writes = False
    trainer = make_trainer(record, own)
    join()
    with contextlib.suppress(Diverged):  # as all ranks have; the first one says so
        _fit(trainer, module, data, record, config, found)


def _draw(directory: Path, record: Logged, config: dict[str, Any]) -> None:
    """Curves, train_loss and val_loss in one panel as train/loss and val/loss are; what has no such name in its own."""
    from retable.figures.classification import curves

    rows = [{_SPLIT.sub(r"\1/", name): value for name, value in row.items()} | row for row in record.rows]
    logged = dict.fromkeys(name for row in record.rows for name in files.metrics_of(row))
    others = [name for name in logged if not re.fullmatch(r"(train|val)/[^/]+|test/.*", _SPLIT.sub(r"\1/", name))]
    curves(rows, directory / files.FIGURES / "curves.png", f"{config['task']['name']} · {directory.name}", others)
