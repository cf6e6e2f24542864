"""The Trainer's keys: what Lightning makes of each is what a run makes of it."""

import logging

import pytest
import pytorch_lightning as pl
import torch

from retable.config.compose import Composer
from retable.config.identity import identity, same_run
from retable.config.validate import validate
from retable.errors import ConfigError, RetableError
from retable.run import devices, files
from retable.run.assemble import make_data, make_task
from retable.run.execute import execute
from tests.checking import check
from tests.runs import weights

TINY = ("task=mnist", "data.fraction=0.2", "model.width=4", "dropout=0.2", "trainer.device=cpu")  # 13 steps an epoch
pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.filterwarnings("ignore")]


def plain(config, **trainer) -> tuple[pl.Trainer, pl.LightningModule]:
    """Lightning's own Trainer on the same module, data and seed."""
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    task = make_task(config, data)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    runner = pl.Trainer(**quiet | trainer)
    runner.fit(task, datamodule=data)
    return runner, task


# Each key with a value, whether it asks for single steps, and the optimizer steps of two epochs of 13 batches.
KEYS = [
    ("gradient_clip_val", 0.05, True, 26),
    ("accumulate_grad_batches", 4, True, 8),  # 13 batches: 4 + 4 + 4 + 1
    ("val_check_interval", 0.5, True, 26),
    ("val_check_interval", 5, True, 26),
    ("check_val_every_n_epoch", 2, False, 26),
    ("overfit_batches", 3, True, 6),
    ("overfit_batches", 0.5, True, 12),
    ("num_sanity_val_steps", 2, False, 26),
    ("deterministic", True, False, 26),
    ("min_epochs", 2, False, 26),
    ("max_time", "00:01:00:00", True, 26),
    ("detect_anomaly", True, True, 26),
    ("benchmark", False, False, 26),
    ("min_steps", 20, True, 26),
    ("limit_test_batches", 1, False, 26),
    ("inference_mode", False, False, 26),
    ("reload_dataloaders_every_n_epochs", 1, False, 26),
    ("enable_progress_bar", True, True, 26),
    ("enable_model_summary", True, False, 26),
    ("enable_autolog_hparams", False, False, 26),
    ("sync_batchnorm", True, False, 26),  # of one process: nothing to synchronise
    ("precision", "64-true", False, 26),
    ("precision", "bf16-true", False, 26),
    ("precision", "16-true", False, 26),
]


@pytest.mark.parametrize(("key", "value", "alone", "steps"), KEYS)
def test_a_key_does_what_it_does_under_lightnings_own_trainer(compose, tmp_path, key, value, alone, steps):
    config = compose(*TINY, "trainer.max_epochs=2", f"trainer.{key}={value}")
    result = execute(config, tmp_path / "run")
    because = f"trainer.{key}={value}" if alone else "nothing asks for single steps"
    assert result["stepping"] == {"in_chunks": not alone, "because": because}
    runner, task = plain(config, max_epochs=2, **{key: value})
    assert result["step"] == runner.global_step == steps
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, task.state_dict()[name]), name
    torch.use_deterministic_algorithms(False)


def test_clipping_by_value(compose, tmp_path):
    how = {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}
    config = compose(*TINY, "trainer.max_epochs=1", *(f"trainer.{key}={value}" for key, value in how.items()))
    pl.seed_everything(config["seed"], verbose=False)
    before = make_task(config, make_data(config))
    execute(config, tmp_path / "run")
    _, task = plain(config, max_epochs=1, **how)
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, task.state_dict()[name])
        moved = (value - before.state_dict()[name]).abs().max()
        assert 0 < moved <= 13 * 0.1 * 0.001 * 1.001  # 13 steps of at most 0.1 times 0.001


def test_epochs_without_validation_have_empty_cells(compose, tmp_path):
    execute(compose(*TINY, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"), tmp_path / "run")
    rows = files.read_history(tmp_path / "run" / files.HISTORY)
    assert ["val/loss" in row for row in rows] == [False, True, False]
    assert all("train/loss" in row for row in rows)


def test_deterministic_algorithms_end_with_their_run(compose, tmp_path):
    """A worker trains one run after another."""
    asked = []
    for value in ("true", "false"):
        config = compose(*TINY, "trainer.max_epochs=1", f"trainer.deterministic={value}")
        execute(
            config, tmp_path / value, on_chunk=lambda *_: asked.append(torch.are_deterministic_algorithms_enabled())
        )
    assert asked == [True, False]


@pytest.mark.parametrize("value", [True, False])
def test_anomalies_are_looked_for_where_it_is_asked(compose, tmp_path, value):
    asked = set()
    config = compose(*TINY, "trainer.max_epochs=1", f"trainer.detect_anomaly={value}")
    execute(config, tmp_path, on_chunk=lambda *_: asked.add(torch.is_anomaly_enabled()))
    assert asked == {value}


def test_time_that_is_up_ends_a_run(compose, tmp_path):
    result = execute(compose(*TINY, "trainer.max_epochs=2000", "trainer.max_time=00:00:00:01"), tmp_path / "run")
    assert result["status"] == "finished"
    assert 0 < result["epochs"] < 2000
    assert "val/accuracy" in result["metrics"]["final"]  # where it ends within an epoch, that is validated


@pytest.mark.parametrize(
    ("profiler", "line"), [("simple", "run_training_batch"), ("advanced", "function calls"), ("pytorch", "aten::")]
)
def test_a_profile_is_a_file_of_the_run(compose, tmp_path, profiler, line):
    execute(compose(*TINY, "trainer.max_epochs=1", f"trainer.profiler={profiler}"), tmp_path / "run")
    assert line in (tmp_path / "run" / "fit-profile.txt").read_text()


def test_clipping_and_accumulation_resume_bit_for_bit(compose, tmp_path):
    config = compose(
        *TINY, "trainer.max_epochs=4", "trainer.gradient_clip_val=0.1", "trainer.accumulate_grad_batches=3"
    )
    execute(config, tmp_path / "whole")
    epochs: list[int] = []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: len(epochs) == 2}
    assert execute(config, tmp_path / "parts", **stop)["status"] == "interrupted"
    assert execute(config, tmp_path / "parts")["status"] == "finished"
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "parts")[name])


REFUSED = {
    "gradient_clip_val=-1": r"a number in [0, inf)",
    "gradient_clip_algorithm=mean": "norm, value",
    "accumulate_grad_batches=0": "a whole number of at least 1",
    "val_check_interval=0.0": "a number of batches (1, 2, ...), a share in (0, 1], or days:hours:minutes:seconds",
    "val_check_interval=00:00:00:00": (
        "a number of batches (1, 2, ...), a share in (0, 1], or days:hours:minutes:seconds"
    ),
    "log_every_n_steps=-1": "a whole number of at least 0",
    "check_val_every_n_epoch=0": "a whole number of at least 1",
    "overfit_batches=-1": "a number of batches (1, 2, ...) or a share in (0, 1]",
    "profiler=xla": "None, simple, advanced, pytorch",
    "deterministic=maybe": "True, False, warn",
    "benchmark=2": "None, True, False",
    "precision=8": "auto, 32, tf32, 64-true, bf16-mixed, bf16-true, 16-mixed, 16-true, bf16-auto, 16-auto",
    "num_sanity_val_steps=-2": "a whole number of at least -1",
    "max_time=1h": "days:hours:minutes:seconds, e.g. 00:12:00:00, or null",
    "min_epochs=0": "a whole number of at least 1",
    "devices=0": "a whole number of at least 1; CUDA_VISIBLE_DEVICES=0,2 says which GPUs there are",
    "strategy=fsdp": "auto, ddp, ddp_find_unused_parameters_true, ddp_find_unused_parameters_false",
}


@pytest.mark.parametrize("override", REFUSED)
def test_values_that_no_run_can_have(compose, override):
    with pytest.raises(ConfigError) as caught:
        validate(compose(*TINY, f"trainer.{override}"))
    assert str(caught.value) == f"trainer.{override}: accepted: {REFUSED[override]}"


def test_validation_after_more_batches_than_there_are(compose):
    check(compose(*TINY, "trainer.val_check_interval=13"))
    with pytest.raises(ConfigError, match=r"^trainer.val_check_interval=14: accepted: at most 13, the batches of"):
        check(compose(*TINY, "trainer.val_check_interval=14"))


@pytest.mark.parametrize("key", ["limit_train_batches", "overfit_batches"])
def test_a_share_that_is_less_than_a_batch(compose, key):
    """Lightning would train on nothing, or end the run where validation begins."""
    check(compose(*TINY, f"trainer.{key}=0.08", "data.eval_batch_size=10"))
    with pytest.raises(ConfigError) as caught:
        check(compose(*TINY, f"trainer.{key}=0.07", "data.eval_batch_size=10"))
    assert str(caught.value) == (
        f"trainer.{key}=0.07: less than one of 13 batches; accepted: at least 0.07692, or a whole number of batches"
    )


@pytest.mark.parametrize("mode", ["limit", "overfit", "profiler"])
def test_debugging_is_accepted_on_sample_data(compose, mode):
    check(compose("task=mnist", "data=sample", f"debug={mode}"))


def test_half_precision_with_a_scaler_needs_a_gpu():
    with pytest.raises(
        RetableError, match=r"^trainer.precision=16-mixed: needs a GPU; accepted here: auto, 32, 64-true"
    ):
        devices.precision("16-mixed", "cpu", [])
    assert devices.precision("16-mixed", "cuda", [7.5]) == "16-mixed"


def test_a_key_at_its_default_leaves_a_finished_run_and_another_value_does_not():
    composer = Composer()
    config = composer.compose(["task=cifar"])
    old = identity(config.config)
    assert not [key for key in old if "clip" in key or "accumulate" in key or "devices" in key]
    for override in (
        "gradient_clip_val=0.1",
        "accumulate_grad_batches=2",
        "val_check_interval=1",
        "deterministic=true",
    ):
        changed = composer.compose(["task=cifar", f"trainer.{override}"])
        assert not same_run(old, identity(changed.config), changed.defaults)
    for override in ("devices=auto", "profiler=simple", "num_sanity_val_steps=2"):
        same = composer.compose(["task=cifar", f"trainer.{override}"])
        assert same_run(old, identity(same.config), same.defaults)
    clipped = composer.compose(["task=wildlife"])  # its default is another one than that of runs before the key
    before = {key: value for key, value in identity(clipped.config).items() if key != "trainer.gradient_clip_val"}
    assert not same_run(before, identity(clipped.config), clipped.defaults)


def test_the_log_is_quiet(compose, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        execute(compose(*TINY, "trainer.max_epochs=1", "trainer.accumulate_grad_batches=2"), tmp_path / "run")
    assert not caplog.records
