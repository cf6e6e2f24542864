"""A step of several runs' optimizers at once, each by its own rates; and what lies side by side for that.

Weights, gradients and the optimizer's state of all runs are matrices (S, P): a run a row, its P parameters in a line.
So a step is three to six kernels, whatever the number of runs and of layers.
"""

import itertools
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

_ADAM = (torch.optim.Adam, torch.optim.AdamW)
# The optimizers that there are, with the settings that may be a number a run.
RATES = {torch.optim.SGD: ("lr", "momentum", "weight_decay"), **dict.fromkeys(_ADAM, ("lr", "weight_decay"))}
# What else a group may say, with the value under which its step is the one computed here.
_PLAIN: dict[str, Any] = {"dampening": 0, "nesterov": False, "maximize": False, "amsgrad": False}
_PLAIN |= {"differentiable": False, "capturable": False, "foreach": None, "fused": None}

Parameters = Sequence[Sequence[nn.Parameter]]  # by run


def refusal(optimizer: torch.optim.Optimizer) -> str | None:
    """Why an optimizer's steps are not computed here, in a few words; None where they are."""
    if type(optimizer) not in RATES or len(optimizer.param_groups) != 1:
        return f"optimizer {type(optimizer).__name__}"
    group = optimizer.param_groups[0]
    return next((f"optimizer's {key}={group[key]}" for key, v in _PLAIN.items() if group.get(key, v) != v), None)


def settings(optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    """What optimizers of runs that train together must have alike: all but the rates."""
    rates = {*RATES[type(optimizer)], "params", "initial_lr"}
    rest = sorted((key, repr(value)) for key, value in optimizer.param_groups[0].items() if key not in rates)
    return type(optimizer), tuple(rest)


def flat(tensors: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """Tensors of the runs as one (S, P), each as `as_kept` has it."""
    with torch.no_grad():
        return torch.stack([torch.cat([as_kept(one).flatten() for one in of_run]) for of_run in tensors])


def split(flat_SP: torch.Tensor, shapes: Sequence[torch.Size]) -> list[torch.Tensor]:
    """Views (..., *shape) of (..., P), one for each shape."""
    parts = flat_SP.split([shape.numel() for shape in shapes], -1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]


def beside(values: Sequence[Any], other: torch.Tensor) -> torch.Tensor:
    """Numbers as a tensor of another's kind, where that is; a GPU is not waited for."""
    found = torch.tensor(values, dtype=other.dtype)
    return found.pin_memory().to(other.device, non_blocking=True) if other.is_cuda else found.to(other.device)


def unpack(flat_SP: torch.Tensor | Sequence[torch.Tensor], tensors: Sequence[Sequence[torch.Tensor]]) -> None:
    """Copy (S, P), or its rows, back to where `flat` took it from."""
    shapes = [as_kept(one).shape for one in tensors[0]]
    with torch.no_grad():
        found = [[as_given(part) for part in split(row, shapes)] for row in flat_SP]
        torch._foreach_copy_(list(itertools.chain(*tensors)), list(itertools.chain(*found)))


def as_kept(parameter: torch.Tensor) -> torch.Tensor:
    """A convolution's weight (O, C, 3, 3) as (O, 3, 3, C), which is how channels last has it in memory."""
    return parameter.permute(0, 2, 3, 1) if parameter.ndim == 4 else parameter


def as_given(kept: torch.Tensor) -> torch.Tensor:
    return kept.permute(0, 3, 1, 2) if kept.ndim == 4 else kept


class Update:
    """An optimizer's step for all runs at once, by each run's own rates.

    Args:
        optimizers: of the runs, whose state it takes and gives back.
        parameters: theirs, by run.
        flat_SP: the same in one, which it trains.
        steps: how many will be taken.
    """

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], parameters: Parameters, flat_SP: torch.Tensor, steps: int
    ) -> None:
        self._optimizers, self._parameters, self._flat_SP, self._steps = optimizers, parameters, flat_SP, steps
        self._groups = [optimizer.param_groups[0] for optimizer in optimizers]
        self._decays = any(group["weight_decay"] for group in self._groups)

    def __call__(self, step: int, gradient_SP: torch.Tensor) -> None:
        raise NotImplementedError

    def give_back(self) -> None:
        """The state to the runs' optimizers."""
        raise NotImplementedError

    def _column(self, values: Sequence[float]) -> torch.Tensor:
        """A number a run, to multiply rows by: (S, 1)."""
        return beside(values, self._flat_SP)[:, None]

    def _taken(self, name: str) -> torch.Tensor:
        """An entry of the optimizers' state as (S, P); 0 where there is none yet."""
        found = [
            [optimizer.state[p].get(name) if p in optimizer.state else None for p in own]
            for optimizer, own in zip(self._optimizers, self._parameters, strict=True)
        ]
        pairs = [zip(row, own, strict=True) for row, own in zip(found, self._parameters, strict=True)]
        return flat([[torch.zeros_like(p) if value is None else value for value, p in row] for row in pairs])

    def _given(self, name: str, flat_SP: torch.Tensor, whose: Collection[int]) -> None:
        """Put an entry of the state back, of some runs."""
        tensors = []
        for place in whose:
            state = self._optimizers[place].state
            for parameter in self._parameters[place]:
                if state[parameter].get(name) is None:
                    state[parameter][name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            tensors.append([state[parameter][name] for parameter in self._parameters[place]])
        if tensors:
            unpack([flat_SP[place] for place in whose], tensors)


class _SGD(Update):
    """torch.optim.SGD. A run without momentum is one whose momentum is 0, but that it keeps no state."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._with_momentum = [place for place, group in enumerate(self._groups) if group["momentum"]]
        self._lr = self._column([group["lr"] for group in self._groups])
        self._momentum = self._column([group["momentum"] for group in self._groups])
        self._decay = self._column([group["weight_decay"] for group in self._groups])
        self._buffer_SP = self._taken("momentum_buffer") if self._with_momentum else None

    def __call__(self, step: int, gradient_SP: torch.Tensor) -> None:
        change = gradient_SP
        if self._decays:
            change = torch.addcmul(change, self._decay, self._flat_SP)
        if self._buffer_SP is not None:
            change = self._buffer_SP.mul_(self._momentum).add_(change)
        self._flat_SP.addcmul_(change, self._lr, value=-1)

    def give_back(self) -> None:
        if self._buffer_SP is not None:
            self._given("momentum_buffer", self._buffer_SP, self._with_momentum)


class _Adam(Update):
    """torch.optim.Adam, and AdamW, whose weight decay is not part of the gradient."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        (self._beta1, self._beta2), self._eps = self._groups[0]["betas"], self._groups[0]["eps"]
        self._decoupled = self._groups[0]["decoupled_weight_decay"]
        self._first_SP, self._second_SP = self._taken("exp_avg"), self._taken("exp_avg_sq")
        firsts = [own[0] for own in self._parameters]
        states = [one.state.get(first, {}) for one, first in zip(self._optimizers, firsts, strict=True)]
        begun = [float(state.get("step", 0.0)) for state in states]
        sizes, roots = [], []
        for step in range(1, self._steps + 1):
            sizes.append([-g["lr"] / (1 - self._beta1 ** (t + step)) for g, t in zip(self._groups, begun, strict=True)])
            roots.append([(1 - self._beta2 ** (t + step)) ** 0.5 for t in begun])
        self._size_KS1 = beside(sizes, self._flat_SP)[..., None]
        self._root_KS1 = beside(roots, self._flat_SP)[..., None]
        decays = [g["weight_decay"] for g in self._groups]
        kept = [1 - g["lr"] * g["weight_decay"] for g in self._groups]
        self._decay = self._column(kept if self._decoupled else decays)

    def __call__(self, step: int, gradient_SP: torch.Tensor) -> None:
        if self._decays and self._decoupled:
            self._flat_SP.mul_(self._decay)
        elif self._decays:
            gradient_SP = torch.addcmul(gradient_SP, self._decay, self._flat_SP)
        self._first_SP.lerp_(gradient_SP, 1 - self._beta1)
        self._second_SP.mul_(self._beta2).addcmul_(gradient_SP, gradient_SP, value=1 - self._beta2)
        root_SP = (self._second_SP.sqrt() / self._root_KS1[step]).add_(self._eps)
        self._flat_SP.addcdiv_(self._first_SP * self._size_KS1[step], root_SP)

    def give_back(self) -> None:
        for optimizer, own in zip(self._optimizers, self._parameters, strict=True):
            for parameter in own:
                state = optimizer.state[parameter]
                if "step" not in state:
                    state["step"] = torch.tensor(0.0, dtype=torch.get_default_dtype())
                state["step"] += self._steps
        everyone = range(len(self._optimizers))
        self._given("exp_avg", self._first_SP, everyone)
        self._given("exp_avg_sq", self._second_SP, everyone)


def update_of(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Parameters, flat_SP: torch.Tensor, steps: int
) -> Update:
    """The `Update` of some optimizers that have their `settings` alike."""
    kind = _SGD if isinstance(optimizers[0], torch.optim.SGD) else _Adam
    return kind(optimizers, parameters, flat_SP, steps)
