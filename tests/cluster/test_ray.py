"""Sweeps on Ray's local cluster of two nodes: `make test-cluster`."""

import os
import sys
import threading
import time
from pathlib import Path

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

FAULTY = ("task=mnist", "data=sample", "data.fraction=0.1", "trainer.device=cpu", "logger=none", "trainer.max_epochs=2")
FAULTY += ("model._target_=tests.sweep.faults.Faulty",)


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster whose second node alone has the resource `second`."""
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    size = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 2, **size})
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
