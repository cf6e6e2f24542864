"""How many workers a machine gets, and on which GPU, with GPUs that are made up."""

import pytest

from retable.errors import RetableError
from retable.run import devices
from retable.run.devices import Gpu
from retable.sweeps import crew as sweeps_crew
from retable.sweeps.crew import Crew

BIG, SMALL = Gpu("0", 80_000, 80_000, 9.0), Gpu("1", 24_000, 24_000, 8.6)
SETTINGS = {"workers": "auto", "threads": 1, "on_failure": "continue", "same_reason_limit": 3}


class FakeWorker:
    """A worker that starts nothing."""

    def __init__(self, number, events, gpu, threads, server):
        self.number, self.gpu, self.runs, self.ready, self.begun = number, gpu, [], True, False
        self.gpu_mb = None


@pytest.fixture
def make(monkeypatch):
    def build(gpus, cores=16, width=1, **settings):
        monkeypatch.setattr(devices, "gpus", lambda: gpus)
        monkeypatch.setattr(devices, "free_mb", lambda gpus: None)
        monkeypatch.setattr(devices, "cores", lambda: cores)
        monkeypatch.setattr(sweeps_crew, "WorkerProcess", FakeWorker)
        monkeypatch.setattr(sweeps_crew, "ForkServer", lambda: None)  # no worker is started that it would fork
        return Crew(SETTINGS | settings, width=width)

    return build


def note(crew: Crew, gpu_mb: float) -> None:
    """Some worker's run has needed so much."""
    crew.note_memory(FakeWorker(0, None, "elsewhere", 1, None), {"gpu_mb": gpu_mb})


def test_on_cpu_as_many_workers_as_cores_hold_threads(make):
    assert make((), cores=8).most() == 8
    assert make((), cores=8, threads=3).most() == 2
    assert make((), cores=1, threads=4).most() == 1
    assert make((), workers=5).most() == 5


def test_one_worker_a_gpu_until_memory_is_measured_then_packed(make):
    made = make((BIG, SMALL), cores=64)
    assert made.most() == 2
    note(made, 3400.0)
    # (3400 + 600) MiB a run in 90 % of each: 18 and 5
    assert made.most() == 18 + 5


def test_packing_never_asks_for_more_workers_than_cores(make):
    made = make((BIG,), cores=16)
    note(made, 100.0)
    assert made.most() == 16


def test_a_run_that_fills_a_gpu_still_gets_a_worker(make):
    made = make((SMALL,))
    note(made, 23_900.0)
    assert made.most() == 1


def test_workers_are_spread_by_memory(make):
    made = make((BIG, SMALL), cores=64)
    note(made, 3400.0)
    made.grow(13)
    used = [worker.gpu for worker in made.workers]
    assert (used.count("0"), used.count("1")) == (10, 3)  # 80 : 24


def test_memory_that_others_take_meanwhile_is_not_given_out(make):
    made = make((BIG,), cores=64)
    made.grow(1)
    made.note_memory(made.workers[0], {"gpu_mb": 3400.0, "free_mb": 76_000.0})
    assert made.most() == 18  # 90 % of 76,000 and the 4,000 that the worker itself holds, at 4,000 a run
    made.note_memory(made.workers[0], {"gpu_mb": 3400.0, "free_mb": 20_000.0})
    assert made.most() == 5


def test_memory_is_read_again_before_each_start(make, monkeypatch):
    made = make((BIG, SMALL), cores=64)
    free = {"0": 3_000.0, "1": 24_000.0}  # another program has come to the larger one since the sweep began
    monkeypatch.setattr(devices, "free_mb", lambda gpus: dict(free))
    made.grow(1)
    assert [worker.gpu for worker in made.workers] == ["1"]
    note(made, 3400.0)
    made.grow(10)  # 90 % of each by 4,000: none and 5
    assert [worker.gpu for worker in made.workers] == ["1"] * 5
    free["0"] = 80_000.0  # it has gone
    made.grow(10)
    assert [worker.gpu for worker in made.workers][5:] == ["0"] * 5


def test_where_the_driver_gives_no_answer_torch_is_asked_again_if_no_worker_has_reported_lately(make, monkeypatch):
    made = make((BIG, SMALL), cores=64)
    monkeypatch.setattr(devices, "look", lambda: (Gpu("0", 80_000, 3_000, 9.0), SMALL))
    made.grow(1)
    assert [worker.gpu for worker in made.workers] == ["0"]  # as the sweep has just seen it
    now = sweeps_crew.time.monotonic() + 60
    monkeypatch.setattr(sweeps_crew.time, "monotonic", lambda: now)
    made.grow(2)
    assert [worker.gpu for worker in made.workers] == ["0", "1"]


def test_the_driver_is_asked_by_uuid(monkeypatch):
    class Library:
        def nvmlDeviceGetHandleByUUID(self, uuid, handle):
            handle._obj.value = {b"GPU-5ab": 7, b"MIG-77": 9}.get(uuid)
            return 0 if handle._obj.value else 6

        def nvmlDeviceGetMemoryInfo(self, handle, memory):
            memory._obj.free = handle.value << 30
            return 0

    monkeypatch.setattr(devices, "_nvml", Library)
    first, second = Gpu("1", 8000, 8000, 9.0, "GPU-5ab"), Gpu("0", 8000, 8000, 9.0, "MIG-77")
    assert devices.free_mb((first, second)) == {"1": 7 * 1024, "0": 9 * 1024}
    assert devices.free_mb((first, Gpu("2", 8000, 8000, 9.0, "GPU-gone"))) is None
    assert devices.free_mb((BIG,)) is None  # whose UUID is not known
    monkeypatch.setattr(devices, "_nvml", lambda: None)
    assert devices.free_mb((first,)) is None


TORCH = """
class properties:
    def __init__(self, index):
        self.name, self.uuid = ("A100 MIG 1g.5gb" if index else "A100"), f"00{{index}}"


class cuda:
    get_device_properties = properties
    is_available = staticmethod(lambda: {count} > 0)
    device_count = staticmethod(lambda: {count})
    get_device_capability = staticmethod(lambda index: (9, 0))
    mem_get_info = staticmethod(lambda index: ((100 + index) << 20, 143_771 << 20))
"""


@pytest.mark.parametrize(
    ("count", "visible", "names"),
    [
        (2, None, ["0", "1"]),
        (3, "2,GPU-5ab,0", ["2", "GPU-5ab", "0"]),
        (1, "1, -1, 0", ["1"]),  # CUDA takes no further device after one that isn't there
        (0, "", []),
        (0, None, []),  # a torch without CUDA, whatever the driver has
    ],
)
def test_gpus_are_those_that_torch_sees_in_cudas_order(monkeypatch, tmp_path, count, visible, names):
    (tmp_path / "torch.py").write_text(TORCH.format(count=count))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(devices, "_driver", lambda: True)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus.__wrapped__() == tuple(
        Gpu(name, 143_771, 100 + i, 9.0, f"{'MIG' if i else 'GPU'}-00{i}") for i, name in enumerate(names)
    )


def test_gpus_that_give_no_answer_are_reported_in_a_line(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(devices, "_driver", lambda: True)
    with pytest.raises(RetableError, match=r"^the GPUs could not be asked .*trainer.device=cpu goes without them$"):
        devices.gpus.__wrapped__()


@pytest.mark.parametrize(
    ("gpus", "device", "wanted", "expected"),
    [
        ((), "auto", "auto", "32"),
        ((BIG,), "auto", "auto", "bf16-auto"),
        ((BIG,), "cpu", "auto", "32"),
        ((BIG,), "auto", 32, "32"),
        ((BIG, Gpu("1", 8000, 8000, 7.5)), "auto", "auto", "16-auto"),
        ((BIG, Gpu("1", 8000, 8000, 6.1)), "auto", "auto", "32"),
        ((BIG,), "auto", "tf32", "tf32"),
    ],
)
def test_precision_is_resolved_without_torch(monkeypatch, gpus, device, wanted, expected):
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    assert devices.precision(wanted, device) == expected


def test_a_run_of_several_processes_has_a_gpu_for_each(make):
    gpus = tuple(Gpu(str(number), 80_000, 80_000, 9.0) for number in range(5))
    made = make(gpus, width=2)
    made.grow(9)
    assert [worker.gpu for worker in made.workers] == ["0,1", "2,3"]  # the fifth is left
    note(made, 1000.0)
    assert made.most() == 2  # such runs are not packed
    made.note_memory(made.workers[0], {"gpu_mb": 1000.0, "free_mb": 50_000.0})
    few = make((BIG, SMALL), width=3)
    few.grow(1)
    assert [worker.gpu for worker in few.workers] == ["0,1"]


def test_without_gpus_its_processes_count_as_cores(make):
    assert make((), cores=8, width=2).most() == 4
    assert make((), cores=8, width=3, threads=2).most() == 1
    assert make((), cores=1, width=2).most() == 1
