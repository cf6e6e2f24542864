"""A network run up to one layer, and no further."""

from typing import Any

import torch
from torch import nn

from retable.errors import ConfigError


class _Reached(Exception):
    def __init__(self, out: Any) -> None:
        self.out = out


def activations(model: nn.Module, layer: str, images_NCHW: torch.Tensor) -> torch.Tensor:
    """A layer's output (N, C, h, w); the network is not run further. One of a vector (N, C) has h = w = 1.

    Raises:
        ConfigError: if the layer is not reached, or gives anything else.
    """

    def stop(_module: nn.Module, _inputs: Any, out: Any) -> None:
        raise _Reached(out)

    hook = model.get_submodule(layer).register_forward_hook(stop)
    try:
        model(images_NCHW)
    except _Reached as reached:
        out = reached.out
    else:
        raise ConfigError(f"--layer {layer}: the network does not run it on an image; accepted: a layer that it runs")
    finally:
        hook.remove()
    if isinstance(out, torch.Tensor) and out.ndim == 2:
        return out[:, :, None, None]
    if not isinstance(out, torch.Tensor) or out.ndim != 4:
        given = f"a tensor of shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ConfigError(f"--layer {layer}: gives {given}; accepted: a layer that gives maps (N, C, H, W)")
    return out
