"""The empirical receptive field of a unit: where an occluder changes its activation (report D2).

Source: Zhou, Khosla, Lapedriza, Oliva, Torralba 2015, "Object Detectors Emerge in Deep Scene CNNs", arXiv 1412.6856,
section 3.2: the images that activate a unit most; each many times over with a small random occluder in another place;
the change in activation there is the image's discrepancy map; the maps, centred on the place of the maximum activation,
are averaged (`align`). The paper's occluder has 11x11 pixels and steps of 3.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from retable.receptive.network import Network, activations
from retable.receptive.progress import Progress
from retable.receptive.theoretical import Span

# A drop below this part of the activation is rounding: sums in another order, in batches of another size.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Top:
    """An image that activates the unit: uint8 pixels (C, H, W), and the largest activation with its (row, column)."""

    name: str
    pixels: np.ndarray
    activation: float
    position: tuple[int, int]


@dataclass(frozen=True)
class Drops:
    """What an occluder does to one image.

    Attributes:
        values: (rows, columns) drop in activation for each place; negative where the occluder raises it.
        rows, columns: first row (column) of the occluder in each place.
        occluder: its side in pixels.
        stride: pixels between places.
    """

    values: np.ndarray
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    occluder: int
    stride: int

    def per_pixel(self, height: int, width: int) -> np.ndarray:
        """(height, width) mean drop over the places where the occluder covers a pixel.

        Where the stride leaves gaps, each place stands for the pixels about it too.
        """
        gap = max(self.stride - self.occluder, 0)
        before, length = -(-gap // 2), self.occluder + gap
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for i, row in enumerate(self.rows):
            for j, column in enumerate(self.columns):
                top, left = row - before, column - before
                cell = (slice(max(top, 0), top + length), slice(max(left, 0), left + length))
                total[cell] += self.values[i, j]
                count[cell] += 1
        return total / count

    def outside(self, spans: tuple[Span, Span]) -> tuple[float, int]:
        """The largest change by an occluder that covers no pixel of a field, and the number of such places.

        Args:
            spans: first and last row, first and last column of the field.
        """
        (top, bottom), (left, right) = spans
        beside_rows = np.array([row > bottom or row + self.occluder - 1 < top for row in self.rows])
        beside_columns = np.array([c > right or c + self.occluder - 1 < left for c in self.columns])
        outside = beside_rows[:, None] | beside_columns[None, :]
        return float(np.abs(self.values[outside]).max(initial=0.0)), int(outside.sum())


def search(
    network: Network,
    layer: str,
    unit: int,
    images: Iterable[tuple[str, np.ndarray]],
    top: int,
    batch: int,
    progress: Progress,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> tuple[list[Top], int]:
    """The images that activate a unit most, best first, and the number of images on which its map is flat.

    A flat map (a unit that a ReLU cuts off everywhere, say) has no place of maximum; such images are left out.

    Args:
        network: a network in evaluation mode.
        layer: the layer's name.
        unit: the unit's number.
        images: (name, uint8 pixels (C, H, W)).
        top: how many are wanted.
        batch: images that go through the network at once.
        progress: told of every image.
        window: rows and columns of the map within which the maximum is sought.

    Raises:
        IndexError: if the layer has no such unit; its argument is the number of units.
    """
    best: list[tuple[float, int, Top]] = []
    flat = seen = 0
    down, right = (part.start or 0 for part in window)
    for names, pixels in _batches(images, batch):
        maps = unit_maps(network, layer, unit, torch.from_numpy(pixels))
        for name, image, answer in zip(names, pixels, maps, strict=True):
            seen += 1
            if answer.numel() > 1 and answer.max() == answer.min():
                flat += 1
                continue
            within = answer[window]
            row, column = divmod(int(within.argmax()), within.shape[1])
            found = Top(name, image, float(within[row, column]), (down + row, right + column))
            entry = (found.activation, -seen, found)  # of equals, the first one seen
            (heapq.heappush if len(best) < top else heapq.heappushpop)(best, entry)
        progress.advance(len(names))
    return [found for _, _, found in sorted(best, key=lambda entry: entry[:2], reverse=True)], flat


def _batches(images: Iterable[tuple[str, np.ndarray]], size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    names: list[str] = []
    pixels: list[np.ndarray] = []
    for name, image in images:
        names.append(name)
        pixels.append(image)
        if len(names) == size:
            yield names, np.stack(pixels)
            names, pixels = [], []
    if names:
        yield names, np.stack(pixels)


@torch.inference_mode()
def unit_maps(network: Network, layer: str, unit: int, images_NCHW: torch.Tensor) -> torch.Tensor:
    """A unit's maps (N, h, w), on the CPU, of uint8 images."""
    given = network.normalise(images_NCHW.to(network.device)).contiguous(memory_format=torch.channels_last)
    maps = activations(network.model, layer, given)
    if unit >= maps.shape[1]:
        raise IndexError(maps.shape[1])
    return maps[:, unit].cpu()


def noise(channels: int, side: int, seed: int) -> np.ndarray:
    """An occluder: uint8 pixels (channels, side, side), each drawn evenly from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, (channels, side, side), dtype=np.uint8)


def places(extent: int, occluder: int, stride: int) -> tuple[int, ...]:
    """First pixels of the occluder along one axis: every `stride`-th, and the last that fits."""
    last = extent - occluder
    return (*range(0, last, stride), last)


@torch.inference_mode()
def occlude(
    network: Network,
    layer: str,
    unit: int,
    found: Top,
    occluder: np.ndarray,
    stride: int,
    batch: int,
    progress: Progress,
) -> Drops:
    """Slide an occluder over an image, and compare the unit's activation at its place of maximum.

    The whole image is covered, so that nothing but the network decides where the field ends.

    Args:
        network: a network in evaluation mode.
        layer: the layer's name.
        unit: the unit's number.
        found: the image.
        occluder: uint8 pixels (C, side, side).
        stride: pixels between neighbouring places.
        batch: occluded images that go through the network at once.
        progress: told of every occluded image.
    """
    side = occluder.shape[-1]
    rows, columns = (places(extent, side, stride) for extent in found.pixels.shape[1:])
    clear, patch = (
        network.normalise(torch.from_numpy(pixels)[None].to(network.device)) for pixels in (found.pixels, occluder)
    )
    corners = [(row, column) for row in rows for column in columns]
    given = clear.repeat(min(batch, len(corners)), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    row, column = found.position
    # The clear image goes through in the same company as the occluded ones, so that rounding is the same.
    before = activations(network.model, layer, given)[0, unit, row, column].item()
    values: list[float] = []
    for start in range(0, len(corners), len(given)):
        chosen = corners[start : start + len(given)]
        for image, (top, left) in zip(given, chosen, strict=False):
            image[:, top : top + side, left : left + side] = patch[0]
        answers = activations(network.model, layer, given[: len(chosen)])[:, unit, row, column]
        values += (before - answers.double()).tolist()
        for image, (top, left) in zip(given, chosen, strict=False):
            image[:, top : top + side, left : left + side] = clear[0, :, top : top + side, left : left + side]
        progress.advance(len(chosen))
    return Drops(np.array(values).reshape(len(rows), len(columns)), rows, columns, side, stride)
