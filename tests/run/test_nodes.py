"""One run on several machines: what the environment says of them, and that two nodes give what one process gives."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from retable.data.formats.idx import write_idx
from retable.data.sets.mnist import NAMES
from retable.errors import ConfigError
from retable.run import files
from retable.run.ddp import free_port
from retable.run.execute import execute
from retable.run.nodes import RankEnvironment, are_several, rank_environment
from retable.sweeps.session import sweep
from tests.checking import refusal
from tests.runs import history, same

WORDS = ("task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "dropout=none", "data.batch_size=48")
WORDS += ("scheduler=cosine", "trainer.device=cpu", "logger=none")
DDP = ("trainer=ddp", "trainer.num_nodes=2", "trainer.max_epochs=2")
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "RANK", "GROUP_RANK", "WORLD_SIZE")
HAND = {"MASTER_ADDR": "head", "MASTER_PORT": "29500"}
SLURM = {"SLURM_JOB_ID": "1234567", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "node[07-08]"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "head", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in [*VARIABLES, *(name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_")))]:
        monkeypatch.delenv(name, raising=False)


def asked(nodes, devices):
    return {"trainer": {"strategy": "ddp", "num_nodes": nodes, "devices": devices}}


@pytest.mark.parametrize(
    ("variables", "nodes", "devices", "expected"),
    [
        (HAND | {"NODE_RANK": "1"}, 2, 1, RankEnvironment(1, 1, 2, "head", 29500, starts=False)),
        (HAND | {"NODE_RANK": "1"}, 2, 4, RankEnvironment(4, 4, 2, "head", 29500, starts=True)),
        (HAND | {"NODE_RANK": "1", "LOCAL_RANK": "2"}, 2, 4, RankEnvironment(6, 4, 2, "head", 29500, starts=False)),
        (
            TORCHRUN | {"WORLD_SIZE": "4", "RANK": "3", "GROUP_RANK": "1", "LOCAL_RANK": "1"},
            2,
            2,
            RankEnvironment(3, 2, 2, "head", 29500, starts=False),
        ),
        (  # of one machine, too, where torchrun has started the processes
            TORCHRUN | {"WORLD_SIZE": "2", "RANK": "1", "GROUP_RANK": "0", "LOCAL_RANK": "1"},
            1,
            2,
            RankEnvironment(1, 2, 1, "head", 29500, starts=False),
        ),
        (  # Lightning's port: 15000 and the last four digits of the job's number
            SLURM | {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"},
            2,
            2,
            RankEnvironment(2, 2, 2, "node07", 19567, starts=False),
        ),
        (  # of one machine, where srun has started the processes; also within an allocation by salloc
            SLURM
            | {"SLURM_JOB_NAME": "interactive", "SLURM_NODELIST": "node07", "SLURM_STEP_NUM_TASKS": "2"}
            | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_NODEID": "0", "SLURM_LOCALID": "1"},
            1,
            2,
            RankEnvironment(1, 2, 1, "node07", 19567, starts=False),
        ),
        (  # one task a node
            SLURM | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"},
            2,
            8,
            RankEnvironment(8, 8, 2, "node07", 19567, starts=True),
        ),
    ],
)
def test_the_environment_says_which_process_it_is(monkeypatch, variables, nodes, devices, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert are_several(asked(nodes, devices))
    assert rank_environment(asked(nodes, devices)) == expected


def test_a_job_of_slurm_that_trains_on_its_own_machine_is_no_node(monkeypatch):
    for name, value in (SLURM | {"SLURM_NTASKS": "4", "SLURM_PROCID": "2"}).items():
        monkeypatch.setenv(name, value)
    assert not are_several(asked(1, 2))


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        (
            {"MASTER_ADDR": "head"},
            "trainer.num_nodes=2, trainer.devices=2: nothing says which node this is; accepted: a start by torchrun or"
            " srun, or MASTER_ADDR, MASTER_PORT, NODE_RANK in the environment of each node (missing: MASTER_PORT,"
            " NODE_RANK)",
        ),
        (HAND | {"NODE_RANK": "2"}, "trainer.num_nodes=2, trainer.devices=2: NODE_RANK=2: accepted: 0 to 1"),
        (
            HAND | {"NODE_RANK": "1", "LOCAL_RANK": "2"},
            "trainer.num_nodes=2, trainer.devices=2: LOCAL_RANK=2: accepted: 0 to 1",
        ),
        (
            HAND | {"NODE_RANK": "one"},
            "trainer.num_nodes=2, trainer.devices=2: MASTER_PORT, NODE_RANK, LOCAL_RANK: accepted: whole numbers",
        ),
        (
            TORCHRUN | {"WORLD_SIZE": "3", "RANK": "0", "GROUP_RANK": "0", "LOCAL_RANK": "0"},
            "trainer.num_nodes=2, trainer.devices=2: torchrun has started 3 processes; accepted: 4",
        ),
        (
            TORCHRUN | {"WORLD_SIZE": "4", "RANK": "3", "GROUP_RANK": "0", "LOCAL_RANK": "3"},
            "trainer.num_nodes=2, trainer.devices=2: torchrun has put other numbers of processes on its nodes;"
            " accepted: 2 on each",
        ),
        (
            SLURM | {"SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"},
            "trainer.num_nodes=2, trainer.devices=2: srun has started 3 processes; accepted: 4 or 2",
        ),
    ],
)
def test_what_the_environment_may_not_say(monkeypatch, variables, printed):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        rank_environment(asked(2, 2))
    assert str(refused.value) == printed


@pytest.mark.parametrize(
    ("overrides", "printed"),
    [
        (["trainer.num_nodes=2"], "trainer.num_nodes=2: accepted with trainer.strategy=auto: 1; trainer=ddp has more"),
        (["trainer.num_nodes=0"], "trainer.num_nodes=0: accepted: a whole number of at least 1"),
        (
            [*DDP, "trainer.devices=4", "data.batch_size=12"],
            "data.batch_size=12: accepted with trainer.num_nodes * trainer.devices=8: a multiple of it",
        ),
    ],
)
def test_refusals(compose, overrides, printed):
    assert refusal(compose("task=mnist", *overrides)) == printed


def test_a_sweep_is_of_one_machine(tmp_path):
    with pytest.raises(ConfigError, match=r"^trainer\.num_nodes=2: accepted in a sweep: 1; "):
        sweep([*WORDS, *DDP, "data.batch_size=48", "seed=0,1", f"sweep.dir={tmp_path}"])


def test_nodes_are_no_part_of_what_a_run_is(compose):
    from retable.config.identity import identity

    assert identity(compose(*WORDS, *DDP)) == identity(compose(*WORDS, "trainer.max_epochs=2"))


def by_hand(port, node):
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(node)}


def started(words, folder, variables, *by):
    command = [*(by or (sys.executable,)), "-m", "retable.cli", "train", *words]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RETABLE_LOG": ""} | variables
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(*processes):
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(printed)
    return printed


@pytest.fixture
def alone(compose, tmp_path):
    config = compose(*WORDS, "trainer.max_epochs=2")
    result = execute(config, tmp_path / "alone")
    return result, history(tmp_path / "alone"), str(config["data"]["cache"])


@pytest.mark.slow
def test_two_nodes_equal_one_process(compose, tmp_path, monkeypatch, alone):
    """The first node in this process, the other one by the command that its user gives there, in another folder."""
    result, expected, cache = alone
    words, port = [*WORDS, *DDP, "trainer.devices=1", f"data.cache={cache}"], free_port()
    other = started(words, tmp_path / "elsewhere", by_hand(port, 1))
    for name, value in by_hand(port, 0).items():
        monkeypatch.setenv(name, value)
    together = execute(compose(*words), tmp_path / "together")
    (printed,) = ended(other)
    assert together["status"] == "finished"
    same(history(tmp_path / "together"), expected)
    assert together["step"] == result["step"]
    assert together["confusion"]["train"] == result["confusion"]["train"]
    assert printed.splitlines()[0] == f"rank 1 of 2: waits for rank 0 at 127.0.0.1:{port}"
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("by", ["hand", "torchrun", "srun", "srun, one task a node"])
def test_two_nodes_of_two_processes_however_they_are_started(tmp_path, alone, by):
    result, expected, cache = alone
    words, port = [*WORDS, *DDP, "trainer.devices=2", f"data.cache={cache}", "output=out"], free_port()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2"]
    torchrun += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost", "MASTER_PORT": str(port)}

    def task(rank, node, local, count):
        return slurm | {
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(rank),
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": str(local),
        }

    folders = [tmp_path / "first", tmp_path / "second"]
    if by == "hand":
        processes = [started(words, folders[node], by_hand(port, node)) for node in (0, 1)]
    elif by == "torchrun":
        processes = [started(words, folders[node], {}, *torchrun, f"--node-rank={node}") for node in (0, 1)]
    elif by == "srun":
        processes = [started(words, folders[rank // 2], task(rank, rank // 2, rank % 2, 4)) for rank in range(4)]
    else:
        processes = [started(words, folders[node], task(node, node, 0, 2)) for node in (0, 1)]
    ended(*processes)
    (run,) = (path.parent for path in folders[0].glob("out/*/*/*/result.json"))
    same(history(run), expected)
    assert files.read_result(run)["confusion"]["val"] == result["confusion"]["val"]
    assert not list(folders[1].iterdir())


@pytest.mark.slow
def test_torchrun_on_one_machine_starts_one_run(tmp_path, alone):
    _, expected, cache = alone
    words = [*WORDS, "trainer=ddp", "trainer.max_epochs=2", f"data.cache={cache}", "output=out"]
    ended(started(words, tmp_path, {}, sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"))
    (run,) = (path.parent for path in tmp_path.glob("out/*/*/*/result.json"))
    same(history(run), expected)


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_other_data_on_another_node_are_refused(tmp_path, same):
    """Each node reads its own copy of the set, below its own folder; one pixel is another."""
    words = [word for word in WORDS if not word.startswith(("data=", "data.fraction"))]
    words, port = (
        [*words, *DDP[:2], "trainer.max_epochs=1", "trainer.devices=1", "data.root=sets", "output=out"],
        free_port(),
    )
    images = np.random.default_rng(0).integers(0, 256, (96, 28, 28), np.uint8)
    for folder in ("first", "second"):
        for name, array in zip(NAMES, [images, np.arange(96, dtype=np.uint8) % 10] * 2, strict=True):
            write_idx(tmp_path / folder / "sets/mnist/MNIST/raw" / name, array)
        images = images if same else images ^ (np.arange(images.size).reshape(images.shape) == 0)
    first = started(words, tmp_path / "first", by_hand(port, 0))
    other = started(words, tmp_path / "second", by_hand(port, 1))
    printed, of_first = other.communicate(timeout=300)[0], first.communicate(timeout=300)[0]
    if same:
        assert (other.returncode, first.returncode) == (0, 0), printed + of_first
        return
    assert printed.splitlines()[-1].endswith("sets: not the data of rank 0; accepted: the same on all nodes"), printed
    assert other.returncode == 2
    assert first.returncode == 1, of_first
    assert list(tmp_path.glob("first/out/*/*/*/result.json"))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_node_that_loses_rank_0_says_so_in_a_line(tmp_path, devices):
    words, port = [*WORDS, *DDP[:2], f"trainer.devices={devices}", "trainer.max_epochs=500", "output=out"], free_port()
    first = started(words, tmp_path / "first", by_hand(port, 0))
    other = started(words, tmp_path / "second", by_hand(port, 1))
    try:
        deadline = time.monotonic() + 480
        while not list(tmp_path.glob("first/out/*/*/*/history.csv")):
            assert time.monotonic() < deadline, "no epoch was trained"
            time.sleep(0.2)
        first.kill()
        lines = other.communicate(timeout=120)[0].splitlines()
    finally:
        for process in (first, other):
            process.kill()
            process.wait()
    assert other.returncode == 1, lines
    assert len(lines) == 3, lines
    assert lines[2].startswith(
        f"rank {devices} of {2 * devices}: another process of the run has gone; the same command on each node, with"
        " resume=, goes on from its last epoch ("
    )
