"""Which of the processes that train one run this one is, where `trainer=ddp` runs on several machines.

Whoever starts them says so in the variables that Lightning reads, and Lightning's own classes read them here: torchrun
and srun start every process, or srun one a node; by hand, the same command is given on each node with MASTER_ADDR,
MASTER_PORT and NODE_RANK, and with LOCAL_RANK too where each process is started by hand.
"""

import os
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from retable.config.stepping import by_several
from retable.errors import ConfigError

_BY_HAND = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
_INTERACTIVE = ("bash", "interactive")  # names of SLURM's jobs by which Lightning knows that srun starts nothing


class _Slurm(SLURMEnvironment):
    """Lightning's, without its signal handlers, and without its advice about --ntasks: faults are reported here."""

    def __init__(self) -> None:
        self.auto_requeue, self.requeue_signal = False, None


@dataclass(frozen=True)
class RankEnvironment:
    """Where a process stands among those that train a run.

    Args:
        rank: among all of them, from 0.
        devices, nodes: processes a node, and nodes.
        address, port: where rank 0 is found.
        starts: whether this process has to start the others of its node.
    """

    rank: int
    devices: int
    nodes: int
    address: str
    port: int
    starts: bool

    @property
    def world(self) -> int:
        return self.nodes * self.devices

    @property
    def node(self) -> int:
        return self.rank // self.devices

    @property
    def local(self) -> int:
        return self.rank % self.devices


def are_several(config: dict[str, Any]) -> bool:
    """Whether a run is trained on several machines, or by processes that torchrun or srun has started."""
    trainer = config["trainer"]
    started = by_several(trainer) and (TorchElasticEnvironment.detect() or _by_srun())
    return started or trainer.get("num_nodes", 1) > 1


def _by_srun() -> bool:
    """Whether srun has started this process and others; the variables of the job alone would not tell."""
    return os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"


def rank_environment(config: dict[str, Any]) -> RankEnvironment:
    """This process's own, of a run for which `are_several`.

    Raises:
        ConfigError: where the environment does not say it, or says another number of processes.
    """
    trainer = config["trainer"]
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    asked = f"trainer.num_nodes={nodes}, trainer.devices={devices}"
    if TorchElasticEnvironment.detect():
        by, environment, accepted = "torchrun", TorchElasticEnvironment(), (nodes * devices,)
    elif "SLURM_NTASKS" in os.environ and (_by_srun() or SLURMEnvironment.job_name() not in _INTERACTIVE):
        by, environment, accepted = "srun", _Slurm(), (nodes * devices, nodes)
    else:
        return _by_hand(asked, devices, nodes)
    started, rank = environment.world_size(), environment.global_rank()
    if started not in accepted:
        wanted = " or ".join(map(str, dict.fromkeys(accepted)))
        raise ConfigError(f"{asked}: {by} has started {started} processes; accepted: {wanted}")
    each = started // nodes
    if environment.local_rank() >= each or rank != environment.node_rank() * each + environment.local_rank():
        raise ConfigError(f"{asked}: {by} has put other numbers of processes on its nodes; accepted: {each} on each")
    return _made(environment, rank * devices // each, devices, nodes, starts=each < devices)


def _by_hand(asked: str, devices: int, nodes: int) -> RankEnvironment:
    if missing := [name for name in _BY_HAND if name not in os.environ]:
        raise ConfigError(
            f"{asked}: nothing says which node this is; accepted: a start by torchrun or srun, or {', '.join(_BY_HAND)}"
            f" in the environment of each node (missing: {', '.join(missing)})"
        )
    environment = LightningEnvironment()
    try:
        node, local = environment.node_rank(), environment.local_rank()
        found = _made(environment, node * devices + local, devices, nodes, not environment.creates_processes_externally)
    except ValueError as error:
        raise ConfigError(f"{asked}: MASTER_PORT, NODE_RANK, LOCAL_RANK: accepted: whole numbers") from error
    for name, value, count in (("NODE_RANK", node, nodes), ("LOCAL_RANK", local, devices)):
        if not 0 <= value < count:
            raise ConfigError(f"{asked}: {name}={value}: accepted: 0 to {count - 1}")
    return found


def _made(environment: ClusterEnvironment, rank: int, devices: int, nodes: int, starts: bool) -> RankEnvironment:
    starts = starts and devices > 1
    return RankEnvironment(rank, devices, nodes, environment.main_address, environment.main_port, starts)
