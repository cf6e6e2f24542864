"""Optimizer steps whose learning rate, momentum and weight decay lie on the device, so that a recorded step reads them.

torch takes them as numbers, which a recording would keep as they are. Here they are tensors that are written to when a
scheduler has changed a number; the optimizer's groups keep numbers, for schedulers, checkpoints and histories.
SGD's step is written out, Adam's and AdamW's are torch's own with a tensor for the rate, but for the decay. Products
with a rate are rounded by themselves, where torch adds them in one instruction: in float32 a step's change differs by
a rounding from torch's own (1e-6 of it).
"""

from collections.abc import Sequence
from typing import Any

import torch

_ADAM = (torch.optim.Adam, torch.optim.AdamW)
_KEYS = ("lr", "momentum", "weight_decay")


class RatesOnDevice:
    """Takes an optimizer's steps. One of another kind takes its own, with all its numbers in `settings`.

    Args:
        optimizer: its state is torch's, whoever has taken the steps before.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = optimizer.param_groups
        self._step = {torch.optim.SGD: self._sgd, **dict.fromkeys(_ADAM, self._adam)}.get(type(optimizer))
        if not all(map(_is_plain, self._groups)):
            self._step = None
        self._tensors = [self._on_device(group) for group in self._groups] if self._step else [{} for _ in self._groups]
        self._written: list[dict[str, float]] = [{} for _ in self._groups]
        self.refresh()

    @staticmethod
    def _on_device(group: dict[str, Any]) -> dict[str, torch.Tensor]:
        first = group["params"][0]
        like = {"device": first.device, "dtype": torch.float64 if first.dtype == torch.float64 else torch.float32}
        return {key: torch.zeros((), **like) for key in _KEYS if key in group}

    def refresh(self) -> None:
        """Write the numbers that have changed to the device."""
        for group, tensors, written in zip(self._groups, self._tensors, self._written, strict=True):
            for key, tensor in tensors.items():
                if written.get(key) != group[key]:
                    tensor.fill_(group[key])
                    written[key] = group[key]
                    if key == "momentum" and group[key]:
                        self._begin_momentum(group)

    def _begin_momentum(self, group: dict[str, Any]) -> None:
        """Begin it at 0 where there is none yet: a recording must find it, and torch's first step gives the same."""
        for parameter in group["params"]:
            state = self._optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)

    def settings(self) -> list[dict[str, Any]]:
        """What a recorded step depends on beside the rates: all other numbers, and if there is momentum or decay."""
        return [
            {
                key: value if key not in tensors else key == "lr" or value != 0
                for key, value in group.items()
                if key not in ("params", "initial_lr")
            }
            for group, tensors in zip(self._groups, self._tensors, strict=True)
        ]

    def step(self) -> None:
        """`optimizer.step()`."""
        if self._step is None:
            self._optimizer.step()
            return
        with torch.no_grad():
            self._step()
        self._optimizer._opt_called = True  # what torch's schedulers look at, and warn without

    def _sgd(self) -> None:
        for group, rates in zip(self._groups, self._tensors, strict=True):
            parameters = _with_gradient(group)
            if not parameters:
                continue
            changes = _decayed(parameters, rates["weight_decay"] if group["weight_decay"] else None)
            if group["momentum"]:
                buffers = [self._optimizer.state[p]["momentum_buffer"] for p in parameters]
                torch._foreach_mul_(buffers, rates["momentum"])
                torch._foreach_add_(buffers, changes)
                if group["nesterov"]:
                    changes = torch._foreach_add(changes, torch._foreach_mul(buffers, rates["momentum"]))
                else:
                    changes = buffers
            torch._foreach_sub_(parameters, torch._foreach_mul(changes, rates["lr"]))

    def _adam(self) -> None:
        numbers = [(group["lr"], group["weight_decay"]) for group in self._groups]
        gradients = [(p, p.grad) for group in self._groups for p in _with_gradient(group)]
        try:
            for group, rates in zip(self._groups, self._tensors, strict=True):
                parameters = _with_gradient(group)
                if group["weight_decay"] and parameters and group["decoupled_weight_decay"]:
                    torch._foreach_mul_(parameters, 1 - rates["lr"] * rates["weight_decay"])
                elif group["weight_decay"]:
                    decayed = _decayed(parameters, rates["weight_decay"])
                    for parameter, gradient in zip(parameters, decayed, strict=True):
                        parameter.grad = gradient
                group["lr"], group["weight_decay"] = rates["lr"], 0.0
            self._optimizer.step()
        finally:
            for group, (rate, decay) in zip(self._groups, numbers, strict=True):
                group["lr"], group["weight_decay"] = rate, decay
            for parameter, gradient in gradients:  # whose norms are taken without the decay
                parameter.grad = gradient


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether a group's step is one of those above."""
    if group.get("maximize") or group.get("differentiable") or torch.is_tensor(group["lr"]) or not group["params"]:
        return False
    return not (group.get("dampening") or ("momentum" in group and group.get("fused")))


def _with_gradient(group: dict[str, Any]) -> list[torch.Tensor]:
    return [p for p in group["params"] if p.grad is not None]


def _decayed(parameters: Sequence[torch.Tensor], decay: torch.Tensor | None) -> list[torch.Tensor]:
    """The gradients of an L2 penalty beside those that the parameters have."""
    gradients = [p.grad for p in parameters]
    if decay is None or not gradients:
        return gradients
    return list(torch._foreach_add(gradients, torch._foreach_mul(parameters, decay)))
