"""A project of somebody's own: a folder with its modules and its conf/, which joins the package's groups."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.pages

LEAVES = """
import numpy as np
from retable.data import ImageData, ImageSet, Splits


class LeafData(ImageData):
    folder = "leaves"

    def files(self):
        return self.expect([self.location / "all.npz"])

    def read(self, files):
        part = np.load(files[0])
        images = ImageSet(part["images"], part["labels"])
        return Splits(images, images, ("oak", "beech"))
"""
TASK = """# @package _global_
defaults:
  - override /model: mine
task: {name: leaves, _target_: retable.tasks.Classification, metric: val/accuracy}
data: {_target_: leaves.LeafData, scale: standard}
trainer: {max_epochs: 1}
"""
MODEL = "name: mine\n_target_: net.Net\nwidth: 4\n"
NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, in_shape, num_classes, width=2):
        super().__init__(nn.AdaptiveAvgPool2d(width), nn.Flatten(), nn.Linear(in_shape[0] * width**2, num_classes))
"""
EXPERIMENT = """# @package _global_
defaults:
  - override /task: leaves
table:
  source: my paper, table 1
  title: Width
  published_epochs: 1
  grid:
    - {model.width: [2, 4]}
  rows: [model.width]
  metrics: {val: {column: val/accuracy, scale: 100}}
  cells:
    two: {match: {model.width: 2}, published: {val: 50}}
    four: {match: {model.width: 4}, published: {val: 60}}
  claims:
    - {text: four is better, kind: greater, metric: val, left: four, right: two}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "leaves.py": LEAVES,
        "net.py": NET,
        "conf/task/leaves.yaml": TASK,
        "conf/model/mine.yaml": MODEL,
        "conf/experiment/leaves/width.yaml": EXPERIMENT,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    draw = np.random.default_rng(0)
    (tmp_path / "data/leaves").mkdir(parents=True)
    images = draw.integers(0, 256, (40, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "data/leaves/all.npz", images=images, labels=np.arange(40) % 2)
    return tmp_path


def retable(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "RETABLE_DATA"}
    command = [sys.executable, "-m", "retable.cli", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def test_its_task_model_and_experiment_join_the_packaged_ones(project):
    done = retable(project, "sweep", "experiment=glob(leaves/*)", "logger=none", "sweep.workers=1")
    assert done.returncode == 0, done.stdout + done.stderr
    report = (project / "multirun/tables/leaves/width/report.md").read_text()
    assert "four is better" in report
    assert len(list((project / "multirun/leaves").glob("*/result.json"))) == 2
    again = retable(project, "report", "multirun")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "leaves/width" in again.stdout


@pytest.mark.parametrize("name", ["mine/exp", "flat"])
def test_a_table_may_lie_in_a_folder_of_any_name(project, name):
    own = project / "conf/experiment" / f"{name}.yaml"
    own.parent.mkdir(exist_ok=True)
    own.write_text((project / "conf/experiment/leaves/width.yaml").read_text())
    done = retable(project, "sweep", f"experiment={name}", "logger=none")
    assert done.returncode == 0, done.stdout + done.stderr
    again = retable(project, "report", "multirun")
    assert again.returncode == 0, again.stdout + again.stderr
    made = (project / f"multirun/tables/{name}/report.md").read_text()
    assert "missing" not in made
    assert name in again.stdout


def test_one_run(project):
    done = retable(project, "train", "task=leaves", "model.width=2", "logger=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished" in done.stdout


def test_a_folder_named_by_config_dir(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "settings"
    (project / "conf").rename(elsewhere)
    refused = retable(project, "train", "task=leaves", "logger=none")
    assert refused.returncode == 2
    assert "task=leaves" in refused.stderr
    done = retable(project, "sweep", "--config-dir", str(elsewhere), "task=leaves", "model.width=2,4", "logger=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((project / "multirun/leaves").glob("*/result.json"))) == 2


def test_the_tables_of_a_folder_named_by_config_dir(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "settings"
    (project / "conf").rename(elsewhere)
    named = ("--config-dir", str(elsewhere))
    done = retable(project, "sweep", *named, "experiment=leaves/width", "logger=none")
    assert done.returncode == 0, done.stdout + done.stderr
    again = retable(project, "report", "multirun", *named)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "leaves/width" in again.stdout
    without = retable(project, "report", "multirun", "--config-dir", "nowhere")
    assert (without.returncode, without.stderr) == (
        2,
        "--config-dir: nowhere: no such folder; accepted: a folder, file://FOLDER, pkg://PACKAGE\n",
    )


def test_help_names_its_options(project):
    shown = retable(project, "train", "--help")
    assert shown.returncode == 0
    groups = shown.stdout.partition("== Configuration")[0]
    assert "\n  retable sweep experiment=cifar/dropout\n" in groups  # here is no train.py
    assert "leaves" in groups
    assert "mine" in groups


def test_a_model_that_is_named_on_the_command_line(project):
    words = [
        "task=leaves",
        "model=cnn",
        "dropout=none",
        "model._target_=net.Net",
        "++model.width=2,4",
        "logger=none",
        "sweep.workers=1",
    ]
    done = retable(project, "sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    parameters = {
        json.loads(path.read_text())["parameters"] for path in (project / "multirun/leaves").glob("*/result.json")
    }
    assert parameters == {(3 * 2**2 + 1) * 2, (3 * 4**2 + 1) * 2}
