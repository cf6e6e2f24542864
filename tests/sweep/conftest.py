"""Small sweeps on sample digits."""

from pathlib import Path
from typing import Any

import pytest

from retable.config.compose import Composer

BASE = (
    "task=mnist",
    "data=sample",
    "data.fraction=0.1",
    "model.width=4",
    "trainer.max_epochs=2",
    "trainer.device=cpu",
    "logger=none",
)


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()


@pytest.fixture
def base(tmp_path: Path) -> list[str]:
    """Overrides of a quick sweep into a folder of the test's own."""
    return [*BASE, f"sweep.dir={tmp_path / 'multirun'}"]


@pytest.fixture
def faulty(base: list[str]) -> Any:
    """Overrides of runs whose model has the given faults."""

    def make(*faults: str) -> list[str]:
        return [*base, "model._target_=tests.sweep.faults.Faulty", f"+model.fault={','.join(faults)}"]

    return make
