"""Removing segments from an image whose classes depend on its quarters in a known way."""

import numpy as np
import pytest
import torch
from torch import nn

from retable.errors import ConfigError
from retable.receptive.network import Network
from retable.receptive.progress import Progress
from retable.receptive.segments import remove, segment


class Quarters(nn.Module):
    """Class 0 scores the weighted brightness of the quarters; class 1 scores 40 always."""

    def forward(self, images):
        quarters = nn.functional.avg_pool2d(images, 4).flatten(1)
        return torch.stack([quarters @ torch.tensor([0.5, 0.1, 1.0, 0.2]), torch.full((len(images),), 40.0)], 1)


def network(model):
    model.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)  # says on which device the network is
    return Network("quarters", model, (1, 8, 8), lambda images: images.float(), ("bright", "dark"), "none")


def test_least_loss_first_until_the_class_flips():
    segments = np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int))
    pixels = np.choose(segments, [80, 60, 40, 20])[None].astype(np.uint8)  # the mean is 50
    with Progress("removing", None) as progress:
        left = remove(network(Quarters()), pixels, segments, 3, progress)
    # 40 + 6 + 40 + 4 = 90; painted with 50, quarter 2 (40, weight 1) gains 10, 3 (20, weight 0.2) gains 6,
    # 1 (60, weight 0.1) loses 1. What is left, 0, would lose 15 more and keep the class: it is never removed.
    assert left.label == 0
    assert left.order == (2, 3, 1)
    assert left.scores == pytest.approx((90, 100, 106, 105))
    assert left.flipped is None
    np.testing.assert_array_equal(left.kept, segments == 0)
    assert progress.done == 1 + 4 + 3 + 2


def test_what_would_flip_the_class_is_kept():
    segments = np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), int))
    pixels = np.choose(segments, [80, 8, 8, 0])[None].astype(np.uint8)  # the mean is 24

    class Bright(nn.Module):
        def forward(self, images):
            quarters = nn.functional.avg_pool2d(images, 4).flatten(1)
            return torch.stack([quarters[:, 0] - quarters[:, 1], torch.full((len(images),), 60.0)], 1)

    with Progress("removing", None) as progress:
        left = remove(network(Bright()), pixels, segments, 8, progress)
    # 80 - 8 = 72 against 60: quarters 2 and 3 do not matter; 1 leaves 80 - 24 = 56, and flips it.
    assert (left.order, left.flipped) == ((2, 3), 1)
    assert left.kept.mean() == 0.5


def test_only_classifiers():
    with Progress("removing", None) as progress, pytest.raises(ConfigError, match="accepted: a classifier"):
        remove(network(nn.Identity()), np.zeros((1, 8, 8), np.uint8), np.zeros((8, 8), int), 1, progress)


@pytest.mark.parametrize("way", ["slic", "felzenszwalb"])
@pytest.mark.parametrize("channels", [1, 3])
def test_segments_follow_edges(way, channels):
    pixels = np.zeros((channels, 32, 32), np.uint8)
    pixels[:, :, 16:] = 255
    found = segment(pixels, way, 4)
    assert found.shape == (32, 32)
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    assert found.max() >= 1
    assert not set(found[:, :16].ravel()) & set(found[:, 16:].ravel())
