"""A training that ends before its first validation is refused before its first step, where that logs task.metric."""
# ruff: noqa: F811

import pytest
import pytorch_lightning as pl
import torch

from retable.errors import ConfigError
from retable.run import foreign
from retable.run.execute import execute
from tests.run.stranger import LeavesData, LitNet
from tests.run.test_foreign import composed, project  # noqa: F401, fixtures
from tests.runs import history


class Plain(LitNet):
    """Without a scheduler that needs a validation."""

    validated = 0

    def on_validation_epoch_end(self):
        self.validated += 1

    configure_optimizers = lambda self: super().configure_optimizers()["optimizer"]  # noqa: E731


CASES = [  # of 8 batches an epoch
    {"max_steps": 7},
    {"max_steps": 8},
    {"max_steps": 3, "val_check_interval": 4},
    {"max_steps": 4, "val_check_interval": 4},
    {"max_steps": 2, "val_check_interval": 0.25},
    {"max_steps": 2, "accumulate_grad_batches": 3},
    {"max_steps": 3, "accumulate_grad_batches": 3},
    {"max_steps": 15, "check_val_every_n_epoch": 2},
    {"max_steps": 16, "check_val_every_n_epoch": 2},
    {"max_steps": 5, "accumulate_grad_batches": 3, "check_val_every_n_epoch": 2},
    {"max_steps": 6, "accumulate_grad_batches": 3, "check_val_every_n_epoch": 2},
    {"max_steps": 10, "check_val_every_n_epoch": None, "val_check_interval": 11},
    {"max_steps": 11, "check_val_every_n_epoch": None, "val_check_interval": 11},
    {"max_steps": 2, "limit_train_batches": 3},
    {"max_steps": 3, "limit_train_batches": 3},
    {"max_epochs": 2, "check_val_every_n_epoch": 3},
    {"max_epochs": 3, "check_val_every_n_epoch": 3},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_it_is_refused_where_lightning_itself_validates_nothing(project, settings):
    module, settings = Plain(), {"max_epochs": 3} | settings
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(accelerator="cpu", num_sanity_val_steps=0, **quiet, **settings).fit(module, datamodule=LeavesData())
    words = [f"trainer.{key}={'null' if value is None else value}" for key, value in settings.items()]
    config = composed("module._target_=stranger.Nameless", "task.metric=recon", "task.mode=min", *words)
    if module.validated:
        execute(config, project / "run")
        assert any("recon" in row for row in history(project / "run"))
        return
    with pytest.raises(ConfigError, match=r"^trainer\.max_\w+=\d+: training ends before its first validation, .*recon"):
        execute(config, project / "run")
    assert not (project / "run/history.csv").exists()


def test_one_whose_metric_training_logs_needs_none(project):
    words = ("module._target_=stranger.Nameless", "task.metric=g_loss", "task.mode=min", "trainer.max_steps=3")
    assert execute(composed(*words), project / "run")["status"] == "finished"
    assert [row["step"] for row in history(project / "run")] == [3]


def test_an_epoch_without_a_length_is_not_refused(project):
    words = ("data._target_=stranger.Streamed", "trainer.max_steps=1")
    assert execute(composed(*words), project / "run")["status"] == "finished"


@pytest.mark.parametrize("known", [False, True], ids=["not tried yet", "tried"])
def test_to_ask_leaves_the_training_its_random_numbers(project, monkeypatch, known):
    """Where training logs the metric it goes on, with the figures that it has elsewhere."""
    monkeypatch.setattr(foreign, "_TRIED", {})
    config = composed("task.metric=train_loss", "task.mode=min")
    if known:
        foreign.check_validated(config, "")
    state = torch.get_rng_state()
    foreign.check_validated(config, "")
    assert torch.equal(torch.get_rng_state(), state)
