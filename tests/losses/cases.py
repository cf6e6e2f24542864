"""What the tests of losses share: every option of conf/loss by name, and a batch with an ignored part."""

from pathlib import Path

import torch

from retable.config.build import build
from retable.config.compose import Composer

CONF = Path(__file__).parents[2] / "conf"
# torch's own loss for classification takes (N, C) outputs; it is not an option for masks.
NAMES = sorted({path.stem for path in (CONF / "loss").glob("*.yaml")} - {"cross_entropy", "boxes"})
BINARY = ["dice_bce", "dice_bce_inverse", "focal", "inverse_dice", "switching"]
_composer = Composer(CONF)


def make(name, **arguments):
    """The loss of an option, as a run builds it."""
    node = _composer.compose(["task=cifar", f"loss={name}"]).config["loss"] | arguments
    return build(node, "loss", ignore=("l1",))


def batch(channels, size=(9, 7), count=4, scale=3.0, seed=0):
    """Logits (count, channels, *size) and integer targets without ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, channels, *size, generator=generator)
    return logits, torch.randint(0, max(channels, 2), (count, *size), generator=generator)


def gradient(loss, logits, targets):
    """(value, gradient of the logits)."""
    logits = logits.clone().requires_grad_()
    value = loss(logits, targets)
    value.backward()
    return value.detach(), logits.grad
