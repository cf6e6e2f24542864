"""Sweeps on Ray's local cluster of two nodes: `make test-cluster`."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from retable import atomic
from retable.run import files
from retable.sweeps.cluster import Cluster
from retable.sweeps.finish import exit_code
from retable.sweeps.ray import Ray
from retable.sweeps.session import sweep
from tests.cluster.conftest import ROOT

ray = pytest.importorskip("ray", reason="needs ray: pip install 'retable[ray]'")
pytestmark = pytest.mark.cluster

CIFAR = ("task=cifar", "data=sample", "data.fraction=0.1", "trainer.device=cpu", "logger=none", "trainer.max_epochs=2")
FAULTY = ("task=mnist", "data=sample", "data.fraction=0.1", "trainer.device=cpu", "logger=none", "trainer.max_epochs=2")
FAULTY += ("model._target_=tests.sweep.faults.Faulty",)


@pytest.fixture
def system() -> dict[str, Any]:
    """What Ray itself is told."""
    return {}


@pytest.fixture
def two_nodes(monkeypatch, system):
    """A cluster whose second node alone has the resource `second`."""
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    size = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 2, **size, "_system_config": system})
    nodes.second = nodes.add_node(num_cpus=2, resources={"second": 1}, object_store_memory=80 * 2**20)
    nodes.wait_for_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def go(nodes, folder: Path, *words: str, **options):
    engine = Cluster(Ray(address=nodes.address, **options))
    return sweep([*FAULTY, *words, f"sweep.dir={folder}"], engine.train, engine.describe)


def test_a_sweep_trains_and_what_fails_is_listed(two_nodes, tmp_path):
    plan, outcome = go(two_nodes, tmp_path, "+model.fault=none,raise,segfault")
    found = [files.read_result(run.directory) for run in plan.runs]
    assert [(result["status"], result.get("reason")) for result in found] == [
        ("finished", None),
        ("failed", "RuntimeError: wrong on purpose"),
        ("failed", "the worker process died of SIGSEGV"),
    ]
    assert exit_code(plan, outcome) == 1
    assert (plan.folder / "results.md").exists()


def test_a_second_call_has_nothing_to_do(two_nodes, tmp_path, capsys):
    engine = Cluster(Ray(address=two_nodes.address))
    words = [*CIFAR, "dropout=0.1,0.2", "sweep.runs_per_job=2", f"sweep.dir={tmp_path}"]
    plan, outcome = sweep(words, engine.train, engine.describe)
    assert exit_code(plan, outcome) == 0
    assert "Ray: 2 runs submitted in 1 jobs" in capsys.readouterr().out
    results = [files.read_result(run.directory) for run in plan.runs]
    assert [result["status"] for result in results] == ["finished"] * 2
    again, _ = sweep(words, engine.train, engine.describe)
    assert again.pending == []
    assert "submitted" not in capsys.readouterr().out
    assert [files.read_result(run.directory) for run in plan.runs] == results


def test_a_run_that_takes_too_long_has_failed_and_the_rest_is_trained(two_nodes, tmp_path):
    plan, outcome = go(two_nodes, tmp_path, "+model.fault=hang,none", "sweep.timeout=60")
    hang, none = (files.read_result(run.directory) for run in plan.runs)
    assert (hang["status"], none["status"]) == ("failed", "finished")
    assert hang["reason"].startswith("took longer than sweep.timeout=60")
    assert exit_code(plan, outcome) == 1


class TestMemory:
    """Ray ends a task when its node's memory is nearly used up."""

    @pytest.fixture
    def system(self):
        memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(memory[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
        return {"memory_usage_threshold": (total - free + 3 * 2**30) / total, "memory_monitor_refresh_ms": 250}

    def test_what_is_killed_for_memory_is_listed_and_the_rest_is_trained(self, two_nodes, tmp_path):
        plan, outcome = go(two_nodes, tmp_path, "+model.fault=hog,none")  # 4 GB
        hog, none = (files.read_result(run.directory) for run in plan.runs)
        assert none["status"] == "finished"
        assert hog["status"] == "failed"
        assert hog["reason"].startswith("Ray: OutOfMemoryError")
        assert exit_code(plan, outcome) == 1


def test_a_sweep_whose_process_is_killed_is_called_again(two_nodes, tmp_path):
    """Ray ends its tasks with it; the same command goes on from their checkpoints."""
    words = ["+model.fault=slow", "trainer.max_epochs=12", f"sweep.dir={tmp_path}"]
    command = [sys.executable, "-m", "retable.cli", "sweep", *FAULTY, *words, "hydra/launcher=ray"]
    command += [f"hydra.launcher.address={two_nodes.address}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not any(len(path.read_text().splitlines()) > 3 for path in tmp_path.rglob(files.HISTORY)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (path,) = tmp_path.rglob(files.HISTORY)
    done = [line.partition(",")[0] for line in path.read_text().splitlines()[1:]]
    assert subprocess.run(command, timeout=600).returncode == 0
    numbers = [line.partition(",")[0] for line in path.read_text().splitlines()[1:]]
    assert numbers == [str(number) for number in range(1, 13)]
    assert len(done) < 12
    assert (path.parent / files.LOG).read_text().count("steps: ") == 2


def test_a_node_that_is_removed_while_it_trains_costs_its_runs_only(two_nodes, tmp_path):
    def remove() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not any("steps:" in p.read_text() for p in tmp_path.rglob("log.txt")):
            time.sleep(0.2)
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)

    thread = threading.Thread(target=remove)
    thread.start()
    plan, outcome = go(two_nodes, tmp_path, "+model.fault=hang", resources={"second": 1})
    thread.join()
    reason = atomic.read_json(plan.runs[0].directory / files.RESULT)["reason"]
    assert reason.startswith("Ray: NodeDiedError: ") or reason.startswith("Ray: WorkerCrashedError: ")
    assert exit_code(plan, outcome) == 1
    plan, outcome = go(two_nodes, tmp_path, "+model.fault=none")  # the other node trains on
    assert exit_code(plan, outcome) == 0


def test_a_run_goes_on_from_its_checkpoint_on_another_node_when_its_own_is_removed(two_nodes, tmp_path):
    def history() -> list[str]:
        return [line for path in tmp_path.rglob(files.HISTORY) for line in path.read_text().splitlines()[1:]]

    def train() -> None:
        ended.append(go(two_nodes, tmp_path, *words, resources={"second": 1}))

    words, ended = ("+model.fault=slow", "trainer.max_epochs=12"), []
    ray.init(address=two_nodes.address, log_to_driver=False, include_dashboard=False, logging_level="warning")
    thread = threading.Thread(target=train)  # nodes are started by the main thread alone
    thread.start()
    deadline = time.monotonic() + 400
    while len(history()) < 2 and thread.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    two_nodes.remove_node(two_nodes.second, allow_graceful=False)
    two_nodes.add_node(num_cpus=2, resources={"second": 1}, object_store_memory=80 * 2**20)
    thread.join(600)
    ((plan, outcome),) = ended
    assert exit_code(plan, outcome) == 0
    assert [line.partition(",")[0] for line in history()] == [str(number) for number in range(1, 13)]
    assert (plan.runs[0].directory / files.LOG).read_text().count("steps: ") == 2
