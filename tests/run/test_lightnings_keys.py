"""Every key of Lightning's Trainer is a key of `trainer`, or is refused with what to use instead; what the keys do."""

import inspect
import time

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import Precision
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm

from retable.config.compose import Composer
from retable.config.identity import identity, run_name, same_run
from retable.config.instead import INSTEAD
from retable.config.targets import check_targets
from retable.config.validate import CHECKS
from retable.errors import ConfigError, DataError
from retable.run import ddp, files
from retable.run.assemble import make_data, make_plugins, trainer_arguments
from retable.run.execute import execute
from tests.checking import check, refusal
from tests.runs import history, interrupted_after, weights

TINY = ("task=mnist", "data.fraction=0.2", "model.width=4", "dropout=0.2", "trainer.device=cpu")  # 13 steps an epoch
LIGHTNINGS = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]
pytestmark = [pytest.mark.usefixtures("no_figures"), pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", LIGHTNINGS)
def test_each_is_a_key_here_or_is_refused_with_what_to_use_instead(compose, command, name):
    ours = compose("task=mnist")["trainer"]
    assert (name in ours) == (name not in INSTEAD), f"{name} is neither in conf/trainer nor in INSTEAD, or in both"
    assert name not in ours or f"trainer.{name}" in CHECKS
    if name in INSTEAD:
        message = f"trainer.{name}: not a key here; accepted: {INSTEAD[name]}"
        assert command("task=mnist", f"trainer.{name}=1") == (2, message)
        assert command("task=mnist", f"+trainer.{name}=1") == (2, message)


def test_nothing_is_refused_that_lightning_has_not():
    assert set(INSTEAD) <= set(LIGHTNINGS)


@pytest.mark.parametrize("single", [False, True])
def test_min_steps_is_reached_before_a_rule_ends_training(compose, tmp_path, single):
    """A rule that asks for the end after two epochs, of 13 steps: 30 are reached within the third."""
    words = [*TINY, "trainer.max_epochs=6", "early_stop=patience", "early_stop.patience=1", "optimizer.lr=1e-9"]
    words += ["early_stop.metric=val/accuracy"] + ["trainer.gradient_clip_val=1e9"] * single
    assert execute(compose(*words), tmp_path / "without")["epochs"] == 2
    result = execute(compose(*words, "trainer.min_steps=30"), tmp_path / "run")
    assert (result["epochs"], result["step"]) == (3, 30)
    assert "val/accuracy" in history(tmp_path / "run")[2]
    wanted = "trainer.gradient_clip_val=1000000000.0" if single else "trainer.min_steps=30"
    assert result["stepping"] == {"in_chunks": False, "because": wanted}


@pytest.mark.parametrize("single", [False, True])
def test_limit_test_batches_is_of_the_test_set_alone(compose, tmp_path, single):
    """One image of the set that validation sees whole, and that is the test set here."""
    words = ["task=gland", "data.size=32", "data.batch_size=8", "data.eval_batch_size=1", "trainer.max_epochs=1"]
    words += ["trainer.device=cpu"] + ["trainer.gradient_clip_val=1e9"] * single
    whole = execute(compose(*words), tmp_path / "whole")
    part = execute(compose(*words, "trainer.limit_test_batches=1"), tmp_path / "part")
    none = execute(compose(*words, "trainer.limit_test_batches=0"), tmp_path / "none")
    assert whole["stepping"]["in_chunks"] is not single
    images = make_data(compose(*words)).counts["val"]
    (every,), (first,), (unused,) = (history(tmp_path / name) for name in ("whole", "part", "none"))
    assert images > 1
    pixels = {split: sum(map(sum, part["confusion"][split])) for split in ("val", "test")}
    assert pixels["val"] == images * pixels["test"] > 0
    assert "test" not in whole["confusion"]  # what validation has found is taken
    assert every["test/loss"] == every["val/loss"] == first["val/loss"] != first["test/loss"]
    assert not [name for name in unused if name.startswith("test/")]
    assert none["status"] == "finished"


def test_the_test_sets_figures_are_of_the_weights_that_are_kept(compose, tmp_path):
    """Where an epoch's last validation came before its last step they were that validation's, of earlier weights."""
    words = ["task=gland", "data.size=32", "data.batch_size=5", "trainer.max_epochs=2", "optimizer.lr=0.05"]
    early = compose(*words, "trainer.val_check_interval=2")
    execute(compose(*words), tmp_path / "at_the_end")
    execute(early, tmp_path / "before")
    with pytest.raises(ZeroDivisionError):  # between the last epoch and the test set
        execute(early, tmp_path / "killed", on_epoch=lambda row: 1 / (2 - row["epoch"]))
    files.remove([tmp_path / "killed" / files.RESULT])
    execute(early, tmp_path / "killed")
    at_the_end, before, killed = (history(tmp_path / name)[-1] for name in ("at_the_end", "before", "killed"))
    assert at_the_end["step"] == before["step"] == 2 * 5  # validated after the fourth of five batches
    assert at_the_end["test/loss"] == at_the_end["val/loss"] != before["val/loss"]
    assert before["test/loss"] == at_the_end["test/loss"]
    assert killed == before


def test_the_test_set_is_whole_where_validation_is_of_few_batches(compose, tmp_path):
    """overfit_batches leaves validation as few batches as training, and the test set as it is."""
    words = ["task=gland", "data.size=32", "data.batch_size=8", "data.eval_batch_size=1", "trainer.max_epochs=1"]
    result = execute(compose(*words, "trainer.overfit_batches=1"), tmp_path / "run")
    pixels = {split: sum(map(sum, matrix)) for split, matrix in result["confusion"].items()}
    assert pixels["val"] == 32 * 32
    assert pixels["test"] == result["data"]["counts"]["test"] * 32 * 32


def test_validation_that_counts_on_from_epoch_to_epoch(compose, tmp_path):
    """After 20 batches, of 13 an epoch: within the second."""
    words = [*TINY, "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=null"]
    config = compose(*words, "trainer.val_check_interval=20")
    check(config)
    execute(config, tmp_path)
    assert ["val/loss" in row for row in history(tmp_path)] == [False, True, False]
    assert refusal(compose(*words)) == (
        "trainer.val_check_interval=1.0: accepted with trainer.check_val_every_n_epoch=null: a number of batches,"
        " counted over all epochs, or a time"
    )


def test_a_training_without_a_validation_is_refused(compose):
    words = [*TINY, "trainer.max_epochs=3"]
    check(compose(*words, "trainer.check_val_every_n_epoch=3"))
    assert refusal(compose(*words, "trainer.check_val_every_n_epoch=4")) == (
        "trainer.check_val_every_n_epoch=4: nothing would be validated; accepted with trainer.max_epochs=3: at most 3"
    )


@pytest.mark.parametrize(("interval", "fewest", "most"), [("00:00:00:01", 2, 13), ("10:00:00:00", 0, 0)])
def test_validation_by_the_clock(compose, tmp_path, monkeypatch, interval, fewest, most):
    """13 steps of at least 0.3 seconds."""
    from retable.tasks.base import Task

    begun, step, start = [], Task.on_before_optimizer_step, Task.on_validation_epoch_start
    monkeypatch.setattr(Task, "on_before_optimizer_step", lambda *a: (time.sleep(0.3), step(*a))[1])
    monkeypatch.setattr(Task, "on_validation_epoch_start", lambda *a: (begun.append(1), start(*a))[1])
    config = compose(*TINY, "trainer.max_epochs=1", f"trainer.val_check_interval={interval}")
    check(config)
    rows: list[int] = []
    execute(config, tmp_path, on_epoch=lambda row: rows.append(len(begun)))
    assert fewest <= rows[0] <= most
    assert ["val/loss" in row for row in history(tmp_path)] == [most > 0]


@pytest.mark.parametrize("value", [True, False])
def test_inference_mode(compose, tmp_path, monkeypatch, value):
    from retable.tasks.base import Task

    asked, step = set(), Task.validation_step

    def validation_step(task, batch, index):
        asked.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        step(task, batch, index)

    monkeypatch.setattr(Task, "validation_step", validation_step)
    words = ("trainer.max_epochs=1", "trainer.validate_first=true", f"trainer.inference_mode={value}")
    execute(compose(*TINY, *words), tmp_path)
    assert asked == {
        (value, False),
        (False, False),
    }  # within fit Lightning has no_grad either way


@pytest.mark.parametrize("single", [False, True])
def test_loaders_are_asked_for_again(compose, tmp_path, monkeypatch, single):
    from retable.data.module import ImageData

    asked, loader = [], ImageData.train_dataloader

    def train_dataloader(data):
        asked.append(1)
        return loader(data)

    monkeypatch.setattr(ImageData, "train_dataloader", train_dataloader)
    words = [*TINY, "trainer.max_epochs=4"] + ["trainer.gradient_clip_val=1e9"] * single
    execute(compose(*words), tmp_path / "once")
    assert len(asked) == 1
    again = compose(*words, "trainer.reload_dataloaders_every_n_epochs=2")
    execute(again, tmp_path / "again")
    assert len(asked) == 3  # before epochs 0 and 2
    assert history(tmp_path / "again") == history(tmp_path / "once")  # an epoch's order is that of its number
    execute(again, tmp_path / "parts", **interrupted_after(3))
    execute(again, tmp_path / "parts")
    for name, value in weights(tmp_path / "again").items():
        assert torch.equal(value, weights(tmp_path / "parts")[name]), name


def test_what_is_shown(compose, tmp_path, capfd):
    execute(compose(*TINY, "trainer.max_epochs=1"), tmp_path / "quiet")
    quiet = capfd.readouterr()
    execute(compose(*TINY, "trainer.max_epochs=1", "trainer.enable_model_summary=true"), tmp_path / "summary")
    assert "Trainable params" in capfd.readouterr().out
    execute(compose(*TINY, "trainer.max_epochs=1", "trainer.enable_progress_bar=true"), tmp_path / "bar")
    shown = capfd.readouterr()
    assert "Epoch 0" in shown.out + shown.err
    assert "13/13" in shown.out + shown.err
    assert "Trainable params" not in quiet.out
    assert "Epoch 0" not in quiet.out + quiet.err


@pytest.mark.parametrize("value", [True, False])
def test_hyperparameters_of_loggers(compose, tmp_path, value):
    config = compose(*TINY, "logger=csv", "trainer.max_epochs=1", f"trainer.enable_autolog_hparams={value}")
    execute(config, tmp_path)
    kept = [path.read_text() for path in tmp_path.rglob("hparams.yaml")]
    assert any("optimizer.lr" in text for text in kept) == value


class Counting(Precision):
    """Lightning's own precision, which counts the steps that go through it."""

    steps = 0

    def optimizer_step(self, optimizer, model, closure, **kwargs):
        Counting.steps += 1
        return super().optimizer_step(optimizer, model, closure, **kwargs)


def named(target):
    return f"trainer.plugins=[{{_target_: {target}}}]"


def test_a_precision_of_ones_own_is_what_takes_the_steps(compose, tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "steps", 0)
    words = (*TINY, "trainer.max_epochs=2", "trainer.precision=32")
    config = compose(*words, named(f"{__name__}.Counting"))
    check(config)
    result = execute(config, tmp_path / "own")
    assert Counting.steps == 26
    assert result["stepping"]["because"].startswith("trainer.plugins=")
    execute(compose(*words), tmp_path / "plain")
    assert history(tmp_path / "own") == history(tmp_path / "plain")


def test_lightnings_double_precision_is_that_of_the_key(compose, tmp_path):
    words = (*TINY, "trainer.max_epochs=1")
    double = named("pytorch_lightning.plugins.DoublePrecision")
    execute(compose(*words, "trainer.precision=32", double), tmp_path / "plugin")
    execute(compose(*words, "trainer.precision=64-true"), tmp_path / "key")
    for name, value in weights(tmp_path / "key").items():
        assert torch.equal(value, weights(tmp_path / "plugin")[name]), name
    assert value.dtype == torch.float64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["trainer.precision=32", named("pytorch_lightning.plugins.AsyncCheckpointIO")],
            "trainer.plugins.0._target_=pytorch_lightning.plugins.AsyncCheckpointIO: a CheckpointIO; accepted: none; a"
            " run's checkpoints are its own (conf/checkpoint)",
        ),
        (
            ["trainer.precision=32", named("pytorch_lightning.plugins.environments.SLURMEnvironment")],
            "trainer.plugins.0._target_=pytorch_lightning.plugins.environments.SLURMEnvironment: a ClusterEnvironment;"
            " accepted: none; trainer=ddp finds its processes itself",
        ),
        (
            ["trainer.precision=32", named("torch.nn.ReLU")],
            "trainer.plugins.0._target_=torch.nn.ReLU: accepted: a class derived from Lightning's Precision or"
            " LayerSync",
        ),
        (
            [named("pytorch_lightning.plugins.DoublePrecision")],
            "trainer.precision=auto: accepted with pytorch_lightning.plugins.DoublePrecision: 32",
        ),
        (
            ["trainer.plugins=[3]"],
            "trainer.plugins=[3]: accepted: a list of classes of Lightning's plugins, e.g. [{_target_: my.Precision}]",
        ),
        (
            ["trainer.limit_predict_batches=2"],
            "trainer.limit_predict_batches=2: accepted by task=mnist: null; retable predict takes the images that it is"
            " given",
        ),
        (
            ["trainer.limit_test_batches=-1"],
            "trainer.limit_test_batches=-1: accepted: a number of batches (1, 2, ...) or a share in (0, 1]",
        ),
        (["trainer.min_steps=0"], "trainer.min_steps=0: accepted: a whole number of at least 1"),
        (
            ["trainer.reload_dataloaders_every_n_epochs=-1"],
            "trainer.reload_dataloaders_every_n_epochs=-1: accepted: a whole number of at least 0",
        ),
        (["trainer.inference_mode=1"], "trainer.inference_mode=1: accepted: true, false"),
        (
            ["trainer=ddp", "trainer.sync_batchnorm=true", "dropout=none"],
            "trainer.sync_batchnorm=true: PyTorch has it on GPUs alone; accepted here: false",
        ),
    ],
)
def test_refusals(compose, words, message):
    assert refusal(compose("task=mnist", "trainer.device=cpu", *words)) == message


def test_a_plugin_of_somebody_elses_run_is_looked_at_before_it_is_imported(compose):
    config = compose("task=mnist", named("pytorch_lightning.plugins.DoublePrecision"))
    check_targets(config, "run.json")
    with pytest.raises(DataError, match=r"^run\.json: refused, trainer\.plugins\.0\._target_=os\.system is neither"):
        check_targets(compose("task=mnist", named("os.system")), "run.json")


def test_batch_normalisation_over_all_processes_is_lightnings(compose, tmp_path):
    """On GPUs; here, that each rank's strategy is told."""
    node = compose("task=mnist", "trainer=ddp", "trainer.sync_batchnorm=true")["trainer"] | {"precision": "32"}
    place = ddp.RankEnvironment(0, 2, 1, "127.0.0.1", 1, starts=False)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, **ddp.settings("ddp", "cpu", place), **trainer_arguments(node, tmp_path)
    )
    assert isinstance(trainer.strategy._layer_sync, TorchSyncBatchNorm)
    assert "sync_batchnorm" not in trainer_arguments(node | {"strategy": "auto"}, tmp_path)


def test_a_layer_sync_is_made(compose):
    node = compose("task=mnist", named("pytorch_lightning.plugins.layer_sync.TorchSyncBatchNorm"))["trainer"]
    (plugin,) = make_plugins(node)
    assert isinstance(plugin, TorchSyncBatchNorm)


CHANGING = ("min_steps=30", "limit_test_batches=1", "sync_batchnorm=true", "reload_dataloaders_every_n_epochs=1")
CHANGING += ("plugins=[{_target_: pytorch_lightning.plugins.DoublePrecision}]",)
NOT_CHANGING = ("limit_predict_batches=1", "inference_mode=false", "enable_progress_bar=true")
NOT_CHANGING += ("enable_model_summary=true", "enable_autolog_hparams=false")


def test_what_makes_another_run():
    composer = Composer()
    plain = composer.compose(["task=cifar"])
    old = identity(plain.config)
    new = ("min_steps", "test_batches", "sync", "reload", "plugins", "predict", "inference", "enable_")
    assert not [key for key in old if any(word in key for word in new)]  # finished runs stay what they are
    for override in CHANGING:
        changed = composer.compose(["task=cifar", f"trainer.{override}"])
        assert not same_run(old, identity(changed.config), changed.defaults), override
        assert run_name(changed) != run_name(plain)
    for override in NOT_CHANGING:
        same = composer.compose(["task=cifar", f"trainer.{override}"])
        assert same_run(old, identity(same.config), same.defaults), override
        assert run_name(same) == run_name(plain)


@pytest.mark.parametrize(
    ("typed", "key", "kept"),
    [
        ("trainer.precision=bf16", "precision", "bf16-mixed"),
        ("trainer.precision=32-true", "precision", 32),
        ("trainer.precision='32'", "precision", 32),
        ("trainer.precision=64", "precision", "64-true"),
        ("trainer.gradient_clip_val=0", "gradient_clip_val", None),
        ("trainer.gradient_clip_val=0.0", "gradient_clip_val", None),
        ("trainer.max_time={days:1,hours:2}", "max_time", "01:02:00:00"),
        ("trainer.max_time={minutes:90}", "max_time", "00:01:30:00"),
    ],
)
def test_forms_that_lightning_takes_for_one_value_are_one_run(compose, typed, key, kept):
    config = compose(*TINY, typed)
    check(config)
    assert config["trainer"][key] == kept
    its_own = f"trainer.{key}={'null' if kept is None else kept}"
    one, other = (Composer().compose((*TINY, word)) for word in (typed, its_own))
    assert identity(one.config) == identity(other.config)
    assert run_name(one) == run_name(other)


def test_several_such_forms_make_the_name_of_their_own():
    forms = ("trainer.max_epochs=null", "trainer.max_time={minutes:90}", "optimizer.lr=0.5", "trainer.precision=64")
    own = ("trainer.max_epochs=-1", "trainer.max_time=00:01:30:00", "optimizer.lr=0.5", "trainer.precision=64-true")
    one, other = (Composer().compose(("task=mnist", *words)) for words in (forms, own))
    assert list(one.deviations.items()) == list(other.deviations.items())
    assert run_name(one) == run_name(other)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ((), "00:12:00:00"),
        (("trainer.max_time=null",), None),
        (("trainer.max_time=00:00:05:00",), "00:00:05:00"),
        (("trainer.max_time={hours:1}",), "00:01:00:00"),
        (("trainer.max_time={minutes:5}",), "00:00:05:00"),
        (("trainer.max_time.hours=2",), "00:02:00:00"),
    ],
)
def test_such_forms_in_a_file_of_ones_own(tmp_path, monkeypatch, typed, kept):
    local = tmp_path / "conf/local/default.yaml"
    local.parent.mkdir(parents=True)
    local.write_text("# @package _global_\ntrainer: {max_time: {hours: 12}, max_epochs: null, precision: 64}\n")
    monkeypatch.chdir(tmp_path)
    found = Composer().compose(("task=mnist", *typed))
    trainer = found.config["trainer"]
    assert (trainer["max_time"], trainer["max_epochs"], trainer["precision"]) == (kept, -1, "64-true")
    assert found.deviations == ({"trainer.max_time": kept} if typed else {})


@pytest.mark.parametrize(
    ("typed", "shown"), [("fortnights:1", "'fortnights': 1"), ("seconds:nan", "'seconds': nan"), ("weeks:1e12", None)]
)
def test_a_time_that_is_none_is_refused_by_its_key(compose, typed, shown):
    said = "accepted: days:hours:minutes:seconds, e.g. 00:12:00:00, or null"
    shown = shown or "'weeks': 1000000000000.0"
    assert refusal(compose(*TINY, f"trainer.max_time={{{typed}}}")) == f"trainer.max_time={{{shown}}}: {said}"


@pytest.mark.parametrize("epochs", ["-1", "null"])
@pytest.mark.parametrize("single", [False, True])
def test_training_that_steps_alone_end(compose, tmp_path, epochs, single):
    """30 steps, of 13 an epoch: within the third."""
    words = [*TINY, f"trainer.max_epochs={epochs}", "trainer.max_steps=30"]
    config = compose(*words, *["trainer.gradient_clip_val=1e9"] * single)
    check(config)
    result = execute(config, tmp_path / "run")
    assert (result["epochs"], result["step"], result["status"]) == (3, 30, "finished")
    last = execute(compose(*TINY, "trainer.max_epochs=3", "trainer.max_steps=30"), tmp_path / "counted")
    assert last["metrics"]["final"] == result["metrics"]["final"]


def test_training_that_time_or_a_rule_ends(compose, tmp_path):
    words = [*TINY, "trainer.max_epochs=-1"]
    timed = compose(*words, "trainer.max_time={seconds:3}")
    check(timed)
    assert execute(timed, tmp_path / "timed")["status"] == "finished"
    rule = ("early_stop=patience", "early_stop.patience=1", "early_stop.metric=val/accuracy", "optimizer.lr=1e-9")
    ended = compose(*words, *rule)
    check(ended)
    assert execute(ended, tmp_path / "ended")["epochs"] == 2
    assert refusal(compose(*words)) == (
        "trainer.max_epochs=-1: nothing would end the training; accepted with trainer.max_steps, trainer.max_time,"
        " early_stop=... or callbacks=early_stopping"
    )
    cosine = compose(*words, "trainer.max_steps=30", "scheduler=cosine")
    assert refusal(cosine) == (
        "scheduler.T_max=-1: it follows trainer.max_epochs=-1, which is no length; accepted: a whole number of at least"
        " 1"
    )


def test_a_mean_from_a_share_of_the_epochs_wants_their_number(compose, tmp_path):
    words = [*TINY, "trainer.max_epochs=-1", "trainer.max_steps=30", "callbacks=swa"]
    with pytest.raises(ConfigError, match=r"^callbacks.swa.start=0.75: a share of the epochs, .* accepted: an epoch"):
        execute(compose(*words), tmp_path / "share")
    assert execute(compose(*words, "callbacks.swa.start=2"), tmp_path / "epoch")["step"] == 30


def test_such_a_run_is_resumed(compose, tmp_path):
    words = [*TINY, "trainer.max_epochs=-1", "trainer.max_steps=30"]
    execute(compose(*words), tmp_path / "whole")
    execute(compose(*words), tmp_path / "cut", **interrupted_after(1))
    execute(compose(*words), tmp_path / "cut")
    torch.testing.assert_close(weights(tmp_path / "cut"), weights(tmp_path / "whole"), rtol=0, atol=0)


def test_a_profiler_of_ones_own_class(compose, tmp_path):
    target = "pytorch_lightning.profilers.SimpleProfiler"
    config = compose(*TINY, "trainer.max_epochs=1", f"trainer.profiler={{_target_:{target},extended:false}}")
    check(config)
    check_targets(config, "run.json")
    result = execute(config, tmp_path)
    assert "run_training_epoch" in (tmp_path / "fit-profile.txt").read_text()
    assert result["stepping"]["in_chunks"] is False
    none = compose(*TINY, "trainer.profiler={_target_:torch.nn.ReLU}")
    assert refusal(none) == (
        "trainer.profiler._target_=torch.nn.ReLU: accepted: a class derived from Lightning's Profiler"
    )
    with pytest.raises(DataError, match=r"trainer.profiler._target_=os.system"):
        check_targets({"trainer": {"profiler": {"_target_": "os.system"}}}, "run.json")
