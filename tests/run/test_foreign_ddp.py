"""A module of somebody's own under `trainer=ddp`: two processes train the run that one trains."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from retable.errors import ConfigError
from retable.run import files, foreign_ranks
from retable.run.execute import execute
from tests.run.test_foreign import Stopped, composed, project, stop_after  # noqa: F401, a fixture
from tests.runs import history, same

DDP = ("trainer=ddp", "trainer.max_epochs=2")


@pytest.mark.parametrize(
    "more",
    [
        ("data.batch_size=33",),  # 240 items: 7 mini-batches of 17 and 16, one of 5 and 4
        pytest.param(("data._target_=stranger.OwnGenerator", "data.batch_size=16"), marks=pytest.mark.slow),
        pytest.param(("module._target_=stranger.Tested", "data.workers=1"), marks=pytest.mark.slow),
    ],
    ids=["uneven", "generator", "test and workers"],
)
def test_two_processes_equal_one(project, more):  # noqa: F811
    alone = execute(composed("trainer.max_epochs=2", "+module.dropout=0.0", *more), project / "alone")
    together = execute(composed(*DDP, "+module.dropout=0.0", *more), project / "together")
    assert together["status"] == "finished"
    assert together["step"] == alone["step"]
    same(history(project / "together"), history(project / "alone"))
    left = {path.name for path in (project / "alone").iterdir()}
    assert {path.name for path in (project / "together").iterdir()} == left
    assert together["data"]["fingerprint"] == alone["data"]["fingerprint"]


@pytest.mark.slow
def test_weights_that_no_loss_reaches_want_lightnings_other_ddp(project):  # noqa: F811
    """PyTorch's DistributedDataParallel refuses the second step of them unless it is told to look for them."""
    words = ("module._target_=stranger.Alternating", "trainer.max_epochs=2", "+module.dropout=0.0")
    with pytest.raises(RuntimeError, match="find_unused_parameters=True"):
        execute(composed(*words, "trainer=ddp"), project / "plain")
    other = ("trainer=ddp", "trainer.strategy=ddp_find_unused_parameters_true")
    together = execute(composed(*words, *other), project / "together")
    assert together["status"] == "finished"
    execute(composed(*words), project / "alone")
    same(history(project / "together"), history(project / "alone"))


@pytest.mark.slow
def test_each_process_has_a_logger_and_one_writes(project):  # noqa: F811
    words = ("module._target_=stranger.Drawing", "trainer.max_epochs=1", "logger=tensorboard", "callbacks=lr_monitor")
    assert execute(composed("trainer=ddp", *words), project / "run")["status"] == "finished"
    assert len(list((project / "run/steps").glob("events.*"))) == 1


@pytest.mark.slow
def test_a_resumed_run_equals_an_undisturbed_one(project):  # noqa: F811
    config = composed("trainer=ddp", "trainer.max_epochs=3")
    execute(config, project / "whole")
    with pytest.raises(Stopped):
        execute(config, project / "parts", on_epoch=stop_after(1))
    files.remove([project / "parts" / files.RESULT])
    execute(config, project / "parts")
    assert history(project / "parts") == history(project / "whole")


@pytest.mark.slow
def test_one_process_that_diverges_ends_the_run_as_diverged(project):  # noqa: F811
    result = execute(composed(*DDP, "+module.diverge=true"), project / "run")
    assert (result["status"], result["diverged"]["epoch"]) == ("diverged", 1)


def test_shares_and_what_makes_their_mean_the_mini_batchs(tmp_path: Path):
    loader = DataLoader(TensorDataset(torch.arange(10.0)), batch_size=4)
    shares = [foreign_ranks.shared(loader, rank, 3) for rank in range(3)]
    with pytest.raises(ConfigError, match=r"2 items are left to a mini-batch of 3 processes; accepted: drop_last=True"):
        list(shares[0])
    loader = DataLoader(TensorDataset(torch.arange(10.0)), batch_size=7)
    shares = [foreign_ranks.shared(loader, rank, 3) for rank in range(3)]
    given = [[batch[0].tolist() for batch in share] for share in shares]
    assert given == [[[0, 1], [7]], [[2, 3], [8]], [[4, 5, 6], [9]]]
    factors = [share.batch_sampler.factors for share in shares]
    assert factors == [[6 / 7, 1], [6 / 7, 1], [9 / 7, 1]]
    # (6/7 mean(0, 1) + 6/7 mean(2, 3) + 9/7 mean(4, 5, 6)) / 3 is the mean of all seven
    assert sum(f[0] * sum(g[0]) / len(g[0]) for f, g in zip(factors, given, strict=True)) / 3 == pytest.approx(3)
    assert foreign_ranks.scaled({"loss": 3.0, "n": 2}, 0.5) == {"loss": 1.5, "n": 2}
    assert foreign_ranks.scaled(None, 0.5) is None


def test_what_cannot_be_shared_is_refused_in_a_line(project):  # noqa: F811
    with pytest.raises(ConfigError, match=r"^trainer.strategy=ddp: train_dataloader gives a list; accepted: one"):
        foreign_ranks.shared([], 0, 2)
    with pytest.raises(ConfigError, match=r"^trainer.strategy=ddp: train_dataloader gives a DataLoader; accepted: one"):
        execute(composed(*DDP, "data._target_=stranger.Streamed"), project / "run")
