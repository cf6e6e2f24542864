"""What torch's operations with a window do to receptive fields: convolution, pooling, interpolation, padding."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch

from retable.receptive.axis import (
    WHOLE,
    Axis,
    Fields,
    Rule,
    UnknownOperationError,
    input_fields,
)


def tail(fields: Fields, count: int) -> tuple[Fields, list[Axis]]:
    """Split off the last dimensions as axes: one that has lost its place in the image (None) may hold all of it."""
    return fields[:-count], [WHOLE if axis is None else axis for axis in fields[-count:]]


def _each(value: int | Sequence[int], count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def convolution(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Convolutions of one to three dimensions, transposed or not."""
    kernel = arguments["weight"].shape[2:]
    head, axes = tail(input_fields(arguments), len(kernel))
    stride, dilation = (_each(arguments[key], len(kernel)) for key in ("stride", "dilation"))
    padding = arguments["padding"]
    if isinstance(padding, str):  # "same": torch puts the odd element behind
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    padding = _each(padding, len(kernel))
    transposed = arguments.get("transposed", "output_padding" in arguments)
    rule = Axis.transposed if transposed else Axis.sliding
    return (*head, *map(rule, axes, kernel, stride, padding, dilation))


def pool(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Pools with a window of a given size."""
    count = out.ndim - 2
    kernel = _each(arguments["kernel_size"], count)
    stride = _each(arguments["stride"], count) if arguments["stride"] not in (None, [], ()) else kernel
    padding, dilation = _each(arguments["padding"], count), _each(arguments.get("dilation", 1), count)
    head, axes = tail(input_fields(arguments), count)
    return (*head, *map(Axis.sliding, axes, kernel, stride, padding, dilation))


def adaptive_pool(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Pools to an output of a given size."""
    tensor = next(iter(arguments.values()))
    count = len(_each(arguments["output_size"], out.ndim - 2))
    head, axes = tail(input_fields(arguments), count)
    sizes = zip(axes, tensor.shape[-count:], out.shape[-count:], strict=True)
    return (*head, *(_adaptive(axis, before, after) for axis, before, after in sizes))


def _adaptive(axis: Axis, before: int, after: int) -> Axis:
    if after == 1 and before > 1:
        return WHOLE
    step = Fraction(before, after)
    return axis.resampled(step, lambda i: range(math.floor(i * step), math.ceil((i + 1) * step)))


def unpool(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Max-unpooling by a whole factor: every element of a window depends on where the window's maximum was."""
    tensor = arguments["self"]
    head, axes = tail(input_fields(arguments), 2)
    factors = [after // before for before, after in zip(tensor.shape[-2:], out.shape[-2:], strict=True)]
    if [b * f for b, f in zip(tensor.shape[-2:], factors, strict=True)] != list(out.shape[-2:]):
        raise UnknownOperationError("max-unpooling by no whole factor")
    return (*head, *(axis.transposed(factor, factor) for axis, factor in zip(axes, factors, strict=True)))


def interpolation(reach: Sequence[int] | None) -> Rule:
    """The rule of an interpolation.

    Args:
        reach: offsets of the units that it reads, from the unit at or before a place; None: the nearest unit alone.
    """

    def rule(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
        tensor = next(iter(arguments.values()))
        count = out.ndim - 2
        head, axes = tail(input_fields(arguments), count)
        corners = bool(arguments.get("align_corners"))
        factors = arguments.get("scale_factors") or [None] * count
        sizes = zip(axes, tensor.shape[-count:], out.shape[-count:], factors, strict=True)
        return (*head, *(one(axis, before, after, corners, factor) for axis, before, after, factor in sizes))

    def one(axis: Axis, before: int, after: int, corners: bool, factor: float | None) -> Axis:
        if before == 1 and after > 1:
            return WHOLE if axis.whole else axis.resampled(Fraction(1, after), lambda i: [i // after])
        step = Fraction(before - 1, max(after - 1, 1)) if corners else Fraction(before, after)
        if factor and not corners:  # then torch does not ask which size the factor was rounded to
            step = 1 / Fraction(factor).limit_denominator(1000)
        if step == 0:
            return axis

        def sources(index: int) -> list[int]:
            if reach is None:
                return [math.floor(index * step)]
            place = index * step if corners else (index + Fraction(1, 2)) * step - Fraction(1, 2)
            first = math.floor(place)
            return [first] if place == first else [first + offset for offset in reach]

        return axis.resampled(step, sources)

    return rule


def pad(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Padding of any mode. The border is treated as if zeros had been put there."""
    fields = list(input_fields(arguments))
    padding = arguments.get("pad", arguments.get("padding"))
    for index in range(0, len(padding), 2):
        dim = len(fields) - 1 - index // 2
        if padding[index] and fields[dim] is not None:
            fields[dim] = fields[dim].moved(padding[index])
    return tuple(fields)
