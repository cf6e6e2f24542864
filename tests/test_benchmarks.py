"""What the benchmarks compute and compare; each of them is run whole, at a small scale, under `-m slow`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
QUICK = ("data=sample", "model.width=2", "trainer.limit_train_batches=2", "trainer.max_epochs=1")


@pytest.fixture
def module(monkeypatch):
    """Name -> a module of benchmarks/."""
    import importlib

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_medians_are_of_ratios_within_a_round(module):
    def rows(seconds, train):
        return [{"seconds": s, "train": t, "steps": 4, "val_figure": 0.5} for s, t in zip(seconds, train, strict=True)]

    found = module("step").summary({"retable": rows([1, 4, 9], [1, 2, 3]), "plain": rows([2, 4, 3], [2, 2, 4])})
    assert found["epoch_of_retable_to"] == {"plain": {"median": 1, "min": 0.5, "max": 3}}
    assert found["training_of_retable_to"] == {"plain": {"median": 0.75, "min": 0.5, "max": 1}}
    assert found["epoch_seconds"]["retable"] == {"median": 4, "min": 1, "max": 9}
    assert found["step_ms"] == {"retable": 500, "plain": 500}


@pytest.mark.parametrize(("case", "count"), [("B1.2", 21578), ("A1", None), ("B2.2", 11698), ("E", None)])
def test_the_networks_by_hand_are_the_projects_own(module, compose, case, count):
    from retable.run.assemble import make_data, make_task

    case = module("networks").CASES[case]
    words = [word for word in case.words(small=True) if not word.startswith("data.subfolder")]
    config = compose(*words)
    task = make_task(config, make_data(config), "meta")
    own = [tuple(p.shape) for p in task.model.parameters()]
    with torch.device("meta"):
        by_hand = [tuple(p.shape) for p in case.network(*case.sizes(small=True)).parameters()]
    assert sorted(own) == sorted(by_hand)
    assert count is None or sum(torch.Size(shape).numel() for shape in own) == count
    assert (
        task.configure_optimizers()["optimizer"].defaults["lr"]
        == case.optimizer([torch.zeros(1, requires_grad=True)]).defaults["lr"]
    )
    assert config["data"]["batch_size"] == case.batch


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so():
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "gpu: skipped, there is no CUDA device here\n"


@pytest.mark.slow
def test_every_side_trains_the_case(module, data_root):
    found = module("step").measure("B2.2", 1, "cpu", small=True)
    assert found["steps"] == 3  # 85 images by 32
    assert set(found["last_val_figure"]) == {"retable", "plain", "hand", "template"}
    assert set(found["epoch_of_retable_to"]) == {"plain", "hand", "template"}


@pytest.mark.slow
def test_the_parts_of_the_gpu_benchmark_on_a_cpu(module):
    gpu = module("gpu")
    words = ("task=mnist", *QUICK)
    assert set(gpu.run("cpu", 1, words)) == {"eager", "recorded"}
    assert set(gpu.packed("cpu", (1, 2), 2, words)) == {"1", "2"}
    found = gpu.grids("cpu", {"models": "gland/models"}, ("data=sample", "debug=fast"))["models"]
    assert (found["runs"], found["not_finished"]) == (3, 0)


@pytest.mark.slow
def test_reading_is_measured(module, data_root):
    found = module("data").measure(module("data").SETS["gland"], 1)
    assert found["images"] == {"train": 85, "val": 60, "test": 60}
    assert found["cached_seconds"]["median"] < found["first_seconds"]["median"]


@pytest.mark.slow
def test_whole_commands_are_measured(module, data_root):
    found = module("throughput").measure(1, 1)
    assert set(found["seconds"]) == {"workers", "in_turn", "hydra_basic"}
    found = module("startup").measure(1)
    assert len(found["seconds"]) == 4
