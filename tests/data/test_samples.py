"""The synthetic sets: as large as stated, the same each time, read by the real readers, learnable."""

import numpy as np
import pytest
import torch
from torch import nn

from retable.data.samples.digits import draw_digits
from retable.data.samples.objects import draw_objects
from retable.data.sets.cifar import CifarData
from retable.data.sets.mnist import MnistData
from retable.errors import DataError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("samples")


def test_digits(cache):
    data = MnistData(source="sample", cache=cache)
    data.prepare()
    assert data.counts == {"read": 2500, "left_out": 0, "train": 2000, "val": 500}
    assert data.image_shape == (1, 28, 28)
    assert np.bincount(data.splits.val.targets).tolist() == [50] * 10


def test_objects(cache):
    data = CifarData(source="sample", cache=cache)
    data.prepare()
    assert data.counts == {"read": 2500, "left_out": 0, "train": 2000, "val": 500}
    assert data.image_shape == (3, 32, 32)
    assert np.bincount(data.splits.val.targets).tolist() == [50] * 10


def test_sample_has_one_batch(cache):
    with pytest.raises(DataError, match=r"use data\.files=\[data_batch_1\]"):
        CifarData(source="sample", cache=cache, files="full").prepare()


@pytest.mark.parametrize("draw", [draw_digits, draw_objects])
def test_deterministic_and_without_repeats(draw):
    images, labels = draw(100, np.random.default_rng(1))
    again, labels_again = draw(100, np.random.default_rng(1))
    assert np.array_equal(images, again)
    assert np.array_equal(labels, labels_again)
    assert len({image.tobytes() for image in images}) == 100


def test_digits_are_learnt_but_not_all(cache):
    torch.manual_seed(0)
    data = MnistData(source="sample", cache=cache, scale="standard")
    data.setup()
    layers, channels = [], 1
    for width in (8, 16, 32):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(288, 10))
    optimizer, loader = torch.optim.Adam(net.parameters(), 0.003), data.train_dataloader()
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        for images, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), targets).backward()
            optimizer.step()
    with torch.no_grad():
        right = sum(int((net(images).argmax(1) == targets).sum()) for images, targets in data.val_dataloader())
    assert 300 < right < 500
