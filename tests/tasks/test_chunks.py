"""Many mini-batches in one Lightning step are as many steps of one mini-batch."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from retable.data.loader import DeviceLoader
from retable.tasks.classification import Classification


def weights_after(chunk: int, precision: str) -> list[torch.Tensor]:
    """Weights of a small network after 8 steps."""
    torch.manual_seed(0)
    shared = nn.Linear(12, 12)  # used twice a step: its gradient is a sum
    model = nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared, nn.Linear(12, 3))
    task = Classification(model, nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.5), ("a", "b", "c"))
    images, targets = torch.rand(32, 3, 2, 2), torch.randint(0, 3, (32,))
    loader = DeviceLoader(images, targets, 4, lambda x: x, chunk=chunk)
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
