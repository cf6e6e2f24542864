"""What each of torch's operations does to the receptive fields of its inputs.

A rule takes an operation's arguments by name and its output tensor, and returns the fields of the output
(`retable.receptive.axis`). `RULES`, at the end, says which rule describes which operation.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from retable.receptive.axis import (
    WHOLE,
    Axis,
    Fields,
    Rule,
    UnknownOperationError,
    fields_of,
    input_fields,
    joined,
)
from retable.receptive.window_rules import adaptive_pool, convolution, interpolation, pad, pool, tail, unpool


def same(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """The output has the fields of the first argument."""
    return input_fields(arguments)


def pointwise(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Each element sees what the inputs at its place see; smaller inputs are broadcast."""
    inputs = []
    for value in arguments.values():
        for tensor in value if isinstance(value, list | tuple) else [value]:
            fields = fields_of(tensor)
            if fields is not None:
                inputs.append((None,) * (out.ndim - len(fields)) + fields)
    return tuple(joined([fields[d] for fields in inputs]) for d in range(out.ndim))


def shuffle(factor: Callable[[int], tuple[int, int, int]]) -> Rule:
    """The rule of a pixel shuffle or unshuffle.

    Args:
        factor: maps the operation's factor to (upsampling, kernel, stride).
    """

    def rule(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
        value = arguments.get("upscale_factor", arguments.get("downscale_factor"))
        head, axes = tail(input_fields(arguments), 2)
        up, kernel, stride = factor(value)
        return (*head, *(axis.transposed(up, up) if up > 1 else axis.sliding(kernel, stride) for axis in axes))

    return rule


def concatenation(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Concatenations along any dimension but rows and columns."""
    dim = arguments["dim"] % out.ndim
    inputs = [fields for fields in map(fields_of, arguments["tensors"]) if fields is not None]
    if any(fields[dim] is not None for fields in inputs):
        raise UnknownOperationError("a concatenation along rows or columns")
    return tuple(joined([fields[d] for fields in inputs]) for d in range(out.ndim))


def mixed(dims_name: str, keep: bool = True) -> Rule:
    """The rule of an operation whose output sees everything along some dimensions: norms, softmax, means.

    Args:
        dims_name: the argument that names these dimensions: `dim` (none: all), or `normalized_shape` (the last ones).
        keep: whether these dimensions stay even if the argument `keepdim` is not set.
    """

    def rule(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
        fields = list(input_fields(arguments))
        dims = arguments.get(dims_name)
        if dims_name == "normalized_shape":
            dims = [-1 - place for place in range(len(dims))]
        dims = [dims] if isinstance(dims, int) else dims or range(len(fields))
        chosen = {dim % len(fields) for dim in dims}
        # What sees all rows sees the whole image only if it sees all columns, so each dimension is decided by itself.
        fields = [WHOLE if d in chosen and axis is not None else axis for d, axis in enumerate(fields)]
        if keep or arguments.get("keepdim"):
            return tuple(fields)
        return tuple(axis for d, axis in enumerate(fields) if d not in chosen)

    return rule


def group_norm(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Norms over all rows and columns."""
    return tuple(axis and WHOLE for axis in input_fields(arguments))


def batch_norm(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Batch norm mixes pixels only while it computes its own statistics, in training."""
    return group_norm(arguments, out) if arguments.get("training") else input_fields(arguments)


def linear(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """A linear layer mixes the last dimension."""
    fields = input_fields(arguments)
    return (*fields[:-1], WHOLE if fields[-1] is not None else None)


def permutation(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields = input_fields(arguments)
    return tuple(fields[dim] for dim in arguments["dims"])


def transposition(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields = list(input_fields(arguments))
    a, b = arguments["dim0"], arguments["dim1"]
    fields[a], fields[b] = fields[b], fields[a]
    return tuple(fields)


def view(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Reshaping keeps an axis whose size and number of elements behind it are the same; others are merged away."""
    tensor = next(iter(arguments.values()))
    behind = {(math.prod(out.shape[d + 1 :]), out.shape[d]): d for d in reversed(range(out.ndim))}
    fields: list[Axis | None] = [None] * out.ndim
    for d, axis in enumerate(input_fields(arguments)):
        if axis is None:
            continue
        place = behind.get((math.prod(tensor.shape[d + 1 :]), tensor.shape[d]))
        if place is not None:
            fields[place] = axis
        elif not axis.whole and tensor.shape[d] > 1 and not _merged(tensor, d, out):
            raise UnknownOperationError("a view that divides rows or columns")
    return tuple(fields)


def _merged(tensor: torch.Tensor, dim: int, out: torch.Tensor) -> bool:
    """Whether a dimension ends up within a single dimension of the view."""
    first = math.prod(tensor.shape[dim + 1 :])
    last = first * tensor.shape[dim]
    edges = [math.prod(out.shape[d:]) for d in range(out.ndim + 1)]
    return not any(first < edge < last for edge in edges)


def slicing(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields = list(input_fields(arguments))
    dim, step = arguments["dim"] % len(fields), arguments["step"]
    start = arguments["start"] or 0
    start = max(start + arguments["self"].shape[dim], 0) if start < 0 else start
    if fields[dim] is not None:
        fields[dim] = fields[dim].sliding(1, step, -start)
    return tuple(fields)


def select(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields = input_fields(arguments)
    dim = arguments["dim"] % len(fields)
    if fields[dim] is not None:
        raise UnknownOperationError("the selection of one row or column")
    return fields[:dim] + fields[dim + 1 :]


def index(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """An index of channels changes no field (torchvision's `transform_input` picks channels with x[:, 0])."""
    fields, indices = input_fields(arguments), arguments["indices"]
    if any(i is not None and fields[d] is not None for d, i in enumerate(indices)) or out.ndim != len(fields):
        raise UnknownOperationError("an index of rows or columns")
    return fields


def unsqueeze(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields, dim = input_fields(arguments), arguments["dim"] % out.ndim
    return (*fields[:dim], None, *fields[dim:])


def expand(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields = input_fields(arguments)
    return (None,) * (out.ndim - len(fields)) + fields


def chunks(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    fields = input_fields(arguments)
    if fields[arguments["dim"]] is not None:
        raise UnknownOperationError("a division of rows or columns")
    return fields


# By the name of the aten operation, without its overload and a trailing underscore.
RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), convolution),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"), pool),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices"), pool),
    **{f"adaptive_{kind}_pool{d}d": adaptive_pool for kind in ("avg", "max") for d in (1, 2, 3)},
    "max_unpool2d": unpool,
    **dict.fromkeys(("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), interpolation(None)),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), interpolation((0, 1))),
    "upsample_bicubic2d": interpolation((-1, 0, 1, 2)),
    "pixel_shuffle": shuffle(lambda r: (r, 1, 1)),
    "pixel_unshuffle": shuffle(lambda r: (1, r, r)),
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"), pad),
    **dict.fromkeys(("cat", "concat"), concatenation),
    **dict.fromkeys(("batch_norm", "native_batch_norm"), batch_norm),
    **dict.fromkeys(("group_norm", "instance_norm", "native_group_norm"), group_norm),
    **dict.fromkeys(("layer_norm", "native_layer_norm", "rms_norm"), mixed("normalized_shape")),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax"), mixed("dim")),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var"), mixed("dim", keep=False)),
    "linear": linear,
    "permute": permutation,
    "transpose": transposition,
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view", "squeeze"), view),
    "slice": slicing,
    "select": select,
    "index": index,
    "unsqueeze": unsqueeze,
    **dict.fromkeys(("expand", "broadcast_to"), expand),
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), chunks),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "detach"), same),
    **dict.fromkeys(("channel_shuffle", "clone", "to", "_to_copy", "lift_fresh"), same),
    # Which torch does not call pointwise, of some in 2.11 the form that writes in place.
    **dict.fromkeys(("hardswish", "prelu", "rrelu", "threshold", "relu6", "hardtanh", "leaky_relu"), same),
    **dict.fromkeys(("elu", "celu", "selu"), same),
}


def rule_of(operation: torch._ops.OpOverload) -> Rule | None:
    """The rule of an operation (an in-place one has that of its namesake), or None if there is none."""
    name = operation._schema.name.split("::")[-1]
    rule = RULES.get(name) or RULES.get(name.rstrip("_"))
    if rule is None and torch.Tag.pointwise in operation.tags:
        return pointwise
    return rule
