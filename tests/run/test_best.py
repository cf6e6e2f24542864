"""Which epoch of a run is best: the task's metrics say in which direction, and an untrained model wins no tie."""

import math

import pytest
import torch
from torch import nn

from retable.errors import ConfigError
from retable.run import files
from retable.run.assemble import best_is_highest, make_data, make_task
from retable.run.execute import execute
from retable.run.record import Record
from retable.tasks.segmentation import Segmentation
from tests.checking import check


def best(folder, metric: str, higher_is_better: bool, values: list[float | None]) -> int | None:
    record = Record(folder, metric, higher_is_better, extra={}, events=None, on_epoch=print)
    record.rows = [{"epoch": epoch} | ({} if value is None else {metric: value}) for epoch, value in enumerate(values)]
    return record.best.get("epoch")


@pytest.mark.parametrize(
    ("higher", "values", "epoch"),
    [
        (True, [0.1, 0.5, 0.5, 0.2], 1),
        (False, [0.1, 0.5, 0.05, 0.2], 2),
        (True, [0.5, 0.5, 0.4], 1),  # epoch 0, before training, ties
        (True, [0.5, 0.4, 0.3], 0),
        (False, [0.5, 0.5, 0.6], 1),
        (True, [None, math.nan, 0.3, None], 2),
        (True, [None, math.nan], None),
    ],
)
def test_best_epoch(tmp_path, higher, values, epoch):
    assert best(tmp_path, "val/x", higher, values) == epoch


def test_metrics_of_a_class_have_the_direction_of_the_metric():
    parts = {"model": nn.Identity(), "loss": nn.MSELoss(), "optimizer": None, "classes": ("CSF", "GM", "WM")}
    task = Segmentation(**parts, background=True)
    config = {"task": {"name": "brain", "metric": "val/dice/WM"}}
    assert best_is_highest(config, task) is True
    assert best_is_highest({"task": {"name": "brain", "metric": "val/loss"}}, task) is False
    with pytest.raises(ConfigError) as refused:
        best_is_highest({"task": {"name": "brain", "metric": "val/dice/VM"}}, task)
    names = ("loss", "dice", "iou", "accuracy", "dice/CSF", "accuracy/CSF", "dice/GM", "accuracy/GM")
    names = (*names, "dice/WM", "accuracy/WM")
    accepted = ", ".join(f"{split}/{name}" for split in ("val", "train") for name in names)
    assert str(refused.value) == f"task.metric=val/dice/VM: accepted: {accepted}"


def test_a_misspelt_metric_is_refused_before_training(compose, tmp_path):
    config = compose("task=cifar", "task.metric=val/acuracy", "trainer.max_epochs=1")
    message = r"^task\.metric=val/acuracy: accepted: val/loss, val/accuracy, train/loss, train/accuracy$"
    with pytest.raises(ConfigError, match=message):
        check(config)
    with pytest.raises(ConfigError, match=message):
        execute(config, tmp_path / "run")
    assert not (tmp_path / "run" / files.HISTORY).exists()


TASKS = {
    "mnist": ["data.fraction=0.1"],
    "gland": ["data.size=32", "data.batch_size=4"],
    "brain": ["data.fraction=0.02", "model.widths=[4,8,8,8,8]"],
    "wildlife": ["model.backbone=resnet18", "model.weights=none", "model.width=8", "data.shorter=64", "data.longer=96"],
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_declares_just_the_metrics_that_it_computes(compose, name):
    data = make_data(config := compose(f"task={name}", *TASKS[name]))
    data.setup()
    task = make_task(config, data)
    for split, loader in (("train", data.train_dataloader()), ("val", data.val_dataloader())):
        task.train(split == "train")
        task.start(split)
        images, targets = (part[:4] for part in next(iter(loader)))
        with torch.set_grad_enabled(split == "train"):
            task.evaluate_batch(split, images, targets)
        assert list(task.metrics_of(split)) == [f"{split}/{name}" for name in task.metrics(split)]
