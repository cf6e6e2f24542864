"""A run is a function from a config to a directory: `execute`."""

import contextlib
import functools
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelSummary, ProgressBar, RichModelSummary
from pytorch_lightning.plugins.environments import LightningEnvironment

from retable import atomic
from retable.config.identity import identity
from retable.config.keys import is_foreign
from retable.config.stepping import by_several
from retable.errors import RetableError
from retable.models import plain_numpy
from retable.run import beside, checkpoints, ddp, devices, facts, files, foreign_train, lease, precision, steps
from retable.run.assemble import (
    best_is_highest,
    make_callbacks,
    make_data,
    make_early_stop,
    make_task,
    trainer_arguments,
)
from retable.run.files import DIVERGED, FINISHED, INTERRUPTED
from retable.run.fused import Seat
from retable.run.images import write_images as write_image_metrics
from retable.run.loggers import close_loggers, make_loggers
from retable.run.output import quieten_lightning
from retable.run.record import Record
from retable.run.result import about_data, describe, note_start, phases, portable, result_of, write_failure
from retable.run.tensorboard import write_images
from retable.tasks.base import Diverged, Interrupted, Task


class Busy(RetableError):
    """Another process trains this run now."""


class Gone(RetableError):
    """The run's directory was taken away while it trained."""


def execute(
    config: dict[str, Any],
    directory: Path,
    *,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    on_chunk: Callable[[int, float], None] = lambda done, loss: None,
    should_interrupt: Callable[[], bool] = lambda: False,
    company: Seat | None = None,
) -> dict[str, Any]:
    """Train a run, from its checkpoint where there is one, and leave its files in the directory.

    Args:
        config: resolved config of one run, checked by whoever composed it or read it (`files.read_run`).
        directory: run directory; `run.json` in it says the run's name.
        on_epoch: called with each finished row of the history.
        on_chunk: called with the number of steps just done and the last loss.
        should_interrupt: asked between chunks; true stops the run, which goes on from its last epoch when called again.
        company: the run's place among those that it may take its steps with.

    Returns:
        What result.json holds; {"status": "interrupted"} with no result.json when it was interrupted.

    Raises:
        RetableError: for a config or data that is refused; nothing was trained then.
        Gone: if the directory is deleted meanwhile; nothing more is written there.
        Busy: if another process holds the run's lock.
        KeyboardInterrupt: for Ctrl-C, where nobody else has taken it; called again the run goes on.
        Exception: whatever went wrong in training; result.json says so too.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with lease.lock(directory) as locked, lease.held(directory, locked) as held:
            files.sweep_up(directory)
            done = files.read_result(directory)
            if done is not None:
                checkpoints.settle_again(directory)
                return done  # also what another sweep ended meanwhile; who tries a failed run again clears its result

            def interrupted() -> bool:
                if not held.holds:
                    raise Gone(f"{directory}: was deleted or replaced while the run trained")
                return should_interrupt()

            try:
                with _ctrl_c_as_python_has_it():
                    return _execute(config, directory, on_epoch, on_chunk, interrupted, company)
            except (Gone, KeyboardInterrupt):
                raise  # nothing is written where another run may be by now, and who was interrupted has not failed
            except BaseException as error:
                write_failure(directory, describe(error), config)  # under the lock: nobody takes the run over before
                raise
    except lease.Taken as error:
        raise Busy(f"{directory}: another process trains this run") from error


class _CtrlC(BaseException):
    """Ctrl-C, as an exception that Lightning does not catch."""


@contextlib.contextmanager
def _ctrl_c_as_python_has_it() -> Iterator[None]:
    """Let Ctrl-C end the block by KeyboardInterrupt, where it would without Lightning.

    Lightning turns that into sys.exit(1), and has Ctrl-C ignored from then on, in a notebook too.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _CtrlC

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except _CtrlC:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _execute(
    config: dict[str, Any],
    directory: Path,
    on_epoch: Callable[[dict[str, Any]], None],
    on_chunk: Callable[[int, float], None],
    should_interrupt: Callable[[], bool],
    company: Seat | None,
) -> dict[str, Any]:
    clock = time.perf_counter()
    quieten_lightning()
    kind, capabilities = devices.resolve(config["trainer"]["device"])
    config = _with_precision(config, devices.precision(config["trainer"]["precision"], kind, capabilities))
    facts.reset_peak_memory(kind)
    meeting = None
    if by_several(config["trainer"]):
        meeting = ddp.Meeting(ddp.first_environment(config))  # before anything else, as other nodes wait for it
    if is_foreign(config):
        hooks = {"on_epoch": on_epoch, "on_chunk": on_chunk, "should_interrupt": should_interrupt}
        callbacks = make_callbacks(config, None, directory)
        loggers = make_loggers(config, directory, atomic.read_json(directory / files.RUN) or {}, callbacks)
        its_trainer = functools.partial(make_trainer, config["trainer"], kind, loggers=loggers)
        result: dict[str, Any] = {}
        try:
            result = foreign_train.execute(config, directory, kind, its_trainer, callbacks, meeting, **hooks)
        finally:
            close_loggers(loggers, result.get("status") == FINISHED)
        return result
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    task = make_task(config, data)
    run = atomic.read_json(directory / files.RUN) or {}
    if run.get("fingerprint") not in (None, data.fingerprint):
        raise RetableError(f"{directory}: was begun with other data; remove the directory to train it anew")
    note_start(directory, run, config, data)
    print(about_data(data), flush=True)
    # What the run is, and how it is trained: the work of its steps may decide on their precision.
    trained = _with_precision(config, precision.settle(config, task, data, kind))
    if trained["trainer"]["precision"] == "64-true":
        task.double()  # as Lightning will; it reads a checkpoint's weights before, though
    if config["trainer"].get("compile"):
        task.model.compile()  # in place: names of weights stay
    task.on_chunk, task.should_interrupt = on_chunk, lambda: should_interrupt() and record.saved
    task.cuda_graph = config["trainer"].get("cuda_graph", False)
    kept = config.get("checkpoint") or {"last": True, "best": False}  # as for runs from before there was a choice
    record = Record(
        directory,
        config["task"]["metric"],
        best_is_highest(config, task),
        extra=portable(config, data, run.get("name", directory.name)),
        events=beside.events(kind) if config["logger"].get("tensorboard", False) else None,
        on_epoch=on_epoch,
        early_stop=make_early_stop(config, task),
        keep_best=kept["best"],
        every=checkpoints.interval(kept.get("every", "auto"), kind, alone=not by_several(config["trainer"])),
        asked=should_interrupt,
    )
    callbacks = make_callbacks(config, task, directory)
    stepping = steps.choose(trained, task, data, callbacks)
    how = "many in one Lightning step" if stepping["in_chunks"] else "one by one"
    print(f"steps: {how} ({stepping['because']})", flush=True)
    if company is not None and stepping["in_chunks"]:
        task.company = functools.partial(company.take_steps, task, record)
    loggers = make_loggers(config, directory, run, callbacks)
    found = checkpoints.usable(directory)
    companions: Any = contextlib.nullcontext()
    if meeting is not None:
        ranks = ddp.settings(config["trainer"]["strategy"], kind, meeting.env)
        trainer = make_trainer(trained["trainer"], kind, record, [*callbacks, ddp.callback(config)], loggers, ranks)
        request = {"directory": str(directory.absolute()), "found": found and str(found.absolute())}
        companions = ddp.companions(trained, request | {"fingerprint": data.fingerprint}, meeting, kind)
        ddp.share(task, data, 0, meeting.env.world)
    else:
        trainer = make_trainer(trained["trainer"], kind, record, callbacks, loggers)
    seconds = {"setup": time.perf_counter() - clock}
    outcome: dict[str, Any] = {}
    try:
        with companions:
            fit(trainer, task, data, record, found, config)
        outcome = {"status": FINISHED}
    except (Interrupted, RuntimeError) as error:
        record.close()
        if not isinstance(error, Interrupted) and not ddp.ended_elsewhere(error, meeting, should_interrupt):
            raise
        return {"status": INTERRUPTED, "epochs": record.epochs}
    except Diverged as error:
        outcome = {"status": DIVERGED, "reason": str(error), "diverged": {"epoch": error.epoch, "step": error.step}}
    except BaseException:
        record.close()
        raise
    finally:
        close_loggers(loggers, outcome.get("status") == FINISHED)
    record.close(identity(config))
    files.write_history(directory / files.HISTORY, record.rows)  # a loss of power may have left less than a checkpoint
    seconds |= phases(record)
    clock = time.perf_counter()
    if outcome["status"] == FINISHED:
        with beside.drawing(kind):
            _draw(directory, record, task.to(kind, torch.float32), data, config)
        if config["logger"].get("tensorboard", False):
            write_images(directory, record.epochs)
    seconds["figures"] = time.perf_counter() - clock
    seconds["total"] = seconds["setup"] + record.seconds
    should_interrupt()  # a directory that is gone gets no result
    result = (
        outcome
        | result_of(trained, run, record, task, data, kind, trainer.global_step)
        | ({"execution": {"fused": record.fused}} if record.fused else {})
        | {"stepping": stepping, "seconds": seconds}
    )
    if outcome["status"] == FINISHED:
        write_image_metrics(directory, task)
    atomic.sync(directory)  # before a result says that all of it is there
    atomic.write_json(directory / files.RESULT, result)
    atomic.sync(directory)  # and before anything is deleted that is not needed any more
    checkpoints.settle(directory, kept)
    return result


def _with_precision(config: dict[str, Any], found: str) -> dict[str, Any]:
    return {**config, "trainer": {**config["trainer"], "precision": found}}


def fit(trainer: pl.Trainer, task: Task, data: Any, record: Record, found: Path | None, config: dict[str, Any]) -> None:
    """Train from a checkpoint, where there is one, to the end; then use the test set once. Every rank does this."""
    if found is None and config["trainer"].get("validate_first"):
        trainer.validate(task, datamodule=data, verbose=False)
        record.before_training(task.epoch_metrics)
    with plain_numpy.accepted():  # of callbacks, say
        trainer.fit(task, datamodule=data, ckpt_path=found, weights_only=True)
    measured = task.validated_at == trainer.global_step  # else some steps came after the last validation
    if not (measured and task.has_seen("val")):  # figures and counts are of the last weights, also when called again
        trainer.validate(task, datamodule=data, verbose=False)
    limits = trainer.limit_val_batches, trainer.limit_test_batches
    if not record.rows or data.splits.test is None or limits[1] == 0:
        return
    used = data.splits.test is data.splits.val and limits[0] == limits[1] and type(limits[0]) is type(limits[1])
    if used and measured and "val/loss" in record.rows[-1]:
        last = {key.replace("val/", "test/", 1): v for key, v in record.rows[-1].items() if key.startswith("val/")}
    else:
        trainer.test(task, datamodule=data, verbose=False)
        last = task.metrics_of("test")
    record.add(last)


def make_trainer(
    node: dict[str, Any],
    kind: str,
    record: Record,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Any] = (),
    ranks: dict[str, Any] | None = None,
) -> pl.Trainer:
    """The Trainer of a run.

    Args:
        node: config's `trainer`, with the precision that it comes to.
        kind: "cpu" or "cuda".
        callbacks: beside the record.
        ranks: what retable.run.ddp gives where several processes train.
    """
    # What SLURM's variables would make of it: ranks that wait for each other, checkpoints in the working directory.
    alone = {"plugins": [LightningEnvironment()], "devices": 1}
    given = {**(ranks or alone), **trainer_arguments(node, record.directory)}
    given["plugins"] = [*alone["plugins"], *given["plugins"]] if ranks is None else given["plugins"]
    summarised = any(isinstance(callback, ModelSummary) for callback in callbacks)
    if node.get("enable_model_summary") and not summarised and not (ranks and not record.writes):
        callbacks, summarised = [*callbacks, RichModelSummary()], True  # Lightning's plain one goes to a log
    trainer = pl.Trainer(
        **given,
        default_root_dir=record.directory,
        accelerator="gpu" if kind == "cuda" else "cpu",
        callbacks=[*callbacks, record],
        logger=list(loggers) or False,
        enable_progress_bar=node.get("enable_progress_bar", False)
        or any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=summarised,
        use_distributed_sampler=False,
    )
    # Lightning's handler of SIGTERM raises SystemExit at a batch's end, and speaks to the other ranks in between what
    # they say to each other. What a signal means is up to whoever trains: `should_interrupt`.
    trainer._signal_connector.register_signal_handlers = lambda: None
    # With max_steps Lightning takes any epoch that it goes on from for one that was cut, and begins no other: what a
    # run counts of an epoch is then not there, or the epoch's figures come twice. Checkpoints here are of whole epochs.
    trainer.fit_loop._iteration_based_training = lambda: False
    return trainer


def _draw(directory: Path, record: Record, task: Task, data: Any, config: dict[str, Any]) -> None:
    from retable.figures import classification as figures

    folder, title = directory / files.FIGURES, f"{config['task']['name']} · {directory.name}"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed as it drew
    figures.curves(record.rows, folder / "curves.png", title)
    figures.gradient_norms(record.rows, folder / "gradient_norms.png", title)
    task.draw(folder, data, config, title)
