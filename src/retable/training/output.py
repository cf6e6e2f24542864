"""A network's last layer in float32 while the rest of it computes in half precision.

bfloat16 keeps eight bits: one decision in a thousand between two classes is a tie, and ties all go to one class. The
last layer is a small part of the work.
"""

from typing import Any

import torch
from torch import nn

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


class InFloat32:
    """A layer's `forward` outside autocast.

    Args:
        layer: takes one tensor.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return type(self.layer).forward(self.layer, x.float(), *rest)


def last_layer(model: nn.Module, *inputs: torch.Tensor) -> str | None:
    """Name of the linear or convolutional layer that a model calls last, by calling it; None where it has none."""
    called: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in model.named_modules()
        if isinstance(layer, _LAYERS)
    ]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return called[-1] if called else None


def keep_in_float32(model: nn.Module, name: str | None) -> None:
    """Have a model's layer compute in float32 whatever surrounds it; names of weights stay."""
    if name is not None:
        layer = model.get_submodule(name)
        layer.forward = InFloat32(layer)
