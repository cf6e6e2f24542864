"""A Task and its DataModule under Lightning's Trainer with its own defaults, and each without the other."""

import copy
import re
import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from retable.errors import DataError
from retable.run import files
from retable.run.assemble import make_data, make_task
from retable.run.execute import execute
from retable.tasks import Classification, Segmentation, Task

SMALL = {
    "mnist": ["data.fraction=0.1", "model.width=4"],
    "gland": ["data.size=32", "data.batch_size=8"],
    "wildlife": [
        *("data.shorter=32", "data.longer=48", "data.fraction=0.3", "optimizer=adam"),
        *("model.backbone=resnet18", "model.width=8", "model.weights=none"),
    ],
}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def parts(compose):
    def make(task: str, *more: str) -> tuple[Task, pl.LightningDataModule]:
        config = compose(f"task={task}", *SMALL[task], *more)
        torch.manual_seed(0)
        data = make_data(config)
        return make_task(config, data), data

    return make


FORKED = """
import pytorch_lightning as pl
from retable.config.compose import Composer
from retable.run.assemble import make_data, make_task
config = Composer().compose(["task=mnist", "data=sample", "data.fraction=0.1", "model.width=4"]).config
data = make_data(config)
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp_fork", **quiet)
trainer.fit(make_task(config, data), datamodule=data)
"""


def test_processes_that_know_nothing_of_each_other_are_refused(tmp_path):
    """In a process of its own: to fork one that has threads, as pytest's may, can stop for ever."""
    done = subprocess.run([sys.executable, "-c", FORKED], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    said = r"ConfigError: Trainer\(devices=2, num_nodes=1\): a Task's processes share .*; accepted: one, or trainer=ddp"
    assert re.search(said, done.stderr), done.stderr


@pytest.mark.parametrize("name", SMALL)
def test_fit_test_and_predict_with_the_trainers_defaults(parts, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the default logger and checkpoints go
    task, data = parts(name)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu")
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == len(data.train_dataloader()) > 0
    assert set(trainer.callback_metrics) >= {"train/loss", "val/loss"} | {f"val/{m}" for m in task.metrics("val")}
    (tested,) = trainer.test(task, datamodule=data)
    held_out = data.val_targets if data.test_targets is None else data.test_targets
    assert set(tested) == {f"test/{metric}" for metric in task.metrics("test")}
    predicted = trainer.predict(task, datamodule=data)
    assert sum(len(part) for part in predicted) == len(held_out)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    loaded = Task.load_from_checkpoint(checkpoint)
    assert type(loaded) is type(task)
    for one, other in zip(loaded.state_dict().values(), task.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    images, _ = next(iter(data.val_dataloader()))
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(images), task.eval()(images))


def made_by_hand(**more) -> Classification:
    torch.manual_seed(0)
    parts = {"model": nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), "loss": nn.CrossEntropyLoss()}
    parts["optimizer"] = lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    return Classification(**parts, **more)


def points() -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(30, 3, 2, 2, generator=generator)
    targets = images.flatten(1)[:, :3].argmax(1)
    return DataLoader(TensorDataset(images, targets), batch_size=8)


def test_an_ordinary_dataloader_and_a_task_made_by_hand(tmp_path):
    task = made_by_hand(classes=("a", "b", "c"), l1=0.001)
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path)
    trainer.fit(task, points(), points())
    assert trainer.global_step == 2 * 4
    assert int(task.matrices["val"].sum()) == 30
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    given = {key: getattr(made_by_hand(classes=("a",)), key) for key in ("model", "loss")}
    loaded = Classification.load_from_checkpoint(checkpoint, weights_only=False, **given, optimizer=None)
    assert (loaded.classes, loaded.l1) == (("a", "b", "c"), 0.001)
    assert torch.equal(loaded.model[1].weight, task.model[1].weight)
    with pytest.raises(DataError, match="of no run of this project; accepted: with model=, loss=, optimizer="):
        Classification.load_from_checkpoint(checkpoint)


def test_a_runs_checkpoint_is_loaded_without_further_words(compose, tmp_path):
    config = compose("task=mnist", *SMALL["mnist"], "trainer.max_epochs=1", "trainer.device=cpu")
    execute(config, tmp_path / "run")
    path = tmp_path / "run" / files.CHECKPOINT
    task = Classification.load_from_checkpoint(path)
    same = Classification.load_from_checkpoint(path, strict=True, weights_only=True)  # Lightning's own arguments
    assert torch.equal(
        torch.cat([p.flatten() for p in same.parameters()]), torch.cat([p.flatten() for p in task.parameters()])
    )
    assert task.classes == tuple("0123456789")
    assert task(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(DataError, match="a Classification; accepted: a Segmentation"):
        Segmentation.load_from_checkpoint(path)


def test_accumulation_and_clipping_are_the_trainers(tmp_path):
    quiet = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    task = made_by_hand(classes=("a", "b", "c"))
    before = task.model[1].weight.detach().clone()
    trainer = pl.Trainer(max_epochs=1, accumulate_grad_batches=4, gradient_clip_val=1e-3, **quiet)
    trainer.fit(task, points())
    assert trainer.global_step == 1
    moved = (task.model[1].weight - before).norm()
    assert 0 < float(moved) <= 0.1 * 1e-3 * 1.01  # a step of 0.1 along a gradient of norm 0.001


def test_learning_rate_finder(parts, tmp_path):
    task, data = parts("mnist", "data.fraction=1.0")
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path)
    found = Tuner(trainer).lr_find(task, datamodule=data, num_training=30)
    assert task.lr == found.suggestion() > 0
    assert task.configure_optimizers()["optimizer"].param_groups[0]["lr"] == task.lr


class Plain(pl.LightningModule):
    """The same network and loss with nothing of this project around them."""

    def __init__(self, model: nn.Module, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__()
        self.model, self.lr, self.rest = model, lr, {"momentum": momentum, "weight_decay": weight_decay}

    def training_step(self, batch, index):
        images, targets = batch
        return nn.functional.cross_entropy(self.model(images), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, **self.rest)


@pytest.mark.parametrize(("name", "fraction", "learnt"), [("mnist", 0.05, 0.8), ("cifar", 0.4, None)])
def test_the_rate_that_is_found_on_real_data_is_that_of_a_plain_module_and_can_be_used(
    compose, data_root, tmp_path, name, fraction, learnt
):
    """About 100 mini-batches; without learning the accuracy is 0.1, of ten classes. Of CIFAR's network so few steps say
    little: what Lightning suggests, of either, is too high to learn by."""
    words = ["data=real", f"data.root={data_root}", f"data.fraction={fraction}", "model.width=8", "dropout=none"]
    words += ["data.batch_size=32"]
    config = compose(f"task={name}", *words)
    torch.manual_seed(0)
    data = make_data(config)
    task = make_task(config, data)
    given = {key: config["optimizer"][key] for key in ("lr", "momentum", "weight_decay")}
    plain = Plain(copy.deepcopy(task.model), **given)
    found = {}
    for module in (task, plain):
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        found[module] = Tuner(trainer).lr_find(module, datamodule=data, num_training=60)
    assert found[task].results == found[plain].results
    assert len(found[task].results["loss"]) == 60
    assert task.lr == plain.lr == found[task].suggestion()
    if learnt is not None:
        trainer = pl.Trainer(max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        trainer.fit(task, datamodule=data)
        assert float(trainer.callback_metrics["val/accuracy"]) > learnt
