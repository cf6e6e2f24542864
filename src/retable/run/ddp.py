"""`trainer=ddp`: the processes that train one run together, gloo between CPUs, NCCL between GPUs.

The process that was asked to train is rank 0 and alone writes the run's files. It starts the others of its machine,
each as `python -m retable.run.rank`, hands them the config, and ends them; where it dies they notice by their standard
input. Where one of them dies, the first says which and of what, and the run has failed. Signals are the first one's.
On several machines (retable.run.nodes) the same command is given on each: there it waits to be handed rank 0's config,
and starts the others of its machine in the same way, unless torchrun or srun has.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed

from retable.config.stepping import DDP
from retable.data.loader import mixed_seed
from retable.errors import ConfigError, RetableError, ending, first_line
from retable.run import devices, nodes
from retable.run.nodes import RankEnvironment
from retable.tasks.base import Task
from retable.training.ranks import Ranks, Shares

_PATIENCE = 60  # seconds for the others to end by themselves
_WAITING = 1800  # seconds for all to come, as PyTorch's own groups wait
_LAST_WORDS = 5  # seconds in which a process whose connection broke is seen to have ended
_WINK = 0.05
# What a terminal or a cluster sends to all processes at once; the first one decides what becomes of it.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class LostProcess(RuntimeError):
    """One of the processes that train a run together has ended before the run has."""


def check(config: dict[str, Any], task: Task | None) -> None:
    """Refuse what several processes can't train together.

    Args:
        task: None for a module of somebody's own.

    Raises:
        ConfigError: one line.
    """
    trainer = config["trainer"]
    world = trainer.get("devices", 1) * trainer.get("num_nodes", 1)
    if task is not None and (batch := config["data"]["batch_size"]) % world:
        key = "trainer.devices" if trainer.get("num_nodes", 1) == 1 else "trainer.num_nodes * trainer.devices"
        raise ConfigError(f"data.batch_size={batch}: accepted with {key}={world}: a multiple of it")
    if trainer.get("sync_batchnorm") and (trainer["device"] == "cpu" or not devices.gpus()):
        raise ConfigError("trainer.sync_batchnorm=true: PyTorch has it on GPUs alone; accepted here: false")
    if task is not None and not task.shareable:
        raise ConfigError(f"trainer.strategy=ddp: accepted by task={config['task']['name']}: auto")
    if nodes.are_several(config):
        nodes.rank_environment(config)


def first_environment(config: dict[str, Any]) -> RankEnvironment:
    """The environment of the process that trains a run and writes its files.

    Raises:
        ConfigError: where the environment does not say which process this is, or makes it another one.
    """
    if not nodes.are_several(config):
        return RankEnvironment(0, config["trainer"].get("devices", 1), 1, "127.0.0.1", free_port(), starts=True)
    found = nodes.rank_environment(config)
    if found.rank:
        raise ConfigError(f"trainer.num_nodes={found.nodes}: rank {found.rank} is started by: retable train")
    return found


def ended_elsewhere(error: BaseException, meeting: "Meeting | None", asked: Callable[[], bool]) -> bool:
    """Whether an error is that of another node's rank, which was asked to stop as this one was and has gone first."""
    return isinstance(error, RuntimeError) and meeting is not None and meeting.env.nodes > 1 and asked()


class _Environment(LightningEnvironment):
    """Processes that were started here or by a cluster, and not by Lightning."""

    def __init__(self, env: RankEnvironment) -> None:
        super().__init__()
        self._given, self._main_port = env, env.port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._given.address

    def local_rank(self) -> int:
        return self._given.local

    def node_rank(self) -> int:
        return self._given.node


class _OwnNumbers(pl.Callback):
    """Random numbers that depend on the seed, the epoch and the rank: a resumed run has those of an undisturbed one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(mixed_seed(self.seed, trainer.current_epoch, 3 + trainer.global_rank))


def settings(strategy: str, kind: str, env: RankEnvironment) -> dict[str, Any]:
    """What the Trainer of a rank is given. Args: strategy: trainer.strategy. kind: "cpu" or "cuda"."""
    if kind == "cuda" and torch.cuda.device_count() < env.devices:
        raise ConfigError(f"trainer.devices={env.devices}: accepted here: up to {torch.cuda.device_count()}")
    made = DDPStrategy(cluster_environment=_Environment(env), process_group_backend=_backend(kind), **DDP[strategy])
    return {"devices": env.devices, "num_nodes": env.nodes, "strategy": made}


def _backend(kind: str) -> str:
    return "nccl" if kind == "cuda" else "gloo"


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


class Meeting:
    """Where the processes of a run find each other: a store of rank 0's, or of torchrun's.

    Raises:
        RetableError: where rank 0 is not found, or has ended.
    """

    def __init__(self, env: RankEnvironment) -> None:
        self.env = env
        by_torchrun = (
            os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and nodes.TorchElasticEnvironment.detect()
        )
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if by_torchrun else "0"

        def connected(is_master: bool) -> distributed.Store:
            waiting = {"timeout": timedelta(seconds=_WAITING), "wait_for_workers": False}
            store = distributed.TCPStore(env.address, env.port, is_master=is_master, **waiting)
            return distributed.PrefixStore(f"retable/{again}", store)

        with self._in_a_line():
            self._store = connected(is_master=env.rank == 0 and not by_torchrun)
            self._news = connected(is_master=False)  # a connection that waits for the group can say nothing else

    def send(self, request: dict[str, Any]) -> None:
        """Hand the other nodes what rank 0 trains."""
        self._store.set("request", json.dumps(request))

    def receive(self) -> dict[str, Any]:
        """What rank 0 trains, once it says so."""
        with self._in_a_line():
            return json.loads(self._store.get("request"))

    def join(self, kind: str, watch: Callable[[], None] = lambda: None) -> None:
        """Make the group of all ranks; each waits for all others.

        Args:
            watch: called meanwhile, again and again; raises where waiting is of no use.
        """
        env, group = self.env, distributed.PrefixStore("group", self._store)
        if kind == "cuda":
            torch.cuda.set_device(env.local)
        faults: list[BaseException] = []
        # A group that was waited for in vain keeps its number: the next would wait under another than its ranks do.
        distributed.distributed_c10d._world.group_count = 0

        def make() -> None:
            try:
                distributed.init_process_group(_backend(kind), store=group, rank=env.rank, world_size=env.world)
            except BaseException as error:
                faults.append(error)

        # In a thread, since it waits for half an hour for a rank that has died, and hears no signal meanwhile.
        maker = threading.Thread(target=make, daemon=True)
        maker.start()
        with self._in_a_line():
            while maker.is_alive():
                maker.join(_WINK)
                watch()
                for rank in set(range(env.world)) - {env.rank}:
                    if reason := self.failure(rank):
                        raise LostProcess(f"process {rank} of {env.world}: {reason}")
            if faults:
                raise faults[0]

    def note_failure(self, reason: str) -> None:
        """Let the others, who may wait for this one, know why it ends."""
        with contextlib.suppress(distributed.DistError, RuntimeError):
            self._news.set(f"failed/{self.env.rank}", reason)

    def failure(self, rank: int) -> str | None:
        """Why a rank has ended, as far as it could say so."""
        with contextlib.suppress(distributed.DistError, RuntimeError):
            if self._news.check([f"failed/{rank}"]):
                return self._news.get(f"failed/{rank}").decode("utf-8", "replace")
        return None

    @contextlib.contextmanager
    def _in_a_line(self) -> Iterator[None]:
        env = self.env
        try:
            yield
        except LostProcess:
            raise
        except (distributed.DistError, RuntimeError) as error:
            raise RetableError(
                f"trainer.num_nodes={env.nodes}, trainer.devices={env.devices}: rank {env.rank} and the others"
                f" have not met at {env.address}:{env.port} ({first_line(error)})"
            ) from error


@contextlib.contextmanager
def companions(config: dict[str, Any], request: dict[str, Any], meeting: Meeting, kind: str) -> Iterator[None]:
    """All ranks, ready to train: those of this node are started, and ended with the block; the others hear of it.

    Args:
        config: the run's.
        request: directory: the run's; found: the checkpoint that all go on from, or None; fingerprint: of its data.

    Raises:
        LostProcess: if one of them ends before the block does; the run's log has its traceback, if it left one.
    """
    request = request | {"config": config}
    meeting.send(request)
    with started(meeting, request) as watch:
        meeting.join(kind, watch)
        yield


@contextlib.contextmanager
def started(meeting: Meeting, request: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """The other ranks of this process's node, where it has to start them, ready to train; ended with the block.

    Yields what raises LostProcess if one of them has ended. In the block an error of the group's becomes one, too.
    """
    env = meeting.env
    command = [sys.executable, "-m", "retable.run.rank"]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    ranks = range(env.rank + 1, env.rank + env.devices) if env.starts else ()
    with _signals_blocked():  # which they inherit, and keep until they can ignore them
        others = {rank: subprocess.Popen(command, env=variables, **pipes) for rank in ranks}

    def watch() -> None:
        for rank, other in others.items():
            if other.poll():
                reason = meeting.failure(rank) or ending(other.returncode)
                raise LostProcess(f"process {rank} of {env.world}: {reason}")

    try:
        for rank, other in others.items():
            own = {
                "environment": asdict(replace(env, rank=rank, starts=False)),
                "threads": torch.get_num_threads(),
            }
            with contextlib.suppress(BrokenPipeError):
                other.stdin.write(json.dumps(request | own) + "\n")
                other.stdin.flush()
        for rank, other in others.items():
            if other.stdout.readline().strip() != "ready":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    other.wait(_PATIENCE)
                watch()
                raise LostProcess(f"process {rank} of {env.world}: ended before training")
        try:
            yield watch
        except (distributed.DistError, RuntimeError) as error:
            if isinstance(error, distributed.DistError) or "gloo" in str(error):  # not a bug of the run's own
                deadline = time.monotonic() + _LAST_WORDS
                while time.monotonic() < deadline:
                    try:
                        watch()
                    except LostProcess as lost:
                        raise lost from error
                    time.sleep(_WINK)
            raise
        with contextlib.suppress(subprocess.TimeoutExpired):  # all is trained; they are ended in any case
            for other in others.values():
                other.wait(_PATIENCE)
    finally:
        for other in others.values():
            other.kill()
            other.wait()
            with contextlib.suppress(BrokenPipeError):  # it never read what it was sent
                other.stdin.close()
            other.stdout.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
