"""Chunks of mini-batches: sizes, order, augmentation's generator."""

import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler

from retable.data.loader import CHUNK_BATCHES, DeviceLoader, batches_per_chunk, mixed_seed


def loader(count=103, **arguments) -> DeviceLoader:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
    defaults = {"batch_size": 10, "normalise": lambda x: x.float(), "seed": 0, "chunk": 4, "whole": True}
    return DeviceLoader(images, torch.arange(count), **(defaults | arguments))


def order(of: DeviceLoader, epoch: int = 0) -> list[int]:
    of.sampler.set_epoch(epoch)
    return torch.cat([chunk.targets for chunk in of]).tolist()


def test_chunks_hold_whole_batches_but_at_the_end():
    chunks = list(loader())
    assert [len(chunk.targets) for chunk in chunks] == [40, 40, 23]
    assert len(loader()) == 3
    assert loader().batches == 11
    assert {chunk.batch_size for chunk in chunks} == {10}
    assert [len(part) for part in chunks[2].images.split(10)] == [10, 10, 3]


@pytest.mark.parametrize("chunk", [1, 3, 11, 64])
def test_order_and_batches_do_not_depend_on_the_chunk(chunk):
    assert order(loader(chunk=chunk)) == order(loader(chunk=4))
    assert len(list(loader(chunk=chunk))) == len(loader(chunk=chunk))


def test_mini_batches_of_chunks_prepared_together():
    chunks, pairs = list(loader()), list(loader(whole=False))
    assert [len(targets) for _, targets in pairs] == [10] * 10 + [3]
    assert len(loader(whole=False)) == 11
    assert torch.equal(torch.cat([targets for _, targets in pairs]), torch.cat([chunk.targets for chunk in chunks]))
    assert torch.equal(torch.cat([images for images, _ in pairs]), torch.cat([chunk.images for chunk in chunks]))


def test_images_go_with_their_targets_each_once():
    chunks = list(loader())
    targets = torch.cat([chunk.targets for chunk in chunks])
    assert torch.equal(torch.cat([chunk.images for chunk in chunks]).flatten(), targets.float())
    assert sorted(targets.tolist()) == list(range(103))


def test_order_is_a_function_of_seed_and_epoch():
    assert order(loader(), 3) == order(loader(), 3)
    seen = [order(loader(seed=seed), epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(one) for one in seen}) == 9
    expected = torch.randperm(103, generator=torch.Generator().manual_seed(mixed_seed(7, 2)))
    assert order(loader(seed=7), 2) == expected.tolist()


def test_mixed_seed_is_numpys():
    assert mixed_seed(3, 4) == int(np.random.SeedSequence((3, 4)).generate_state(1, np.uint64)[0]) // 2
    assert len({mixed_seed(a, b) for a in range(20) for b in range(20)}) == 400


def test_epoch_is_read_at_the_first_next():
    one = loader()
    iterator = iter(one)
    one.sampler.set_epoch(5)
    assert next(iterator).targets.tolist() == order(loader(), 5)[:40]


def test_unshuffled():
    one = loader(shuffle=False, chunk=1)
    assert isinstance(one.sampler, SequentialSampler)
    assert torch.cat([chunk.targets for chunk in one]).tolist() == list(range(103))


def test_augment_gets_unit_floats_and_a_generator_of_seed_and_epoch():
    draws = []

    def augment(images, generator):
        assert images.dtype == torch.float32
        assert float(images.max()) <= 1
        draws.append(float(torch.rand(1, generator=generator)))
        return images + 1

    one = loader(augment=augment, normalise=lambda x: x)
    first = torch.cat([chunk.images for chunk in one])
    assert float(first.min()) == 1
    assert torch.equal(one.images.flatten(), torch.arange(103, dtype=torch.uint8))  # the originals are untouched
    list(one)
    one.sampler.set_epoch(1)
    list(one)
    assert draws[:3] == draws[3:6]
    assert len(set(draws[:3] + draws[6:])) == 6


@pytest.mark.parametrize(
    ("batch", "shape", "expected"),
    [
        (32, (3, 32, 32), 40),  # 16e6 / (4 * 32 * 3072) = 40.7
        (32, (1, 28, 28), CHUNK_BATCHES),  # 159 would fit
        (1024, (1, 28, 28), 4),
        (8000, (3, 32, 32), 1),
    ],
)
def test_batches_per_chunk(batch, shape, expected):
    assert batches_per_chunk(batch, shape) == expected


@pytest.mark.parametrize(
    ("batch", "shape", "chunk", "with_blocks"),
    [
        (32, (1, 28, 28), 64, 50),  # B1.2
        (32, (3, 32, 32), 40, 25),
        (64, (3, 32, 32), 20, 25),  # A1: what a graph holds may be somewhat more than a chunk
        (128, (3, 32, 32), 10, 25),
        (64, (1, 216, 216), 1, 1),  # 299 MB would be
        (1000, (3, 216, 216), 1, 1),
    ],
)
def test_a_chunk_of_recorded_steps_is_whole_graphs_where_one_is_small(batch, shape, chunk, with_blocks):
    assert batches_per_chunk(batch, shape) == chunk
    assert batches_per_chunk(batch, shape, 25) == with_blocks
