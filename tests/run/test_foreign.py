"""A LightningModule and a LightningDataModule that know nothing of this project, run as its own are."""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import retable
from retable.cli import main as cli
from retable.config.compose import Composer
from retable.errors import ConfigError, DataError, RetableError
from retable.figures import saving
from retable.run import assemble, files, foreign, foreign_data
from retable.run.calibrate import calibrate
from retable.run.execute import execute
from retable.run.files import read_history
from retable.run.single import run_single
from tests.checking import check
from tests.runs import history

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


class Stopped(Exception):
    pass


def stop_after(epoch: int):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise Stopped

    return on_epoch


def test_history_and_result_hold_what_is_logged(project):
    result = execute(composed("seed=3"), project / "run")
    rows = history(project / "run")
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
    last = history(project / "run")[-1]
    assert {key: float(value) for key, value in trainer.callback_metrics.items() if key in last} == {
        key: last[key] for key in ("train_loss", "train_acc", "val_loss", "val_acc")
    }


@pytest.mark.parametrize("data", ["LeavesData", "OwnGenerator", "FolderData", "workers"])
def test_a_resumed_run_equals_an_undisturbed_one(project, data):
    overrides = ["data.workers=2"] if data == "workers" else [f"data._target_=stranger.{data}"]
    config = composed("module.lr=0.05", "trainer.max_epochs=5", *overrides)
    execute(config, project / "whole")
    for epoch in (1, 3):
        with pytest.raises(Stopped):
            execute(config, project / "parts", on_epoch=stop_after(epoch))
        files.remove([project / "parts" / files.RESULT])
    assert len(history(project / "parts")) == 3
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")
    assert len({row["lr"] for row in history(project / "whole")}) > 1  # the plateau was met
    assert retable.evaluate(retable.load(project / "parts"), split="val").metrics["val_acc"] > 0.5


@pytest.mark.parametrize("more", ["trainer.check_val_every_n_epoch=2", "trainer.precision=64-true"])
def test_what_differs_from_epoch_to_epoch_does_not_hinder_going_on(project, more):
    config = composed("module.lr=0.05", "trainer.max_epochs=4", more)
    execute(config, project / "whole")
    with pytest.raises(Stopped):
        execute(config, project / "parts", on_epoch=stop_after(1))
    files.remove([project / "parts" / files.RESULT])
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")


def test_a_module_that_keeps_numpys_arrays_is_resumed_and_loaded(project):
    config = composed("module._target_=stranger.Counting", "trainer.max_epochs=3")
    execute(config, project / "whole")
    with pytest.raises(Stopped):
        execute(config, project / "parts", on_epoch=stop_after(1))
    files.remove([project / "parts" / files.RESULT])
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")
    assert [row["seen"] for row in history(project / "whole")] == [6, 12, 18]
    assert retable.evaluate(retable.load(project / "parts"), split="val").metrics["val_acc"] > 0.3


def test_lightnings_load_from_checkpoint_has_the_runs_hyperparameters(project):
    """One that is an object is given again, as of any module that does not save it."""
    own = ["module._target_=stranger.Deep", "~module.lr", "~module.width", "+module.widths=[5,7]"]
    own += ["+module.rates={adam: 0.03}", "+module.dropout=0.7", "+module.activation._target_=torch.nn.Tanh"]
    execute(composed(*own, "trainer.max_epochs=1"), project / "run")
    from stranger import Deep

    module = Deep.load_from_checkpoint(project / "run/last.ckpt")
    assert dict(module.hparams) | {"activation": None} == {
        "lr": 0.03,
        "width": 8,
        "dropout": 0.7,
        "diverge": False,
        "widths": [5, 7],
        "rates": {"adam": 0.03},
        "activation": None,
    }
    assert [layer.out_features for layer in module.net] == [5, 7, 3]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("module._target_=stranger.Odd", "module._target_=stranger.Odd: its checkpoints hold pathlib.PosixPath"),
        ("+callbacks.odd._target_=stranger.OddCallback", "callbacks: a checkpoint holds pathlib.PosixPath"),
    ],
)
def test_what_no_checkpoint_can_be_read_with_is_refused_before_a_run_rests_on_it(project, more, message):
    config = composed(more)
    doing = assemble.check if more.startswith("module") else partial(execute, directory=project / "run")
    with pytest.raises(RetableError) as error:
        doing(config)
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1
    assert not (project / "run").exists() or len(history(project / "run")) == 1


@pytest.mark.parametrize("steps", [20, 24])  # within the third epoch, and at its end
def test_a_run_of_so_many_steps_is_resumed(project, steps):
    config = composed("module.lr=0.05", "trainer.max_epochs=5", f"trainer.max_steps={steps}")
    execute(config, project / "whole")
    with pytest.raises(Stopped):
        execute(config, project / "parts", on_epoch=stop_after(1))
    files.remove([project / "parts" / files.RESULT])
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")
    assert [row["step"] for row in history(project / "whole")] == [8, 16, steps]


def test_two_seeds_differ(project):
    for seed in (0, 1):
        execute(composed(f"seed={seed}", "trainer.max_epochs=1"), project / str(seed))
    assert history(project / "0") != history(project / "1")


def test_the_test_set_is_used_once(project):
    result = execute(composed("module._target_=stranger.Tested", "trainer.max_epochs=2"), project / "run")
    rows = history(project / "run")
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
    assert history(project / "run")[0]["lr"] == 0.1
    with pytest.raises(ConfigError, match=r"optimizer=sgd: LitNet has its own \(configure_optimizers\)"):
        check(composed("optimizer=sgd"))


def test_a_callbacks_direction_is_that_of_the_tasks_metric(project):
    asked = (
        "callbacks=early_stopping",
        "callbacks.early_stopping.monitor=val_acc",
        "callbacks.early_stopping.patience=1",
    )
    with pytest.raises(ConfigError, match=r"^callbacks.early_stopping.mode=auto: accepted: min, max"):
        check(composed(*asked))
    result = execute(composed(*asked, "+task.mode=max", "module.lr=0.0", "trainer.max_epochs=4"), project / "run")
    assert result["epochs"] == 2  # no better than the first


def test_a_scheduler_of_ours_that_counts_steps(project):
    words = ("module._target_=stranger.Bare", "optimizer=sgd", "optimizer.lr=0.1", "scheduler=one_cycle")
    execute(composed(*words, "trainer.max_epochs=2"), project / "run")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2 * 8, cycle_momentum=False)
    rates = []
    for _ in range(2 * 8):
        optimizer.step()
        torchs.step()
        rates.append(torchs.get_last_lr()[0])
    assert [row["lr"] for row in history(project / "run")] == pytest.approx(
        rates[7::8]
    )  # behind each epoch's last step


def test_a_plateau_of_ours_knows_which_values_of_the_metric_are_better(project):
    """torch's own takes less for better: each rise of an accuracy cut the learning rate to a tenth."""
    words = ("module._target_=stranger.Bare", "optimizer=adam", "optimizer.lr=0.01", "scheduler=plateau")
    words = (*words, "scheduler.patience=0")
    with pytest.raises(ConfigError, match=r"^task.mode: scheduler=plateau asks .* val_acc .*; accepted: max, min"):
        check(composed(*words))
    execute(composed(*words, "+task.mode=max", "trainer.max_epochs=6"), project / "run")
    rate, best, rates = 0.01, -1.0, []
    for row in history(project / "run"):
        gained = row["val_acc"] > best * (1 + 1e-4)  # torch's threshold
        rate, best = (rate, row["val_acc"]) if gained else (rate * 0.1, best)
        rates.append(rate)
    assert [row["lr"] for row in history(project / "run")] == pytest.approx(rates)
    assert rates[2] == 0.01  # the accuracy has risen


def test_a_resumed_plateau_goes_on_seeing_what_was_validated_before(project):
    """Lightning counts an epoch without validation by the metric of an earlier one, which a checkpoint has not."""
    config = composed("trainer.check_val_every_n_epoch=3", "module.lr=0.05", "trainer.max_epochs=5")
    execute(config, project / "whole")
    with pytest.raises(Stopped):
        execute(config, project / "parts", on_epoch=stop_after(4))
    files.remove([project / "parts" / files.RESULT])
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")
    assert [row["lr"] for row in history(project / "whole")] == pytest.approx([0.05] * 3 + [0.005, 0.0005])


def test_a_scheduler_that_a_callback_has_put_in_a_plateaus_place_has_the_rates(project):
    """The plateau went on cutting them, until the run was interrupted."""
    swa = "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.02,"
    swa += " swa_epoch_start: 2, annealing_epochs: 1}"
    config = composed(swa, "trainer.check_val_every_n_epoch=2", "module.lr=0.05", "trainer.max_epochs=6")
    execute(config, project / "whole")
    with pytest.raises(Stopped):
        execute(config, project / "parts", on_epoch=stop_after(3))
    files.remove([project / "parts" / files.RESULT])
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")
    assert [row["lr"] for row in history(project / "whole")][2:] == pytest.approx([0.02] * 4)


def test_what_the_module_writes_to_its_logger_is_in_tensorboards_events(project):
    """`self.logger` is there under logger=tensorboard, which is the default, as under Lightning's Trainer."""
    words = ["module._target_=stranger.Drawing", "logger=tensorboard", "trainer.log_every_n_steps=4"]
    execute(composed(*words, "trainer.max_epochs=2"), project / "run")
    found = EventAccumulator(str(project / "run/steps"), {"histograms": 0}).Reload()
    assert [event.step for event in found.Histograms("weights")] == [0, 1]
    assert [event.step for event in found.Scalars("mine")] == [8, 16]
    assert [event.step for event in found.Scalars("train_loss_step")] == [3, 7, 11, 15]
    assert calibrate(composed(*words, "trainer.precision=32"))["seconds"] > 0
    assert foreign.check(composed(*words))["parameters"] == 6 * 8 + 8 + 8 * 3 + 3
    assert retable.evaluate(retable.load(project / "run"), split="val").metrics["val_acc"] > 0.3


@pytest.mark.parametrize("monitor", ["train_loss_epoch", "seen"])
def test_a_callback_monitors_what_another_one_logs_too(project, monitor):
    more = ["+callbacks.odd._target_=stranger.Sees"] if monitor == "seen" else []
    chosen = ["callbacks=early_stopping", "callbacks.early_stopping.mode=max"]
    check(composed(*chosen, f"callbacks.early_stopping.monitor={monitor}", *more))


def test_parts_that_are_objects(project):
    config = composed("+module.activation={_target_: torch.nn.Tanh}", "trainer.max_epochs=1")
    assert type(foreign.make_module(config).net[1]).__name__ == "Tanh"
    execute(config, project / "run")
    assert execute(config, project / "run")["status"] == "finished"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+module.depth=3"], "module.depth: no such key; accepted: lr, width, dropout, activation, diverge"),
        (["+module.name=x"], "module.name: no such key; accepted: lr, width, dropout, activation, diverge"),
        (["+data.name=x"], "data.name: no such key; accepted: batch_size, workers"),
        (["+data.shuffle=true"], "data.shuffle: no such key; accepted: batch_size, workers"),
        (["task.metric=val_accuracy"], "task.metric=val_accuracy: is not logged; accepted: "),
        (["task.metric=val_loss"], "task.mode: val_loss does not say which of its values is the better; accepted: max"),
        (["task.mode=highest"], "task.mode=highest: accepted: "),
        (
            ["model=unet"],
            "model=unet: task=leaves is a LightningModule of its own, which takes none; accepted: ",
        ),
        (["+task.classes=3"], "task.classes: no such key; accepted: name, metric, mode"),
        (["loss=dice"], "loss=dice: nothing reads it with task=leaves"),
        (
            [
                "callbacks=early_stopping",
                "callbacks.early_stopping.mode=max",
                "callbacks.early_stopping.monitor=val_ac",
            ],
            "callbacks.early_stopping.monitor=val_ac: is not logged; accepted: train_loss, ",
        ),
        (["scheduler=cosine"], "scheduler=cosine: LitNet has its own (configure_optimizers); accepted: none"),
        (["trainer.cuda_graph=true"], "trainer.cuda_graph=true: accepted with a module of somebody's own: false"),
        (["trainer.compile=true"], "trainer.compile=true: task=leaves is a LightningModule of its own; accepted: "),
        (
            ["module._target_=stranger.LeavesData"],
            "module._target_=stranger.LeavesData: is no pytorch_lightning.",
        ),
        (["data._target_=stranger.LitNet"], "data._target_=stranger.LitNet: is no pytorch_lightning.LightningDataMod"),
        (
            ["~data._target_"],
            "data: task=leaves names none; accepted: a LightningDataModule, as data: {_target_: file.Class} (a mo",
        ),
        (
            ["~module._target_"],
            "module: task=leaves names none; accepted: a LightningModule, as module: {_target_: file.",
        ),
        (["module._target_=stranger.Nothing"], "module._target_=stranger.Nothing: cannot be imported"),
    ],
)
def test_refusals(project, overrides, message):
    with pytest.raises(ConfigError) as refused:
        check(composed(*overrides))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


PARTIAL = "{_target_: torch.optim.SGD, _partial_: true, lr: 0.1}"
SGDS = "params, lr, momentum, dampening, weight_decay, nesterov, "


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["+module.optimizer.epss=1"], f"module.optimizer.epss: no such key; accepted: {SGDS}"),
        (
            ["+module.more=[{_target_: torch.nn.ELU, _partial_: true, slope: 1}]"],
            "module.more.0.slope: no such key; accepted: alpha, inplace",
        ),
        (
            ["+module.more={act: {_target_: torch.nn.Softplus, slope: 1}}"],
            "module.more.act.slope: no such key; accepted: beta, threshold",
        ),
        (["module.optimizer._target_=torch.optim.SGDD"], "module.optimizer._target_=torch.optim.SGDD: cannot be impor"),
    ],
)
def test_an_argument_that_an_object_or_a_partial_of_the_module_does_not_take_is_refused(project, more, message):
    config = composed("module._target_=stranger.Template", f"+module.optimizer={PARTIAL}", *more)
    with pytest.raises(ConfigError) as refused:
        check(config)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_partial_of_a_module_of_ones_own_trains(project):
    config = composed("module._target_=stranger.Template", f"+module.optimizer={PARTIAL}", "trainer.max_epochs=1")
    check(config)
    assert execute(config, project / "run")["status"] == "finished"


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
    rows = history(project / "run")
    assert [e.value for e in events.Scalars("val_acc")] == pytest.approx([row["val_acc"] for row in rows])


def test_metrics_of_any_name_have_a_curve(project):
    """A run whose metrics were none of train's and val's failed at its end, when its picture was drawn."""
    config = composed("module._target_=stranger.Nameless", "task.metric=recon", "task.mode=min", "trainer.max_epochs=2")
    check(config)
    drawn = []
    with saving.elsewhere(lambda figure, path: drawn.append(figure)):
        assert execute(config, project / "run")["status"] == "finished"
    rows = history(project / "run")
    assert {axis.get_ylabel(): list(axis.lines[0].get_ydata()) for axis in drawn[0].axes} == {
        name.replace("_", " "): [row[name] for row in rows] for name in ("recon", "g_loss", "val_loss/of_the_first")
    }


# What is done with a trained one --------------------------------------------------------------------------------------


@pytest.fixture
def in_process(project, monkeypatch, capsys):
    """Runs `retable ...` here; gives its exit code, and what it said (where it failed, on standard error)."""
    monkeypatch.setenv("RETABLE_FULL_ERROR", "0")

    def run(*words: str) -> tuple[int, str]:
        try:
            cli(words)
        except SystemExit as end:
            out, err = capsys.readouterr()
            return int(end.code or 0), err if end.code else out
        return 0, capsys.readouterr().out

    return run


def values(shown: str) -> dict[str, float]:
    """Names and figures of lines that hold both."""
    pairs = [line.split() for line in shown.splitlines()]
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and pair[1][0].isdigit()}


def test_evaluate_gives_what_was_logged_in_training_of_the_last_and_the_best_epoch(project, in_process):
    words = ["module.lr=0.3", "trainer.max_epochs=6", "checkpoint=both"]  # soon the best, not to its end
    execute(composed(*words), project / "run")
    rows = history(project / "run")
    best = max(rows, key=lambda row: row["val_acc"])
    assert best is not rows[-1]
    for options, row in (([], rows[-1]), (["--checkpoint", "best"], best)):
        code, shown = in_process("evaluate", "run", "--split", "val", *options)
        assert (code, values(shown)) == (0, {key: round(row[key], 4) for key in ("val_loss", "val_acc")}), shown
    found = retable.evaluate(retable.load(project / "run"), split="val")
    assert (found.split, found.metrics) == ("val", {key: rows[-1][key] for key in ("val_loss", "val_acc")})
    assert retable.evaluate(retable.load(project / "run", which="best")).metrics["val_acc"] == best["val_acc"]


def test_slurms_variables_bring_in_no_other_jobs_weights(project, in_process, monkeypatch):
    """Lightning takes up `hpc_ckpt_1.ckpt` of its root folder wherever it sees them, whatever it is to do."""
    for name, lr in (("run", "0.3"), ("other", "0.0")):
        execute(composed(f"module.lr={lr}", "trainer.max_epochs=2"), project / name)
    wanted = history(project / "run")[-1]
    slurm = {"JOB_ID": "7", "JOB_NAME": "sweep", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for key, value in (slurm | {"NNODES": "1", "JOB_NODELIST": "node1", "NTASKS_PER_NODE": "1"}).items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    Path("hpc_ckpt_1.ckpt").write_bytes((project / "other" / files.CHECKPOINT).read_bytes())
    found = retable.evaluate(retable.load(project / "run"), split="val").metrics
    assert found["val_acc"] == pytest.approx(wanted["val_acc"])
    Path("hpc_ckpt_1.ckpt").write_text("no checkpoint")
    assert calibrate(composed("trainer.precision=32"))["seconds_per_step"] > 0
    monkeypatch.setattr(foreign, "_TRIED", {})
    assert check(composed("seed=5"))["parameters"] > 0


def test_evaluate_on_other_arguments_of_the_data_and_on_the_test_set(project, in_process):
    execute(composed("module._target_=stranger.Tested", "trainer.max_epochs=1"), project / "run")
    code, shown = in_process("evaluate", "run")  # the test set, where both have one
    assert (code, list(values(shown))) == (0, ["test_loss"])
    assert "run on stranger.LeavesData · test" in shown
    last = history(project / "run")[-1]
    assert values(in_process("evaluate", "run", "--split", "val")[1])["val_loss"] == round(last["val_loss"], 4)
    assert values(shown)["test_loss"] == round(last["test_loss"], 4)
    code, shown = in_process("evaluate", "run", "--set", "batch_size=3")
    assert (code, list(values(shown))) == (0, ["test_loss"])


def test_predict_writes_what_predict_step_gives(project, in_process):
    data = "data._target_=stranger.Predicted"
    execute(composed("trainer.max_epochs=1", data), project / "run")
    code, shown = in_process("predict", "run")
    assert (code, shown.splitlines()) == (0, ["predictions  float32 (300, 3)", "predictions.npz"])
    found = np.load(project / "predictions.npz")["predictions"]
    trained = retable.load(project / "run")
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        assert np.allclose(found, trained.module(x).numpy(), atol=1e-6)
    assert np.array_equal(retable.predict(trained)["predictions"], found)
    execute(composed("trainer.max_epochs=1", data, "module._target_=stranger.Named"), project / "named")
    assert in_process("predict", "named", "--output", "named.npz", "--quiet") == (0, "named.npz\n")
    named = np.load(project / "named.npz")
    assert {key: (values.dtype.name, values.shape) for key, values in named.items()} == {
        "label": ("int64", (300,)),
        "margin": ("float32", (5,)),  # one value a batch of 64
    }
    execute(composed("trainer.max_epochs=1", data, "trainer.limit_predict_batches=2"), project / "part")
    assert np.array_equal(retable.predict(retable.load(project / "part"))["predictions"], found[:128])


@pytest.mark.parametrize(
    ("data", "module", "message"),
    [
        (
            "ByPosition",
            "LitNet",
            "run: Lightning's predict takes a DataLoader whose batch_size is given by name, as batch_s",
        ),
        (
            "Predicted",
            "Noted",
            "run: its predict_step gives dict (logits: Tensor, note: str); accepted: a tensor, or seve",
        ),
    ],
)
def test_what_predict_cannot_take_is_said_in_a_line(project, in_process, data, module, message):
    classes = [f"data._target_=stranger.{data}", f"module._target_=stranger.{module}"]
    execute(composed("trainer.max_epochs=1", *classes), project / "run")
    code, shown = in_process("predict", "run")
    assert (code, shown.startswith(message), len(shown.splitlines())) == (2, True, 1), shown


def test_a_single_run_says_what_came_out_on_the_test_set(project, capsys):
    words = ["task=leaves", "module._target_=stranger.Tested", "trainer.max_epochs=1", "logger=none"]
    run_single(Composer().compose(words).config, words, project / "run")
    tested = history(project / "run")[-1]["test_loss"]
    assert f"\non the test set, once: test_loss {tested:.4f}\n" in capsys.readouterr().out


def test_compare_puts_what_both_log_side_by_side(project, in_process):
    for name, rate in (("slow", 0.0001), ("fast", 0.1)):
        execute(composed(f"module.lr={rate}", "trainer.max_epochs=2"), project / name)
    code, shown = in_process("compare", "slow", "fast")
    assert code == 0
    rows = {line.split()[0]: [float(v) for v in line.split()[1:]] for line in shown.splitlines()[1:]}
    last = {name: history(project / name)[-1] for name in ("slow", "fast")}
    for key in ("val_loss", "val_acc"):
        first, second, change = rows[key]
        assert (first, second) == tuple(round(last[name][key], 4) for name in ("slow", "fast"))
        assert change == pytest.approx(second - first, abs=1.5e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate run somewhere", "somewhere: run brings its own DataModule; --set KEY=VALUE for its arguments"),
        ("evaluate run --split test", "--split test: accepted for run: val"),
        ("evaluate run --split train", "--split train: accepted for run: val"),
        ("evaluate run --csv a.csv", "--csv: what run logs is no table by image; accepted: no --csv"),
        ("evaluate run --set size=3", "data.size: no such key; accepted: batch_size, workers"),
        (
            "evaluate run --checkpoint best",
            "run/best.ckpt: no such checkpoint (runs with checkpoint=both keep it); acc",
        ),
        ("predict run", "run: its LeavesData has no predict_dataloader"),
        ("predict run leaf.png", "leaf.png: not accepted for run, whose DataModule says what is predicted"),
        ("predict run --score 0.5", "--score: not accepted for run, whose DataModule says what is predicted"),
        ("compare run run --images 2", "--images: not accepted for run, a LightningModule of one's own"),
    ],
)
def test_what_cannot_be_done_with_one_is_refused_in_a_line(trained_once, in_process, words, message):
    code, shown = in_process(*words.split())
    assert (code, shown.splitlines()[0].startswith(message), len(shown.splitlines())) == (2, True, 1), shown


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return tmp_path_factory.mktemp("once")


@pytest.fixture
def trained_once(project, once):
    """A run in the folder `run`, trained for the first test that asks for it."""
    if not (once / "run").exists():
        execute(composed("trainer.max_epochs=1"), once / "run")
    shutil.copytree(once / "run", project / "run")


def test_a_checkpoint_that_names_somebody_elses_class_is_refused(trained_once, project, in_process):
    path = project / "run" / files.CHECKPOINT
    content = torch.load(path, weights_only=True)
    content["retable"]["config"]["module"]["_target_"] = "subprocess.Popen"
    torch.save(content, path)
    code, shown = in_process("evaluate", str(path))
    assert code == 2
    assert "refused, module._target_=subprocess.Popen is neither this project's nor" in shown


# What is known of the data --------------------------------------------------------------------------------------------


def test_a_fingerprint_of_what_is_trained_on_and_what_it_covers(project):
    known = {}
    for name, words in {
        "plain": [],
        "small": ["data.batch_size=16", "module.lr=0.1"],  # the same data in other batches
        "subclass": ["data._target_=stranger.Ordered"],  # the same items, another class
        "shifted": ["data._target_=stranger.Shifted"],
    }.items():
        data = execute(composed("trainer.max_epochs=1", *words), project / name)["data"]
        known[name] = data["fingerprint"]
        assert len(known[name]) == 64
        assert json.loads((project / name / files.RUN).read_text())["fingerprint"] == known[name]
        assert data["covers"].startswith("the number of items and the first item of training and validation; the sourc")
    assert data["covers"].endswith("the source of Shifted, LeavesData; nothing else")
    assert known["plain"] == known["small"]
    assert known["subclass"] != known["plain"]
    assert foreign_data.same_items(known["subclass"], known["plain"])
    assert not foreign_data.same_items(known["shifted"], known["plain"])


def test_a_run_does_not_go_on_with_other_data(project):
    config = composed("trainer.max_epochs=2")
    with pytest.raises(Stopped):
        execute(config, project / "run", on_epoch=stop_after(1))
    files.remove([project / "run" / files.RESULT])
    other = config | {"data": config["data"] | {"_target_": "stranger.Shifted"}}
    with pytest.raises(RetableError, match="was begun with other data; remove the directory to train it anew"):
        execute(other, project / "run")


def test_of_a_set_that_is_iterated_over_nothing_is_known_but_its_source(project):
    data = execute(composed("data._target_=stranger.Streamed", "trainer.max_epochs=1"), project / "run")["data"]
    assert data["covers"] == "the number of items and the first item of validation; " + (
        "the source of Streamed, LeavesData; nothing else"
    )


# The package `lightning` --------------------------------------------------------------------------------------------


@pytest.fixture
def other_package(project, monkeypatch):
    """The same module and data as somebody writes them for `lightning`; without that package, on its first lines."""
    try:
        import lightning  # noqa: F401
    except ImportError:
        (project / "lightning").mkdir()
        lines = "from lightning.pytorch import Callback, LightningDataModule, LightningModule\n"
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
    assert history(project / "own") == history(project / "other")
    import fellow

    assert issubclass(fellow.LitNet, pl.LightningModule)
    assert fellow.Callback is pl.Callback
    assert pl.__spec__.name == "pytorch_lightning"


def test_one_that_was_imported_before_is_refused_in_a_line(project, monkeypatch):
    theirs = type("LightningModule", (), {"__module__": "lightning.pytorch.core.module"})
    monkeypatch.setitem(sys.modules, "early", SimpleNamespace(Net=type("Net", (theirs,), {})))
    message = r"early\.Net: is no pytorch_lightning\.LightningModule; `lightning` was imported before retable"
    with pytest.raises(ConfigError, match=message):
        check(composed("module._target_=early.Net"))


# The whole way, from the command line ---------------------------------------------------------------------------------


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
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
    done = command(project, *SWEEP, "sweep.dir=undisturbed")
    assert done.returncode == 0, done.stdout + done.stderr
    kill_in_the_second_epoch(project)
    again = command(project, *SWEEP)
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
        assert history(path) == history(project / "undisturbed/leaves" / path.name)

    # What is done with finished runs.
    for words, message in [
        (("status", "multirun"), "8 finished"),
        (("report", "multirun"), "leaves/rates"),
        (("export", "multirun", "results"), "8 runs in results"),
        (("report", "results"), "leaves/rates"),
        (("verify", "results", "--experiment", "leaves/rates", "--cell", "fast 32"), "the same, bit for bit"),
    ]:
        found = command(project, *words)
        assert found.returncode == 0, found.stdout + found.stderr
        assert message in found.stdout
