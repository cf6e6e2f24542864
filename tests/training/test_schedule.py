"""Schedulers that step with the optimizer, and rules of early stopping that watch what there is."""

import math
import shutil

import pytest
import torch
from torch import nn

from retable.run import execute as execution
from retable.run import files
from retable.run.execute import execute
from retable.training import WarmupCosine
from tests.checking import refusal

TINY = ("task=mnist", "data.fraction=0.1", "model.width=4", "trainer.device=cpu", "trainer.max_epochs=2")  # 14 steps
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(execution, "_draw", lambda *_: None)


def rates(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warm_up_and_cosine():
    found = rates(lambda optimizer: WarmupCosine(optimizer, 10, warmup=0.2, eta_min=0.02), 10)
    falling = [0.02 + 0.08 * (1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)]
    assert found == pytest.approx([0.05, 0.1, *falling])


@pytest.mark.parametrize("name", ["one_cycle", "warmup_cosine"])
def test_a_run_steps_with_its_optimizer_and_resumes(compose, tmp_path, name):
    config = compose(*TINY, f"scheduler={name}", "trainer.max_epochs=3")
    result = execute(config, tmp_path / "whole")
    assert result["stepping"] == {"in_chunks": False, "because": "scheduler.interval=step"}
    if name == "one_cycle":
        options = {"total_steps": 21, "cycle_momentum": False}
        expected = rates(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, **options), 20)
    else:
        expected = rates(lambda o: WarmupCosine(o, 21), 21)
    rows = files.read_history(tmp_path / "whole" / files.HISTORY)
    assert [row["lr"] for row in rows[:2]] == pytest.approx([expected[6], expected[13]])  # of each epoch's last step
    epochs: list[int] = []
    stop = {"on_epoch": lambda row: epochs.append(row["epoch"]), "should_interrupt": lambda: len(epochs) == 1}
    assert execute(config, tmp_path / "parts", **stop)["status"] == "interrupted"
    execute(config, tmp_path / "parts")
    again = files.read_history(tmp_path / "parts" / files.HISTORY)
    assert [row["train/loss"] for row in again] == [row["train/loss"] for row in rows]


def test_patience_ends_a_run(compose, tmp_path):
    stop = ("early_stop=patience", "early_stop.patience=2", "early_stop.min_delta=0.9")
    result = execute(compose(*TINY, "trainer.max_epochs=9", *stop), tmp_path / "run")
    assert (result["epochs"], result["early_stop"]) == (3, {"patience": 3})
    assert result["stepping"]["in_chunks"]


REFUSED = {
    "early_stop=change": "early_stop.metric=dice: accepted: loss, accuracy",
    "early_stop=patience early_stop.metric=val/dice": (
        "early_stop.metric=val/dice: accepted: val/loss, val/accuracy, train/loss, train/accuracy"
    ),
    "early_stop=patience early_stop.patience=0": "early_stop.patience=0: accepted: a whole number of at least 1",
    "scheduler=warmup_cosine scheduler.warmup=1": "scheduler.warmup=1: accepted: a number in [0, 1)",
    "scheduler=one_cycle scheduler.interval=batch": "scheduler.interval=batch: accepted: epoch, step",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_is_refused(compose, overrides):
    assert refusal(compose(*TINY, *overrides.split())) == REFUSED[overrides]


def test_a_compiled_model_trains_as_the_plain_one_and_keeps_its_names(compose, tmp_path, monkeypatch):
    """With the backend that needs no C++ compiler."""
    asked, plain = [], nn.Module.compile

    def compiled(module: nn.Module) -> None:
        asked.append(type(module).__name__)
        plain(module, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compiled)
    for name in ("false", "true"):
        execute(compose(*TINY, f"trainer.compile={name}"), tmp_path / name)
    assert asked == ["CNN"]
    one, other = (
        torch.load(tmp_path / n / files.CHECKPOINT, weights_only=True)["state_dict"] for n in ("true", "false")
    )
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_inductor_compiles_a_run_s_model(compose, tmp_path, monkeypatch):
    """torch's own backend, which trainer.compile=true takes: kernels of its own, in other orders of summation."""
    from torch._inductor import metrics

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    metrics.reset()
    for name in ("false", "true"):
        execute(compose(*TINY, f"trainer.compile={name}"), tmp_path / name)
    assert metrics.generated_kernel_count > 0
    one, other = (
        torch.load(tmp_path / n / files.CHECKPOINT, weights_only=True)["state_dict"] for n in ("true", "false")
    )
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-3, atol=1e-4)
