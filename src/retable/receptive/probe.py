"""The receptive field of a layer from the answers of its units, for networks with operations that no rule describes.

An image is filled with NaN from some column on (or up to some column, for the other end). A unit whose field reaches
into that part becomes NaN, since NaN passes sums, products, maxima and nearly every activation. A bisection over the
column finds each end of the field. This needs no rules, and never finds more pixels than the rules do: it misses what a
unit depends on only through the place of a maximum (max-unpooling).
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from retable.errors import ConfigError
from retable.receptive.axis import WHOLE, Axis
from retable.receptive.network import activations
from retable.receptive.theoretical import LayerField

_LARGEST = 512


def probed(model: nn.Module, layer: str, in_shape: tuple[int, int, int]) -> LayerField:
    """The fields of a layer's units, from those of two neighbours at the centre of its map.

    Args:
        model: in evaluation mode.
        in_shape: (channels, height, width) of an image; sides are doubled, up to 512 pixels, until the field lies
            within the image, if the network takes such images.

    Returns:
        The fields. An axis is the whole image's if a field reaches both ends of the largest image.

    Raises:
        ConfigError: if the layer's output is no map (N, C, H, W).
    """
    height, width = in_shape[1:]
    axes, units = None, (1, 1)
    while True:
        try:
            answer = _answer(model, layer, torch.rand(1, in_shape[0], height, width))
            found = [_axis(model, layer, (in_shape[0], height, width), dim) for dim in (0, 1)]
        except ConfigError:
            raise
        except Exception:  # networks made for one size refuse others in their own ways
            if axes is None:
                raise
            break
        units = units if axes is not None else tuple(answer.shape[-2:])
        axes = tuple(axis or WHOLE for axis in found)
        if all(found) or max(height, width) >= _LARGEST:
            break
        height, width = 2 * height, 2 * width
    return LayerField(layer, axes, units)


def _answer(model: nn.Module, layer: str, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return activations(model, layer, image)


def _axis(model: nn.Module, layer: str, in_shape: tuple[int, int, int], dim: int) -> Axis | None:
    """The fields along rows (dim 0) or columns (1), or None if this image is too small to contain them."""
    extent = in_shape[1 + dim]
    image = torch.rand(1, *in_shape, generator=torch.Generator().manual_seed(0))

    @cache  # neighbours ask for nearly the same
    def spoiled(first: int, last: int) -> torch.Tensor:
        """Whether each unit along the axis sees any of the pixels from first to last."""
        given = image.clone()
        given.narrow(2 + dim, first, last - first).fill_(torch.nan)
        return _answer(model, layer, given).isnan().any(1)[0].any(1 - dim)

    def span(unit: int) -> tuple[int, int]:
        # The last row (column) from which on NaN still reaches the unit, and the first up to which it does.
        high = _last(extent, lambda place: bool(spoiled(place, extent)[unit]))
        low = extent - 1 - _last(extent, lambda place: bool(spoiled(0, extent - place)[unit]))
        return low, high

    _check_layout(model, layer, image, dim)
    count = len(spoiled(0, extent))
    if count < 3:
        return None
    first, second = span(count // 2), span(count // 2 + 1)
    if first[0] == 0 or second[1] == extent - 1:
        return None
    stride = second[0] - first[0]
    start, end = (edge - stride * (count // 2) for edge in first)
    return Axis(stride, ((start, end),))


def _check_layout(model: nn.Module, layer: str, image: torch.Tensor, dim: int) -> None:
    """Refuse maps whose rows (columns) are in another dimension than in (N, C, H, W), which no shape shows."""
    half = image.clone()
    half.narrow(2 + dim, 0, image.shape[2 + dim] // 2).fill_(torch.nan)
    spoiled = _answer(model, layer, half).isnan()
    if spoiled.any() and not spoiled.all() and bool((spoiled.any(2 + dim) == spoiled.all(2 + dim)).all()):
        raise ConfigError(f"--layer {layer}: gives no maps (N, C, H, W); accepted: a layer that does")


def _last(extent: int, holds: Callable[[int], bool]) -> int:
    """The largest number below `extent` for which a condition holds; it holds at 0, and from there up to that one."""
    low, high = 0, extent
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
