"""What a unit of a trained network looks at, measured on images: its empirical and its effective receptive field (D2).

The empirical field: Zhou, Khosla, Lapedriza, Oliva, Torralba 2015, "Object Detectors Emerge in Deep Scene CNNs", arXiv
1412.6856, section 3.2. Take the images that activate the unit most, and each of them many times over with a small
random occluder in another place. The change in activation at each place is the image's discrepancy map; the maps,
centred on the place of the maximum activation, are averaged. The paper's occluder has 11x11 pixels and steps of 3.

The effective field, a cheap check of the empirical one: Luo, Li, Urtasun, Zemel 2016, "Understanding the Effective
Receptive Field in Deep Convolutional Neural Networks", arXiv 1701.04128, sections 2 and 3. The absolute derivative of
the unit by each pixel is averaged over images in the same way.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retable.receptive.network import Network, activations
from retable.receptive.progress import Progress
from retable.receptive.theoretical import Span

# The empirical field is where the map exceeds this fraction of its maximum (assumed; the papers give no number).
LEVEL = 0.2
# The effective field is where the map exceeds 1 - 95.45 % of its maximum (Luo et al., section 3).
EFFECTIVE_LEVEL = 1 - 0.9545
# A drop below this fraction of the activation is rounding: sums in another order, in batches of another size.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Top:
    """An image that activates the unit: uint8 pixels (C, H, W), and its largest activation, at (row, column)."""

    name: str
    pixels: np.ndarray
    activation: float
    position: tuple[int, int]


@dataclass(frozen=True)
class Drops:
    """The effect of an occluder on one image.

    Attributes:
        values: (rows, columns) drop in activation for each place; negative if the occluder raises the activation.
        rows, columns: first row (column) of the occluder at each place.
        occluder: its side in pixels.
        stride: pixels between neighbouring places.
    """

    values: np.ndarray
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    occluder: int
    stride: int

    def per_pixel(self, height: int, width: int) -> np.ndarray:
        """(height, width) mean drop over the places where the occluder covers a pixel.

        If the stride leaves gaps, each place also stands for the pixels around it.
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
    """Find the images that activate a unit most.

    A flat map (of a unit that a ReLU sets to zero everywhere, say) has no place of maximum; such images are left out.

    Args:
        network: in evaluation mode.
        images: (name, uint8 pixels (C, H, W)).
        top: how many to find.
        batch: images that go through the network at once.
        progress: counts the images.
        window: rows and columns of the map within which the maximum is sought.

    Returns:
        The images, the one with the largest activation first, and the number of images on which the map is flat.

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
    """A unit's maps (N, h, w), on the CPU, for uint8 images (N, C, H, W)."""
    given = network.normalise(images_NCHW.to(network.device)).contiguous(memory_format=torch.channels_last)
    maps = activations(network.model, layer, given)
    if unit >= maps.shape[1]:
        raise IndexError(maps.shape[1])
    return maps[:, unit].cpu()


def noise(channels: int, side: int, seed: int) -> np.ndarray:
    """An occluder: uint8 pixels (channels, side, side), drawn uniformly from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, (channels, side, side), dtype=np.uint8)


def positions(extent: int, occluder: int, stride: int) -> tuple[int, ...]:
    """First pixel of the occluder at each place along one axis: every `stride`-th, and the last that fits."""
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
    """Slide an occluder over an image, and measure the drop in the unit's activation at its place of maximum.

    The occluder visits the whole image, so that only the network decides where the field ends.

    Args:
        network: in evaluation mode.
        occluder: uint8 pixels (C, side, side).
        stride: pixels between neighbouring places.
        batch: occluded images that go through the network at once.
        progress: counts the occluded images.
    """
    side = occluder.shape[-1]
    rows, columns = (positions(extent, side, stride) for extent in found.pixels.shape[1:])
    clear, patch = (
        network.normalise(torch.from_numpy(pixels)[None].to(network.device)) for pixels in (found.pixels, occluder)
    )
    corners = [(row, column) for row in rows for column in columns]
    given = clear.repeat(min(batch, len(corners)), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    row, column = found.position
    # The clear image goes through in a batch of the same size as the occluded ones, so that rounding is the same.
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


def gradient(network: Network, layer: str, unit: int, found: Top) -> np.ndarray:
    """(H, W) absolute derivative of a unit's activation by each pixel of the network's input, summed over channels."""
    image = network.normalise(torch.from_numpy(found.pixels)[None].to(network.device)).detach().requires_grad_()
    row, column = found.position
    with torch.enable_grad():
        # A copy goes in, since the network may change its input in place.
        answer = activations(network.model, layer, image.clone())[0, unit, row, column]
        (slope,) = torch.autograd.grad(answer, image)
    return slope[0].abs().sum(0).double().cpu().numpy()


@dataclass(frozen=True)
class Average:
    """The average of maps that are aligned at their centres.

    Attributes:
        values: (rows, columns); NaN at places that fewer than half of the images cover.
        origin: row and column of the common centre.
    """

    values: np.ndarray
    origin: tuple[int, int]


def average(maps: Sequence[np.ndarray], centres: Sequence[tuple[float, float]]) -> Average:
    """Average maps (H, W) of one size, each aligned at its own centre (row, column), which is rounded down."""
    height, width = maps[0].shape
    total, count = np.zeros((2 * height - 1, 2 * width - 1)), np.zeros((2 * height - 1, 2 * width - 1), int)
    for values, centre in zip(maps, centres, strict=True):
        down, right = (
            extent - 1 - min(max(int(c // 1), 0), extent - 1) for c, extent in zip(centre, (height, width), strict=True)
        )
        window = (slice(down, down + height), slice(right, right + width))
        total[window] += np.nan_to_num(values)
        count[window] += ~np.isnan(values)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=2 * count >= max(len(maps), 1))
    rows, columns = (np.flatnonzero((~np.isnan(mean)).any(axis)) for axis in (1, 0))
    cut = mean[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Average(cut, (int(height - 1 - rows[0]), int(width - 1 - columns[0])))


def reach(values: np.ndarray, level: float) -> tuple[Span, Span, int] | None:
    """First and last row, first and last column, and number of the pixels above `level` times the maximum.

    None if no pixel is positive.
    """
    largest = np.nanmax(values, initial=0.0)
    if not largest > 0:
        return None
    with np.errstate(invalid="ignore"):
        inside = values > level * largest
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1])), int(inside.sum())
