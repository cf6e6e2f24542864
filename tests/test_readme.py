"""The commands that the README shows are run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


COMMANDS = [
    re.sub(r"\s+#.*", "", line).strip() for block in blocks("sh") for line in block.splitlines() if line.strip()
]
TRAIN = [line for line in COMMANDS if line.startswith("python train.py") and "resume=" not in line]
SMALL = ["debug=fast", "data=sample", "logger=none"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what a user sees: train.py and conf/."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "train.py", folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    return folder


def run(command: list[str], project: Path, data: Path | None = None) -> subprocess.CompletedProcess:
    import os

    environment = os.environ | {"RETABLE_DATA": str(data)} if data else os.environ
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300, env=environment)


def python(line: str, *extra: str) -> list[str]:
    return [sys.executable, *shlex.split(line)[1:], *extra]


def test_every_command_is_known():
    known = ("make ", "python train.py ", "retable ")  # report: tests/report
    assert all(line.startswith(known) for line in COMMANDS), COMMANDS
    assert len(TRAIN) == 9


@pytest.mark.pages
@pytest.mark.parametrize("line", [line for line in TRAIN if "experiment=" not in line])
def test_training_commands(line, project):
    line = re.sub(r" trainer.max_epochs=\d+", "", line)  # debug=fast below is one epoch
    done = run(python(line, *(SMALL if "--help" not in line else [])), project)
    assert done.returncode == 0, done.stderr
    expected = "== Groups" if "--help" in line else "finished"
    assert expected in done.stdout


@pytest.mark.parametrize("line", [line for line in TRAIN if "experiment=" in line])
def test_experiment_commands_compose(line, project):
    from retable.sweeps.plan import make_plan

    plan = make_plan([*shlex.split(line)[3:], f"sweep.dir={project / 'multirun'}"])
    assert len(plan.runs) == 16  # A1.2
    assert all(run.config["trainer"]["max_epochs"] == 100 for run in plan.runs)


@pytest.mark.pages
def test_resume_and_predict(project):
    resume = next(line for line in COMMANDS if "resume=" in line)
    predict = next(line for line in COMMANDS if line.startswith("retable predict multirun/cifar"))
    done = run([sys.executable, "train.py", "task=mnist", *SMALL], project)
    directory = re.search(r"^run: (.*)$", done.stdout, re.MULTILINE)[1]
    (project / directory / "result.json").unlink()  # as if it had been stopped
    again = run(python(re.sub(r"resume=\S+", f"resume={directory}", resume)), project)
    assert again.returncode == 0, again.stderr
    assert (project / directory / "result.json").exists()
    photos = project / "photos"
    photos.mkdir()
    from PIL import Image

    Image.fromarray(np.zeros((28, 28), np.uint8)).save(photos / "one.png")
    words = shlex.split(predict)
    words[2] = directory
    labelled = run([sys.executable, "-m", "retable.cli", *words[1:]], project)
    assert labelled.returncode == 0, labelled.stderr
    assert re.match(r"one\.png +\d +\d+\.\d%", labelled.stdout)


@pytest.mark.pages
def test_evaluate_and_compare(project, tmp_path):
    evaluate, compare = (
        shlex.split(next(line for line in COMMANDS if line.startswith(start)))
        for start in ("retable evaluate", "retable compare")
    )
    runs = []
    for model in ("fcn_small", "fcn_small_bn"):
        words = ["task=gland", f"model={model}", "data.size=32", *SMALL, f"data.cache={tmp_path}"]
        done = run([sys.executable, "train.py", *words], project)
        assert done.returncode == 0, done.stderr
        runs.append(re.search(r"^run: (.*)$", done.stdout, re.MULTILINE)[1])
    (data,) = (tmp_path / "sample").iterdir()
    evaluate[2:4], compare[2:5] = [runs[1], str(data)], [*runs, str(data)]
    evaluated = run([sys.executable, "-m", "retable.cli", *evaluate[1:]], project)
    assert evaluated.returncode == 0, evaluated.stderr
    assert re.search(r"^dice +0\.\d{4}$", evaluated.stdout, re.MULTILINE)
    assert len((project / evaluate[-1]).read_text().splitlines()) == 1 + 8  # the sample's test images
    drawn = run([sys.executable, "-m", "retable.cli", *compare[1:]], project)
    assert drawn.returncode == 0, drawn.stderr
    assert (project / compare[-1]).stat().st_size > 10_000


def test_make_targets_exist(project):
    targets = {line.split()[1] for line in COMMANDS if line.startswith("make ")}
    targets |= set(re.findall(r"`make ([a-z-]+)`", TEXT))
    assert {"demo", "test", "tensorboard", "help", "sweep-cifar", "sweep-mnist"} <= targets
    for target in sorted(targets):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{target}: {done.stderr}"


def test_the_table_shown_is_one(project):
    import yaml

    from retable.experiment.table import parse_table

    (block,) = blocks("yaml")
    table = parse_table(yaml.safe_load(block)["table"], "leaves/width")
    assert list(table.cells) == ["width 2", "width 8", "width 16"]
    assert [claim.text for claim in table.claims] == ["the widest network is best"]


@pytest.mark.pages
def test_init_makes_a_project(project):
    (line,) = [line for line in COMMANDS if line.startswith("retable init")]
    done = run([sys.executable, "-m", "retable.cli", *shlex.split(line)[1:]], project)
    assert done.returncode == 0, done.stderr
    assert (project / "leaves/conf/task/leaves.yaml").exists()  # what is done with it: tests/commands/test_init.py
