"""What the benchmarks compute and compare; each of them is run whole, at a small scale, under `-m slow`."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from retable.run import devices

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


@pytest.mark.skipif(devices.has_bf16_instructions(), reason="this CPU has bfloat16")
def test_without_bfloat16_its_benchmark_says_so():
    words = [sys.executable, BENCHMARKS / "step.py", "--bf16", "--cases", "A1"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "step: skipped, this CPU has no instructions for bfloat16 (avx512_bf16, amx_bf16)\n"


@pytest.mark.slow
def test_bf16_is_measured_against_float32(module, data_root):
    step = module("step")
    found = step.measure("B2.2", 1, "cpu", small=True, sides=step.BF16_SIDES)
    assert set(found["epoch_of_retable_to"]) == {"bf16"}
    assert found["step_ms"].keys() == {"retable", "bf16"}


@pytest.mark.slow
def test_every_side_trains_the_case(module, data_root):
    found = module("step").measure("B2.2", 1, "cpu", small=True)
    assert found["steps"] == 3  # 85 images by 32
    assert set(found["last_val_figure"]) == {"retable", "plain", "hand", "template"}
    assert set(found["epoch_of_retable_to"]) == {"plain", "hand", "template"}


def test_a_part_saves_after_every_figure_and_says_what_it_left_out(module, tmp_path):
    gpu = module("gpu")

    def fail():
        raise RuntimeError("exit code 1: no")

    def saved():
        content = json.loads((tmp_path / "new" / "run.json").read_text())
        return content["found"], content["left_out"]

    ledger = gpu.Ledger(tmp_path / "new" / "run.json", "cpu", limit=50)
    ledger.measure("first", lambda: {"seconds": 2}, 10)
    assert saved() == ({"first": {"seconds": 2}}, {})
    ledger.measure("second", fail, 10)
    ledger.measure("third", fail, 60)
    found, left_out = saved()
    assert found == {"first": {"seconds": 2}}
    assert left_out == {"second": "RuntimeError: exit code 1: no", "third": "50 s were left, 60 are needed"}


def test_a_figure_that_takes_longer_than_its_part_has_is_left_out(module, tmp_path):
    ledger = module("gpu").Ledger(tmp_path / "steps.json", "cpu", limit=1.5)
    begin = time.monotonic()
    ledger.measure("hung", lambda: time.sleep(60), 1)
    assert time.monotonic() - begin < 30
    assert ledger.left_out == {"hung": "TimeoutError: the part's time is up"}


def test_what_runs_as_a_part_s_time_is_up_is_ended(module, tmp_path):
    gpu = module("gpu")
    ledger = gpu.Ledger(tmp_path / "packed.json", "cpu", limit=1.5)
    note = tmp_path / "child"
    words = ["bash", "-c", f"sleep 60 & echo $! > {note}; wait"]
    ledger.measure("hung", lambda: gpu.command(words, 60), 1)
    assert ledger.left_out == {"hung": "TimeoutError: the part's time is up"}
    assert not ended_late(int(note.read_text()))

    class Hung(module("turns").Side):
        def _row(self):
            note.write_text(str(self._process.pid))
            time.sleep(60)

    ledger = gpu.Ledger(tmp_path / "steps.json", "cpu", limit=1.5)
    ledger.measure("hung", lambda: Hung(BENCHMARKS / "own.py", ["--help"]), 1)
    assert not ended_late(int(note.read_text()))


def ended_late(pid):
    """Whether a process is there some seconds later."""
    deadline = time.monotonic() + 5
    while (Path("/proc") / str(pid)).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return (Path("/proc") / str(pid)).exists()


def test_sides_that_hang_take_no_time_beyond_their_part_s(module, monkeypatch):
    """The part has twenty seconds more than its own limit; there are five sides."""
    step = module("step")
    closed = []

    class Hung:
        def __init__(self, script, words, environment):
            if len(closed) == 0 and len(made) == 4:
                raise TimeoutError("the part's time is up")
            made.append(self)

        def let_go(self):
            closed.append("told")

        def close(self, patience):
            closed.append(patience)
            time.sleep(min(patience, 0.5))

    made = []
    monkeypatch.setattr(step, "Side", Hung)
    with pytest.raises(TimeoutError):
        step.measure("B1.2", 1, "cpu", small=False, sides=module("gpu").GPU_SIDES)
    assert closed[:4] == ["told"] * 4
    assert closed[4] <= 10
    assert closed[4:] == sorted(closed[4:], reverse=True)
    assert closed[7] < closed[4]  # what one has waited the others need not wait again


def test_a_part_notes_what_fails_and_ends(module, tmp_path, monkeypatch):
    gpu = module("gpu")

    def fails(*_, **__):
        raise SystemExit("own.py: ended early")

    ledger = gpu.Ledger(tmp_path / "steps.json", "cpu")
    monkeypatch.setattr(gpu, "measure", fails)
    gpu.steps(ledger)
    assert set(ledger.left_out) == {"B1.2", "A1", "B2.2", "E"}
    ledger = gpu.Ledger(tmp_path / "run.json", "cpu")
    monkeypatch.setattr(gpu, "command", lambda *_: (_ for _ in ()).throw(RuntimeError("exit code 1: no")))
    gpu.run(ledger)
    assert ledger.left_out == dict.fromkeys(("eager", "recorded"), "RuntimeError: exit code 1: no")
    ledger = gpu.Ledger(tmp_path / "A1.json", "cpu")
    gpu.grid(ledger, "glob(cifar/*)")
    assert ledger.found.keys() == {"recorded", "fused"}
    assert not any(form["whole"] for form in ledger.found.values())
    assert ledger.left_out == {f"the rest, {form}": "exit code 1: no" for form in ("recorded", "fused")}


def test_the_tests_of_a_gpu_are_asked_for_by_their_files(module):
    """What the other files import need not be there."""
    found = module("gpu").gpu_tests()
    assert {path.name for path in found} == {"test_captured.py", "test_execute.py"}


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(module):
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"^took longer than 1 s$"):
        module("gpu").command(["bash", "-c", "sleep 60 & sleep 60"], 1)
    assert time.monotonic() - begin < 30
    with pytest.raises(RuntimeError, match=r"^exit code 3: why$"):
        module("gpu").command(["bash", "-c", "printf why; exit 3"], 10)


def test_all_runs_convolutions_at_once_are_those_of_each(module):
    probes = module("gpu_probes")
    ways = probes._ways(3, 4, 6, 2, "cpu")
    (y, dx, dw), *others = (way() for way in ways.values())
    assert y.shape == (2, probes.BATCH, 4, 6, 6)
    for other in others:
        for one, its in zip((y, dx, dw), other, strict=True):
            torch.testing.assert_close(one, its, rtol=1e-4, atol=1e-3)
    assert probes.fork("cpu") == {"initialised_before": False, "works": True, "printed": ["1000.0", "2000.0"]}


@pytest.mark.slow
def test_the_parts_of_the_gpu_benchmark_on_a_cpu(module, tmp_path):
    gpu = module("gpu")
    words = ("task=mnist", *QUICK)

    def ledger(part):
        return gpu.Ledger(tmp_path / f"{part}.json", "cpu")

    run, packed, grid = ledger("run"), ledger("packed"), ledger("A1")
    gpu.run(run, 1, words)
    assert set(run.found) == {"eager", "recorded"}
    gpu.packed(packed, (2, 1), 2, words)
    assert set(packed.found) == {"1", "2"}
    gpu.grid(grid, "gland/models", ("data=sample", "debug=fast"))
    for form in ("recorded", "fused"):
        assert (grid.found[form]["finished"], grid.found[form]["others"], grid.found[form]["whole"]) == (3, 0, True)
    assert not (run.left_out | packed.left_out | grid.left_out)


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
