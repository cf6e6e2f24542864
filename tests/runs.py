"""What the tests of runs look at, whatever trained them: histories without times, weights; and what stops a run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from retable.run import files

TIMES = ("seconds/train", "seconds/val", "images_per_second")


def untimed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a history without what differs from time to time."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def history(directory: Path) -> list[dict[str, Any]]:
    return untimed(files.read_history(directory / files.HISTORY))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / files.CHECKPOINT, weights_only=True)["state_dict"]


def interrupted_after(epoch: int) -> dict[str, Any]:
    """Arguments of `execute` that have it stop, to go on another time."""
    epochs: list[int] = []
    return {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: epoch in epochs}


def same(one: list[dict[str, Any]], other: list[dict[str, Any]], tolerance: float = 2e-4) -> None:
    """Histories that differ by rounding alone."""
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for row, wanted in zip(one, other, strict=True):
        assert row == {key: pytest.approx(value, rel=tolerance, abs=1e-6) for key, value in wanted.items()}
