"""What is built holds all that an installed package needs; a sweep runs from an empty folder with the wheel alone."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "retable"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and an sdist of the tracked files, by kind; made without a network."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    hooks = "from setuptools import build_meta as b; print(b.build_wheel({0!r}), b.build_sdist({0!r}))"
    command = [sys.executable, "-c", hooks.format(str(folder))]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def needed() -> set[str]:
    """Every file that belongs to the package, as it lies below src/."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return {name.removeprefix("src/") for name in listed.split("\0") if name}


def test_wheel_and_sdist_hold_every_file_of_the_package(built):
    files = needed()
    for name in (
        *("retable/conf/base.yaml", "retable/conf/lightning.yaml", "retable/conf/experiment/cifar/dropout.yaml"),
        *("retable/commands/project/.ci/run", "retable/commands/project_module/conf/task/leaves.yaml"),
        *("retable/py.typed", "hydra_plugins/retable/plugins.py"),
    ):
        assert name in files
    with zipfile.ZipFile(built["wheel"]) as wheel:
        assert files <= set(wheel.namelist())
    with tarfile.open(built["sdist"]) as sdist:
        assert files <= {name.partition("/src/")[2] for name in sdist.getnames()}


def test_a_sweep_in_an_empty_folder_with_the_wheel_alone(built, tmp_path):
    installed, folder = tmp_path / "installed", tmp_path / "empty"
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(installed)
    folder.mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in ("RETABLE_DATA", "RETABLE_CONF")}
    environment = kept | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "retable.cli"]
    where = subprocess.run(
        [sys.executable, "-c", "import retable; print(retable.__file__)"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.strip() == str(installed / "retable/__init__.py")
    words = ["sweep", "experiment=cifar/dropout", "data=sample", "debug=fast", "dropout.p=0.2", "sweep.workers=1"]
    done = subprocess.run([*command, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (folder / "multirun/debug/tables/cifar/dropout/report.md").read_text()
    assert "Dropout" in page


def test_the_steps_of_the_wheels_workflow(built, tmp_path):
    """What `.github/workflows/wheel.yml` does once the wheel is installed, with the wheel unpacked in its place."""
    (steps,) = [
        job["steps"] for job in yaml.safe_load((ROOT / ".github/workflows/wheel.yml").read_text())["jobs"].values()
    ]
    (script,) = [step["run"] for step in steps if "working-directory" in step]
    assert script.startswith("retable init leaves\n")
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(tmp_path / "installed")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, module in (("retable", "-m retable.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (programs / name).chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key not in ("RETABLE_DATA", "RETABLE_CONF")}
    environment = kept | {"PYTHONPATH": str(tmp_path / "installed"), "PATH": f"{programs}:{os.environ['PATH']}"}
    (tmp_path / "temp").mkdir()
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, cwd=tmp_path / "temp", env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert (tmp_path / "temp/leaves/multirun/debug/tables/leaves/width/report.md").exists()
    assert (tmp_path / "temp/leaves/.ci/run").exists()


@pytest.mark.parametrize("kind", [[], ["--module"]], ids=["task", "module"])
def test_the_ci_of_a_new_project_ends_well_without_a_network(built, tmp_path, kind):
    """Its `.ci/run` makes an environment and installs the wheel; what that depends on is there already."""
    packages, programs, unpacked, project = (tmp_path / name for name in ("packages", "bin", "unpacked", "leaves"))
    packages.mkdir()
    for folder in (Path(entry) for entry in sys.path if Path(entry).name == "site-packages"):
        for path in folder.iterdir():
            if not re.match(r"(__editable__\S*)?retable|pip", path.name) and path.suffix != ".pth":
                (packages / path.name).symlink_to(path)
    programs.mkdir()
    (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python3").chmod(0o755)
    with zipfile.ZipFile(built["wheel"]) as wheel:
        wheel.extractall(unpacked)
    kept = {key: value for key, value in os.environ.items() if key not in ("RETABLE_DATA", "RETABLE_CONF")}
    init = [sys.executable, "-m", "retable.cli", "init", str(project), *kind]
    subprocess.run(init, env=kept | {"PYTHONPATH": str(unpacked)}, check=True)
    environment = kept | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(built["wheel"].parent),
    }
    command = [str(project / ".ci/run")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert len(list(project.glob(".venv/lib/*/site-packages/retable/commands/project/.ci/run"))) == 1
    (project / "tests/test_leaves.py").write_text("def test_that_fails():\n    assert False\n")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert (done.returncode, "1 failed" in done.stdout) == (1, True)
