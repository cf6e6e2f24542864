"""The theoretical receptive field of each layer of a network: the pixels that can change a unit at all (report D2).

The network runs once, on tensors without content, while every operation of torch that it executes hands the fields of
its inputs on to its output (`rules`). So branches, concatenations, dilation, transposed convolutions and whatever the
network's Python code decides are followed as they are executed, and nothing has to be traced symbolically. If an
operation has no rule, the layer in question is probed with real numbers instead (`probe`).

The results agree with the table of Araujo, Norris, Sim 2019 (Distill, doi 10.23915/distill.00021) where torchvision's
networks are the same: VGG-16 pool5 212, AlexNet pool5 195, Inception-v3 Mixed_7c 1311. They differ for ResNet-50: 483
pixels there, where the maps are halved before the first 3x3 convolution of a stage (in its 1x1 convolution, or at the
end of the stage before), and 427 in torchvision, where that 3x3 convolution halves them: its taps lie half as far
apart, which takes 8, 16 and 32 pixels from the three stages.
"""

import contextlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from retable.receptive.axis import IMAGE, WHOLE, Axis, MisalignedError, UnknownOperationError, fields_of
from retable.receptive.rules import rule_of

Span = tuple[int, int]


@dataclass(frozen=True)
class LayerField:
    """The receptive fields of a layer's units, in pixels of the image.

    Attributes:
        name: the layer's name, as in `named_modules`.
        axes: the fields along rows and along columns.
        units: rows and columns of the layer's map; (1, 1) if it is no map.
        unknown: the reason why the fields can't be computed from the layers; "" if they can.
    """

    name: str
    axes: tuple[Axis, Axis]
    units: tuple[int, int]
    unknown: str = ""

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Number of rows and columns that a unit sees; None: all of the image's."""
        return tuple(None if axis.whole else axis.size for axis in self.axes)

    @property
    def stride(self) -> tuple[float | None, float | None]:
        """Pixels between the fields of neighbouring units; below 1 after upsampling."""
        return tuple(None if axis.whole else _plain(axis.stride) for axis in self.axes)

    @property
    def start(self) -> tuple[int | None, int | None]:
        """First row and column that the first unit sees; negative if they lie in the padding."""
        return tuple(None if axis.whole else _finite(axis.span(0)[0]) for axis in self.axes)

    @property
    def centre(self) -> tuple[float | None, float | None]:
        """Centre of the first unit's field."""
        return tuple(None if axis.whole else _finite(sum(axis.span(0)) / 2) for axis in self.axes)

    def spans(self, position: tuple[int, int], image: tuple[int, int]) -> tuple[Span, Span]:
        """First and last row, first and last column that a unit sees within an image of this size."""
        return tuple(
            (0, extent - 1) if axis.whole else (max(int(axis.span(i)[0]), 0), min(int(axis.span(i)[1]), extent - 1))
            for axis, i, extent in zip(self.axes, position, image, strict=True)
        )

    def middle(self, position: tuple[int, int], image: tuple[int, int]) -> tuple[float, float]:
        """Row and column of the centre of a unit's field, as if the image's border did not cut the field."""
        return tuple(
            (extent - 1) / 2 if axis.whole else sum(axis.span(i)) / 2
            for axis, i, extent in zip(self.axes, position, image, strict=True)
        )

    def uncut(self, image: tuple[int, int]) -> tuple[slice, slice] | None:
        """The rows and columns of units whose fields lie within an image of this size; None if there are none."""
        windows = []
        for axis, units, extent in zip(self.axes, self.units, image, strict=True):
            spans = [] if axis.whole else [axis.span(i) for i in range(units)]
            inside = [i for i, (low, high) in enumerate(spans) if low >= 0 and high < extent]
            if not inside:
                return None
            windows.append(slice(inside[0], inside[-1] + 1))
        return tuple(windows)

    def as_json(self) -> dict[str, Any]:
        """The layer's entry in theoretical.json."""
        if self.unknown:
            return {"name": self.name, "units": list(self.units), "unknown": self.unknown}
        parts = {key: list(getattr(self, key)) for key in ("size", "stride", "start", "centre", "units")}
        return {"name": self.name, **parts}


def layer_fields(model: nn.Module, in_shape: tuple[int, int, int]) -> list[LayerField]:
    """Compute the fields of every module's output, in the order in which the modules finish.

    Only the first call of a module counts. The size of the image matters only where an operation refers to it (adaptive
    pools, resizing to the size of another map). If the network fails on the way (a head that takes maps of one size
    only, code that asks for a tensor's content), the layers up to there are returned.

    Args:
        model: any network that takes images (N, C, H, W); it is run in evaluation mode and left as it was.
        in_shape: (channels, height, width) of an image.
    """
    found: dict[str, LayerField] = {}

    def note(name: str, out: Any) -> None:
        if isinstance(out, torch.Tensor) and name and name not in found:
            found[name] = _layer(name, out)

    def noting(name: str) -> Any:
        return lambda _module, _inputs, out: note(name, out)

    hooks = [module.register_forward_hook(noting(name)) for name, module in model.named_modules()]
    training = model.training
    try:
        state = {key: value.to("meta") for key, value in (*model.named_parameters(), *model.named_buffers())}
        image = torch.empty(1, *in_shape, device="meta")
        image.receptive_fields = (None, None, IMAGE, IMAGE)
        with contextlib.suppress(RuntimeError, ValueError, AssertionError), torch.inference_mode(), _Carrying():
            functional_call(model.eval(), state, (image,))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return list(found.values())


def _layer(name: str, out: torch.Tensor) -> LayerField:
    fields = fields_of(out) or (None,) * out.ndim
    dims = [dim for dim, axis in enumerate(fields) if axis is not None]
    if len(dims) != 2:
        dims = [2, 3] if out.ndim == 4 else []
    axes = tuple(fields[dim] or WHOLE for dim in dims) or (WHOLE, WHOLE)
    units = tuple(out.shape[dim] for dim in dims) or (1, 1)
    return LayerField(name, axes, units, getattr(out, "receptive_unknown", ""))


class _Carrying(TorchDispatchMode):
    """While it is active, every operation of torch hands fields on.

    In inference mode the operations arrive as the network calls them (a conv2d, say), not decomposed.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = tree_leaves((args, kwargs))
        unknown = next((t.receptive_unknown for t in inputs if hasattr(t, "receptive_unknown")), "")
        known = [fields for fields in map(fields_of, inputs) if fields is not None]
        if not (known or unknown):
            return out
        outputs = [tensor for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)]
        fields = None
        if not unknown and outputs:
            try:
                fields = _carried(func, args, kwargs or {}, outputs[0])
            except (UnknownOperationError, MisalignedError) as error:
                if all(axis is None or axis.whole for axes in known for axis in axes):
                    fields = (None,) * outputs[0].ndim  # from the whole image, whatever is done with it
                else:
                    unknown = str(error)
        for tensor in outputs:
            if unknown:
                tensor.receptive_unknown = unknown
            else:
                tensor.receptive_fields = fields
        return out


def _carried(func: Any, args: tuple, kwargs: dict[str, Any], out: torch.Tensor) -> tuple[Axis | None, ...]:
    rule = rule_of(func)
    if rule is None:
        raise UnknownOperationError(f"{func} has no rule")
    signature = func._schema.arguments
    arguments = {argument.name: argument.default_value for argument in signature}
    arguments |= {argument.name: value for argument, value in zip(signature, args, strict=False)} | kwargs
    return rule(arguments, out)


def _plain(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def _finite(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else value
