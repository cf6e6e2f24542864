"""How long a run will take and how much memory it needs, from a few real steps."""

import itertools
import math
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch

from retable.config import precisions
from retable.config.keys import is_foreign
from retable.config.stepping import planned_epochs
from retable.run import devices, facts, foreign, precision
from retable.run.assemble import make_data, make_task
from retable.run.loggers import silent_loggers
from retable.run.output import quieten_lightning

_WARM_UP, _STEPS = 2, 5


def calibrate(config: dict[str, Any]) -> dict[str, float | None]:
    """Time a few training steps and one validation batch on the run's own data and device; trains nothing that stays.

    Returns:
        {"seconds": estimate of the whole run, None where nobody knows when it ends, "seconds_per_step", "host_mb",
        "gpu_mb": peak memory so far, "data_mb": size of the images and targets, "resident": whether they are kept in
        memory, "bf16_share": what part of a float32 step's time one under bf16-mixed takes, None where the run is none
        of float32 on a CPU that has bf16}.
    """
    kind, _ = devices.resolve(config["trainer"]["device"])
    facts.reset_peak_memory(kind)
    if is_foreign(config):
        return _calibrate_foreign(config, kind)
    torch.manual_seed(config["seed"])
    data = make_data(config)
    data.setup("fit")
    task = make_task(config, data)
    found = precision.settle(config, task, data, kind)
    task = task.to(kind)
    optimizer = task.configure_optimizers()["optimizer"]
    half, mixed = torch.float16 if found == "16-mixed" else torch.bfloat16, found.endswith("-mixed")
    train, val = data.train_dataloader(), data.val_dataloader()
    batches = list(itertools.islice(train, _STEPS))

    def step(index: int, mixed: bool) -> None:
        images, targets = (part.to(kind) for part in batches[index % len(batches)])
        optimizer.zero_grad()
        with torch.autocast(kind, half, enabled=mixed):
            loss, _ = task.shared_step("train", images, targets)
        loss.backward()
        optimizer.step()

    def timed_steps(mixed: bool) -> float:
        for index in range(_WARM_UP):
            step(index, mixed)
        return _timed(lambda: [step(index, mixed) for index in range(_STEPS)], kind) / _STEPS

    per_step, share = timed_steps(mixed), None
    if kind == "cpu" and str(config["trainer"]["precision"]) == "32" and devices.has_bf16_instructions():
        share = timed_steps(True) / per_step
    held_out, _ = next(iter(val))
    task.eval()
    with torch.inference_mode(), torch.autocast(kind, half, enabled=mixed):
        per_image = _timed(lambda: task.model(held_out.to(kind)), kind) / len(held_out)
    trainer = config["trainer"]
    steps = _limited(train.batches, trainer["limit_train_batches"])
    epoch = steps * per_step + per_image * data.counts["val"]
    memory = facts.peak_memory_mb(kind)
    return {
        "seconds": _whole(trainer, steps, epoch),
        "seconds_per_step": per_step,
        "host_mb": memory["host"],
        "gpu_mb": memory["gpu"],
        "data_mb": data.nbytes / 2**20,
        "resident": data.is_resident(torch.device(kind)),
        "shared": data.is_shared(torch.device(kind)),
        "bf16_share": share,
    }


def _whole(trainer: dict[str, Any], steps: float, epoch: float) -> float | None:
    """Seconds of a training whose epochs have so many steps and last so long; None where neither epochs, steps nor time
    end it."""
    epochs = planned_epochs(trainer["max_epochs"]) or math.inf
    if trainer["max_steps"] != -1:
        epochs = min(epochs, trainer["max_steps"] / steps)
    seconds = epochs * epoch
    if (longest := trainer.get("max_time")) is not None:
        days, hours, minutes, rest = map(int, longest.split(":"))
        seconds = min(seconds, timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds())
    return seconds if seconds < math.inf else None


def _timed(work: Any, kind: str) -> float:
    if kind == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


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


def _calibrate_foreign(config: dict[str, Any], kind: str) -> dict[str, float | None]:
    """Of a LightningModule of somebody's own; its time is None where its loaders have no length."""
    quieten_lightning()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    watch, settings = _Stopwatch(), config["trainer"]
    limits = {"limit_train_batches": _WARM_UP + _STEPS, "limit_val_batches": 2, "num_sanity_val_steps": 0}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    device = {"accelerator": "gpu" if kind == "cuda" else "cpu", "devices": 1}
    precision = {"precision": precisions.lightnings(settings["precision"])}
    root = {"default_root_dir": foreign.empty_root(), "logger": silent_loggers(config, foreign.empty_root())}
    trainer = pl.Trainer(max_epochs=1, callbacks=[watch], **root, **limits, **quiet, **device, **precision)
    trainer.fit(foreign.make_module(config), datamodule=foreign.make_data(config))
    memory = facts.peak_memory_mb(kind)
    found = {"seconds": None, "host_mb": memory["host"], "gpu_mb": memory["gpu"]}
    measured = watch.train[min(_WARM_UP, len(watch.train) - 2) :]
    if len(measured) < 2:
        return found
    found["seconds_per_step"] = per_step = (measured[-1] - measured[0]) / (len(measured) - 1)
    per_val = (watch.val[-1] - watch.val[0]) / (len(watch.val) - 1) if len(watch.val) > 1 else 0.0
    try:
        steps, val_steps = (
            _limited(len(loader) if loader is not None else 0, settings[limit])
            for loader, limit in (
                (trainer.train_dataloader, "limit_train_batches"),
                (trainer.val_dataloaders, "limit_val_batches"),
            )
        )
    except TypeError:
        return found
    return found | {"seconds": _whole(settings, steps, steps * per_step + val_steps * per_val)}


def _limited(batches: int, limit: float) -> float:
    """Batches of an epoch under a limit of the Trainer: a number of them, or a share."""
    return min(batches, limit) if isinstance(limit, int) else max(1, batches * limit)
