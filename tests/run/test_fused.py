"""Runs that meet at their steps leave what each of them leaves by itself."""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from retable.run import execute as execution
from retable.run import files, fused
from retable.run.execute import execute

# Two epochs of some chunks each, with all that a run draws of its own: order, augmentation, dropout, noise.
SMALL = ["task=mnist", "data.fraction=0.3", "model.width=2", "augment=fly", "trainer.max_epochs=2"]
SMALL += ["trainer.device=cpu", "trainer.precision=64-true", "checkpoint=both"]
SETTINGS = [
    ["seed=0", "dropout=0.3"],
    ["seed=1", "optimizer.lr=0.05", "scheduler=cosine", "init=he"],
    ["seed=2", "optimizer.momentum=0.9", "loss.l1=0.001", "dropout=0.5", "dropout.where=all", "dropout.channels=false"],
]
TIMES = ("seconds/train", "seconds/val", "images_per_second")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(execution, "_draw", lambda *_: None)


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


def rows_of(directory: Path) -> list[dict[str, float]]:
    rows = files.read_history(directory / files.HISTORY)
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


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
    del content["retable"]["name"]
    return content


def assert_same_run(one: Path, other: Path, within: float) -> None:
    """All that two directories hold, but times, names and how the run was executed."""
    assert_close(rows_of(one), rows_of(other), within)
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


def test_a_checkpoint_holds_one_run(configs, tmp_path):
    together(configs, tmp_path / "fused")
    execute(configs[0], tmp_path / "alone")
    ours, alone = ((tmp_path / where / files.CHECKPOINT).stat().st_size for where in ("fused/0", "alone"))
    assert ours == pytest.approx(alone, rel=0.02)
