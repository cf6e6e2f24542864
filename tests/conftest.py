"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real sets; tests that need it are skipped without one."""
    root = os.environ.get("ABLATE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("needs the real data sets: set ABLATE_DATA to their folder")
    return Path(root)
