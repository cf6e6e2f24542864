"""Nothing that a checkpoint or a run directory of somebody else names is imported, let alone called."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from retable import cli
from retable.commands.evaluate import evaluate
from retable.config.targets import check_targets
from retable.errors import ConfigError, DataError
from retable.report.runs import read_runs
from retable.run import execute as execution
from retable.run import files
from retable.run.restore import load
from retable.run.single import run_single
from retable.sweeps.store import runs_below, status_of


@pytest.fixture(scope="module")
def run(compose, tmp_path_factory):
    """A run of two batches."""
    directory = tmp_path_factory.mktemp("trust") / "run"
    config = compose("task=mnist", "debug=fast", "trainer.device=cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "_draw", lambda *_: None)
        execution.execute(config, directory)
    return directory


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported, and whether it has."""
    (tmp_path / "modules").mkdir()
    proof = tmp_path / "proof"
    text = f"import pathlib\npathlib.Path({str(proof)!r}).touch()\nclass Thing:\n    pass\n"
    (tmp_path / "modules" / "evil.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield proof.exists
    sys.modules.pop("evil", None)


def changed(run, folder, section, node):
    """A copy of a run's checkpoint whose config names something else."""
    content = torch.load(run / files.CHECKPOINT, weights_only=True)
    content["retable"]["config"][section] = content["retable"]["config"][section] | node
    torch.save(content, folder / files.CHECKPOINT)
    return folder / files.CHECKPOINT


@pytest.mark.parametrize("target", ["evil.Thing", "logging.basicConfig", "os.mkdir", "retable.run.single.run_single"])
def test_evaluate_does_not_import_what_a_foreign_checkpoint_names_as_data(run, tmp_path, evil, target):
    trained = load(changed(run, tmp_path, "data", {"_target_": target}))
    with pytest.raises(DataError) as caught:
        evaluate(trained, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / files.CHECKPOINT}: refused, data._target_={target} is neither ")
    assert "\n" not in str(caught.value)
    assert not evil()


@pytest.mark.parametrize("section", ["model", "activation", "loss", "task"])
@pytest.mark.parametrize("target", ["evil.Thing", "torch.hub.load", "torch.nn.Linear.f", "retable.models.weights.load"])
def test_a_foreign_checkpoint_is_refused_before_anything_is_imported(run, tmp_path, evil, section, target):
    path = changed(run, tmp_path, section, {"_target_": target})
    with pytest.raises(DataError, match=rf": refused, {section}\._target_={target} is neither"):
        load(path)
    assert not evil()


def test_one_that_is_trusted_is_built(run, tmp_path, evil):
    path = changed(run, tmp_path, "model", {"_target_": "evil.Thing"})
    with pytest.raises(DataError, match=r"model\._target_=evil\.Thing is no torch\.nn\.Module"):
        load(path, trust=True)
    assert evil()


def test_the_cache_that_a_checkpoint_names_is_not_written_to(run, tmp_path, capsys):
    trained = load(changed(run, tmp_path, "data", {"cache": str(tmp_path / "elsewhere")}))
    location = next(path for path in _samples() if path.name.startswith("mnist"))
    assert evaluate(trained, location).split == "val"
    assert not (tmp_path / "elsewhere").exists()


def _samples():
    return (Path(os.environ["RETABLE_CACHE"]) / "sample").iterdir()


def resumed(run, folder, change):
    """A copy of run.json with some of its config changed."""
    content = json.loads((run / files.RUN).read_text())
    for section, node in change.items():
        content["config"][section] = content["config"][section] | node
    (folder / files.RUN).write_text(json.dumps(content))
    return {"resume": str(folder), "trust": False}


def test_resume_does_not_import_what_a_foreign_run_names(run, tmp_path, evil):
    for section in ("data", "model", "loss", "optimizer", "scheduler", "init", "task", "early_stop", "activation"):
        config = resumed(run, tmp_path, {section: {"_target_": "evil.Thing"}})
        with pytest.raises(DataError) as caught:
            run_single(config, [f"resume={tmp_path}"])
        start = f"{tmp_path / files.RUN}: refused, {section}._target_=evil.Thing is neither "
        assert str(caught.value).startswith(start)
        assert str(caught.value).endswith("; trust=true builds it all the same")
    config = resumed(run, tmp_path, {"augment": {"rotate": {"_target_": "evil.Thing"}}})
    with pytest.raises(DataError, match=r"augment\.rotate\._target_=evil\.Thing"):
        run_single(config, [f"resume={tmp_path}"])
    assert not evil()


@pytest.mark.parametrize("key", ["seed", "task.name", "data._target_", "trainer", "trainer.max_epochs", "model"])
def test_resume_names_what_a_config_lacks(run, tmp_path, key):
    content = json.loads((run / files.RUN).read_text())
    *parents, leaf = key.split(".")
    node = content["config"]
    for parent in parents:
        node = node[parent]
    del node[leaf]
    (tmp_path / files.RUN).write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        run_single({"resume": str(tmp_path), "trust": False}, [f"resume={tmp_path}"])
    assert str(caught.value).startswith(f"{tmp_path / files.RUN}: its config has no {key}")


def test_resume_of_somebody_elses_directory_asks_for_trust(run, tmp_path, monkeypatch):
    config = resumed(run, tmp_path, {})
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(DataError, match=rf"^{tmp_path / files.RUN}: was made by another user; accepted: .*trust=true"):
        run_single(config, [f"resume={tmp_path}"])


CONFIG = {
    "model": {"_target_": "retable.models.CNN"},
    "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
    "activation": {"_target_": "torch.nn.ReLU"},
    "optimizer": {"_target_": "torch.optim.AdamW"},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"},
    "init": {"_target_": "retable.training.he"},
    "early_stop": {"_target_": None},
    "augment": {"mode": "fly", "rotate": {"_target_": "retable.training.Rotate"}},
    "task": {"_target_": "retable.tasks.Classification"},
    "data": {"_target_": "retable.data.CifarData"},
    "trainer": {"max_epochs": 1},
}


def test_what_this_projects_own_configs_name_is_accepted():
    check_targets(CONFIG, "x")
    for section, target in (("model", "retable.models.cnn.CNN"), ("init", "retable.training.init.he")):
        check_targets(CONFIG | {section: {"_target_": target}}, "x")  # from before it had a public path


@pytest.mark.parametrize(
    ("section", "node", "fault"),
    [
        ("loss", {"_target_": "torch.nn.Linear"}, "loss._target_=torch.nn.Linear is neither"),
        ("optimizer", {"_target_": "torch.optim.lr_scheduler.StepLR"}, "optimizer._target_=torch.optim.lr_scheduler"),
        ("optimizer", {"_target_": "torch.optim.swa_utils"}, "optimizer._target_=torch.optim.swa_utils is no "),
        ("init", {"_target_": "retable.training.init.layers.gi_frame"}, "init._target_=retable.training.init.layers."),
        ("init", {"_target_": "retable.training.init.nn"}, "init._target_=retable.training.init.nn is neither"),
        ("init", {"_target_": "retable.training.Augment"}, "init._target_=retable.training.Augment is neither"),
        ("early_stop", {"_target_": "retable.training.he"}, "early_stop._target_=retable.training.he is neither"),
        ("data", {"_target_": "retable.data.ImageSet"}, "data._target_=retable.data.ImageSet is no retable.data.Image"),
        ("data", {"_target_": "retable.data.ImageData"}, "data._target_=retable.data.ImageData is the base"),
        ("data", {"_target_": ["os.mkdir"]}, "data._target_=['os.mkdir'] is neither"),
        ("model", {"_target_": "retable.tasks.Task"}, "model._target_=retable.tasks.Task is neither"),
        ("model", {"head": {"_target_": "os.mkdir"}}, "model.head._target_=os.mkdir is neither"),
        ("model", {"head": [{"_target_": "os.mkdir"}]}, "model.head.0._target_=os.mkdir is neither"),
        ("trainer", {"_target_": "os.mkdir"}, "trainer._target_=os.mkdir is neither"),
        ("augment", {"_target_": "os.mkdir"}, "augment._target_=os.mkdir is neither"),
    ],
)
def test_what_is_neither_is_refused(section, node, fault):
    with pytest.raises(DataError) as caught:
        check_targets(CONFIG | {section: CONFIG[section] | node}, "x")
    assert str(caught.value).startswith(f"x: refused, {fault}")


def test_what_ones_own_configuration_names_is_accepted_in_its_place_alone(tmp_path, monkeypatch):
    (tmp_path / "conf" / "task").mkdir(parents=True)
    text = "# @package _global_\ndata: {_target_: own_leaves.Data}\ntask: {_target_: retable.tasks.Classification}\n"
    (tmp_path / "conf" / "task" / "own.yaml").write_text(text)
    (tmp_path / "conf" / "model").mkdir()
    (tmp_path / "conf" / "model" / "own.yaml").write_text("_target_: own_leaves.Net\n")
    (tmp_path / "own_leaves.py").write_text(
        "from torch import nn\nfrom retable.data import ImageData\n"
        "class Data(ImageData): pass\nclass Net(nn.Module): pass\nclass Other: pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    own = {"data": {"_target_": "own_leaves.Data"}, "model": {"_target_": "own_leaves.Net"}}
    check_targets(CONFIG | own, "x")
    for section, target in (("data", "own_leaves.Net"), ("model", "own_leaves.Other"), ("init", "own_leaves.Net")):
        with pytest.raises(DataError, match=rf"^x: refused, {section}\._target_={target} is neither"):
            check_targets(CONFIG | {section: {"_target_": target}}, "x")
    sys.modules.pop("own_leaves")


def test_weights_that_are_not_finite_are_refused(run, tmp_path):
    content = torch.load(run / files.CHECKPOINT, weights_only=True)
    key = next(iter(content["state_dict"]))
    content["state_dict"][key].view(-1)[3] = float("nan")
    torch.save(content, tmp_path / files.CHECKPOINT)
    with pytest.raises(DataError, match=rf"^{tmp_path / files.CHECKPOINT}: {key} holds values that are not finite"):
        load(tmp_path)


def test_a_model_larger_than_the_checkpoint_is_never_made(run, tmp_path):
    path = changed(run, tmp_path, "model", {"hidden": 10**9})  # 3 TB of weights
    with pytest.raises(DataError, match=rf"^{path}: weights do not fit the model of its config"):
        load(path)


def test_a_checkpoint_of_compressed_parts_is_not_unpacked(run, tmp_path):
    path = tmp_path / files.CHECKPOINT
    with zipfile.ZipFile(run / files.CHECKPOINT) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(DataError, match=rf"^{path}: not a whole checkpoint \(parts of it are compressed\)$"):
        load(tmp_path)


def test_the_commands_take_trust(run, tmp_path, evil, capsys):
    path = changed(run, tmp_path, "model", {"_target_": "evil.Thing"})
    with pytest.raises(SystemExit):
        cli.main(["predict", str(path), str(tmp_path)])
    assert capsys.readouterr().err.endswith("; --trust builds it all the same\n")
    with pytest.raises(SystemExit):
        cli.main(["predict", str(path), str(tmp_path), "--trust"])
    assert "is no torch.nn.Module" in capsys.readouterr().err


@pytest.mark.parametrize("depth", [400, 900, 20_000])
def test_values_within_values_without_end_are_refused_in_a_line(run, tmp_path, depth):
    """By every reader of a run's directory; no more than Python's own stack holds is walked."""
    text = (run / files.RUN).read_text()
    deep = '{"a":' * depth + "1" + "}" * depth
    (tmp_path / files.RUN).write_text(text.replace('"config": {', f'"config": {{"zzz": {deep},', 1))
    with pytest.raises((DataError, ConfigError)) as caught:
        run_single({"resume": str(tmp_path), "trust": False}, [f"resume={tmp_path}"])
    assert "\n" not in str(caught.value)
    assert status_of(tmp_path) == "broken"
    assert [found.status for found in runs_below(tmp_path)] == [status_of(tmp_path)]
    read_runs([tmp_path])
