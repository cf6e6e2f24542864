"""What makes two runs one, and what a run is called."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from retable.config.compose import Composer
from retable.config.identity import digest, identity, run_name, same_run, shared_deviations

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def compose():
    composer = Composer(CONF)
    return lambda *overrides: composer.compose(["task=cifar", *overrides])


def stored(composition):
    """An identity as run.json keeps it."""
    return json.loads(json.dumps(identity(composition.config)))


def same(before, now):
    return same_run(stored(before), identity(now.config), now.defaults)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", "default__seed-0"),
        ("seed=3", "default__seed-3"),
        ("dropout=0.3 seed=1", "dropout-0.3__seed-1"),
        ("dropout=0.3 dropout.where=fc", "dropout-0.3__dropout.where-fc__seed-0"),
        ("dropout=none dropout.where=fc", "default__seed-0"),
        ("optimizer=adam optimizer.lr=1e-3", "optimizer-adam__seed-0"),
        ("optimizer.lr=${data.fraction}", "optimizer.lr-1__seed-0"),
        ("optimizer=adam optimizer.lr=1e-2", "optimizer-adam__optimizer.lr-0.01__seed-0"),
        ("trainer.max_epochs=30 model.blocks=1", "model.blocks-1__max_epochs-30__seed-0"),
        ("augment=fly augment.transforms=[vflip,hflip]", "augment-fly__augment.transforms-vflip+hflip__seed-0"),
        ("scheduler=cosine trainer.max_epochs=30", "scheduler-cosine__max_epochs-30__seed-0"),
        ("output=there sweep.threads=4 logger=none", "default__seed-0"),
        ("model.hidden=null", "model.hidden-None__seed-0"),
    ],
)
def test_names_say_what_deviates(compose, overrides, name):
    assert run_name(compose(*overrides.split())) == name


def test_a_runs_data_is_part_of_its_name(compose):
    assert run_name(compose("data=sample", "data.fraction=0.5")) == "data-sample__data.fraction-0.5__seed-0"


LONG = [f"optimizer.{key}=0.12345" for key in ("lr", "momentum", "weight_decay")] + [
    "model.blocks=2",
    "model.width=17",
    "model.pool_strides=[1,2,1,2]",
    "augment=copies",
]


def test_names_are_short_and_need_no_quoting(compose):
    for overrides in (LONG, [*LONG, "activation=tanh"], ["+data.note='a b;c$d*é/..'"], ["dropout=0.3"]):
        name = run_name(compose(*overrides))
        assert len(name) <= 100
        assert shlex.quote(name) == name
        assert re.fullmatch(r"[A-Za-z0-9._+=-]+", name)


def test_a_cut_name_ends_in_a_hash_of_the_whole_run(compose):
    one, other = compose(*LONG, "seed=1"), compose(*LONG, "seed=2")
    assert len(run_name(one)) == 100
    assert run_name(one)[-10:] == f"__{digest(identity(one.config))}"
    assert re.fullmatch(r"[0-9a-f]{8}", digest(identity(one.config)))
    assert run_name(one)[:-8] == run_name(other)[:-8]
    assert run_name(one) != run_name(other)


def test_digest_tells_data_apart_and_no_spelling_of_a_number():
    assert digest({"lr": 1}) == digest({"lr": 1.0})
    assert digest({"lr": 1}) != digest({"lr": 2})
    assert digest({"lr": 1}, "one set") != digest({"lr": 1}, "another")
    assert digest({"trainer.limit_val_batches": 1}) != digest({"trainer.limit_val_batches": 1.0})


def test_same_run_by_hand():
    assert same_run({"lr": 0.1}, {"lr": 0.1}, {"lr": 0.1})
    assert same_run({"lr": 0.5}, {"lr": 0.5}, {"lr": 0.1})
    assert same_run({"lr": 0.1}, {"lr": 0.1, "new": 1}, {"lr": 0.1, "new": 1}), "a new key at its default"
    assert not same_run({"lr": 0.1}, {"lr": 0.1, "new": 2}, {"lr": 0.1, "new": 1}), "a new key with another value"
    assert not same_run({"lr": 0.1}, {"lr": 0.2}, {"lr": 0.2}), "a changed default"
    assert not same_run({"lr": 0.1}, {"lr": 0.2}, {"lr": 0.1}), "a changed value"
    assert not same_run({"lr": 0.1, "old": 1}, {"lr": 0.1}, {"lr": 0.1}), "a key that is gone"
    assert not same_run({"lr": 0.1}, {"lr": 0.1, "new": 1}, {"lr": 0.1}), "a new key without a default"
    assert not same_run({"lr": 0.1}, {"lr": 0.1, "new": 1}, {"new": 1}, lambda: ["new"]), "a key that was left out"
    one, whole = {"trainer.limit_val_batches": 1}, {"trainer.limit_val_batches": 1.0}
    assert same_run(one, one, {})
    assert same_run(whole, whole, {})
    assert not same_run(one, whole, whole)
    assert not same_run(whole, one, whole)
    assert not same_run({}, one, whole), "a new key with one batch, where all are the default"


@pytest.mark.parametrize(
    "overrides",
    [
        "data.root=elsewhere data.cache=elsewhere output=elsewhere sweep.dir=elsewhere",
        "logger=none",
        "trainer.device=cpu",
        "sweep.workers=2 sweep.threads=2 sweep.retry_failed=true",
        "seeds=3",
        "dropout=none",
        "dropout.where=fc",
        "dropout.where=conv dropout.channels=true",
        "init=default loss=cross_entropy",
        "optimizer.lr=1e-3",
    ],
)
def test_what_cannot_change_the_result_makes_no_other_run(compose, overrides):
    assert same(compose(), compose(*overrides.split()))
    assert same(compose(*overrides.split()), compose())


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "trainer.precision=bf16-mixed",
        "trainer.max_epochs=30",
        "dropout=0.3",
        "data=sample",
        "data.split_seed=1",
        "data.fraction=0.5",
        "data.batch_size=32",
        "optimizer.lr=0.01",
        "optimizer=adam",
        "model.blocks=2",
        "activation=tanh",
        "loss.l1=0.001",
    ],
)
def test_what_can_change_the_result_makes_another_run(compose, override):
    assert not same(compose(), compose(override))
    assert not same(compose(override), compose())


def test_with_dropout_its_place_matters(compose):
    assert not same(compose("dropout=0.3"), compose("dropout=0.3", "dropout.where=fc"))


def test_a_table_shares_its_runs_with_a_sweep_by_hand(compose):
    assert same(compose("experiment=cifar/init"), compose("dropout=0.3"))
    assert same(compose("experiment=cifar/dropout", "dropout=none"), compose("experiment=cifar/blocks"))


def test_new_keys_keep_finished_runs_and_changed_defaults_do_not(tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)

    def edit(name, old, new):
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def compose(*overrides):
        return Composer(folder).compose(overrides)

    asked = [("task=cifar",), ("task=mnist", "optimizer=adam"), ("experiment=cifar/init", "init=he")]
    before = [compose(*overrides) for overrides in asked]

    edit("model/cnn.yaml", "name: cnn\n", "name: cnn\ndilation: 1\n")
    edit("optimizer/adam.yaml", "name: adam\n", "name: adam\namsgrad: false\n")
    edit("base.yaml", "seed: 0 ", "repeat: {times: 1}\nseed: 0 ")
    after = [compose(*overrides) for overrides in asked]
    assert [now.config["model"]["dilation"] for now in after] == [1, 1, 1]
    assert [same(old, now) for old, now in zip(before, after, strict=True)] == [True, True, True]
    assert not same(before[0], compose("task=cifar", "model.dilation=2")), "a new key with another value"

    edit("model/cnn.yaml", "width: 16 ", "width: 32 ")
    after = [compose(*overrides) for overrides in asked]
    assert [same(old, now) for old, now in zip(before, after, strict=True)] == [False, True, False]
    assert same(before[0], compose("task=cifar", "model.width=16")), "the old default asked for by its value"


def test_a_class_that_moves_within_its_room_is_the_same():
    config = {"model": {"_target_": "retable.models.cnn.CNN"}, "seed": 0}
    assert identity(config)["model._target_"] == "retable.models.CNN"
    stored = {"model._target_": "retable.models.elsewhere.CNN", "seed": 0}
    assert same_run(stored, identity(config), {})
    before, now = ({"init": {"_target_": name}} for name in ("retable.training.init.he", "retable.training.he"))
    assert identity(before) == identity(now) == {"init._target_": "retable.training.he"}
    assert identity({"model": {"_target_": "my.models.cnn.CNN"}})["model._target_"] == "my.models.cnn.CNN"


def test_a_weights_file_is_known_by_its_content(tmp_path):
    import hashlib

    first, moved = tmp_path / "a" / "net.pth", tmp_path / "12:00:00" / "net.pth"
    for path in (first, moved):
        path.parent.mkdir()
        path.write_bytes(b"weights")

    def weights(path):
        return identity({"model": {"weights": str(path)}})["model.weights"]

    assert weights(first) == weights(moved) == f"net.pth:{hashlib.sha256(b'weights').hexdigest()[:12]}"
    moved.write_bytes(b"others")
    assert weights(moved) != weights(first)
    assert weights("imagenet") == "imagenet"
    assert weights(weights(first)) == weights(first)
    stored = identity({"model": {"weights": str(first)}})
    assert not same_run(stored, identity({"model": {"weights": str(moved)}}), {})
    moved.unlink()  # nothing to compare with: the name has to do
    assert same_run(stored, identity({"model": {"weights": str(moved)}}), {})
    assert not same_run(stored, identity({"model": {"weights": str(tmp_path / "other.pth")}}), {})


def test_a_name_leaves_out_what_the_table_shares(compose):
    from retable.config.compose import Composer
    from retable.config.identity import run_name, shared_deviations

    composer = Composer()
    runs = [composer.compose(["experiment=gland/batch", f"data.batch_size={size}"]) for size in (8, 32)]
    shared = shared_deviations(runs)
    assert {"data.flips", "data.holdout"} <= shared
    names = [run_name(run, "gland/batch", shared) for run in runs]
    assert names == ["batch__data.batch_size-8__seed-0", "batch__seed-0"]


def test_a_name_that_is_too_long_keeps_what_tells_a_sweeps_runs_apart(compose):
    runs = [compose(*LONG, f"seed={seed}", f"data.fraction={share}") for seed in (0, 1) for share in (0.25, 0.5)]
    alike = shared_deviations(runs)
    names = [run_name(run, None, (), alike) for run in runs]
    assert [name[:-10] for name in names] == [
        "data.fraction-0.25__seed-0",
        "data.fraction-0.5__seed-0",
        "data.fraction-0.25__seed-1",
        "data.fraction-0.5__seed-1",
    ]
    assert [name[-8:] for name in names] == [digest(identity(run.config)) for run in runs]
    short = [compose("data.fraction=0.5", f"dropout={p}") for p in (0.2, 0.3)]
    wanted = ["data.fraction-0.5__dropout-0.2__seed-0", "data.fraction-0.5__dropout-0.3__seed-0"]
    assert [run_name(run, None, (), shared_deviations(short)) for run in short] == wanted


@pytest.mark.parametrize("option", ["cpu", "gpu", "ddp", "ddp_sim"])
def test_where_a_run_is_trained_is_no_part_of_its_name(compose, option):
    plain, there = compose(), compose(f"trainer={option}")
    assert run_name(there) == run_name(plain) == "default__seed-0"
    assert identity(there.config) == identity(plain.config)
    assert there.config["trainer"] != plain.config["trainer"]
