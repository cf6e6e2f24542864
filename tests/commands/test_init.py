"""The project that `retable init` makes: its table, its test, and that nothing is written over."""

import json
import subprocess
import sys

import pytest

from retable import cli
from tests.commands.test_own_project import retable


@pytest.fixture(scope="module", params=[[], ["--module"]], ids=["task", "module"])
def project(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("init") / "leaves"
    cli.main(["init", str(folder), *request.param])
    return folder


@pytest.fixture
def of_a_module(project):
    """Whether it is of a LightningModule that knows nothing of this project."""
    return (project / "lit.py").exists()


@pytest.mark.pages
def test_its_table_is_made(project, of_a_module):
    sample = "data.source=sample" if of_a_module else "data=sample"
    quick = ("trainer.max_epochs=2", "sweep.workers=1", "logger=none")
    done = retable(project, "sweep", "experiment=leaves/width", sample, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (project / "multirun/tables/leaves/width/report.md").read_text()
    assert "the widest network is best" in report
    assert len(list((project / "multirun/leaves").glob("*/result.json"))) == 3


@pytest.mark.slow
def test_what_is_drawn_is_learnt(project, of_a_module):
    """So that a first table shows something: guessing is right in a third of the cases."""
    sample = "data.source=sample" if of_a_module else "data=sample"
    done = retable(project, "train", "task=leaves", sample, "logger=none")
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = project.glob("outputs/leaves/*/*/result.json")
    metrics = json.loads(result.read_text())["metrics"]
    assert metrics["final"][metrics["best_by"]] > 0.6


@pytest.mark.pages
def test_its_own_test_passes(project):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_it_brings_what_a_project_needs(project, of_a_module):
    names = {path.name for path in project.iterdir()}
    own = {"lit.py"} if of_a_module else {"leaves.py", "net.py"}
    assert own | {"README.md", "conf", "tests", "requirements.txt", ".gitignore", ".ci"} <= names
    assert (project / ".ci/run").stat().st_mode & 0o100


def test_a_module_knows_nothing_of_this_project(project, of_a_module):
    if of_a_module:
        assert "import retable" not in (project / "lit.py").read_text()
        assert "from retable" not in (project / "lit.py").read_text()


def test_a_folder_that_is_in_use_is_refused(project, capsys):
    before = (project / "README.md").read_text()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["init", str(project)])
    assert "is not empty; accepted: a new or empty folder" in capsys.readouterr().err
    assert (project / "README.md").read_text() == before
