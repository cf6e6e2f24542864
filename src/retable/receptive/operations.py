"""What the rules for torch's operations share: how fields hang on tensors, and operations that go place by place.

A tensor's fields are a tuple with an entry for each of its dimensions: an `Axis` for rows and columns, None for batch,
channels, and whatever has no place in the image. A rule takes an operation's arguments by name and its output, and
gives the output's fields.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from retable.receptive.fields import WHOLE, Axis, union

Fields = tuple[Axis | None, ...]
Rule = Callable[[dict[str, Any], torch.Tensor], Fields]


class UnknownOperationError(ValueError):
    """An operation that no rule describes."""


def fields_of(value: Any) -> Fields | None:
    """A tensor's fields, or None for what does not come from the image (weights, constants)."""
    return getattr(value, "receptive_fields", None)


def same(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Nothing changes."""
    return input_fields(arguments)


def input_fields(arguments: dict[str, Any]) -> Fields:
    """The fields of an operation's first argument."""
    fields = fields_of(next(iter(arguments.values())))
    if fields is None:
        raise UnknownOperationError("an operation whose first argument does not come from the image")
    return fields


def pointwise(arguments: dict[str, Any], out: torch.Tensor) -> Fields:
    """Each output sees what the inputs of its place see; smaller inputs are broadcast."""
    inputs = []
    for value in arguments.values():
        for tensor in value if isinstance(value, list | tuple) else [value]:
            fields = fields_of(tensor)
            if fields is not None:
                inputs.append((None,) * (out.ndim - len(fields)) + fields)
    return tuple(joined([fields[d] for fields in inputs]) for d in range(out.ndim))


def joined(axes: Sequence[Axis | None]) -> Axis | None:
    """One dimension of what several tensors of the image are summed or concatenated to.

    One that has lost its place (flattened, say, for a linear layer) may carry the whole image into all the others.
    """
    known = [axis for axis in axes if axis is not None]
    if known and len(known) < len(axes):
        return WHOLE
    return union(known) if known else None
