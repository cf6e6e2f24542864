"""The longest runs begin first, by the work that a check of their configs has found."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from retable.run import assemble, devices
from retable.run.devices import Gpu
from retable.sweeps.pool import Pool

SETTINGS = {"workers": "auto", "threads": 1, "fuse": "never", "on_failure": "continue", "same_reason_limit": 3}


def test_work_is_operations_of_the_whole_training(compose):
    config = compose("task=mnist", "model=fnn", "model.hidden=10", "data.batch_size=40", "trainer.max_epochs=3")
    step = 3 * 2 * (784 * 10 + 10 * 10) * 40  # forward and both gradients, a multiplication and an addition each
    steps = 3 * 2000 / 40
    assert assemble.check(config)["work"] == {"cpu": steps * step, "cuda": steps * 20e9}


def test_a_limit_on_steps_limits_work(compose):
    whole = assemble.check(compose("task=mnist", "model.width=2", "trainer.max_epochs=9"))["work"]
    half = assemble.check(
        compose("task=mnist", "model.width=2", "trainer.max_epochs=9", "trainer.limit_train_batches=0.5")
    )["work"]
    few = assemble.check(compose("task=mnist", "model.width=2", "trainer.max_epochs=9", "trainer.max_steps=7"))["work"]
    assert half["cpu"] == pytest.approx(whole["cpu"] / 2)
    assert few["cpu"] == pytest.approx(whole["cpu"] * 7 / (9 * 63))


@pytest.mark.parametrize(
    ("gpus", "order"),
    [
        ((), "begun unknown long equal middle short"),
        ((Gpu("0", 80_000, 80_000, 9.0),), "begun unknown middle long equal short"),
    ],
)
def test_the_longest_come_first_behind_those_that_were_begun_before(monkeypatch, gpus, order):
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    names = ["short", "middle", "begun", "long", "equal", "unknown"]
    runs = [SimpleNamespace(directory=Path(name), processes=1) for name in names]
    pool = Pool(runs, SETTINGS, None, use_gpu=bool(gpus))
    work = {"short": (1, 7), "middle": (2, 9), "long": (3, 8), "equal": (3, 8)}
    known = {Path(name): {"cpu": cpu, "cuda": cuda} for name, (cpu, cuda) in work.items()}
    pool.longest_first(known | {Path("unknown"): None})
    assert [run.directory.name for (run,) in pool.waiting] == order.split()
