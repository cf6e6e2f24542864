"""The callbacks group: what each does in a run, what makes a run another one, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from retable.config.compose import Composer
from retable.config.identity import identity, run_name, same_run
from retable.config.targets import check_targets
from retable.config.validate import validate
from retable.errors import ConfigError, DataError
from retable.run import files
from retable.run.assemble import make_data, make_task
from retable.run.execute import execute
from retable.run.restore import load
from tests.checking import refusal
from tests.runs import history, interrupted_after

TINY = ("task=mnist", "data.fraction=0.2", "model.width=4", "model.batch_norm=true", "trainer.device=cpu")
pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def choose():
    composer = Composer()
    return lambda *overrides: composer.compose(["task=cifar", *overrides])


def checkpoint(directory: Path) -> dict[str, Any]:
    return torch.load(directory / files.CHECKPOINT, weights_only=True)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-7)


def plain(config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.LightningModule:
    """The module after training under Lightning's own Trainer, with callbacks."""
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    task = make_task(config, data)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=config["trainer"]["max_epochs"],
        callbacks=callbacks,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **quiet,
    )
    trainer.fit(task, datamodule=data)
    return task


class Weights(pl.Callback):
    """Keeps the weights after each epoch."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.kept.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def test_ema_is_lightnings_and_is_what_a_run_keeps_and_validates(compose, tmp_path):
    config = compose(*TINY, "trainer.max_epochs=2", "callbacks=ema", "callbacks.ema.decay=0.9")
    result = execute(config, tmp_path / "run")
    assert result["stepping"] == {"in_chunks": False, "because": "callback EMA"}
    expected = plain(config, [EMAWeightAveraging(decay=0.9)]).state_dict()
    kept = checkpoint(tmp_path / "run")
    assert_equal(kept["state_dict"], expected)
    assert not torch.equal(
        kept["current_model_state"]["model.head.1.weight"], kept["state_dict"]["model.head.1.weight"]
    )
    trained, data = load(tmp_path / "run"), make_data(config)
    data.setup("fit")
    right = trained.probabilities(data.val_images).argmax(1) == data.val_targets
    assert float(right.float().mean()) == pytest.approx(result["metrics"]["final"]["val/accuracy"])


def test_an_average_that_has_not_begun_leaves_validation_alone(compose, tmp_path):
    """Until then Lightning's callback validates a copy of the untrained weights."""
    config = compose(*TINY, "trainer.max_epochs=2")
    execute(config, tmp_path / "without")
    execute(config | {"callbacks": {"ema": {"_target_": "retable.training.EMA", "from_step": 20}}}, tmp_path / "with")
    (first, second), (plain_first, plain_second) = (
        files.read_history(tmp_path / name / files.HISTORY) for name in ("with", "without")
    )
    assert first["val/loss"] == plain_first["val/loss"]
    assert second["val/loss"] != plain_second["val/loss"]
    assert second["train/loss"] == plain_second["train/loss"]


def test_swa_is_the_mean_of_the_last_epochs_weights(compose, tmp_path):
    config = compose(*TINY, "trainer.max_epochs=4", "callbacks=swa", "callbacks.swa.start=0.5")
    execute(config, tmp_path / "run")
    plain(config, [weights := Weights()])
    kept = checkpoint(tmp_path / "run")["state_dict"]
    for name, value in kept.items():
        if value.is_floating_point():
            mean = torch.stack([epoch[name] for epoch in weights.kept[1:]]).mean(0)  # after epochs 2, 3 and 4
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("callback", ["ema", "swa"])
def test_averages_resume(compose, tmp_path, callback):
    config = compose(*TINY, "trainer.max_epochs=4", f"callbacks={callback}", "scheduler=cosine")
    whole = execute(config, tmp_path / "whole")
    assert execute(config, tmp_path / "parts", **interrupted_after(2))["status"] == "interrupted"
    parts = execute(config, tmp_path / "parts")
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    for key in ("state_dict", "current_model_state"):
        for name, value in one[key].items():
            assert torch.equal(value, other[key][name])
    assert parts["metrics"]["final"] == pytest.approx(whole["metrics"]["final"])
    (tmp_path / "parts" / files.RESULT).unlink()  # killed before it wrote its result: nothing is left to train
    last = execute(config, tmp_path / "parts")
    assert last["confusion"]["val"] == whole["confusion"]["val"]


def test_early_stopping_follows_the_metrics_own_direction_and_stays_stopped(compose, tmp_path):
    stop = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1")
    config = compose(*TINY, "trainer.max_epochs=30", "optimizer.lr=0.5", *stop)
    result = execute(config, tmp_path / "run")
    assert result["stepping"]["in_chunks"]
    accuracies = [row["val/accuracy"] for row in files.read_history(tmp_path / "run" / files.HISTORY)]
    first = next(n for n in range(1, len(accuracies)) if accuracies[n] <= max(accuracies[:n]))
    assert len(accuracies) == result["epochs"] == first + 1 < 30
    (tmp_path / "run" / files.RESULT).unlink()
    assert execute(config, tmp_path / "run")["epochs"] == result["epochs"]


def test_a_run_that_is_stopped_before_its_first_step_since_it_was_resumed(compose, tmp_path):
    """It had no learning rate to note, and failed, which the undisturbed run does not."""
    words = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "trainer.accumulate_grad_batches=2")
    words = (*words, "trainer.overfit_batches=2", "trainer.val_check_interval=0.5", "optimizer.lr=0.0")
    words = (*words, "model.batch_norm=false")
    config = compose(*TINY, "trainer.max_epochs=4", *words)
    whole = execute(config, tmp_path / "whole")
    assert (whole["epochs"], whole["step"]) == (2, 1)  # after the first batch of the second epoch
    execute(config, tmp_path / "parts", **interrupted_after(1))
    execute(config, tmp_path / "parts")
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_the_best_checkpoints_are_kept(compose, tmp_path):
    keep = ("callbacks=model_checkpoint", "callbacks.model_checkpoint.save_top_k=2")
    config = compose(*TINY, "trainer.max_epochs=4", *keep)
    result = execute(config, tmp_path / "run")
    assert result["stepping"]["in_chunks"]
    rows = files.read_history(tmp_path / "run" / files.HISTORY)
    best = sorted(rows, key=lambda row: (-row["val/accuracy"], row["epoch"]))[:2]
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == sorted(f"epoch-{int(row['epoch']) - 1:03d}.ckpt" for row in best)
    assert load(tmp_path / "run" / "checkpoints" / kept[0]).name == "run"


@pytest.mark.parametrize(("option", "name"), [("timer", "Timer"), ("rich_progress", "RichProgressBar")])
def test_what_looks_at_each_step_gets_each_step(compose, tmp_path, option, name):
    config = compose(*TINY, "trainer.max_epochs=1", f"callbacks={option}")
    result = execute(config, tmp_path / "run")
    assert result["stepping"] == {"in_chunks": False, "because": f"callback {name}"}


def test_a_callback_of_ones_own(compose, tmp_path):
    target = f"{Weights.__module__}.Weights"
    config = compose(*TINY, "trainer.max_epochs=1", f"+callbacks.mine._target_={target}")
    result = execute(config, tmp_path / "run")
    assert result["status"] == "finished"
    run = json.loads((tmp_path / "run" / files.RUN).read_text())
    assert run["identity"]["callbacks.mine._target_"] == target


def test_lists_compose_as_hydras(choose):
    config = choose("callbacks=[ema,timer]").config
    assert list(config["callbacks"]) == ["ema", "timer"]
    assert choose("callbacks=none").config["callbacks"] == choose().config["callbacks"] == {}


def test_what_only_shows_makes_no_other_run(choose):
    default = choose()
    for overrides in (["callbacks=timer"], ["callbacks=[rich_progress,model_checkpoint]"]):
        shown = choose(*overrides)
        assert identity(shown.config) == identity(default.config)
        assert run_name(shown) == run_name(default) == "default__seed-0"
    for overrides in (
        ["callbacks=ema"],
        ["callbacks=[timer,swa]"],
        ["callbacks=timer", "callbacks.timer.duration=1"],
    ):
        other = choose(*overrides)
        assert not same_run(identity(default.config), identity(other.config), other.defaults)
        assert not same_run(identity(other.config), identity(default.config), default.defaults)
    assert run_name(choose("callbacks=[timer,swa]")) == "callbacks-swa__seed-0"
    assert same_run(identity(other.config), identity(other.config), other.defaults)


REFUSED = {
    "callbacks=early_stopping callbacks.early_stopping.monitor=val/acuracy": (
        "callbacks.early_stopping.monitor=val/acuracy: accepted: val/loss, val/accuracy, train/loss, train/accuracy"
    ),
    "callbacks=ema callbacks.ema.decay=1": "callbacks.ema.decay=1: accepted: a number in [0, 1)",
    "callbacks=ema trainer.precision=bf16-true trainer.device=cpu": (
        "callbacks.ema: accepted with trainer.precision=bf16-true: none, as a mean of bf16-true weights loses small"
        " steps; bf16-mixed keeps weights in float32"
    ),
    "callbacks=swa +callbacks.swa.lr=1": "callbacks.swa.lr: no such key; accepted: start",
    "callbacks=early_stopping callbacks.early_stopping.mode=up": (
        "callbacks.early_stopping: `mode` can be min, max, got up"
    ),
    "+callbacks.mine.a=1": "callbacks.mine: accepted: a mapping with the callback's class in _target_",
    "+callbacks.mine._target_=torch.nn.ReLU": (
        "callbacks.mine._target_=torch.nn.ReLU: accepted: a class derived from Lightning's Callback"
    ),
    "+scheduler.gamma=0.5": "scheduler.gamma: nothing reads it with scheduler=none",
    "+early_stop.patience=2": "early_stop.patience: nothing reads it with early_stop=none",
    "+sweep.worker=2": (
        "sweep.worker: no such key; accepted: workers, fuse, mps, dir, timeout, stalled, budget, on_end,"
        " same_reason_limit, threads, retry_failed, retrain_changed, preview, wait, cancel_removed, runs_per_job,"
        " assumptions, on_failure"
    ),
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_is_refused(compose, overrides):
    assert refusal(compose("task=mnist", *overrides.split())) == REFUSED[overrides]


def test_a_key_that_nothing_reads(choose):
    with pytest.raises(
        ConfigError, match=r"^\+callback.ema=1: nothing reads callback; accepted: tags, seed, .*callbacks"
    ):
        choose("+callback.ema=1")


def test_a_foreign_runs_callback_is_looked_at_before_it_is_imported(tmp_path):
    good = {"_target_": "retable.training.EMA"}, {"_target_": "pytorch_lightning.callbacks.Timer"}
    check_targets({"callbacks": dict(zip("ab", good, strict=True))}, "run.json")
    for target in ("os.system", "retable.training.Augment", "pytorch_lightning.callbacks.timer.logging.Handler"):
        with pytest.raises(DataError, match=rf"run.json: refused, callbacks.x._target_={target} is n"):
            check_targets({"callbacks": {"x": {"_target_": target}}}, "run.json")
    validate({"callbacks": {}})
