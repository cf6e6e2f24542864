"""`trainer=ddp`: the processes that train one run together on one machine, gloo between CPUs, NCCL between GPUs.

The process that was asked to train is rank 0 and alone writes the run's files. It starts the others itself, each as
`python -m retable.run.ddp`, hands them the config, and ends them; where it dies they notice by their standard input.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from retable.data.loader import mixed_seed
from retable.errors import ConfigError, RetableError
from retable.tasks.base import Task
from retable.training.ranks import Ranks, Shares

_PATIENCE = 60  # seconds for the others to end by themselves


def is_asked_for(config: dict[str, Any]) -> bool:
    """Whether a run is trained by several processes."""
    return config["trainer"].get("strategy") == "ddp"


def check(config: dict[str, Any], task: Task) -> None:
    """Refuse what several processes can't train together.  Raises: ConfigError, one line."""
    devices, batch = config["trainer"].get("devices", 1), config["data"]["batch_size"]
    if batch % devices:
        raise ConfigError(f"data.batch_size={batch}: accepted with trainer.devices={devices}: a multiple of it")
    if not task.shareable:
        raise ConfigError(f"trainer.strategy=ddp: accepted by task={config['task']['name']}: auto")


class _Environment(LightningEnvironment):
    """Processes that were started here, and not by Lightning or by a cluster."""

    def __init__(self, rank: int, port: int) -> None:
        super().__init__()
        self._local_rank, self._main_port = rank, port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    def local_rank(self) -> int:
        return self._local_rank

    def node_rank(self) -> int:
        return 0


class _OwnNumbers(pl.Callback):
    """Random numbers that depend on the seed, the epoch and the rank: a resumed run has those of an undisturbed one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(mixed_seed(self.seed, trainer.current_epoch, 3 + trainer.global_rank))


def settings(config: dict[str, Any], kind: str, rank: int, port: int) -> dict[str, Any]:
    """What the Trainer of a rank is given. Args: kind: "cpu" or "cuda"."""
    devices = config["trainer"].get("devices", 1)
    if kind == "cuda" and torch.cuda.device_count() < devices:
        raise ConfigError(f"trainer.devices={devices}: accepted here: up to {torch.cuda.device_count()}")
    backend = "nccl" if kind == "cuda" else "gloo"
    strategy = DDPStrategy(cluster_environment=_Environment(rank, port), process_group_backend=backend)
    return {"devices": devices, "strategy": strategy}


def share(task: Task, data: pl.LightningDataModule, rank: int, world: int) -> None:
    """Make a task and its data those of a rank."""
    task.ranks = Ranks()
    whole = data.train_dataloader
    data.train_dataloader = functools.wraps(whole)(lambda: Shares(whole(), rank, world))


def callback(config: dict[str, Any]) -> pl.Callback:
    """What every rank's Trainer has beside its record."""
    return _OwnNumbers(config["seed"])


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def companions(config: dict[str, Any], directory: Path, port: int, found: Path | None) -> Iterator[None]:
    """The other ranks, started and ready to train; ended with the block.

    Args:
        found: the checkpoint that all go on from, or None.

    Raises:
        RetableError: if one of them ends before it is ready; the run's log has its reason.
    """
    command = [sys.executable, "-m", "retable.run.ddp"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen(command, env=env, **pipes) for _ in range(1, config["trainer"].get("devices", 1))]
    try:
        for rank, other in enumerate(others, start=1):
            request = {"config": config, "directory": str(directory), "rank": rank, "port": port}
            request |= {"found": found and str(found)}
            with contextlib.suppress(BrokenPipeError):
                other.stdin.write(json.dumps(request | {"threads": torch.get_num_threads()}) + "\n")
                other.stdin.flush()
        for rank, other in enumerate(others, start=1):
            if other.stdout.readline().strip() != "ready":
                raise RetableError(f"trainer.devices: process {rank} of {len(others) + 1} ended before training")
        yield
        for other in others:
            other.wait(_PATIENCE)
    finally:
        for other in others:
            other.kill()
            other.wait()
            other.stdin.close()
            other.stdout.close()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _follow(config: dict[str, Any], directory: Path, rank: int, port: int, threads: int, found: str | None) -> None:
    """Train as one of the other ranks: what `execute` does, writing nothing."""
    from retable.run import devices, execute, precision, steps
    from retable.run.assemble import best_is_highest, make_callbacks, make_data, make_early_stop, make_task
    from retable.run.output import quieten_lightning
    from retable.run.record import Record

    torch.set_num_threads(threads)
    quieten_lightning()
    kind, _ = devices.resolve(config["trainer"]["device"])
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    task = make_task(config, data)
    precision.settle(config, task, data, kind)
    share(task, data, rank, config["trainer"]["devices"])
    best = best_is_highest(config, task)
    stop = make_early_stop(config, task)
    record = Record(directory, config["task"]["metric"], best, {}, None, lambda row: None, early_stop=stop)
    record.writes = False
    callbacks = make_callbacks(config, task, directory)
    steps.choose(config, task, data, callbacks)
    ranks = settings(config, kind, rank, port)
    trainer = execute.make_trainer(config["trainer"], kind, record, [*callbacks, callback(config)], (), ranks)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    os.dup2(2, 1)
    execute.fit(trainer, task, data, record, found and Path(found), config)


def _end_with_the_first() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """A rank of somebody's run."""
    for number in (signal.SIGINT, signal.SIGUSR1):  # the first rank's business
        signal.signal(number, signal.SIG_IGN)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    _follow(
        request["config"],
        Path(request["directory"]),
        request["rank"],
        request["port"],
        request["threads"],
        request["found"],
    )
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
