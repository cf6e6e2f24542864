"""Composition: groups, tasks' defaults, precedence, presets, and what is refused."""

from pathlib import Path

import pytest
import yaml

from retable.config.compose import Composer
from retable.config.folders import config_dir
from retable.config.keys import flatten
from retable.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
# One telling value of every option, under task=cifar.
OPTIONS = {
    "activation": {
        "none": {"activation._target_": "torch.nn.Identity"},
        "relu": {"activation._target_": "torch.nn.ReLU"},
        "sigmoid": {"activation._target_": "torch.nn.Sigmoid"},
        "tanh": {"activation._target_": "torch.nn.Tanh"},
    },
    "augment": {
        "copies": {"augment.mode": "copies", "augment.transforms": ["rotate", "vflip", "hflip", "noise"]},
        "fly": {"augment.mode": "fly", "augment.transforms": ["rotate", "hflip"]},
        "none": {"augment.mode": "none", "augment.transforms": []},
    },
    "callbacks": {
        "none": {"callbacks": {}},
        "ema": {"callbacks.ema.decay": 0.999, "callbacks.ema.from_step": 0},
        "early_stopping": {"callbacks.early_stopping.monitor": "val/accuracy"},
    },
    "checkpoint": {
        "last": {"checkpoint.last": True, "checkpoint.best": False},
        "best": {"checkpoint.last": False, "checkpoint.best": True},
        "both": {"checkpoint.last": True, "checkpoint.best": True},
        "none": {"checkpoint.last": False, "checkpoint.best": False},
    },
    "data": {"real": {"data.source": "real"}, "sample": {"data.source": "sample", "data.batch_size": 64}},
    "debug": {
        "fast": {"trainer.max_epochs": 1, "trainer.limit_train_batches": 2, "trainer.limit_val_batches": 2},
        "overfit": {"trainer.overfit_batches": 3, "sweep.dir": "multirun/debug"},
        "profiler": {"trainer.profiler": "simple", "output": "outputs/debug"},
        "limit": {"trainer.max_epochs": 3, "trainer.limit_train_batches": 10},
    },
    "dropout": {
        "none": {"dropout.p": 0.0},
        "0.37": {"dropout.p": 0.37, "dropout.where": "all", "dropout.channels": False},
    },
    "early_stop": {
        "none": {"early_stop._target_": None},
        "change": {
            "early_stop.epsilon": 0.03,
            "early_stop.from_epoch": 20,
            "early_stop.metric": "dice",
            "early_stop.apply": True,
        },
        "patience": {"early_stop.metric": "val/accuracy", "early_stop.patience": 10, "early_stop.min_delta": 0.0},
        "gap": {"early_stop._target_": "retable.training.Gap"},
    },
    "init": {
        "default": {"init._target_": "retable.training.default"},
        "zero": {"init._target_": "retable.training.zero", "init.where": "both"},
        "constant": {"init._target_": "retable.training.constant", "init.value": 0.01},
        "he": {"init._target_": "retable.training.he", "init.where": "both"},
        "xavier": {"init._target_": "retable.training.xavier", "init.where": "both"},
    },
    "logger": {
        "csv": {"logger.csv._target_": "retable.training.CSVLog"},
        "wandb": {"logger.wandb.offline": True},
        "mlflow": {"logger.mlflow.experiment_name": "cifar"},
        "none": {"logger.tensorboard": False},
        "tensorboard": {"logger.tensorboard": True},
    },
    "loss": {"cross_entropy": {"loss._target_": "torch.nn.CrossEntropyLoss", "loss.l1": 0.0}},
    "model": {
        "cnn": {"model.width": 16, "model.hidden": 100, "model.pool": "each"},
        "cnn_digits": {"model.width": 8, "model.hidden": None, "model.pool": "between"},
        "fnn": {"model.hidden": 800},
        "numpy_fnn": {"model._target_": "retable.models.NumpyFNN", "model.hidden": 800},
    },
    "optimizer": {
        "sgd": {"optimizer.lr": 0.001, "optimizer.momentum": 0.9, "optimizer.weight_decay": 0.0},
        "adam": {"optimizer.lr": 0.001, "optimizer.weight_decay": 0.0},
        "adamw": {"optimizer.lr": 0.001, "optimizer.weight_decay": 0.01},
    },
    "scheduler": {
        "none": {"scheduler._target_": None},
        "cosine": {"scheduler.T_max": 100, "scheduler.eta_min": 0.0},
        "step": {"scheduler.step_size": 10, "scheduler.gamma": 0.1},
        "one_cycle": {"scheduler.interval": "step", "scheduler.max_lr": 0.001},
        "warmup_cosine": {"scheduler.warmup": 0.05},
        "plateau": {"scheduler.patience": 10, "scheduler.factor": 0.1},
    },
    "task": {"cifar": {"task.name": "cifar"}, "mnist": {"task.name": "mnist"}},
    "trainer": {"default": {"trainer.precision": "auto", "trainer.device": "auto", "trainer.max_steps": -1}},
    "experiment": {"cifar/init": {"table.source": "A1.3", "dropout.p": 0.3}},
}


def names(group):
    """The options of a group as messages list them."""
    return ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


TOP = (
    "activation, augment, callbacks, checkpoint, data, dropout, early_stop, init, logger, loss, model, optimizer,"
    " output, preset, resume, scheduler, seed, seeds, sweep, table, tags, task, trainer, trust"
)


@pytest.fixture(scope="module")
def composer():
    return Composer(CONF)


@pytest.fixture(scope="module")
def flat(composer):
    return lambda *overrides: flatten(composer.compose(overrides).config)


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group, options in OPTIONS.items() for option in options]
)
def test_every_group_composes_from_the_command_line(flat, group, option):
    config = flat("task=cifar", f"{group}={option}")
    expected = OPTIONS[group][option]
    assert {key: config[key] for key in expected} == expected


def test_no_group_is_missing_above():
    entries = yaml.safe_load((CONF / "base.yaml").read_text())["defaults"]
    groups = {next(iter(entry)) for entry in entries if isinstance(entry, dict)}
    assert groups - {"optional local"} == set(OPTIONS)


def test_a_file_of_this_machines_own(tmp_path, monkeypatch):
    (tmp_path / "conf" / "local").mkdir(parents=True)
    text = "# @package _global_\ndata: {root: /there}\nsweep: {threads: 2}\n"
    (tmp_path / "conf" / "local" / "default.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    here = Composer().compose(["task=cifar", "dropout=0.3"])
    assert (here.config["data"]["root"], here.config["sweep"]["threads"]) == ("/there", 2)
    assert here.deviations == {"dropout.p": 0.3}


def test_a_file_that_the_packages_own_would_hide_is_refused(tmp_path, monkeypatch):
    (tmp_path / "conf/loss").mkdir(parents=True)
    own = tmp_path / "conf/loss/focal.yaml"
    own.write_text("name: focal\n_target_: losses.Focal\n")
    monkeypatch.chdir(tmp_path)
    composer = Composer()
    hidden = "loss=focal: conf/loss/focal.yaml would not be read, since the package has an option of that name"
    with pytest.raises(ConfigError, match=f"^{hidden}; accepted: another name for the file$"):
        composer.compose(["task=gland", "loss=focal"])
    assert composer.compose(["task=gland", "loss=dice"]).config["loss"]["name"] == "dice"
    own.write_bytes((config_dir() / "loss/focal.yaml").read_bytes())  # a copy says nothing else
    assert Composer().compose(["task=gland", "loss=focal"]).config["loss"]["name"] == "focal"
    own.rename(own.with_name("mine.yaml"))
    assert Composer().compose(["task=gland", "loss=mine"]).config["loss"]["name"] == "focal"


def test_defaults_of_cifar(flat):
    expected = {
        "model.name": "cnn",
        "optimizer.name": "sgd",
        "optimizer.lr": 0.001,
        "optimizer.momentum": 0.9,
        "data.files": ["data_batch_1"],
        "data.val_share": 0.2,
        "data.scale": "unit",
        "data.batch_size": 64,
        "model.width": 16,
        "dropout.p": 0.0,
        "dropout.where": "all",
        "trainer.max_epochs": 100,
        "seed": 0,
    }
    config = flat("task=cifar")
    assert {key: config[key] for key in expected} == expected


def test_defaults_of_mnist(flat):
    expected = {
        "model.name": "cnn_digits",
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "optimizer.momentum": 0.0,
        "data.scale": "standard",
        "data.batch_size": 32,
        "dropout.p": 0.0,
        "dropout.where": "conv",
        "dropout.channels": True,
        "trainer.max_epochs": 20,
    }
    config = flat("task=mnist")
    assert {key: config[key] for key in expected} == expected


def test_task_over_group_experiment_over_task_command_line_over_all(flat):
    """The group model=cnn_digits says width 8 and the group trainer 10 epochs; the task sets 20, the experiment 32."""
    keys = ("trainer.max_epochs", "model.width", "model.batch_norm", "optimizer.name")

    def values(*overrides):
        config = flat(*overrides)
        return tuple(config[key] for key in keys)

    assert values("task=mnist") == (20, 8, False, "sgd")
    assert values("experiment=mnist/regularisation") == (20, 32, True, "adam")
    mine = ("trainer.max_epochs=3", "model.width=5", "model.batch_norm=false", "optimizer=sgd")
    assert values("experiment=mnist/regularisation", *mine) == (3, 5, False, "sgd")
    assert values(*mine, "experiment=mnist/regularisation") == (3, 5, False, "sgd")
    assert flat("task=mnist", "debug=fast", "trainer.max_epochs=3")["trainer.max_epochs"] == 3


def test_dropout_none_takes_back_an_experiments_dropout(flat):
    assert flat("experiment=cifar/init")["dropout.p"] == 0.3
    assert flat("experiment=cifar/init", "dropout=none")["dropout.p"] == 0.0


def test_momentum_belongs_to_sgd_alone(flat):
    for optimizer in ("adam", "adamw"):
        config = flat("task=cifar", f"optimizer={optimizer}")
        assert "optimizer.momentum" not in config
        assert config["optimizer.lr"] == 0.001
    assert flat("task=mnist", "optimizer=adam")["optimizer.lr"] == 0.001


def test_one_composer_keeps_tasks_apart(composer):
    rates = [composer.compose([f"task={task}"]).config["optimizer"]["lr"] for task in ("cifar", "mnist", "cifar")]
    assert rates == [0.001, 0.1, 0.001]


def test_a_changed_config_does_not_reach_the_next(composer):
    composer.compose(["task=cifar"]).config["model"]["pool_strides"].append(7)
    assert composer.compose(["task=cifar"]).config["model"]["pool_strides"] == [2, 2, 2, 2]


def test_keys_of_a_group_may_be_set_together(flat):
    config = flat("task=cifar", "optimizer={lr:0.5,momentum:0.25}")
    assert (config["optimizer.lr"], config["optimizer.momentum"]) == (0.5, 0.25)
    assert config["optimizer.name"] == "sgd"


def test_deviations_name_what_differs_from_the_task(composer):
    made = composer.compose(["task=cifar", "optimizer=adam", "optimizer.lr=0.01", "dropout=none", "seed=2"])
    assert made.deviations == {"optimizer": "adam", "optimizer.lr": 0.01, "seed": 2}
    assert made.defaults["optimizer.lr"] == 0.001
    assert made.defaults["seed"] == 0


REFUSED = [
    ("task=nope", f"task=nope: no such option; accepted: {names('task')}"),
    ("task=cifar model=nope", f"model=nope: no such option; accepted: {names('model')}"),
    ("task=cifar optimizer=0.1", "optimizer=0.1: no such option; accepted: adam, adamw, sgd"),
    ("task=cifar optimizer=null", "optimizer=null: no such option; accepted: adam, adamw, sgd"),
    ("task=cifar scheduler=plato", "scheduler=plato: no such option; did you mean plateau? accepted: "),
    (
        "experiment=cifar/dropot",
        "experiment=cifar/dropot: no such option; did you mean cifar/dropout? accepted: brain/models, brain/patch_size,"
        " cifar/a",
    ),
    (
        "task=cifar optimizer.lrr=1",
        "optimizer.lrr: no such key; did you mean optimizer.lr? accepted: optimizer.lr, optimizer.momentum,"
        " optimizer.weight_decay",
    ),
    (
        "task=cifar optimizer=adam optimizer.momentum=0.9",
        "optimizer.momentum: no such key; accepted: optimizer.betas, optimizer.lr, optimizer.weight_decay, and as"
        " +optimizer.momentum any other argument of torch.optim.Adam",
    ),
    ("task=cifar model.foo=1", "model.foo: no such key; accepted: model.batch_norm, model.blocks, "),
    (
        "task=cifar ckpt_path=x.ckpt",
        "ckpt_path: not a key here; accepted: resume=<a run's folder> to go on with it, or ",
    ),
    ("task=cifar hparams_search=mnist_optuna", "hparams_search: not a key here; accepted: hydra/sweeper=optuna, with "),
    ("task=cifar +optimized_metric=val/acc", "optimized_metric: not a key here; accepted: task.metric"),
    (
        "task=cifar paths.data_dir=x",
        "paths.data_dir: not a key here; accepted: data.root=..., output=... and sweep.dir=...",
    ),
    ("task=cifar trainer.max_epoch.s=1", "trainer.max_epoch.s: no such key; did you mean trainer.max_epochs? acc"),
    ("task=cifar sede=1", f"sede: no such key; did you mean seed? accepted: {TOP}"),
    ("task=cifar modl=cnn", f"modl: no such key; did you mean model? accepted: {TOP}"),
    ("task=cifar optimzer.lr=1", f"optimzer.lr: no such key; did you mean optimizer? accepted: {TOP}"),
    ("task=cifar foo=1", f"foo: no such key; accepted: {TOP}"),
    ("model=cnn", f"task: not given; accepted: {names('task')}"),
    ("task=cifar ~model", f"~model: a group cannot be left out; accepted: model= with one of {names('model')}"),
    ("task=cifar +model=fnn", "+model=fnn: the group is there already; accepted: model=fnn"),
    ("task=cifar ++model=fnn", "++model=fnn: the group is there already; accepted: model=fnn"),
    (
        "task=cifar dropout=0.1,0.2",
        "dropout.p=0.1,0.2: several values are a sweep; accepted: one, or start it with -m",
    ),
    ("task=cifar model=cnn,fnn", "model=cnn,fnn: several values are a sweep; accepted: one, or start it with -m"),
    ("task=cifar =1", "=1: names no key; accepted: key=value or group=option"),
    ("task=cifar dropout=0.3,", "dropout.p=0.3,: not in Hydra's override grammar ("),
    ("task=cifar seed", "seed: not in Hydra's override grammar ("),
    ("task=cifar model.pool_strides=[2,2", "model.pool_strides=[2,2: not in Hydra's override grammar ("),
    ("task=cifar optimizer.lr=${nope}", "optimizer.lr: Interpolation key 'nope' not found"),
]


def test_a_plugin_of_hydras_that_is_not_installed_is_refused_with_its_package(composer):
    with pytest.raises(ConfigError) as refused:
        composer.compose(["task=cifar", "hydra/launcher=rq"])
    text = str(refused.value)
    assert text.startswith("hydra/launcher=rq: no such option; accepted: basic, ")
    assert text.endswith("; rq comes with: pip install hydra-rq-launcher")


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[overrides for overrides, _ in REFUSED])
def test_refusals_name_the_key_and_what_is_accepted(composer, overrides, message):
    with pytest.raises(ConfigError) as refused:
        composer.compose(overrides.split())
    text = str(refused.value)
    whole = not message.endswith((" ", "(", "/a", "acc"))
    assert text == message if whole else text.startswith(message)
    assert "\n" not in text
    assert str(CONF) not in text


def test_a_class_named_on_the_command_line_takes_no_keys_of_the_options_file(composer):
    composition = composer.compose(["task=mnist", "data=sample", "model._target_=my.Net", "+model.depth=3"])
    assert composition.config["model"] == {"_target_": "my.Net", "depth": 3, "name": "Net"}
    assert composition.deviations == {"data": "sample", "model._target_": "my.Net", "model.depth": 3}
    same = composer.compose(["task=mnist", "model._target_=retable.models.CNN", "model.width=9"])
    assert same.config["model"]["pool"] == "between"
    assert same.deviations == {"model.width": 9}


@pytest.mark.parametrize("task", Composer().options("task"))
def test_sample_data_need_no_download(task):
    """What is downloaded are weights; whoever names some gets them."""
    compose = Composer().compose
    real = {"lesion": "imagenet", "fcn": "imagenet", "wildlife": "coco"}.get(task, "none")
    assert compose([f"task={task}"]).config["model"].get("weights", "none") == real
    assert compose([f"task={task}", "data=sample"]).config["model"].get("weights", "none") == "none"
    if real != "none":
        assert compose([f"task={task}", "data=sample", f"model.weights={real}"]).config["model"]["weights"] == real
