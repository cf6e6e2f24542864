"""The project that `retable init` makes: its table, its test, and that nothing is written over."""

import subprocess
import sys

import pytest

from retable import cli
from tests.commands.test_own_project import retable


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init") / "leaves"
    cli.main(["init", str(folder)])
    return folder


def test_its_table_is_made(project):
    done = retable(
        project,
        "sweep",
        "experiment=leaves/width",
        "data=sample",
        "trainer.max_epochs=2",
        "sweep.workers=1",
        "logger=none",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = (project / "multirun/tables/leaves/width/report.md").read_text()
    assert "the widest network is best" in report
    assert len(list((project / "multirun/leaves").glob("*/result.json"))) == 3


def test_its_own_test_passes(project):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_it_brings_what_a_project_needs(project):
    names = {path.name for path in project.iterdir()}
    assert {"README.md", "conf", "leaves.py", "net.py", "tests", "requirements.txt", ".gitignore", ".ci"} <= names


def test_a_folder_that_is_in_use_is_refused(project, capsys):
    before = (project / "net.py").read_text()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["init", str(project)])
    assert "is not empty; accepted: a new or empty folder" in capsys.readouterr().err
    assert (project / "net.py").read_text() == before
