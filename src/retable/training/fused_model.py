"""The networks of several runs as one: their weights side by side, each product of matrices a batched one.

Shapes: S runs, N images a mini-batch, C channels, H x W maps, O outputs, P parameters of a run. Maps of all runs are
(S*N, C, H, W), channels last in memory.
"""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retable.training.fused_update import as_given, as_kept, flat, split, unpack
from retable.training.output import InFloat32

DROPOUT = (nn.Dropout, nn.Dropout2d)


class Stacked:
    """The networks of several runs as one.

    Attributes:
        flat_SP: all parameters, a run a row.
        weights: views of it by parameter, with gradients: (S, O, ...), of convolutions (S, O, 3, 3, C).
        layers: of the first run, without dropout.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        self.parameters = [list(model.parameters()) for model in models]
        self.layers = [layer for layer in leaves(models[0]) if not drops(layer)]
        self.shapes = [as_kept(p).shape for p in self.parameters[0]]
        self.flat_SP = flat(self.parameters).requires_grad_(False)
        self.weights = [part.detach().requires_grad_() for part in split(self.flat_SP, self.shapes)]
        norms = [[layer for layer in leaves(model) if isinstance(layer, nn.BatchNorm2d)] for model in models]
        self._norms = [list(same) for same in zip(*norms, strict=True)]  # by layer, of each run
        self._statistics = [
            tuple(torch.cat([getattr(norm, name) for norm in same]) for name in ("running_mean", "running_var"))
            for same in self._norms
        ]

    def __call__(self, x: torch.Tensor, masks: dict[int, torch.Tensor]) -> torch.Tensor:
        """Logits (S, N, O) of images (S*N, C, H, W), with masks by the layer behind which they stand."""
        runs = len(self.models)
        weights, statistics = iter(self.weights), iter(self._statistics)
        for place, layer in enumerate(self.layers):
            if isinstance(layer, nn.Conv2d):
                x = _conv3x3(x, next(weights), next(weights))
            elif isinstance(layer, nn.Linear):
                weight_SOI, bias_SO = next(weights), next(weights)
                x_SNI, mixed = x.view(runs, -1, x.shape[1]), not in_float32(layer)
                with contextlib.nullcontext() if mixed else torch.autocast(x.device.type, enabled=False):
                    x_SNI = x_SNI if mixed else x_SNI.float()
                    x = torch.baddbmm(bias_SO[:, None], x_SNI, weight_SOI.mT).flatten(0, 1)
            elif isinstance(layer, nn.BatchNorm2d):
                x = self._normalised(x, layer, weights, next(statistics))
            else:
                x = layer(x)
            if place in masks:
                x = x * masks[place].to(x.dtype)
        return x.view(runs, -1, x.shape[1])

    def _normalised(self, x: torch.Tensor, layer: nn.BatchNorm2d, weights: Any, statistics: Any) -> torch.Tensor:
        """Each run by its own batch: the runs side by side in the channels."""
        runs, (_, channels, height, width) = len(self.models), x.shape
        maps = x.view(runs, -1, channels, height, width).transpose(0, 1).flatten(1, 2)
        scale, shift = next(weights).flatten(), next(weights).flatten()
        maps = F.batch_norm(maps, *statistics, scale, shift, True, layer.momentum, layer.eps)
        maps = maps.view(-1, runs, channels, height, width).transpose(0, 1).flatten(0, 1)
        return maps.contiguous(memory_format=torch.channels_last)

    def show_gradients(self, place: int, gradient_SP: torch.Tensor) -> None:
        """Put one run's gradients where its optimizer would look for them."""
        parts = split(gradient_SP[place], self.shapes)
        for parameter, gradient in zip(self.parameters[place], parts, strict=True):
            parameter.grad = as_given(gradient)

    def give_back(self, steps: int) -> None:
        """The trained weights and the running statistics to the runs."""
        unpack(self.flat_SP, self.parameters)
        for parameter in itertools.chain.from_iterable(self.parameters):
            parameter.grad = None
        with torch.no_grad():
            for same, statistics in zip(self._norms, self._statistics, strict=True):
                for name, values in zip(("running_mean", "running_var"), statistics, strict=True):
                    torch._foreach_copy_([getattr(norm, name) for norm in same], list(values.chunk(len(same))))
                torch._foreach_add_([norm.num_batches_tracked for norm in same], steps)


def leaves(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if not any(True for _ in module.children())]


def drops(layer: nn.Module) -> bool:
    return isinstance(layer, DROPOUT)


def in_float32(layer: nn.Module) -> bool:
    """Whether a layer computes outside autocast (retable.training.output)."""
    return isinstance(vars(layer).get("forward"), InFloat32)


def is_conv3x3(layer: nn.Module) -> bool:
    if type(layer) is not nn.Conv2d:
        return False
    shape = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def _conv3x3(x: torch.Tensor, weight_SO33C: torch.Tensor, bias_SO: torch.Tensor) -> torch.Tensor:
    """A convolution 3x3 of stride 1, padding 1: (S*N, C, H, W) -> (S*N, O, H, W), channels last."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):  # here, so that autograd casts the gradients back
        dtype = torch.get_autocast_dtype(kind)
        x, weight_SO33C, bias_SO = x.to(dtype), weight_SO33C.to(dtype), bias_SO.to(dtype)
    return _Convolution.apply(x, weight_SO33C, bias_SO)


class _Convolution(torch.autograd.Function):
    """One batched product of the patches of all maps with the weights of their run."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight_SO33C: torch.Tensor, bias_SO: torch.Tensor) -> torch.Tensor:
        runs, out = weight_SO33C.shape[:2]
        patches = _patches(x, runs)  # (S, N*H*W, 9C)
        context.save_for_backward(patches, weight_SO33C)
        y = torch.baddbmm(bias_SO[:, None], patches, weight_SO33C.flatten(2).mT)
        return y.view(len(x), *x.shape[2:], out).permute(0, 3, 1, 2)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        patches, weight_SO33C = context.saved_tensors
        runs, out, _, _, channels = weight_SO33C.shape
        rows = gradient.permute(0, 2, 3, 1).reshape(runs, -1, out)
        own = torch.bmm(rows.mT, patches).view_as(weight_SO33C), rows.sum(1)
        if not context.needs_input_grad[0]:  # images
            return None, *own
        # The gradient of the maps is the convolution of the outputs' gradient with the weights turned by half a circle.
        turned = weight_SO33C.flatten(2, 3).flip(2).transpose(1, 2).reshape(runs, 9 * out, channels)
        maps = torch.bmm(_patches(gradient, runs), turned)
        return maps.view(len(gradient), *gradient.shape[2:], channels).permute(0, 3, 1, 2), *own


def _patches(x: torch.Tensor, runs: int) -> torch.Tensor:
    """The 3x3 neighbourhood of every pixel: (S*N, C, H, W) -> (S, N*H*W, 3*3*C), zero outside."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1)  # (S*N, H, W, C, 3, 3)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(runs, -1, 9 * x.shape[1])


def shapes_after(layers: Sequence[nn.Module], images_shape: torch.Size) -> list[torch.Size]:
    """The shape of what each layer gives, without computing it."""
    shapes, x = [], torch.empty(images_shape, device="meta")
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            x = x.new_empty((len(x), layer.out_channels, *x.shape[2:]))
        elif isinstance(layer, nn.Linear):
            x = x.new_empty((len(x), layer.out_features))
        elif not isinstance(layer, nn.BatchNorm2d):
            x = layer(x)
        shapes.append(x.shape)
    return shapes
