"""The project that `retable init` makes: its table, its test, and that nothing is written over."""

import json
import subprocess
import sys

import pytest

from retable import cli
from tests.commands.test_own_project import retable


@pytest.fixture(scope="module", params=[[], ["--module"]], ids=["task", "module"])
def project(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("init") / "shells"
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
    done = retable(project, "sweep", "experiment=shells/width", sample, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (project / "multirun/tables/shells/width/report.md").read_text()
    assert "the widest network is best" in report
    assert len(list((project / "multirun/shells").glob("*/result.json"))) == 3


@pytest.mark.slow
def test_what_is_drawn_is_learnt(project, of_a_module):
    """So that a first table shows something: guessing is right in a third of the cases."""
    sample = "data.source=sample" if of_a_module else "data=sample"
    done = retable(project, "train", "task=shells", sample, "logger=none")
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = project.glob("outputs/shells/*/*/result.json")
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
    own = {"lit.py"} if of_a_module else {"shells.py", "net.py"}
    assert own | {"README.md", "conf", "tests", "requirements.txt", ".gitignore", ".ci"} <= names
    assert (project / ".ci/run").stat().st_mode & 0o100


def test_names_follow_the_folders(tmp_path, of_a_module):
    folder = tmp_path / "sea-shells"
    cli.main(["init", str(folder), *(["--module"] if of_a_module else [])])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if "leaves" in path.read_text() or "leaves" in str(path.relative_to(folder))] == []
    named = {str(path.relative_to(folder)) for path in files if "sea_shells" in str(path)}
    own = set() if of_a_module else {"sea_shells.py"}
    assert named == own | {
        "conf/task/sea_shells.yaml",
        "conf/experiment/sea_shells/width.yaml",
        "tests/test_sea_shells.py",
    }
    assert "override /task: sea_shells\n" in (folder / "conf/experiment/sea_shells/width.yaml").read_text()
    assert (folder / ".ci/run").stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cifar", "the package has task=cifar"),
        ("net", "the project has net.py"),
        ("torch", "Python has a module torch"),
        ("csv", "Python has a module csv"),
        ("2026", "letters, digits and _, no digit first"),
        ("été", "ASCII letters, digits and _, no digit first"),
        ("class", "letters, digits and _, no digit first"),
    ],
)
def test_a_name_that_would_hide_another_is_refused(name, why, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["init", str(tmp_path / name)])
    assert why in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    cli.main(["init", str(tmp_path / name), "--name", "shells"])
    assert (tmp_path / name / "conf/task/shells.yaml").exists()


def test_what_it_says_to_type_may_be_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main(["init", "sea shells"])
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "  cd 'sea shells'",
        "  retable sweep experiment=sea_shells/width data=sample   # its table, on drawn pictures",
    ]


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
