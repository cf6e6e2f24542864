"""One run outside of the sweep's workers: typed by itself, continued, or as a job of one of Hydra's launchers."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from retable.config.compose import Composer, Composition
from retable.config.folders import train_command
from retable.config.identity import run_name
from retable.config.keys import own
from retable.config.stepping import by_several, of_planned, planned_epochs
from retable.config.targets import check_targets
from retable.config.validate import validate
from retable.errors import ConfigError, DataError, RetableError
from retable.run import checkpoints, files
from retable.run.imports import import_all
from retable.run.result import describe, write_plan

# What a run that was refused may have left in a directory.
_WRITTEN = (files.RUN, files.CONFIG, files.RESULT, files.LOG, files.LOCK)
_stopped: list[int] = []  # signals by which somebody asked this process to stop


class Stopped(Exception):
    """Somebody asked the process of this job to stop; not an end of the launcher, which hears it from all its jobs."""


def run_single(config: dict[str, Any], overrides: Sequence[str], chosen: Path | None = None) -> None:
    """Train one run in a new directory below `output`, or continue the one that `resume` names.

    Args:
        config: resolved.
        overrides: what the command line sets.
        chosen: the new run's directory, where the user names it; it may hold other things.

    Raises:
        RetableError: one line, for what is refused; nothing is left of it on disk.
    """
    if not isinstance(config["resume"], str | None):
        raise ConfigError(f"resume={config['resume']}: accepted: a run's directory")
    if _has_followed(config, overrides):
        return
    if config["resume"] is not None:
        begun = Path(config["resume"])
        run = _resumed(begun, overrides, config["trust"] is True)
        if run is not None:
            _execute(run["config"], begun)
        return
    try:
        directory, config = new_run(config, overrides, chosen)
    except (RetableError, KeyboardInterrupt):
        if chosen is not None:
            with contextlib.suppress(OSError):
                chosen.rmdir()  # Hydra has made it, and nothing is in it
        raise
    try:
        _execute(config, directory)
    except (RetableError, KeyboardInterrupt):
        if not (directory / files.HISTORY).exists():  # refused, or stopped before: nothing ran in it
            _take_away(directory, own=chosen is None)
        raise


def _take_away(directory: Path, own: bool) -> None:
    """Remove a run in which nothing was trained. Args: own: whether all that lies in its directory is the run's."""
    if own:
        shutil.rmtree(directory, ignore_errors=True)
        folders = [directory.parent, directory.parents[1], directory.parents[2]]
    else:
        files.remove([*(directory / name for name in _WRITTEN), *files.leases(directory)])
        folders = [directory]
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing else is in it


@contextlib.contextmanager
def _taken_away_if_stopped(directory: Path, own: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _take_away(directory, own)
        raise


def new_run(
    config: dict[str, Any], overrides: Sequence[str], chosen: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """A directory for one run that has been checked as a sweep's runs are: the chosen one, or a new one.

    Returns:
        The directory, and the config as this project composes it (`Composer`), not Hydra alone.

    Raises:
        ConfigError, DataError: one line; there is no directory then.
    """
    asked, composition = _checked(config, overrides)
    config = composition.config
    if by_several(config["trainer"]):
        from retable.run.ddp import first_environment

        first_environment(config)
    if chosen is not None:
        if (chosen / files.RUN).exists():
            raise ConfigError(f"hydra.run.dir={chosen}: holds a run; accepted: another one, or resume={chosen}")
        if taken := [name for name in _WRITTEN if name != files.LOCK and (chosen / name).exists()]:
            raise ConfigError(
                f"hydra.run.dir={chosen}: holds {taken[0]}, which a run would write; accepted: another one"
            )
        with _taken_away_if_stopped(chosen, own=False):
            write_plan(chosen, run_name(composition), config, asked)
        return chosen, config
    folder = Path(config["output"]).expanduser() / config["task"]["name"] / run_name(composition)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    directory, count = folder / stamp, 1
    while directory.exists():
        directory, count = folder / f"{stamp}_{count}", count + 1
    try:
        with _taken_away_if_stopped(directory, own=True):
            write_plan(directory, run_name(composition), config, asked)
    except OSError as error:
        raise ConfigError(f"output={config['output']}: cannot be written ({error.strerror or error})") from error
    return directory, config


def _checked(config: dict[str, Any], overrides: Sequence[str]) -> tuple[list[str], Composition]:
    """What a command line asks for and what it comes to, refused if it would not run."""
    asked = [text for text in overrides if not text.lstrip("+~").startswith("hydra")]
    composition = Composer().compose(asked)
    _refuse_sweeps(config, overrides)
    validate(composition.config)
    import_all()
    from retable.run import nodes
    from retable.run.assemble import check

    if by_several(composition.config["trainer"]) and nodes.are_several(composition.config):
        nodes.rank_environment(composition.config)  # refuses before data are read, which may mean to download them
    try:
        check(composition.config)
    except RetableError:
        raise
    except Exception:
        pass  # no refusal: a fault that the run itself will tell, or a model that can't be built without memory
    return asked, composition


def _has_followed(config: dict[str, Any], overrides: Sequence[str]) -> bool:
    """Take part in a run whose rank 0 is another process (retable.run.nodes), where there is one; whether there is."""
    begun = config["resume"] and Path(config["resume"])
    run = files.described(begun) if begun else {"config": config}
    node = run["config"].get("trainer") if isinstance(run, dict) else None
    if not isinstance(node, dict) or not by_several(node):
        return False
    import_all()
    from retable.run import nodes, rank

    its = files.read_run(begun)["config"] if begun else config
    if not nodes.are_several(its):
        return False
    if not begun:
        its = _checked(config, overrides)[1].config
    env = nodes.rank_environment(its)
    if env.rank == 0:
        return False
    if begun and (files.read_result(begun) or {}).get("status") in files.DONE:
        return True
    _use_threads(config)
    try:
        with _terminated_at_once():
            rank.follow(env)
    except rank.Lost as error:  # no refusal: the run had begun
        print(error, file=sys.stderr)
        sys.exit(1)
    return True


@contextlib.contextmanager
def _terminated_at_once() -> Iterator[None]:
    """Let SIGTERM end the process, which may be waiting for others where no handler of Python's would be called."""
    before = None
    with contextlib.suppress(ValueError):  # not in the main thread
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _use_threads(config: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(int(config.get("sweep", {}).get("threads", 1)))


def run_job(config: dict[str, Any], directory: Path) -> float | None:
    """Train a job of one of Hydra's launchers in the directory that the sweeper gave it.

    Returns:
        The final value of the task's metric.

    Raises:
        Stopped: if somebody asked this process to stop, now or in a job before.
    """
    if _stopped:
        raise Stopped(files.INTERRUPTED)
    if (directory / files.RUN).is_file():
        config = files.read_run(directory)["config"]
    else:
        config = own(config)
        validate(config)
    with _interruptible(os._exit) as asked:
        try:
            result = execute_logged(config, directory, should_interrupt=lambda: bool(asked))
        except SystemExit as error:  # a failure of this job, not the end of the launcher
            raise RuntimeError(describe(error)) from error
    if asked:
        _stopped.extend(asked)
        raise Stopped(files.INTERRUPTED)
    return ((result.get("metrics") or {}).get("final") or {}).get(config["task"]["metric"])


def execute_logged(config: dict[str, Any], directory: Path, **hooks: Any) -> dict[str, Any]:
    """`execute`, with the traceback of what goes wrong in the run's log.txt."""
    from retable.run.execute import execute

    try:
        return execute(config, directory, **hooks)
    except BaseException:
        with contextlib.suppress(OSError), (directory / files.LOG).open("a", encoding="utf-8", errors="replace") as log:
            traceback.print_exc(file=log)
        raise


def _execute(config: dict[str, Any], directory: Path) -> None:
    import_all()
    _use_threads(config)
    progress = _Progress(planned_epochs(config["trainer"]["max_epochs"]), directory)
    words = "\nStopping; the checkpoint of the last epoch is kept. Once more: stop at once."
    with _interruptible(sys.exit, words) as asked:
        try:
            result = execute_logged(
                config,
                directory,
                on_epoch=progress.epoch,
                on_chunk=progress.chunk,
                should_interrupt=lambda: bool(asked),
            )
        except RetableError:
            raise
        except Exception as error:
            traceback.print_exc()
            print(f"The run failed: {describe(error)}. The traceback above is in {directory / files.LOG}, too.")
            sys.exit(1)
    if result["status"] == files.INTERRUPTED:
        print(f"interrupted; go on with: {shlex.join([*train_command(), f'resume={directory}'])}")
        sys.exit(130)
    _summarise(result, directory)


@contextlib.contextmanager
def _interruptible(leave: Callable[[int], Any], words: str | None = None) -> Iterator[list[int]]:
    """Note Ctrl-C, SIGTERM and SIGUSR1 in the list that is yielded, saying so; a second one leaves at once.

    Left to themselves, Lightning would make sys.exit(1), a failure, of them.
    """
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            leave(130)
        asked.append(number)
        if words:
            print(words, flush=True)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # the last is SLURM's before a job's time is up
        with contextlib.suppress(ValueError):  # not in the main thread: the launcher handles signals
            before[number] = signal.signal(number, stop)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resumed(directory: Path, overrides: Sequence[str], trust: bool) -> dict[str, Any] | None:
    """What run.json says of the run to go on with; None where nothing is left to do. A failure is forgotten."""
    if not (directory / files.RUN).is_file():
        raise ConfigError(f"resume={directory}: holds no {files.RUN}; accepted: a run's directory")
    run = files.read_run(directory)
    for path in (directory / name for name in (files.RUN, files.CHECKPOINT, files.PREVIOUS)):
        if not trust and path.exists() and hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            raise DataError(f"{path}: was made by another user; accepted: runs of your own, or trust=true")
    check_targets(run["config"], directory / files.RUN, trust=trust)
    others = [text for text in overrides if not text.startswith(("resume=", "trust="))]
    if others and any(not text.startswith("task=") for text in others):
        raise ConfigError(f"resume={directory}: goes on as it began; leave out {' '.join(others)}")
    if (files.read_result(directory) or {}).get("status") in files.DONE:
        checkpoints.settle_again(directory)
        print(f"{directory} is finished: nothing to do")
        return None
    files.remove([directory / files.RESULT])
    return run


def _refuse_sweeps(config: dict[str, Any], overrides: Sequence[str]) -> None:
    if config["table"] is not None:
        name = next((text.partition("=")[2] for text in overrides if text.startswith("experiment=")), "...")
        again = shlex.join([*train_command(many=True), *overrides])
        raise ConfigError(f"experiment={name} is a sweep; accepted: {again}, or table=null for one run")
    if config["seeds"] is not None:
        again = shlex.join([*train_command(many=True), *overrides])
        raise ConfigError(f"seeds: only a sweep has several; accepted: {again}, or one by seed=0")


class _Progress:
    """A line an epoch; on a terminal also where it is within the epoch."""

    def __init__(self, epochs: int | None, directory: Path) -> None:
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
        kept = {k: v for k, v in files.metrics_of(row).items() if k.count("/") <= 1}
        shown = "  ".join(f"{k} {v:.4f}" for k, v in kept.items() if v is not None)
        left = f", {each * (self.epochs - row['epoch']):.0f} s left" if self.epochs else ""
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}epoch {of_planned(row['epoch'], self.epochs)}  {shown}  {each:.1f} s{left}", flush=True)

    def chunk(self, steps: int, loss: float) -> None:
        self._announce()
        self.steps += steps
        if sys.stdout.isatty():
            where = of_planned(self.done + 1, self.epochs)
            print(f"\r\033[Kepoch {where}  step {self.steps}  loss {loss:.4f}", end="", flush=True)


def _summarise(result: dict[str, Any], directory: Path) -> None:
    best = result["metrics"]["best"]
    name = result["metrics"]["best_by"]
    print(f"{result['status']}" + (f": {result['reason']}" if result.get("reason") else ""))
    if best:
        last = result["metrics"]["final"].get(name)
        shown = "none" if last is None else f"{last:.4f}"
        print(f"best {name} {best[name]:.4f} at epoch {best['epoch']}; last {shown}")
    final = result["metrics"]["final"]
    tested = [key for key in final if key.startswith(("test/", "test_")) and key.count("/") <= 1]
    if tested and result["status"] == files.FINISHED:
        print("on the test set, once: " + "  ".join(f"{key} {final[key]:.4f}" for key in tested))
    if result["data"]["source"] == "sample":
        print("Made from synthetic sample data: for trying things out, not comparable with anything.")
    print(f"result:  {directory / files.RESULT}")
    print(f"figures: {directory / files.FIGURES}")
    print(f"curves:  {shlex.join(['tensorboard', '--logdir', str(directory)])}")
