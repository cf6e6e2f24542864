"""A LightningModule and a LightningDataModule that know nothing of this project, run as its own are."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

from retable.config.compose import Composer
from retable.errors import ConfigError, DataError
from retable.run import files, foreign
from retable.run.assemble import check
from retable.run.calibrate import calibrate
from retable.run.execute import execute
from retable.run.files import read_history
from retable.run.single import run_single

HERE = Path(__file__).parent
TASK = """# @package _global_
defaults: [/lightning, _self_]
task: {name: leaves, metric: val_acc}
module: {_target_: stranger.LitNet, lr: 0.01, width: 8}
data: {_target_: stranger.LeavesData, batch_size: 32, workers: 0}
trainer: {max_epochs: 4}
"""
EXPERIMENT = """# @package _global_
defaults:
  - override /task: leaves
table:
  source: my paper, table 1
  title: Learning rate and batch size
  published_epochs: 4
  grid:
    - {module.lr: [0.1, 0.001], data.batch_size: [16, 32]}
  rows: [module.lr]
  columns: [data.batch_size]
  metrics: {val: {column: val_acc, scale: 100}}
  cells:
    fast 16: {match: {module.lr: 0.1, data.batch_size: 16}, published: {val: 90}}
    fast 32: {match: {module.lr: 0.1, data.batch_size: 32}, published: {val: 90}}
    slow 16: {match: {module.lr: 0.001, data.batch_size: 16}, published: {val: 40}}
    slow 32: {match: {module.lr: 0.001, data.batch_size: 32}, published: {val: 35}}
  claims:
    - {text: the high rate is better, kind: greater, metric: val, left: fast 32, right: slow 32}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"conf/task/leaves.yaml": TASK, "conf/experiment/leaves/rates.yaml": EXPERIMENT}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "stranger.py").write_text((HERE / "stranger.py").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    foreign._TRIED.clear()
    return tmp_path


def composed(*overrides: str) -> dict:
    config = Composer().compose(["task=leaves", "logger=none", "trainer.device=cpu", *overrides]).config
    return {key: value for key, value in config.items() if key not in ("sweep", "table")}


def figures(directory: Path) -> list[dict[str, float]]:
    """The history without what differs from time to time."""
    rows = read_history(directory / files.HISTORY)
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


class Stopped(Exception):
    pass


def stop_after(epoch: int):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise Stopped

    return on_epoch


def test_history_and_result_hold_what_is_logged(project):
    result = execute(composed("seed=3"), project / "run")
    rows = figures(project / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [8, 16, 24, 32]  # 240 images in batches of 32
    assert set(rows[0]) == {"epoch", "step", "train_loss", "train_acc", "val_loss", "val_acc", "lr"}
    assert (result["status"], result["metrics"]["best_by"]) == ("finished", "val_acc")
    assert result["metrics"]["higher_is_better"] is True  # as torchmetrics.Accuracy declares
    assert result["metrics"]["best"]["val_acc"] == max(row["val_acc"] for row in rows)
    assert result["metrics"]["final"] == {key: rows[-1][key] for key in rows[-1] if key not in ("step", "lr")}
    assert result["parameters"] == 6 * 8 + 8 + 8 * 3 + 3
    assert (project / "run/figures/curves.png").exists()


def test_it_is_what_lightning_itself_trains(project):
    """The same module under a bare Trainer: as many steps, and on ordered data the same figures."""
    execute(composed("data._target_=stranger.Ordered", "+module.dropout=0.0"), project / "run")
    from stranger import LitNet, Ordered

    pl.seed_everything(0, verbose=False)
    module, data = LitNet(lr=0.01, width=8, dropout=0.0), Ordered(batch_size=32)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(max_epochs=4, accelerator="cpu", enable_model_summary=False, **quiet)
    pl.seed_everything(0, verbose=False)  # the split is drawn in `setup`
    trainer.fit(module, datamodule=data)
    last = figures(project / "run")[-1]
    assert {key: float(value) for key, value in trainer.callback_metrics.items() if key in last} == {
        key: last[key] for key in ("train_loss", "train_acc", "val_loss", "val_acc")
    }


@pytest.mark.parametrize("data", ["LeavesData", "OwnGenerator", "workers"])
def test_a_resumed_run_equals_an_undisturbed_one(project, data):
    overrides = ["data.workers=2"] if data == "workers" else [f"data._target_=stranger.{data}"]
    config = composed("module.lr=0.05", "trainer.max_epochs=5", *overrides)
    execute(config, project / "whole")
    for epoch in (1, 3):
        with pytest.raises(Stopped):
            execute(config, project / "parts", on_epoch=stop_after(epoch))
        files.remove([project / "parts" / files.RESULT])
    assert len(figures(project / "parts")) == 3
    execute(config, project / "parts")
    assert figures(project / "parts") == figures(project / "whole")
    assert len({row["lr"] for row in figures(project / "whole")}) > 1  # the plateau was met


def test_two_seeds_differ(project):
    for seed in (0, 1):
        execute(composed(f"seed={seed}", "trainer.max_epochs=1"), project / str(seed))
    assert figures(project / "0") != figures(project / "1")


def test_the_test_set_is_used_once(project):
    result = execute(composed("module._target_=stranger.Tested", "trainer.max_epochs=2"), project / "run")
    rows = figures(project / "run")
    assert "test_loss" not in rows[0]
    assert result["metrics"]["final"]["test_loss"] == rows[-1]["test_loss"] == pytest.approx(rows[-1]["val_loss"])


def test_a_loss_that_is_not_finite_is_a_result(project):
    result = execute(composed("+module.diverge=true"), project / "run")
    assert result["status"] == "diverged"
    assert result["diverged"] == {"epoch": 1, "step": 6}


def test_an_optimizer_of_ours_for_a_module_without_one(project):
    bare = "module._target_=stranger.Bare"
    with pytest.raises(ConfigError, match=r"stranger\.Bare: has no configure_optimizers; accepted: a module that has"):
        check(composed(bare))
    result = execute(composed(bare, "optimizer=sgd", "optimizer.lr=0.1", "trainer.max_epochs=1"), project / "run")
    assert result["status"] == "finished"
    assert figures(project / "run")[0]["lr"] == 0.1
    with pytest.raises(ConfigError, match=r"optimizer=sgd: LitNet has its own \(configure_optimizers\)"):
        check(composed("optimizer=sgd"))


def test_parts_that_are_objects(project):
    config = composed("+module.activation={_target_: torch.nn.Tanh}", "trainer.max_epochs=1")
    assert type(foreign.make_module(config).net[1]).__name__ == "Tanh"
    execute(config, project / "run")
    assert execute(config, project / "run")["status"] == "finished"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+module.depth=3"], "module.depth: no such key; accepted: lr, width, dropout, activation, diverge"),
        (["+data.shuffle=true"], "data.shuffle: no such key; accepted: batch_size, workers"),
        (["task.metric=val_accuracy"], "task.metric=val_accuracy: is not logged; accepted: "),
        (["task.metric=val_loss"], "task.mode: val_loss does not say which of its values is the better; accepted: max"),
        (["+task.mode=highest"], "task.mode=highest: accepted: "),
        (
            ["model=unet"],
            "model=unet: task=leaves is a LightningModule of its own, which takes none; accepted: ",
        ),
        (["+task.classes=3"], "task.classes: no such key; accepted: name, metric, mode"),
        (["trainer.cuda_graph=true"], "trainer.cuda_graph=true: accepted with a module of somebody's own: false"),
        (
            ["module._target_=stranger.LeavesData"],
            "module._target_=stranger.LeavesData: is no pytorch_lightning.",
        ),
        (["data._target_=stranger.LitNet"], "data._target_=stranger.LitNet: is no pytorch_lightning.LightningDataMod"),
        (["module._target_=stranger.Nothing"], "module._target_=stranger.Nothing: cannot be imported"),
    ],
)
def test_refusals(project, overrides, said):
    with pytest.raises(ConfigError) as refused:
        check(composed(*overrides))
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_named_metric_that_is_not_logged_lists_what_is(project):
    with pytest.raises(ConfigError, match=r"accepted: train_loss, val_loss, val_acc, train_acc$"):
        check(composed("task.metric=accuracy"))


def test_a_run_directory_of_somebody_elses_module_is_refused(project):
    execute(composed("trainer.max_epochs=1"), project / "run")
    described = json.loads((project / "run" / files.RUN).read_text())
    described["config"]["module"]["_target_"] = "subprocess.Popen"
    (project / "run" / files.RUN).write_text(json.dumps({"overrides": [], "task": "leaves"} | described))
    (project / "run" / files.RESULT).unlink()
    with pytest.raises(DataError, match=r"refused, module\._target_=subprocess\.Popen is neither this project's nor"):
        run_single(Composer().compose(["task=leaves", f"resume={project / 'run'}"]).config, [f"resume={project}/run"])


def test_its_time_and_memory_are_estimated(project):
    found = calibrate(composed("trainer.precision=32"))
    assert 0 < found["seconds"] < 60
    # 4 epochs of 8 steps, and of one batch of validation.
    assert found["seconds"] > 4 * 8 * found["seconds_per_step"]
    assert found["host_mb"] > 50


def test_events_and_curves_are_written(project):
    execute(composed("logger=tensorboard", "trainer.max_epochs=2"), project / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(project / "run/train")).Reload()
    rows = figures(project / "run")
    assert [e.value for e in events.Scalars("val_acc")] == pytest.approx([row["val_acc"] for row in rows])


def test_predict_and_evaluate_refuse_in_a_line(project):
    execute(composed("trainer.max_epochs=1"), project / "run")
    from retable.run.restore import load

    with pytest.raises(DataError, match=r"last\.ckpt: of stranger\.LitNet, which this command knows nothing of"):
        load(project / "run")


# The package `lightning` --------------------------------------------------------------------------------------------


@pytest.fixture
def other_package(project, monkeypatch):
    """The same module and data as somebody writes them for `lightning`; without that package, on its first lines."""
    try:
        import lightning  # noqa: F401
    except ImportError:
        (project / "lightning").mkdir()
        lines = "from lightning.pytorch import LightningDataModule, LightningModule\n"
        (project / "lightning/__init__.py").write_text(lines + "from lightning.fabric import Fabric\n")
        monkeypatch.syspath_prepend(str(project))
    text = (HERE / "stranger.py").read_text().replace("import pytorch_lightning as pl", "import lightning as L")
    text = text.replace("pl.", "L.").replace(
        "class LitNet", "from lightning.pytorch.callbacks import Callback\n\n\nclass LitNet"
    )
    (project / "fellow.py").write_text(text)
    monkeypatch.syspath_prepend(str(project))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("lightning", "fellow")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_module_of_the_package_lightning_is_the_same_run(project, other_package):
    own = composed("trainer.max_epochs=2")
    other = composed("trainer.max_epochs=2", "module._target_=fellow.LitNet", "data._target_=fellow.LeavesData")
    check(other)
    execute(own, project / "own")
    execute(other, project / "other")
    assert figures(project / "own") == figures(project / "other")
    import fellow

    assert issubclass(fellow.LitNet, pl.LightningModule)
    assert fellow.Callback is pl.Callback
    assert pl.__spec__.name == "pytorch_lightning"


def test_one_that_was_imported_before_is_refused_in_a_line(project, monkeypatch):
    theirs = type("LightningModule", (), {"__module__": "lightning.pytorch.core.module"})
    monkeypatch.setitem(sys.modules, "early", SimpleNamespace(Net=type("Net", (theirs,), {})))
    said = r"early\.Net: is no pytorch_lightning\.LightningModule; `lightning` was imported before retable"
    with pytest.raises(ConfigError, match=said):
        check(composed("module._target_=early.Net"))


# The whole way, from the command line ---------------------------------------------------------------------------------


def retable(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "retable.cli", *words]
    env = os.environ | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=env)


def kill_in_the_second_epoch(project: Path) -> None:
    """Start the sweep and end it by SIGKILL while its first run has one epoch behind it."""
    trap = project / "trap"
    trap.touch()
    command = [sys.executable, "-m", "retable.cli", *SWEEP]
    env = os.environ | {"WAIT_WHILE_THERE_IS": str(trap)}
    sweep = subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (left := list((project / "multirun/leaves").glob("*/last.ckpt"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    sweep.kill()
    sweep.wait()
    assert len(left) == 1
    time.sleep(1)  # its worker notices
    trap.unlink()
    assert len(read_history(left[0].parent / files.HISTORY)) == 1


SWEEP = ("sweep", "experiment=leaves/rates", "seeds=2", "logger=none", "sweep.workers=1", "trainer.device=cpu")


@pytest.mark.slow
def test_a_sweep_that_was_killed_gives_the_table_of_an_undisturbed_one(project):
    done = retable(project, *SWEEP, "sweep.dir=undisturbed")
    assert done.returncode == 0, done.stdout + done.stderr
    kill_in_the_second_epoch(project)
    again = retable(project, *SWEEP)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of them from a checkpoint" in again.stdout
    tables = [
        (project / folder / "tables/leaves/rates/report.md").read_text() for folder in ("undisturbed", "multirun")
    ]
    assert tables[0].replace("undisturbed", "multirun") == tables[1]
    assert "the high rate is better" in tables[0]
    runs = sorted(path.parent for path in (project / "multirun/leaves").glob(f"*/{files.RESULT}"))
    sizes = ("__data.batch_size-16", "")  # 32 is the task's own
    names = (f"module.lr-{lr}{size}__seed-{seed}" for lr in (0.1, 0.001) for size in sizes for seed in (0, 1))
    assert [path.name for path in runs] == sorted(names)
    for path in runs:
        assert figures(path) == figures(project / "undisturbed/leaves" / path.name)

    # What is done with finished runs.
    for words, said in [
        (("status", "multirun"), "8 finished"),
        (("report", "multirun"), "leaves/rates"),
        (("export", "multirun", "results"), "8 runs in results"),
        (("report", "results"), "leaves/rates"),
        (("verify", "results", "--experiment", "leaves/rates", "--cell", "fast 32"), "the same, bit for bit"),
    ]:
        found = retable(project, *words)
        assert found.returncode == 0, found.stdout + found.stderr
        assert said in found.stdout
