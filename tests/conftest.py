"""Fixtures for all tests."""

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped fails, where all is installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded arrays and samples go to a folder of this session, also in the processes that tests start."""
    os.environ["RETABLE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_environment(_own_cache: None) -> Generator[None, None, None]:
    """What a test leaves in the environment (Lightning: MASTER_ADDR, one of SLURM's nodes) misleads no later test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


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


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw nothing, which takes longer than to train a small one."""
    from retable.run import execute

    monkeypatch.setattr(execute, "_draw", lambda *_: None)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs train.py's command line in an empty folder; gives its exit code and what it printed, on standard error if it
    failed."""
    from retable.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("RETABLE_FULL_ERROR", "0")

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, getattr(capsys.readouterr(), "err" if code else "out").strip()

    return run
