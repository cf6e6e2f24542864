"""Optimizer steps of several runs as one batched model, each run as it would have been trained alone.

Small networks keep a device waiting between kernels: a step of 16 runs of B1.2 is 54 operations of torch here, and 16
times 39 by themselves (counted, without views). One CPU core wins nothing by it (docs/explain/fusing.md).

Runs whose networks have the same shapes share each kernel: their weights lie side by side, run by run, and every
product of matrices is a batched one. A run's part of a batched product is computed by itself, so neither the number of
the others nor what becomes of them (a loss that is not finite) shows in it, to the last bit but for matrices of a few
elements, which MKL rounds by where they lie in memory. What differs between runs is a number each (learning rate,
momentum, weight decay, L1) or a tensor each (dropout's masks, drawn from the run's own random state by the call that
its own dropout layer would have made).

Weights and the optimizer's state are taken from the runs before some steps in a row and given back after them. So
validation, checkpoints, schedulers and a change of the company find all that they look for in the runs themselves.

Shapes: S runs, N images a mini-batch, C channels, H x W maps, O outputs, P parameters of a run. Maps of all runs are
(S*N, C, H, W), channels last in memory.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retable.models.cnn import CNN
from retable.models.fnn import FNN
from retable.models.parts import MaxPool2x2
from retable.training import fused_update
from retable.training.fused_model import DROPOUT, Stacked, drops, in_float32, is_conv3x3, leaves, shapes_after
from retable.training.fused_update import update_of

_MODELS = (CNN, FNN)  # whose forward is their leaves one after another; not classes that derive from them
_WITHOUT_WEIGHTS = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Identity, nn.MaxPool2d, MaxPool2x2, nn.Flatten)


@dataclass
class Member:
    """What a run brings to some steps in a row.

    Attributes:
        images, targets: by step: (N, C, H, W), and int64 (N,).
        l1: weight of the L1 penalty.
        norms_at: the steps, from 0, after whose gradients `take_norms` is called; they are in the parameters' `grad`.
        random: the run's random state on the device; replaced by the state after the steps.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    images: Sequence[torch.Tensor]
    targets: Sequence[torch.Tensor]
    l1: float
    norms_at: Collection[int]
    take_norms: Callable[[], None]
    random: torch.Tensor


def refusal(model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer) -> str | None:
    """Why a run can't be one of several that train together, in a few words; None where it can."""
    if type(model) not in _MODELS:
        return f"model {type(model).__name__}"
    for layer in leaves(model):
        known = type(layer) in (*_WITHOUT_WEIGHTS, *DROPOUT, nn.Linear) or is_conv3x3(layer)
        batch_norm = type(layer) is nn.BatchNorm2d and None not in (layer.momentum, layer.weight, layer.running_mean)
        its_own = "forward" in vars(layer) and not (type(layer) is nn.Linear and in_float32(layer))
        if its_own or not (known or batch_norm):
            return f"layer {type(layer).__name__}"
    if len({(p.dtype, p.requires_grad) for p in model.parameters()}) != 1:
        return "parameters of several kinds"
    plain = type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.reduction == "mean"
    if not plain or loss.ignore_index >= 0:
        return f"loss {type(loss).__name__}"
    return fused_update.refusal(optimizer)


def program(model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    """What runs must have alike to train together: layers without dropout, loss, and optimizer without its rates."""
    layers = tuple((type(layer).__name__, layer.extra_repr()) for layer in leaves(model) if not drops(layer))
    return layers, loss.label_smoothing, fused_update.settings(optimizer), next(model.parameters()).dtype


def train_together(
    members: Sequence[Member],
    loss: nn.CrossEntropyLoss,
    autocast: Callable[[bool], contextlib.AbstractContextManager[Any]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a step for each mini-batch that the runs bring, all of one `program` and of mini-batches of one size.

    Args:
        autocast: (whether it is wanted) -> context.

    Returns:
        Losses without the penalty (S, steps), and predicted classes (S, steps * N); the runs are trained.
    """
    model, steps = Stacked([member.model for member in members]), len(members[0].images)
    update = update_of([member.optimizer for member in members], model.parameters, model.flat_SP, steps)
    l1_S = fused_update.beside([member.l1 for member in members], model.flat_SP)
    masks = _Masks(members, model.layers)
    losses, predicted = [], []
    for step in range(steps):
        x = torch.cat([member.images[step] for member in members])
        y = torch.cat([member.targets[step] for member in members])
        with autocast(True):
            logits = model(x, masks.draw(x.shape))
            each = F.cross_entropy(logits.flatten(0, 1), y, reduction="none", label_smoothing=loss.label_smoothing)
            loss_S = each.view(len(members), -1).mean(1)
            total_S = loss_S
            if any(member.l1 for member in members):
                total_S = loss_S + l1_S * torch.stack([p.flatten(1).abs().sum(1) for p in model.weights]).sum(0)
        with autocast(False):
            gradients = torch.autograd.grad(total_S.sum(), model.weights)
        gradient_SP = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
        for place, member in enumerate(members):
            if step in member.norms_at:
                model.show_gradients(place, gradient_SP)
                member.take_norms()
        update(step, gradient_SP)
        losses.append(loss_S.detach())
        predicted.append(logits.detach().argmax(2))
    model.give_back(steps)
    update.give_back()
    for member in members:
        member.optimizer._opt_called = True  # what torch's schedulers look at, and warn without
    return torch.stack(losses, 1), torch.cat(predicted, 1)


def default_generator(device: torch.device) -> torch.Generator:
    """What a device's layers draw from, as dropout does."""
    return torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator


# Dropout -------------------------------------------------------------------------------------------------------------


class _Masks:
    """Masks of the runs' dropout layers: a run's own random state, probability and position; 1 for a run without."""

    def __init__(self, members: Sequence[Member], layers: Sequence[nn.Module]) -> None:
        self._members, self._layers = members, layers
        self._own = [_dropouts(member.model) for member in members]
        self._positions = sorted({position for own in self._own for position, _ in own})
        first = next(members[0].model.parameters())
        self._dtype, self._device = first.dtype, first.device
        self._generator = default_generator(first.device)
        self._made: dict[torch.Size, torch.Tensor] = {}

    def draw(self, images_shape: torch.Size) -> dict[int, torch.Tensor]:
        """The masks (S*N, ...) of one step, by the position of the layer behind which they stand."""
        if not self._positions:
            return {}
        n = images_shape[0] // len(self._members)
        shapes = shapes_after(self._layers, torch.Size((n, *images_shape[1:])))
        drawn: dict[int, list[torch.Tensor | None]] = {
            position: [None] * len(self._members) for position in self._positions
        }
        before = self._generator.get_state()
        for number, (member, own) in enumerate(zip(self._members, self._own, strict=True)):
            if not own:
                continue
            self._generator.set_state(member.random)
            for position, layer in own:
                drawn[position][number] = self._mask(layer, shapes[position])
            member.random = self._generator.get_state()
        self._generator.set_state(before)
        return {
            position: torch.cat([self._ones(shapes[position]) if mask is None else mask for mask in masks])
            for position, masks in drawn.items()
        }

    def _mask(self, layer: nn.Module, shape: torch.Size) -> torch.Tensor:
        """What the layer would multiply maps of this shape by."""
        ones = self._ones(shape)
        drop = F.dropout2d if isinstance(layer, nn.Dropout2d) else F.dropout
        return drop(ones, layer.p, True)

    def _ones(self, shape: torch.Size) -> torch.Tensor:
        """What masks are made of, or stand in for one: made once."""
        if shape not in self._made:
            layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
            like = {"dtype": self._dtype, "device": self._device, "memory_format": layout}
            self._made[shape] = torch.empty(shape, **like).fill_(1)
        return self._made[shape]


def _dropouts(model: nn.Module) -> list[tuple[int, nn.Module]]:
    """A model's dropout layers, each with the number of the layer that it stands behind, dropouts not counted."""
    found, position = [], -1
    for layer in leaves(model):
        if drops(layer):
            found.append((position, layer))
        else:
            position += 1
    return found
