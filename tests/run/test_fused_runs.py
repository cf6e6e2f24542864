"""Runs that meet at their steps leave what each of them leaves by itself."""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from retable.commands.verify import again, compared
from retable.run import files, fused
from retable.run.execute import execute
from retable.run.result import write_plan
from tests.runs import TIMES, history

pytestmark = pytest.mark.usefixtures("no_figures")

# Two epochs of some chunks each, with all that a run draws of its own: order, augmentation, dropout, noise.
SMALL = ["task=mnist", "data.fraction=0.1", "model.width=4", "augment=fly", "trainer.max_epochs=2"]
SMALL += ["trainer.limit_val_batches=1", "trainer.num_sanity_val_steps=0"]
SMALL += ["trainer.device=cpu", "trainer.precision=64-true", "checkpoint=both"]
SETTINGS = [
    ["seed=0", "dropout=0.3"],
    ["seed=1", "optimizer.lr=0.05", "scheduler=cosine", "init=he"],
    ["seed=2", "optimizer.momentum=0.9", "loss.l1=0.001", "dropout=0.5", "dropout.where=all", "dropout.channels=false"],
]


@pytest.fixture
def configs(compose) -> list[dict[str, Any]]:
    return [compose(*SMALL, *own) for own in SETTINGS]


def together(
    configs: Sequence[dict[str, Any]], folder: Path, stop: Callable[[], bool] = lambda: False, **hooks: Any
) -> list[Any]:
    """Train runs together; what each gave, or raised."""
    ends: list[Any] = [None] * len(configs)

    def worker(number: int) -> Callable[[fused.Seat], None]:
        def work(seat: fused.Seat) -> None:
            try:
                own = {"should_interrupt": stop, **hooks}
                ends[number] = execute(configs[number], folder / str(number), company=seat, **own)
            except Exception as error:
                ends[number] = error

        return work

    fused.train([fused.Seat(worker(number), contextlib.nullcontext) for number in range(len(configs))])
    return ends


def assert_close(one: Any, other: Any, within: float, where: str = "") -> None:
    """Equal but for numbers that differ by as much."""
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=within, atol=within)
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_close(one[key], other[key], within, f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(a, b, within, f"{where}.{number}")
    elif isinstance(one, float) and not math.isnan(one):
        assert one == pytest.approx(other, rel=within, abs=within), where
    else:
        assert one == other or one != one, where


def checkpoint_of(directory: Path, name: str = files.CHECKPOINT) -> dict[str, Any]:
    content = torch.load(directory / name, weights_only=True)
    (record,) = (value for key, value in content["callbacks"].items() if key.startswith("Record"))
    del record["seconds"], record["fused"]
    for row in record["rows"]:
        for key in TIMES:
            del row[key]
    del content["retable"]["name"], content["loops"]  # of which a run that went on has more
    return content


def assert_same_run(one: Path, other: Path, within: float) -> None:
    """All that two directories hold, but times, names and how the run was executed."""
    assert_close(history(one), history(other), within)
    for name in (files.CHECKPOINT, files.BEST):
        assert_close(checkpoint_of(one, name), checkpoint_of(other, name), within)
    results = [files.read_result(directory) for directory in (one, other)]
    for result in results:
        for key in ("name", "seconds", "steps_per_second", "seconds_per_epoch", "peak_memory_mb", "execution", "git"):
            result.pop(key, None)
        for row in result["metrics"].values():
            for key in TIMES if isinstance(row, dict) else ():
                row.pop(key, None)
    assert_close(*results, within)


def test_runs_together_leave_what_each_leaves_alone(configs, tmp_path):
    ends = together(configs, tmp_path / "fused")
    assert [end["execution"] for end in ends] == [{"fused": 3}] * 3
    for number, config in enumerate(configs):
        assert "execution" not in execute(config, tmp_path / "alone" / str(number))
        assert_same_run(tmp_path / "fused" / str(number), tmp_path / "alone" / str(number), 1e-10)
        ours, alone = ((tmp_path / way / str(number) / files.CHECKPOINT).stat().st_size for way in ("fused", "alone"))
        assert ours == pytest.approx(alone, rel=0.02)  # of one run, not of all


def test_one_that_diverges_touches_no_other(configs, tmp_path):
    configs[1]["optimizer"]["lr"] = 1e200
    ends = together(configs, tmp_path / "fused")
    assert [end["status"] for end in ends] == ["finished", "diverged", "finished"]
    alone = execute(configs[1], tmp_path / "alone")
    assert ends[1]["reason"] == alone["reason"] == "loss not finite at epoch 1, step 2"
    others = together([configs[0], configs[2]], tmp_path / "others")
    assert [end["execution"] for end in (*ends, *others)] == [{"fused": number} for number in (3, 3, 3, 2, 2)]
    for number, other in ((0, 0), (2, 1)):
        assert_same_run(tmp_path / "fused" / str(number), tmp_path / "others" / str(other), 0)


@pytest.mark.slow
def test_one_that_stops_early_is_not_waited_for(configs, compose, tmp_path):
    for config in configs:
        config["trainer"]["max_epochs"] = 3
    rule = {"epsilon": 10.0, "from_epoch": 2, "metric": "accuracy", "apply": True, "name": "change"}
    configs[0]["early_stop"] = rule | {"_target_": "retable.training.Change"}
    configs[2]["early_stop"] = rule | {"_target_": "retable.training.Change", "epsilon": 0.0}
    ends = together(configs, tmp_path / "fused")
    assert [end["epochs"] for end in ends] == [3, 3, 2]
    execute(configs[2], tmp_path / "alone")
    assert_same_run(tmp_path / "fused/2", tmp_path / "alone", 1e-10)


def test_interrupted_runs_go_on_bit_for_bit(configs, tmp_path):
    """Also where some were an epoch behind another when they ended. In float32, as checkpoints are read."""
    for config in configs:
        config["trainer"] |= {"precision": "32", "max_epochs": 3}
    together(configs, tmp_path / "whole")
    asked: list[int] = []
    ends = together(configs, tmp_path / "cut", lambda: len(asked) > 3, on_epoch=lambda row: asked.append(1))
    assert [end["status"] for end in ends] == ["interrupted"] * 3
    assert [end["epochs"] for end in ends] == [2, 1, 1]
    together(configs, tmp_path / "cut")
    for number in range(3):
        assert_same_run(tmp_path / "cut" / str(number), tmp_path / "whole" / str(number), 0)


@pytest.mark.slow
def test_a_run_that_began_together_goes_on_alone_and_says_so(configs, tmp_path):
    rows: list[int] = []
    note = {"on_epoch": lambda row: rows.append(1)}
    together(configs, tmp_path / "cut", lambda: len(rows) > 3, **note)
    assert execute(configs[2], tmp_path / "cut/2")["execution"] == {"fused": 3}
    rows.clear()
    execute(configs[2], tmp_path / "alone", should_interrupt=lambda: bool(rows), **note)
    execute(configs[2], tmp_path / "alone")
    assert_same_run(tmp_path / "cut/2", tmp_path / "alone", 1e-10)


@pytest.mark.slow
def test_a_fused_run_is_verified_by_itself_bit_for_bit(configs, tmp_path):
    for number, config in enumerate(configs):
        config["trainer"] |= {"precision": "32", "max_epochs": 1}
        write_plan(tmp_path / str(number), str(number), config, [])
    together(configs, tmp_path)
    line, same = compared(*again(tmp_path / "2"), [tmp_path / "2"])
    assert same
    assert line.startswith("the same, bit for bit: ")


@pytest.mark.slow
def test_what_can_not_be_fused_trains_beside_the_others_as_it_would_alone(configs, tmp_path):
    configs[1]["optimizer"] = {"_target_": "torch.optim.RMSprop", "lr": 0.001, "name": "rmsprop"}
    ends = together(configs, tmp_path / "fused")
    assert [end.get("execution") for end in ends] == [{"fused": 2}, None, {"fused": 2}]
    execute(configs[1], tmp_path / "alone")
    assert_same_run(tmp_path / "fused/1", tmp_path / "alone", 0)


def test_a_common_step_that_fails_is_no_runs_own_failure(configs, tmp_path, monkeypatch):
    def fails(*_: Any) -> None:
        raise RuntimeError("out of something")

    monkeypatch.setattr(fused, "train_together", fails)
    ends = together(configs, tmp_path)
    assert [str(end) for end in ends] == ["RuntimeError: out of something"] * 3
    assert all(isinstance(end, fused.FusedStepFailed) for end in ends)


@pytest.mark.slow
def test_one_that_fails_between_steps_fails_alone(configs, tmp_path):
    def fails(row: dict[str, Any]) -> None:
        if row["epoch"] == 2 and not failed:
            failed.append(1)
            raise OSError("disk")

    failed: list[int] = []
    ends = together(configs, tmp_path, on_epoch=fails)
    assert isinstance(ends[0], OSError)
    assert [end["status"] for end in ends[1:]] == ["finished", "finished"]
