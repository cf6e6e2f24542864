"""The fully connected classifier of report B (B1.1): 784-800-10, 636,010 parameters on 28x28; by torch and by NumPy."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from retable import checks
from retable.models.parts import Activation, Dropout


class FNN(nn.Module):
    """One hidden layer.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: number of outputs.
        hidden: hidden units.
        activation: makes an activation layer.
        dropout: behind the hidden layer, where its place is "fc" or "all".

    Shape: (N, *in_shape) -> (N, num_classes) logits.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        hidden: int = 800,
        activation: Activation = nn.ReLU,
        dropout: Dropout = Dropout(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        checks.integer("hidden", hidden, 1)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(in_shape), hidden),
            activation(),
            *dropout.layer("fc"),
            nn.Linear(hidden, num_classes),
        )
        dropout.require(self)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.layers(images_NCHW)


class NumpyFNN(FNN):
    """`FNN` with relu, its two passes written with NumPy: the author's own implementation that B1.1 compares with.

    Parameters, initialisation and what a training loop sees are the torch network's, so that both are trained on the
    same batches and their losses agree but for rounding. NumPy computes on the CPU, in float32, whatever the device.

    Args:
        in_shape: (channels, height, width) of an image.
        num_classes: number of outputs.
        hidden: hidden units.

    Shape: (N, *in_shape) -> (N, num_classes) logits.
    """

    def __init__(self, in_shape: tuple[int, int, int], num_classes: int, hidden: int = 800) -> None:
        super().__init__(in_shape, num_classes, hidden)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if images_NCHW.is_meta:
            return super().forward(images_NCHW)
        return _NumpyPasses.apply(images_NCHW.flatten(1), *self.parameters())


class _NumpyPasses(torch.autograd.Function):
    """relu(x w1' + b1) w2' + b2 and its gradients, w1 (H, I), w2 (C, H)."""

    @staticmethod
    def forward(context: Any, *tensors: torch.Tensor) -> torch.Tensor:
        x_NI, w1_HI, b1_H, w2_CH, b2_C = (_array(tensor) for tensor in tensors)
        hidden_NH = np.maximum(x_NI @ w1_HI.T + b1_H, 0)
        context.arrays = x_NI, w1_HI, w2_CH, hidden_NH
        return torch.from_numpy(hidden_NH @ w2_CH.T + b2_C).to(tensors[0].device)

    @staticmethod
    def backward(context: Any, gradient_NC: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_NI, w1_HI, w2_CH, hidden_NH = context.arrays
        out_NC = _array(gradient_NC)
        inner_NH = (out_NC @ w2_CH) * (hidden_NH > 0)
        x_wanted = context.needs_input_grad[0]
        gradients = (
            inner_NH @ w1_HI if x_wanted else None,
            *(inner_NH.T @ x_NI, inner_NH.sum(0)),
            *(out_NC.T @ hidden_NH, out_NC.sum(0)),
        )
        return tuple(None if g is None else torch.from_numpy(g).to(gradient_NC.device) for g in gradients)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
