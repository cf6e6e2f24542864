"""Empirical and effective fields of networks small enough to know them exactly, and maps put on one another."""

import numpy as np
import pytest
import torch
from torch import nn

from retable.receptive import empirical
from retable.receptive.network import Network
from retable.receptive.progress import Progress
from retable.receptive.theoretical import layer_fields

KERNEL = np.array([[1.0, 2.0, 0.0], [0.0, 5.0, -1.0], [0.0, 0.0, 3.0]])


@pytest.fixture
def network():
    """One 3x3 convolution without padding, whose unit 1 has a known kernel."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False)).requires_grad_(False).eval()
    model[0].weight.zero_()
    model[0].weight[1, 0] = torch.from_numpy(KERNEL)
    return Network("one", model, (1, 8, 8), lambda images: images.float(), None, "none")


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    return [(f"{i}.png", rng.integers(0, 200, (1, 8, 8), dtype=np.uint8)) for i in range(5)]


def search(network, images, top, **options):
    return empirical.search(network, "0", 1, images, top, 2, Progress("searching", 5), **options)


def correlated(pixels):
    """The kernel's answer on every place of an 8x8 image."""
    windows = np.lib.stride_tricks.sliding_window_view(pixels[0].astype(float), (3, 3))
    return (windows * KERNEL).sum((2, 3))


def test_search_finds_the_strongest_answers(network, images):
    with Progress("searching", 5):
        flat = [("flat.png", np.zeros((1, 8, 8), np.uint8))]
        found, left_out = search(network, images + flat, 2)
    assert left_out == 1
    answers = {name: correlated(pixels) for name, pixels in images}
    best = sorted(answers, key=lambda name: -answers[name].max())[:2]
    assert [top.name for top in found] == best
    for top in found:
        assert top.activation == answers[top.name].max() == answers[top.name][top.position]
    # Within a window of the map.
    found, _ = search(network, images, 1, window=(slice(2, 4), slice(1, 2)))
    assert found[0].activation == max(answer[2:4, 1:2].max() for answer in answers.values())
    assert found[0].position[0] in (2, 3)
    assert found[0].position[1] == 1
    with pytest.raises(IndexError, match="2"):
        empirical.search(network, "0", 2, images, 1, 2, Progress("searching", 5))


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_drops_are_exact(network, images, batch):
    """An occluder of one pixel takes (pixel - its value) times the kernel's weight there, and nothing elsewhere."""
    found = search(network, images, 1)[0][0]
    occluder = np.full((1, 1, 1), 17, np.uint8)
    with Progress("occluding", 64) as progress:
        drops = empirical.occlude(network, "0", 1, found, occluder, 1, batch, progress)
    row, column = found.position
    expected = np.zeros((8, 8))
    window = found.pixels[0, row : row + 3, column : column + 3].astype(float)
    expected[row : row + 3, column : column + 3] = (window - 17) * KERNEL
    assert progress.done == 64
    np.testing.assert_array_equal(drops.values, expected)
    np.testing.assert_array_equal(drops.per_pixel(8, 8), expected)
    asked = layer_fields(network.model, (1, 8, 8))[0]
    spans = asked.spans(found.position, (8, 8))
    assert spans == ((row, row + 2), (column, column + 2))
    assert drops.outside(spans) == (0.0, 64 - 9)
    # A field told too small is found out: its centre's weight is 5, and the corner's 3 lies outside.
    assert drops.outside(((row, row + 1), (column, column + 1)))[0] > 0


def test_maps_per_pixel():
    assert empirical.positions(8, 3, 2) == (0, 2, 4, 5)
    assert empirical.positions(8, 8, 3) == (0,)
    lapping = empirical.Drops(np.array([[2.0, 4.0]]), (0,), (0, 1), 2, 1)
    np.testing.assert_array_equal(lapping.per_pixel(2, 3), [[2, 3, 4], [2, 3, 4]])
    separate = empirical.Drops(np.array([[2.0, 4.0]]), (0,), (0, 3), 1, 3)
    np.testing.assert_array_equal(separate.per_pixel(1, 4), [[2, 2, 4, 4]])


def test_gradient_is_the_kernel(network, images):
    found = search(network, images, 1)[0][0]
    row, column = found.position
    expected = np.zeros((8, 8))
    expected[row : row + 3, column : column + 3] = np.abs(KERNEL)
    slope = empirical.gradient(network, "0", 1, found)
    np.testing.assert_array_equal(slope, expected)
    rows, columns, count = empirical.reach(slope, empirical.EFFECTIVE_LEVEL)
    assert (rows, columns, count) == ((row, row + 2), (column, column + 2), 5)


def test_average_is_centred():
    first, second = np.zeros((3, 3)), np.zeros((3, 3))
    first[0, 0], second[2, 2] = 2, 4  # both are one row above and one column left of their centres
    found = empirical.average(
        [first, second], [(1, 1.5), (3, 3)]
    )  # the second's centre lies outside: the nearest pixel
    row, column = found.origin
    assert found.values[row - 1, column - 1] == 2 / 2
    assert found.values[row, column] == 4 / 2
    alone = empirical.average([first], [(0, 0)])
    assert alone.values[alone.origin] == 2
    assert alone.values.shape == (3, 3)
    # Three images: a pixel that only one of them reaches says nothing.
    third = empirical.average([first] * 3, [(0, 0), (0, 0), (2, 2)])
    assert np.isnan(third.values).sum() == 0
    assert third.values.shape == (3, 3)


def test_reach():
    assert empirical.reach(np.array([[0, 1, 5], [np.nan, 0, 2]]), 0.2) == ((0, 1), (2, 2), 2)
    assert empirical.reach(-np.ones((2, 2)), 0.2) is None
