"""A SLURM of one node, from Debian's slurm-wlm and munge, for as long as the tests run. Needs root.

Jobs are tracked by process ids and nothing is bound to cores, so that it works within a container. There is no
accounting: sacct has no answer, as on many small clusters.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill,UsePss
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
KillWait=2
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 Sockets=4 CoresPerSocket=1 ThreadsPerCore=1 RealMemory=12000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes={host} State=UP PriorityTier=10 PreemptMode=OFF
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The cluster; SLURM's commands find it by SLURM_CONF."""
    pytest.importorskip("submitit", reason="needs submitit: pip install 'retable[slurm]'")
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=_path()) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs root, and {', '.join(missing) or 'nothing else'}: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    settings = {"host": socket.gethostname().partition(".")[0], "folder": folder, "ports": _free_ports()}
    (folder / "slurm.conf").write_text(CONF.format(**settings))
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH", "PYTHONPATH")}
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    options = [f"--{key}={folder}/{value}" for key, value in MUNGE.items()]
    daemons = [
        subprocess.Popen([*command, *rest], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        for command, rest, log in (
            (["munged", "--foreground", "--force"], options, (folder / "munged.out").open("w")),
            (["slurmctld", "-D", "-c"], [], (folder / "slurmctld.out").open("w")),
            (["slurmd", "-D"], [], (folder / "slurmd.out").open("w")),
        )
    ]
    try:
        deadline = time.monotonic() + 60
        while "idle" not in (shown := output_of("sinfo", "--noheader", "--format=%t")):
            if time.monotonic() > deadline:
                pytest.skip(f"SLURM does not start here: {shown}; {(folder / 'slurmctld.out').read_text()[-300:]}")
            time.sleep(0.5)
        yield folder
    finally:
        output_of("scancel", "--me")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


MUNGE = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
MUNGE |= {"log-file": "munged.log", "seed-file": "munge.seed"}


def output_of(*command: str) -> str:
    """What a command of SLURM's prints; "" if it has no answer."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
