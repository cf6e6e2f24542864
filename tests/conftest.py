"""Fixtures for all tests."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded arrays and samples go to a folder of this session, also in the processes that tests start."""
    os.environ["RETABLE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real sets; tests that need it are skipped without one."""
    root = os.environ.get("RETABLE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs the real data sets: set RETABLE_DATA to their folder")
    return Path(root)


@pytest.fixture(scope="session")
def compose() -> Any:
    """Overrides -> resolved config on sample data, small enough for a test."""
    from retable.config.compose import Composer

    composer = Composer()

    def make(*overrides: str) -> dict[str, Any]:
        return composer.compose(["data=sample", "logger=none", *overrides]).config

    return make
