"""A rank of a run that `trainer=ddp` trains, but the first: it trains as `execute` does, and writes nothing.

Rank 0 starts those of its machine as `python -m retable.run.rank` (retable.run.ddp); on another machine, or under
torchrun or srun, the command that trains comes here (`follow`).
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import distributed

from retable.config.keys import is_foreign
from retable.errors import RetableError, first_line
from retable.run import ddp, devices, execute, foreign_train, precision, steps
from retable.run.assemble import best_is_highest, make_callbacks, make_data, make_early_stop, make_task
from retable.run.ddp import Meeting
from retable.run.loggers import silent_loggers
from retable.run.nodes import RankEnvironment
from retable.run.output import quieten_lightning
from retable.run.record import Record
from retable.run.result import describe
from retable.tasks.base import Diverged

# What gloo and NCCL say of a process that is no longer there.
_GONE = re.compile(r"Connection (closed|reset|refused)|connection was (closed|reset)|Broken pipe|remote process exited")


class Lost(RetableError):
    """Another process of the run has ended before its end."""


def follow(env: RankEnvironment) -> None:
    """Train as a rank that nobody of this project has started: of another node, or one of torchrun's or srun's.

    Raises:
        RetableError: where rank 0 is not found, has ended before, or trains what this node has not.
        Lost: where another process ends while this one trains.
    """
    print(
        f"rank {env.rank} of {env.world}: waits for rank 0 at {env.address}:{env.port}",
        flush=True,
    )
    meeting = Meeting(env)
    request = meeting.receive()
    print(f"rank {env.rank} of {env.world}: trains {request['directory']}", flush=True)
    with _saying_who_is_lost(env), ddp.started(meeting, request):
        try:
            _follow(request, meeting)
        except BaseException as error:
            meeting.note_failure(describe(error))
            raise


def _follow(request: dict[str, Any], meeting: Meeting, ready: Callable[[], None] = lambda: None) -> None:
    """Train as one of the other ranks: what `execute` does, writing nothing."""
    config, directory, env = request["config"], Path(request["directory"]), meeting.env
    quieten_lightning()
    kind, _ = devices.resolve(config["trainer"]["device"])
    found = request["found"] and Path(request["found"])
    if found and not found.is_file():
        raise RetableError(f"{found}: not found here; accepted for going on: a folder that all nodes share")
    ranks = ddp.settings(config["trainer"]["strategy"], kind, env)

    def join() -> None:
        ready()
        meeting.join(kind)

    def its_trainer(record: Record, own: pl.Callback) -> pl.Trainer:
        callbacks = make_callbacks(config, None, directory)
        loggers = silent_loggers(config, directory, callbacks)
        return execute.make_trainer(config["trainer"], kind, record, [*callbacks, own], loggers, ranks)

    if is_foreign(config):
        foreign_train.follow(config, directory, found, env, its_trainer, join)
        return
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    if data.fingerprint != request["fingerprint"]:
        raise RetableError(f"{config['data']['root']}: not the data of rank 0; accepted: the same on all nodes")
    task = make_task(config, data)
    precision.settle(config, task, data, kind)
    ddp.share(task, data, env.rank, env.world)
    best = best_is_highest(config, task)
    stop = make_early_stop(config, task)
    record = Record(directory, config["task"]["metric"], best, {}, None, lambda row: None, early_stop=stop)
    record.writes = False
    callbacks = make_callbacks(config, task, directory)
    steps.choose(config, task, data, callbacks)
    loggers = silent_loggers(config, directory, callbacks)
    trainer = execute.make_trainer(config["trainer"], kind, record, [*callbacks, ddp.callback(config)], loggers, ranks)
    join()
    with contextlib.suppress(Diverged):  # as all ranks have; the first one says so
        execute.fit(trainer, task, data, record, found, config)


@contextlib.contextmanager
def _saying_who_is_lost(env: RankEnvironment) -> Iterator[None]:
    """Turn an error of the process group into Lost, where no other reason is known."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not _GONE.search(str(error)):
            raise
        raise Lost(
            f"rank {env.rank} of {env.world}: another process of the run has gone; the same command on each node,"
            f" with resume=, goes on from its last epoch ({first_line(error)})"
        ) from error


def _is_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(2, 1)


def _end_with_the_first(pipe: int) -> None:
    os.read(pipe, 1)  # not by sys.stdin, whose lock a forked DataLoader worker would wait for
    os._exit(1)


def main() -> None:
    """A rank of somebody's run."""
    for number in ddp.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ddp.SIGNALS)
    line = sys.stdin.readline()
    if not line:
        os._exit(1)  # the first has gone
    request = json.loads(line)
    threading.Thread(target=_end_with_the_first, args=(os.dup(0),), daemon=True).start()
    torch.set_num_threads(request["threads"])
    meeting, code = Meeting(RankEnvironment(**request["environment"])), 0
    try:
        with _saying_who_is_lost(meeting.env):
            _follow(request, meeting, _is_ready)
    except Lost:
        pass  # no fault of this one; the first one of its node says it
    except BaseException as error:
        traceback.print_exc()
        meeting.note_failure(describe(error))
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
