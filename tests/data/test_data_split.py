"""Shares drawn class by class."""

import numpy as np
import pytest

from retable.data.split import balanced_share, proportional_share

BATCH_1 = [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]


def targets(counts):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def counts(labels, index):
    return np.bincount(labels[index], minlength=labels.max() + 1).tolist()


def test_two_hundred_of_each_class():
    labels = targets(BATCH_1)
    index = balanced_share(labels, 0.2, 0)
    assert counts(labels, index) == [200] * 10
    assert len(set(index.tolist())) == 2000


@pytest.mark.parametrize(
    ("sizes", "share", "expected"),
    [
        ([10, 10, 10], 1 / 3, [4, 3, 3]),  # 10 of 30: one more from the first of the largest
        ([2, 10, 12], 0.5, [1, 5, 6]),  # the small class keeps one
        ([100, 50], 0.9, [86, 49]),  # 135 are 67.5 each, but the second has only 50
        ([1, 1, 1], 0.999, [1, 1, 1]),
    ],
)
def test_balanced_where_counts_do_not_allow(sizes, share, expected):
    labels = targets(sizes)
    found = counts(labels, balanced_share(labels, share, 0))
    assert found == expected
    assert sum(found) == round(sum(sizes) * share)


@pytest.mark.parametrize("draw", [balanced_share, proportional_share])
def test_seeded(draw):
    labels = targets(BATCH_1)
    assert np.array_equal(draw(labels, 0.3, 5), draw(labels, 0.3, 5))
    assert not np.array_equal(draw(labels, 0.3, 5), draw(labels, 0.3, 6))


def test_proportional():
    labels = targets([600, 300, 100])
    assert counts(labels, proportional_share(labels, 0.1, 0)) == [60, 30, 10]
    assert counts(labels, proportional_share(labels, 0.005, 0)) == [3, 2, 0]  # 3, 1.5, 0.5: 5 in all
    assert len(proportional_share(labels, 1e-9, 0)) == 1
    assert len(proportional_share(labels, 1.0, 0)) == 1000
