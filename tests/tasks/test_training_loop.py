"""The loop of retable.tasks.base against loops written by hand, and what Lightning counts meanwhile."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from retable.data.loader import EpochOrder
from retable.run.assemble import make_data, make_task
from retable.run.output import quieten_lightning
from retable.training.gradients import GRAD_NORM_EVERY

SMALL = ("task=mnist", "data.fraction=0.2", "model.width=4", "trainer.max_epochs=2")  # 400 digits: 13 steps an epoch


def parts(config):
    quieten_lightning()
    pl.seed_everything(config["seed"], verbose=False)
    data = make_data(config)
    return data, make_task(config, data)


def fit(config, in_chunks=False, **trainer):
    data, task = parts(config)
    data.whole_chunks, task.automatic_optimization = in_chunks, not in_chunks
    options = {"max_epochs": config["trainer"]["max_epochs"], "accelerator": "cpu"} | trainer
    runner = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    runner.fit(task, datamodule=data)
    return runner, task, data


def by_hand(config, steps=None, penalty=0.0):
    """The plain loop: the same order, one mini-batch after another. Returns the model, losses and last gradients."""
    data, task = parts(config)
    data.setup("fit")
    model, losses = task.model, []
    optimizer = task.configure_optimizers()["optimizer"]
    order = EpochOrder(len(data.train_targets), config["seed"])
    model.train()
    for epoch in range(config["trainer"]["max_epochs"]):
        order.set_epoch(epoch)
        for index in order.permutation().split(config["data"]["batch_size"]):
            if steps is not None and len(losses) == steps:
                return model, losses
            optimizer.zero_grad()
            logits = model(data.normalise(data.train_images[index]))
            loss = nn.functional.cross_entropy(logits, data.train_targets[index])
            total = loss
            if penalty:
                total = loss + penalty * sum(p.abs().sum() for p in model.parameters())
            total.backward()
            optimizer.step()
            losses.append(loss.item())
    return model, losses


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, left), right in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize("in_chunks", [True, False])
@pytest.mark.parametrize("extra", [(), ("optimizer=adam",), ("dropout=0.3",), ("model.batch_norm=true",)])
def test_training_equals_the_plain_loop_bit_for_bit(compose, extra, in_chunks):
    config = compose(*SMALL, *extra)
    runner, task, _ = fit(config, in_chunks)
    model, losses = by_hand(config)
    assert runner.global_step == len(losses) == 26
    assert_equal(task.model, model)
    # 400 = 12 * 32 + 16: an epoch's loss weighs the last, smaller batch by its size.
    expected = (sum(losses[13:25]) * 32 + losses[25] * 16) / 400
    assert task.epoch_metrics["train/loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("in_chunks", [True, False])
def test_max_steps_stops_inside_an_epoch(compose, in_chunks):
    config = compose(*SMALL)
    runner, task, _ = fit(config, in_chunks, max_steps=17, max_epochs=-1)
    model, losses = by_hand(config, steps=17)
    assert runner.global_step == len(losses) == 17
    assert_equal(task.model, model)
    assert "val/accuracy" in task.epoch_metrics


@pytest.mark.parametrize("in_chunks", [True, False])
@pytest.mark.parametrize(("limit", "steps"), [(3, 3), (0.5, 6)])
def test_batch_limits_count_mini_batches(compose, limit, steps, in_chunks):
    config = compose(*SMALL, "trainer.max_epochs=1")
    runner, task, _ = fit(config, in_chunks, limit_train_batches=limit, max_epochs=1)
    assert runner.global_step == steps
    assert_equal(task.model, by_hand(config, steps=steps)[0])


def test_fast_dev_run_counts_optimizer_steps(compose):
    runner, _, _ = fit(compose(*SMALL), fast_dev_run=2)
    assert runner.global_step == 2


def test_limited_validation_counts_batches(compose):
    _, task, _ = fit(compose(*SMALL, "data.eval_batch_size=50"), limit_val_batches=3, max_epochs=1)
    assert int(task.matrices["val"].sum()) == 150


def test_l1_penalty_changes_the_gradient_and_not_the_reported_loss(compose):
    config = compose(*SMALL, "loss.l1=0.01")
    _, task, _ = fit(config)
    model, losses = by_hand(config, penalty=0.01)
    for left, right in zip(task.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
    expected = (sum(losses[13:25]) * 32 + losses[25] * 16) / 400
    assert task.epoch_metrics["train/loss"] == pytest.approx(expected, rel=1e-4)


def test_gradient_norms_are_those_of_the_sampled_steps(compose):
    assert GRAD_NORM_EVERY > 13  # so that only the epoch's last step is sampled
    config = compose(*SMALL, "trainer.max_epochs=1")
    _, task, _ = fit(config)
    model, _ = by_hand(config)
    for name, layer in (("features.block1.0", model.features.block1[0]), ("head.1", model.head[1])):
        expected = torch.cat([layer.weight.grad.flatten(), layer.bias.grad.flatten()]).norm().item()
        assert task.epoch_metrics[f"grad_norm/{name}"] == pytest.approx(expected, rel=1e-5)


def test_counts_cover_every_image_once(compose):
    _, task, data = fit(compose(*SMALL))
    for part, targets in (("train", data.train_targets), ("val", data.val_targets)):
        assert task.matrices[part].sum(1).tolist() == targets.bincount(minlength=10).tolist()
    assert len(task.val_predictions) == len(data.val_targets)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (("scheduler=none",), [0.1, 0.1, 0.1, 0.1]),
        (("scheduler=step", "scheduler.step_size=2"), [0.1, 0.1, 0.01, 0.01]),
        (("scheduler=cosine",), [0.1, 0.0853553, 0.05, 0.0146447]),  # 0.05 * (1 + cos(pi * epoch / 4))
    ],
)
def test_learning_rate_of_each_epoch(compose, scheduler, expected, tmp_path):
    from retable.run.execute import execute

    rates = []
    config = compose(*SMALL, "trainer.max_epochs=4", "trainer.limit_train_batches=1", *scheduler)
    execute(config, tmp_path / "run", on_epoch=lambda row: rates.append(row["lr"]))
    assert rates == pytest.approx(expected, rel=1e-5)


def test_plateau_lowers_the_rate_when_validation_loss_stays(compose, tmp_path):
    from retable.run.execute import execute

    rows = []
    config = compose(*SMALL, "trainer.max_epochs=4", "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=30")
    execute(config, tmp_path / "run", on_epoch=rows.append)
    best, expected = float("inf"), [30.0]
    for row in rows[:-1]:
        worse = row["val/loss"] >= best * (1 - 1e-4)
        expected.append(expected[-1] * 0.1 if worse else expected[-1])
        best = min(best, row["val/loss"])
    assert [row["lr"] for row in rows] == pytest.approx(expected)


# Losses of the first epochs on the samples, written down when the loop was found equal to the plain one. They hold for
# every CPU up to rounding; a refactoring must not change them.
GOLDEN = {
    ("task=mnist",): [2.3071821, 2.2413425],
    ("task=cifar", "model.blocks=1", "optimizer.lr=0.01", "model.width=32", "data.batch_size=32"): [2.30305, 2.18969],
}


@pytest.mark.parametrize("overrides", GOLDEN)
def test_golden_loss_trace(compose, overrides, tmp_path):
    from retable.run.execute import execute

    losses = []
    config = compose(*overrides, "data.fraction=0.2", "trainer.max_epochs=2")
    execute(config, tmp_path / "run", on_epoch=lambda row: losses.append(row["train/loss"]))
    assert losses == pytest.approx(GOLDEN[overrides], rel=2e-4)
