"""What a preview says beside its table: how large the data are, and that bf16-mixed would be faster."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from retable.run import devices
from retable.run.assemble import make_data
from retable.run.calibrate import calibrate
from retable.sweeps.preview import about_bf16, about_data, about_time


def plan(*tasks: str, resident: object = "auto") -> SimpleNamespace:
    """A plan of one run a task, whose directory is the task's name."""
    configs = [{"task": {"name": name}, "data": {"resident": resident}} for name in tasks]
    runs = [SimpleNamespace(directory=Path(c["task"]["name"]), config=c) for c in configs]
    return SimpleNamespace(pending=runs, runs=runs)


def test_the_data_a_line_a_set():
    found = {
        "mnist": {"data_mb": 52.94, "resident": True, "shared": True, "gpu_mb": None},
        "fcn": {"data_mb": 40_000.0, "resident": False, "shared": False, "gpu_mb": None},
        "cifar": {"data_mb": 29.4, "resident": True, "shared": False, "gpu_mb": 300.0},
        "gland": {"data_mb": 9.0, "resident": True, "shared": False, "gpu_mb": None},  # with augment=copies, say
        "leaves": {},  # a set of somebody's own, whose size nobody knows
    }
    assert about_data(plan(*found), found) == [
        "data of task=mnist: 52.9 MiB, kept in memory, which the workers share (data.resident=auto)",
        "data of task=fcn: 40,000.0 MiB, streamed from the cache's files (data.resident=auto)",
        "data of task=cifar: 29.4 MiB, kept in memory, once a GPU (data.resident=auto)",
        "data of task=gland: 9.0 MiB, kept in memory, once a worker (data.resident=auto)",
    ]
    assert about_data(plan("fcn", "fcn", resident=False), found) == [
        "data of task=fcn: 40,000.0 MiB, streamed from the cache's files (data.resident=false)"
    ]


def test_the_time_of_what_is_left_and_of_no_workers_where_a_queue_trains(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: ())
    runs = [SimpleNamespace(status=status) for status in ("finished", "new", "new", "new")]
    left = SimpleNamespace(runs=runs, pending=runs[1:], settings={"workers": 2, "threads": 1})
    rows = [{"seconds": None}, {"seconds": 60.0}, {"seconds": 60.0}, {"seconds": 120.0}]
    assert about_time(left, rows, queued=False) == "1 finished, 3 new; about 2m00s with 2 workers"
    assert about_time(left, rows, queued=True) == "1 finished, 3 new; 4m00s one after another, by steps on this host"
    some = [*rows[:3], {"seconds": None}]  # early stopping alone ends it, say
    assert about_time(left, some, queued=False) == "1 finished, 3 new; more than 1m00s with 2 workers"
    none = [{"seconds": None}] * 4
    assert about_time(left, none, queued=False) == "1 finished, 3 new; how long is not known"


def test_bf16_where_it_was_measured_to_be_faster():
    reason = "; the figures would be others than float32's"
    found = {"cifar": {"bf16_share": 0.521}, "mnist": {"bf16_share": 0.97}, "gland": {"bf16_share": None}}
    assert about_bf16(plan(*found), found) == [
        "trainer.precision=bf16-mixed: task=cifar would take 0.52 of a step's time, as this CPU has bfloat16" + reason
    ]
    runs = plan("cifar", "cifar")
    runs.pending[1].directory = Path("other")
    found["other"] = {"bf16_share": 0.7}
    (line,) = about_bf16(runs, found)
    assert "task=cifar would take 0.52 to 0.70 of a step's time" in line
    found["other"] = {"bf16_share": 1.3}  # a larger network that gains nothing
    assert about_bf16(runs, found) == []


def test_whether_this_cpu_has_bf16_is_what_its_flags_say():
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        pytest.skip("needs an x86 CPU under Linux")
    assert devices.has_bf16_instructions() == bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


@pytest.mark.parametrize("has", [True, False])
def test_a_calibration_tells_them(compose, monkeypatch, has):
    monkeypatch.setattr(devices, "has_bf16_instructions", lambda: has)
    config = compose("task=mnist", "trainer.device=cpu", "trainer.precision=32", "data.resident=false")
    found = calibrate(config)
    counts = make_data(config).counts  # images of 28 by 28 bytes, 8 bytes a label
    assert found["data_mb"] == (counts["train"] + counts["val"]) * (28 * 28 + 8) / 2**20
    assert found["resident"] is False
    assert (found["bf16_share"] is not None) == has
    assert calibrate(config | {"trainer": config["trainer"] | {"precision": "bf16-mixed"}})["bf16_share"] is None
