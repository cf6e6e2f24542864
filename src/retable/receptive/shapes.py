"""Rules for operations that mix or rearrange dimensions: norms, means, linear layers, views, slices."""

import math
from typing import Any

import torch

from retable.receptive.fields import WHOLE, Axis
from retable.receptive.operations import Fields, Rule, UnknownOperationError, fields_of, input_fields, joined


def concatenation(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    dim = arguments["dim"] % out.ndim
    inputs = [fields for fields in map(fields_of, arguments["tensors"]) if fields is not None]
    if any(fields[dim] is not None for fields in inputs):
        raise UnknownOperationError("a concatenation along rows or columns")
    return tuple(joined([fields[d] for fields in inputs]) for d in range(out.ndim))


def mixed(dims_name: str, keep: bool = True) -> Rule:
    """Operations whose output sees all along some dimensions: norms, softmax, means.

    Args:
        dims_name: the argument that says which: `dim` (none: all), or `normalized_shape` (the last ones).
        keep: whether these dimensions stay where `keepdim` does not say so.
    """

    def rule(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
        fields = list(input_fields(arguments))
        dims = arguments.get(dims_name)
        if dims_name == "normalized_shape":
            dims = [-1 - place for place in range(len(dims))]
        dims = [dims] if isinstance(dims, int) else dims or range(len(fields))
        chosen = {dim % len(fields) for dim in dims}
        # What sees all rows sees the whole image only if it sees all columns, so each dimension is judged by itself.
        fields = [WHOLE if d in chosen and axis is not None else axis for d, axis in enumerate(fields)]
        if keep or arguments.get("keepdim"):
            return tuple(fields)
        return tuple(axis for d, axis in enumerate(fields) if d not in chosen)

    return rule


def group_norm(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    return tuple(axis and WHOLE for axis in input_fields(arguments))


def batch_norm(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    return group_norm(arguments, out) if arguments.get("training") else input_fields(arguments)


def linear(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
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
    """Reshaping: an axis stays where its size and the number of elements behind it stay, or is merged into another."""
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
    """Whether a dimension lies as a whole within one of the view's."""
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
        raise UnknownOperationError("a choice of one row or column")
    return fields[:dim] + fields[dim + 1 :]


def index(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """torchvision's `transform_input` picks channels with x[:, 0]; an index of channels changes no field."""
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
