"""How many workers a machine gets, and on which GPU, with GPUs that are made up."""

import pytest

from retable.sweeps import crew, devices
from retable.sweeps.crew import Crew
from retable.sweeps.devices import Gpu

BIG, SMALL = Gpu("0", 80_000, 80_000, 9.0), Gpu("1", 24_000, 24_000, 8.6)
SETTINGS = {"workers": "auto", "threads": 1, "on_failure": "continue", "same_reason_limit": 3}


class FakeWorker:
    """A worker that starts nothing."""

    def __init__(self, number, events, gpu, threads, server):
        assert gpu is not None  # none of these tests starts a process that would fork workers
        self.number, self.gpu, self.run, self.ready, self.begun = number, gpu, None, True, False


@pytest.fixture
def make(monkeypatch):
    def build(gpus, cores=16, **settings):
        monkeypatch.setattr(devices, "gpus", lambda: gpus)
        monkeypatch.setattr(devices, "cores", lambda: cores)
        monkeypatch.setattr(crew, "WorkerProcess", FakeWorker)
        return Crew(SETTINGS | settings)

    return build


def test_on_cpu_as_many_workers_as_cores_hold_threads(make):
    assert make((), cores=8).most() == 8
    assert make((), cores=8, threads=3).most() == 2
    assert make((), cores=1, threads=4).most() == 1
    assert make((), workers=5).most() == 5


def test_one_worker_a_gpu_until_memory_is_measured_then_packed(make):
    made = make((BIG, SMALL), cores=64)
    assert made.most() == 2
    made.note_memory(3400.0)
    # (3400 + 600) MiB a run in 90 % of each: 18 and 5
    assert made.most() == 18 + 5


def test_packing_never_asks_for_more_workers_than_cores(make):
    made = make((BIG,), cores=16)
    made.note_memory(100.0)
    assert made.most() == 16


def test_a_run_that_fills_a_gpu_still_gets_a_worker(make):
    made = make((SMALL,))
    made.note_memory(23_900.0)
    assert made.most() == 1


def test_workers_are_spread_by_memory(make):
    made = make((BIG, SMALL), cores=64)
    made.note_memory(3400.0)
    made.grow(13)
    used = [worker.gpu for worker in made.workers]
    assert (used.count("0"), used.count("1")) == (10, 3)  # 80 : 24


def test_gpus_as_nvidia_smi_lists_them():
    text = "0, 143771, 143000, 9.0\n1, 24564, 100, 8.6\nbad line\n"
    assert devices.parse_gpus(text) == (Gpu("0", 143771, 143000, 9.0), Gpu("1", 24564, 100, 8.6))


@pytest.mark.parametrize(
    ("gpus", "device", "wanted", "expected"),
    [
        ((), "auto", "auto", "32"),
        ((BIG,), "auto", "auto", "bf16-mixed"),
        ((BIG,), "cpu", "auto", "32"),
        ((BIG,), "auto", 32, "32"),
        ((BIG, Gpu("1", 8000, 8000, 7.5)), "auto", "auto", "32"),
    ],
)
def test_precision_is_resolved_without_torch(monkeypatch, gpus, device, wanted, expected):
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    assert devices.precision(wanted, device) == expected
