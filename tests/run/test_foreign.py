"""A LightningModule and a LightningDataModule that know nothing of this project, run as its own are."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import retable
from retable.config.compose import Composer
from retable.errors import ConfigError, RetableError
from retable.figures import saving
from retable.run import assemble, files, foreign
from retable.run.calibrate import calibrate
from retable.run.execute import execute
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
    asked = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "module.lr=0.0")
    plain = composed(*asked, "callbacks.early_stopping.monitor=val_loss")
    with pytest.raises(ConfigError, match=r"^callbacks.early_stopping.mode=auto: accepted: min, max"):
        check(plain)
    plain["task"] |= {"metric": "val_loss", "mode": "min"}
    check(plain)
    assert execute(plain, project / "run")["epochs"] == 2  # no better than the first


def test_a_callbacks_direction_is_that_which_a_torchmetrics_metric_declares(project):
    asked = ("callbacks=early_stopping", "callbacks.early_stopping.monitor=val_acc")
    (callback,) = assemble.make_callbacks(composed(*asked), None, project)
    assert callback.mode == "max"


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
