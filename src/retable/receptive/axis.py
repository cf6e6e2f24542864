"""Receptive fields along one axis of an image, as exact arithmetic on intervals of pixels.

Unit i of a feature map sees the pixels low(i) to high(i), both included. After convolutions and pools these are affine
in i (Araujo, Norris, Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill, doi
10.23915/distill.00021, section "Computing receptive field region in input image"). After transposed convolutions and
upsampling they are periodic instead: low(i + period) = low(i) + shift. That form is closed under all the operations
below, and is therefore the one used here. Fields are not cut at the image's border: pixels outside it are padding.

The fields of a tensor are a tuple with an entry for each of its dimensions: an `Axis` for rows and for columns, None
for the batch, the channels, and whatever has no place in the image.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import torch

_NOTHING = (math.inf, -math.inf)  # an empty interval: such a unit sees no pixel (gaps of a transposed convolution)


class MisalignedError(ValueError):
    """Branches of different strides meet, so that their union has no stride."""


@dataclass(frozen=True)
class Axis:
    """The fields of all units along one axis of a feature map.

    Attributes:
        shift: pixels from a unit's field to that of the unit one period later; 0 if each unit sees the whole image.
        spans: (low, high) of each unit of one period; empty if each unit sees the whole image.
    """

    shift: int
    spans: tuple[tuple[float, float], ...]

    @property
    def whole(self) -> bool:
        """Whether each unit sees all of the image, however large that is."""
        return not self.spans

    @property
    def stride(self) -> Fraction:
        """Pixels between the fields of neighbouring units, on average over a period."""
        return Fraction(self.shift, len(self.spans))

    @property
    def size(self) -> int:
        """Pixels that a unit sees: the maximum over a period."""
        return max(int(high - low) + 1 for low, high in self.spans if low <= high)

    def span(self, index: int) -> tuple[float, float]:
        """(low, high) of one unit; for an index outside of the map, what a unit would see from there."""
        periods, place = divmod(index, len(self.spans))
        low, high = self.spans[place]
        return low + periods * self.shift, high + periods * self.shift

    def sliding(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Axis":
        """Fields after a convolution or a pool."""
        taps = [dilation * tap - padding for tap in range(kernel)]
        return self.resampled(Fraction(stride), lambda i: [stride * i + tap for tap in taps])

    def transposed(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Axis":
        """Fields after a transposed convolution, where unit i reaches the units stride i - padding + dilation tap."""

        def sources(index: int) -> list[int]:
            reached = (index + padding - dilation * tap for tap in range(kernel))
            return [place // stride for place in reached if place % stride == 0]

        return self.resampled(Fraction(1, stride), sources)

    def resampled(self, step: Fraction, sources: Callable[[int], Sequence[int]]) -> "Axis":
        """Fields after any operation whose units see some units of this map: an interpolation, an adaptive pool.

        Args:
            step: units of this map for one unit of the new map, a/b in lowest terms.
            sources: the units of this map that a unit of the new map sees; those of i + b are those of i plus a.
        """
        if self.whole:
            return self
        # The smallest number of new units that advances by whole periods of this map.
        period = step.denominator * (len(self.spans) // math.gcd(len(self.spans), step.numerator))
        shift = self.shift * step * period / len(self.spans)
        return _reduced(int(shift), [hull(self.span(i) for i in sources(new)) for new in range(period)])

    def moved(self, by: int) -> "Axis":
        """Fields after padding by so many units in front; a negative number crops."""
        return self.resampled(Fraction(1), lambda i: [i - by])


IMAGE = Axis(1, ((0, 0),))
WHOLE = Axis(0, ())


def hull(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The smallest interval that contains all of the given ones; it is empty if there are none."""
    return reduce(lambda a, b: (min(a[0], b[0]), max(a[1], b[1])), spans, _NOTHING)


def union(axes: Sequence[Axis]) -> Axis:
    """Fields of units that see what the units of the same index of several maps see (sums, concatenations).

    Raises:
        MisalignedError: if the strides of the maps differ.
    """
    if any(axis.whole for axis in axes):
        return WHOLE
    if len({axis.stride for axis in axes}) > 1:
        raise MisalignedError(f"branches of strides {', '.join(str(float(axis.stride)) for axis in axes)} meet")
    period = math.lcm(*(len(axis.spans) for axis in axes))
    spans = [hull(axis.span(i) for axis in axes) for i in range(period)]
    return _reduced(int(axes[0].stride * period), spans)


def _reduced(shift: int, spans: Sequence[tuple[float, float]]) -> Axis:
    """The same fields with the shortest period."""
    for period in range(1, len(spans) + 1):
        turns, rest = divmod(len(spans), period)
        if rest or shift % turns:
            continue
        axis = Axis(shift // turns, tuple(spans[:period]))
        if all(axis.span(i) == span for i, span in enumerate(spans)):
            return axis
    raise AssertionError("the last period tried is the given one")


Fields = tuple[Axis | None, ...]


Rule = Callable[[dict[str, Any], torch.Tensor], Fields]


class UnknownOperationError(ValueError):
    """No rule describes the operation."""


def fields_of(value: Any) -> Fields | None:
    """The fields of a tensor, or None for what does not come from the image (weights, constants)."""
    return getattr(value, "receptive_fields", None)


def input_fields(arguments: dict[str, Any]) -> Fields:
    """The fields of an operation's first argument."""
    fields = fields_of(next(iter(arguments.values())))
    if fields is None:
        raise UnknownOperationError("an operation whose first argument does not come from the image")
    return fields


def joined(axes: Sequence[Axis | None]) -> Axis | None:
    """The fields along one dimension of a sum or a concatenation of several tensors.

    A tensor that has lost its place in the image (flattened for a linear layer, say) may carry all of the image.
    """
    known = [axis for axis in axes if axis is not None]
    if known and len(known) < len(axes):
        return WHOLE
    return union(known) if known else None
