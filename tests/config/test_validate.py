"""Every refusal of a value, key or combination, before anything runs; exact messages."""

import math
import sys

import pytest
import torch

from retable.config.keys import flatten
from retable.config.validate import CHECKS, validate
from retable.errors import ConfigError
from tests.checking import check, refusal

POOLS = "accepted: strides that leave a map of at least 1x1 of"
REFUSED = {
    "dropout=1.2": "dropout.p=1.2: accepted: a number in [0, 1)",
    "dropout=1": "dropout.p=1: accepted: a number in [0, 1)",
    "dropout=-0.1": "dropout.p=-0.1: accepted: a number in [0, 1)",
    "dropout=nan": "dropout.p=nan: accepted: a number in [0, 1)",
    "dropout=often": "dropout.p=often: accepted: a number in [0, 1)",
    "dropout=true": "dropout.p=True: accepted: a number in [0, 1)",
    "dropout.where=head": "dropout.where=head: accepted: conv, fc, all",
    "+dropout.foo=1": "dropout.foo: no such key; accepted: p, where, channels",
    "model.blocks=5": "model.blocks=5: accepted: a whole number from 1 to 4",
    "model.blocks=0": "model.blocks=0: accepted: a whole number from 1 to 4",
    "model.blocks=2.0": "model.blocks=2.0: accepted: a whole number from 1 to 4",
    "model.blocks=true": "model.blocks=True: accepted: a whole number from 1 to 4",
    "model.blocks=two": "model.blocks=two: accepted: a whole number from 1 to 4",
    "model.blocks='a\nb'": "model.blocks=a\\nb: accepted: a whole number from 1 to 4",
    "model.width=0": "model.width=0: accepted: a whole number of at least 1",
    "model.hidden=0": "model.hidden=0: accepted: a whole number of at least 1",
    "model.batch_norm=1": "model.batch_norm=1: accepted: true, false",
    "model.order=pool": "model.order=pool: accepted: activation_pool, pool_activation",
    "model.pool=none": "model.pool=none: accepted: each, between",
    "model.pool_strides=[16,3,2]": f"model.pool_strides=[16, 3, 2]: {POOLS} 32x32 images",
    "model.pool_strides=[2,2]": "model.pool_strides=[2, 2]: accepted: a list of at least 3 strides",
    "model.pool_strides=2": "model.pool_strides=2: accepted: a list of at least 3 strides",
    "model.pool_strides=[2,2,0]": "model.pool_strides=0: accepted: a whole number of at least 1",
    "+model.foo=1": "model.foo: no such key; accepted: blocks, width, hidden, batch_norm, order, pool, pool_strides",
    "augment=fly augment.transforms=[rotat]": (
        "augment.transforms: unknown transform 'rotat'; accepted: rotate, hflip, vflip, noise"
    ),
    "augment=fly augment.transforms=rotate": (
        "augment.transforms=rotate: accepted: a list of rotate, hflip, vflip, noise"
    ),
    "augment=copies augment.transforms=[]": (
        "augment.transforms=[]: accepted: at least one of rotate, hflip, vflip, noise"
    ),
    "augment.transforms=[rotate]": "augment.transforms: nothing uses them; choose augment=copies or augment=fly",
    "augment=fly augment.rotate.p=2": "augment.rotate.p=2: accepted: a number in [0, 1]",
    "augment=fly augment.rotate.degrees=far": "augment.rotate.degrees=far: accepted: a number in [-360, 360]",
    "augment=copies augment.noise.sigma=-1": "augment.noise.sigma=-1: accepted: a number in [0, inf)",
    "augment=fly +augment.rotate.foo=1": "augment.rotate.foo: no such key; accepted: degrees, p",
    "+loss.foo=1": (
        "loss.foo: no such key; accepted: weight, size_average, ignore_index, reduce, reduction, label_smoothing, l1"
    ),
    "loss.l1=-1": "loss.l1=-1: accepted: a number in [0, inf)",
    "optimizer.lr=0": "optimizer.lr=0: accepted: a number in (0, inf)",
    "optimizer.lr=inf": "optimizer.lr=inf: accepted: a number in (0, inf)",
    "optimizer.lr=fast": "optimizer.lr=fast: accepted: a number in (0, inf)",
    "optimizer.lr=null": "optimizer.lr=None: accepted: a number in (0, inf)",
    "optimizer.momentum=1": "optimizer.momentum=1: accepted: a number in [0, 1)",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1: accepted: a number in [0, inf)",
    "optimizer=adam optimizer.betas=[2,1]": "optimizer.betas=[2, 1]: accepted: two numbers in [0, 1)",
    "optimizer=adam optimizer.betas=0.9": "optimizer.betas=0.9: accepted: two numbers in [0, 1)",
    "scheduler=step scheduler.step_size=0": "scheduler.step_size=0: accepted: a whole number of at least 1",
    "scheduler=step scheduler.step_size=a": "scheduler.step_size=a: accepted: a whole number of at least 1",
    "scheduler=step scheduler.gamma=0": "scheduler.gamma=0: accepted: a number in (0, inf)",
    "scheduler=cosine trainer.max_epochs=-1 trainer.max_steps=9": (
        "scheduler.T_max=-1: it follows trainer.max_epochs=-1, which is no length; accepted: a whole"
        " number of at least 1"
    ),
    "scheduler=cosine scheduler.T_max=0": "scheduler.T_max=0: accepted: a whole number of at least 1",
    "scheduler=plateau scheduler.factor=1": "scheduler.factor=1: accepted: a number in (0, 1)",
    "scheduler=plateau scheduler.patience=-1": "scheduler.patience=-1: accepted: a whole number of at least 0",
    "init.where=all": "init.where=all: accepted: conv, fc, both",
    "model=fnn init=he init.where=conv": "init.where=conv: accepted: fc, both (this model has no such layer)",
    "+loss.reduction=sum": "loss.reduction=sum: accepted: mean",
    "init=constant init.value=small": "init.value=small: accepted: a number in (-inf, inf)",
    "seed=-1": "seed=-1: accepted: a whole number from 0 to 4294967295",
    "seed=one": "seed=one: accepted: a whole number from 0 to 4294967295",
    "data.fraction=0": "data.fraction=0: accepted: a number in (0, 1]",
    "data.fraction=1.5": "data.fraction=1.5: accepted: a number in (0, 1]",
    "data.batch_size=0": "data.batch_size=0: accepted: a whole number of at least 1",
    "data.val_share=2": "data.val_share=2: accepted: a number in (0, 1)",
    "data.scale=big": "data.scale=big: accepted: unit, standard, imagenet",
    "+data.foo=1": (
        "data.foo: no such key; accepted: files, val_share, source, root, cache, resident, fraction, split_seed,"
        " batch_size, eval_batch_size, scale"
    ),
    "trainer.max_epochs=0": "trainer.max_epochs=0: accepted: a whole number of at least 1",
    "trainer.max_steps=0": "trainer.max_steps=0: accepted: a whole number of at least 1",
    "trainer.precision=8": "trainer.precision=8: accepted:"
    " auto, 32, tf32, 64-true, bf16-mixed, bf16-true, 16-mixed, 16-true, bf16-auto, 16-auto",
    "trainer.device=tpu": "trainer.device=tpu: accepted: auto, cpu, cuda",
    "trainer.limit_train_batches=0": (
        "trainer.limit_train_batches=0: accepted: a number of batches (1, 2, ...) or a share in (0, 1]"
    ),
    "+logger.foo=1": "logger.foo: no such key; accepted: tensorboard",
    "+activation.foo=1": "activation.foo: no such key; accepted: inplace",
    "+augment.foo=1": "augment.foo: no such key; accepted: mode, transforms, rotate, hflip, vflip, noise",
    "+task.foo=1": "task.foo: no such key; accepted: metric",
    "sweep.workers=many": "sweep.workers=many: accepted: auto, or a whole number of at least 1",
    "sweep.workers=0": "sweep.workers=0: accepted: auto, or a whole number of at least 1",
    "sweep.same_reason_limit=0": "sweep.same_reason_limit=0: accepted: a whole number of at least 1",
    "sweep.on_failure=panic": "sweep.on_failure=panic: accepted: continue, stop",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_cifar_refuses(compose, overrides):
    assert refusal(compose("task=cifar", *overrides.split(" "))) == REFUSED[overrides]


@pytest.mark.parametrize("key", ["trainer.name", "dropout.name", "sweep.name", "logger.name", "data.name"])
def test_a_name_that_no_option_of_a_group_has(compose, key):
    said = refusal(compose("task=mnist", f"+{key}=x"))
    assert said.startswith(f"{key}: no such key; accepted: ")


@pytest.mark.parametrize("section", ["optimizer", "model", "task"])
def test_the_name_of_an_option_chooses_none(compose, section):
    """optimizer.name=adam trained with another optimizer, and stood in tables as Adam."""
    with pytest.raises(ConfigError) as refused:
        compose("task=mnist", f"++{section}.name=adam")
    assert str(refused.value) == f"++{section}.name=adam: names what is chosen otherwise; accepted: {section}=<option>"


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("+preset.foo=1", "+preset.foo=1: nothing reads it; accepted: keys of the groups, e.g. optimizer.lr=0.1"),
        ("+resume.foo=1", "+resume.foo=1: nothing reads resume.foo; accepted: resume=<value>"),
        ("+tags.foo=1", "+tags.foo=1: nothing reads tags.foo; accepted: tags=<value>"),
        ("++seeds.foo=1", "++seeds.foo=1: nothing reads seeds.foo; accepted: seeds=<value>"),
    ],
)
def test_a_key_below_what_has_one_value(compose, added, message):
    with pytest.raises(ConfigError) as refused:
        compose("task=mnist", added)
    assert str(refused.value) == message


def test_a_key_that_the_trainer_has_not(compose):
    with pytest.raises(ConfigError, match=r"^trainer\.gradient_clip: no such key; accepted: ") as refused:
        check(compose("task=cifar", "+trainer.gradient_clip=1"))
    accepted = str(refused.value).partition("accepted: ")[2].split(", ")
    assert sorted(accepted) == sorted(compose("task=cifar")["trainer"])  # all that conf/trainer has, and nothing else


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.pool=each model.blocks=4 model.pool_strides=[4,2,2,2]", f"[4, 2, 2, 2]: {POOLS} 28x28 images"),
        ("model.pool_strides=[28,1]", f"[28, 1]: {POOLS} 28x28 images"),
    ],
)
def test_mnist_refuses_pools_that_leave_an_empty_map(compose, overrides, message):
    assert refusal(compose("task=mnist", *overrides.split())) == f"model.pool_strides={message}"


@pytest.mark.parametrize(
    ("overrides", "accepted"),
    [("model=fnn dropout.where=conv", "fc, all"), ("dropout.where=fc", "conv, all")],
    ids=["fnn", "cnn without a hidden layer"],
)
def test_dropout_where_a_model_has_no_such_place_is_refused(compose, overrides, accepted):
    where = overrides[-2:] if overrides.endswith("fc") else "conv"
    assert refusal(compose("task=mnist", "dropout=0.5", *overrides.split())) == (
        f"model: dropout.where={where}: accepted: {accepted} (this model has no such place)"
    )


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ("task=mnist", 21_578),
        # 1->8->16->32->64 with maps of 28, 14, 7 and, behind the stride-1 pool, 6: 80 + 1168 + 4640 + 18496 + 23050
        ("task=mnist model.blocks=4", 47_434),
        ("task=mnist model=fnn", 636_010),
        ("task=cifar", 127_094),
        ("task=cifar dropout=0.999 trainer.limit_val_batches=1 optimizer.momentum=0", 127_094),
        ("task=cifar scheduler=step scheduler.gamma=1 sweep.same_reason_limit=null", 127_094),
    ],
)
def test_what_is_accepted(compose, overrides, parameters):
    assert check(compose(*overrides.split()))["parameters"] == parameters


class Linear(torch.nn.Linear):
    """A model that has no place for dropout."""

    def __init__(self, in_shape, num_classes):
        super().__init__(math.prod(in_shape), num_classes)


def test_a_model_without_dropout_refuses_it(compose, monkeypatch):
    monkeypatch.setitem(sys.modules, "models_of_validate", sys.modules[__name__])
    model = ["model={name:linear}", "model._target_=models_of_validate.Linear"]
    with pytest.raises(ConfigError, match=r"^dropout=0.3: model=linear takes no dropout; accepted: none$"):
        check(compose("task=cifar", "dropout=0.3", *model))


def test_every_check_speaks_of_a_key_in_conf(compose):
    """A check of a key that is nowhere would check nothing."""
    options = ["optimizer=adam", "scheduler=step", "scheduler=cosine", "scheduler=plateau"]
    options += ["scheduler=warmup_cosine", "early_stop=gap", "trainer=ddp"]
    keys = {key for option in ["seed=0", *options] for key in flatten(compose("task=cifar", option))}
    assert set(CHECKS) <= keys


def test_sections_that_are_absent_are_not_checked():
    validate({"seed": 1})


def test_the_name_of_an_option_is_not_among_the_keys_that_are_accepted(compose):
    with pytest.raises(ConfigError) as refused:
        compose("task=mnist", "optimizer.rate=1")
    assert str(refused.value).startswith("optimizer.rate: no such key; ")
    assert "optimizer.lr" in str(refused.value)
    assert "optimizer.name" not in str(refused.value)
