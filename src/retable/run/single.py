"""One run outside of the sweep's workers: typed by itself, continued, or as a job of one of Hydra's launchers."""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from retable import atomic
from retable.config.identity import identity
from retable.config.keys import own
from retable.config.targets import check_targets
from retable.config.validate import validate
from retable.errors import ConfigError, DataError, RetableError
from retable.run import files


def run_single(config: dict[str, Any], overrides: Sequence[str]) -> None:
    """Train one run in a new directory below `output`, or continue the one that `resume` names.

    Raises:
        RetableError: one line, for what is refused.
    """
    if config["resume"] is not None:
        directory = Path(config["resume"])
        if not (directory / files.RUN).is_file():
            raise ConfigError(f"resume={directory}: holds no {files.RUN}; accepted: a run's directory")
        run = files.read_run(directory)
        if not config["trust"]:
            _refuse_others(directory)
        check_targets(run["config"], directory / files.RUN, trust=config["trust"])
        others = [text for text in overrides if not text.startswith(("resume=", "trust="))]
        if others and any(not text.startswith("task=") for text in others):
            raise ConfigError(f"resume={directory}: goes on as it began; leave out {' '.join(others)}")
        if (atomic.read_json(directory / files.RESULT) or {}).get("status") in files.DONE:
            print(f"{directory} is finished: nothing to do")
            return
        files.remove([directory / files.RESULT])
        config = run["config"] | {"resume": str(directory)}
    else:
        _refuse_sweeps(config, overrides)
        validate(config)
        directory = _new_directory(config, overrides)
    try:
        _execute(config, directory)
    except RetableError:
        if config["resume"] is None and not (directory / files.HISTORY).exists():
            shutil.rmtree(directory)  # refused: nothing ran in it
            with contextlib.suppress(OSError):
                directory.parent.rmdir()
        raise


def run_job(config: dict[str, Any], directory: Path) -> float | None:
    """Train a job of one of Hydra's launchers in the directory that the sweeper gave it.

    Returns:
        The final value of the task's metric.
    """
    from retable.run.execute import execute

    if (directory / files.RUN).is_file():
        config = files.read_run(directory)["config"]
    else:
        config = own(config)
        validate(config)
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(130)
        asked.append(number)

    try:
        before = signal.signal(signal.SIGINT, stop)  # Lightning would make sys.exit(1), a failure, of Ctrl-C
    except ValueError:  # not in the main thread: the launcher handles signals
        before = None
    try:
        result = execute(config, directory, should_interrupt=lambda: bool(asked))
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
    return ((result.get("metrics") or {}).get("final") or {}).get(config["task"]["metric"])


def _execute(config: dict[str, Any], directory: Path) -> None:
    from retable.run.imports import import_all

    import_all()
    import torch

    from retable.run.execute import execute

    torch.set_num_threads(int(config.get("sweep", {}).get("threads", 1)))
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            sys.exit(130)
        asked.append(number)
        print("\nStopping; the checkpoint of the last epoch is kept. Once more: stop at once.", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    progress = _Progress(config["trainer"]["max_epochs"], directory)
    result = execute(
        config, directory, on_epoch=progress.epoch, on_chunk=progress.chunk, should_interrupt=lambda: bool(asked)
    )
    if result["status"] == files.INTERRUPTED:
        print(f"interrupted; go on with: python train.py resume={directory}")
        sys.exit(130)
    _summarise(result, directory)


def _refuse_others(directory: Path) -> None:
    """Refuse a run that another user made. Raises DataError."""
    for path in (directory / files.RUN, directory / files.CHECKPOINT):
        if path.exists() and hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            raise DataError(f"{path}: was made by another user; accepted: runs of your own, or trust=true")


def _refuse_sweeps(config: dict[str, Any], overrides: Sequence[str]) -> None:
    if config["table"] is not None:
        name = next((text.partition("=")[2] for text in overrides if text.startswith("experiment=")), "...")
        raise ConfigError(f"experiment={name} is a sweep; start it with -m: python train.py -m {' '.join(overrides)}")
    if config["seeds"] is not None:
        raise ConfigError("seeds: only a sweep has several; start it with -m, or give one by seed=0")


def _new_directory(config: dict[str, Any], overrides: Sequence[str]) -> Path:
    from retable.config.compose import Composer
    from retable.config.identity import run_name

    asked = [text for text in overrides if not text.lstrip("+~").startswith("hydra")]
    name = run_name(Composer().compose(asked))
    folder = Path(config["output"]) / config["task"]["name"] / name
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    directory, count = folder / stamp, 1
    while directory.exists():
        directory, count = folder / f"{stamp}_{count}", count + 1
    kept = own(config)
    values = {
        "name": name,
        "task": config["task"]["name"],
        "overrides": asked,
        "config": kept,
        "identity": identity(kept),
    }
    atomic.write_json(directory / files.RUN, values)
    atomic.write_text(directory / files.CONFIG, yaml.safe_dump(kept, sort_keys=False))
    return directory


class _Progress:
    """A line an epoch; on a terminal also where it is within the epoch."""

    def __init__(self, epochs: int, directory: Path) -> None:
        self.epochs, self.start, self.first = epochs, time.monotonic(), 0
        self.directory: Path | None = directory  # named once training begins, so that a refusal stays one line
        self.steps = self.done = 0

    def _announce(self) -> None:
        if self.directory is not None:
            print(f"run: {self.directory}", flush=True)
            self.directory = None

    def epoch(self, row: dict[str, Any]) -> None:
        self._announce()
        self.first = self.first or row["epoch"]
        self.done, self.steps = row["epoch"], 0
        each = (time.monotonic() - self.start) / (row["epoch"] - self.first + 1)
        kept = {k: v for k, v in row.items() if k.startswith(("train/", "val/")) and k.count("/") == 1}
        shown = "  ".join(f"{k} {v:.4f}" for k, v in kept.items() if v is not None)
        left = each * (self.epochs - row["epoch"])
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}epoch {row['epoch']}/{self.epochs}  {shown}  {each:.1f} s, {left:.0f} s left", flush=True)

    def chunk(self, steps: int, loss: float) -> None:
        self._announce()
        self.steps += steps
        if sys.stdout.isatty():
            print(
                f"\r\033[Kepoch {self.done + 1}/{self.epochs}  step {self.steps}  loss {loss:.4f}", end="", flush=True
            )


def _summarise(result: dict[str, Any], directory: Path) -> None:
    best = result["metrics"]["best"]
    name = result["metrics"]["best_by"]
    print(f"{result['status']}" + (f": {result['reason']}" if result.get("reason") else ""))
    if best:
        print(f"best {name} {best[name]:.4f} at epoch {best['epoch']}; last {result['metrics']['final'].get(name)}")
    if result["data"]["source"] == "sample":
        print("Made from synthetic sample data: for trying things out, not comparable with anything.")
    print(f"result:  {directory / files.RESULT}")
    print(f"figures: {directory / 'figures'}")
    print(f"curves:  tensorboard --logdir {directory}")
