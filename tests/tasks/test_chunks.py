"""Many mini-batches in one Lightning step are as many steps of one mini-batch."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from retable.data.loader import DeviceLoader
from retable.run import files, steps
from retable.run.execute import execute
from retable.tasks.classification import Classification
from tests.runs import untimed

pytestmark = pytest.mark.usefixtures("no_figures")


def weights_after(chunk: int, precision: str) -> list[torch.Tensor]:
    """Weights of a small network after 8 steps."""
    torch.manual_seed(0)
    shared = nn.Linear(12, 12)  # used twice a step: its gradient is a sum
    model = nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared, nn.Linear(12, 3))
    task = Classification(model, nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.5), ("a", "b", "c"))
    images, targets = torch.rand(32, 3, 2, 2), torch.randint(0, 3, (32,))
    task.automatic_optimization = False
    loader = DeviceLoader(images, targets, 4, lambda x: x, chunk=chunk, whole=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", precision=precision, enable_model_summary=False, **quiet)
    trainer.fit(task, loader)
    assert trainer.global_step == 8
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("cache", [False, True])
def test_mixed_precision_casts_the_weights_of_each_step(monkeypatch, cache):
    """Whatever the caller's cache of cast weights does, which lasts as long as its context, here a whole chunk."""

    def context(self: MixedPrecision) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache)

    monkeypatch.setattr(MixedPrecision, "autocast_context_manager", context)
    for one, other in zip(weights_after(8, "bf16-mixed"), weights_after(1, "bf16-mixed"), strict=True):
        assert torch.equal(one, other)


# Each task with a few mini-batches an epoch; what draws random numbers and every scheduler in one of them.
SMALL = {
    "mnist": ["data.fraction=0.2", "model.width=4", "dropout=0.3", "augment=fly", "scheduler=cosine"],
    "cifar": ["data.fraction=0.3", "model.width=4", "augment=copies", "loss.l1=0.001", "scheduler=plateau"],
    "brain": ["data.fraction=0.05", "data.batch_size=8", "model.widths=[4,8,8,8,8]", "scheduler=step"],
    "gland": ["data.size=32", "data.batch_size=4", "optimizer=sgd"],
    "lesion": ["data.size=32", "data.batch_size=4", "data.fraction=0.5", "model.weights=none"],
    "fcn": ["data.size=32", "data.batch_size=4", "data.fraction=0.5", "model.weights=none", "model.head=8"],
    "ventricle": ["data.size=32", "data.batch_size=4", "model.width=2"],
    "wildlife": [
        *(
            "data.shorter=32",
            "data.longer=48",
            "data.batch_size=4",
            "data.fraction=0.3",
            "trainer.validate_first=false",
            "trainer.gradient_clip_val=null",
        ),
        *("model.backbone=resnet18", "model.width=8", "model.weights=none", "optimizer=adam"),
    ],
}


@pytest.fixture
def one_by_one(monkeypatch):
    """Call it, and runs take single steps."""
    return lambda: monkeypatch.setattr(steps, "_reasons", lambda *_: iter(["a test"]))


def left(directory: Path) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """A run's history without times, and its checkpoint."""
    rows = files.read_history(directory / files.HISTORY)
    checkpoint = torch.load(directory / files.CHECKPOINT, weights_only=True)
    return untimed(rows), checkpoint


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, through all containers."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other or (one != one and other != other)


def assert_same_training(one: Path, other: Path) -> None:
    (rows, checkpoint), (other_rows, other_checkpoint) = left(one), left(other)
    assert_same(rows, other_rows)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_same(checkpoint[key], other_checkpoint[key])


@pytest.mark.parametrize("task", SMALL)
def test_a_run_in_chunks_is_the_run_of_single_steps(compose, tmp_path, one_by_one, task):
    config = compose(f"task={task}", *SMALL[task], "trainer.max_epochs=2", "trainer.device=cpu")
    result = execute(config, tmp_path / "chunks")
    assert result["stepping"] == {"in_chunks": True, "because": "nothing asks for single steps"}
    one_by_one()
    other = execute(config, tmp_path / "alone")
    assert other["stepping"] == {"in_chunks": False, "because": "a test"}
    assert other["step"] == result["step"] > 5
    assert_same_training(tmp_path / "chunks", tmp_path / "alone")


def test_a_run_goes_on_in_the_other_way(compose, tmp_path, one_by_one):
    config = compose("task=mnist", *SMALL["mnist"], "trainer.max_epochs=4", "trainer.device=cpu")
    execute(config, tmp_path / "whole")
    epochs: list[int] = []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: len(epochs) == 2}
    assert execute(config, tmp_path / "changed", **stop)["status"] == "interrupted"
    one_by_one()
    assert execute(config, tmp_path / "changed")["status"] == "finished"
    assert_same_training(tmp_path / "whole", tmp_path / "changed")
