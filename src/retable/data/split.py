"""Seeded shares of a labelled set, drawn class by class."""

import numpy as np


def balanced_share(targets: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw round(N * share) positions, as many of each class as of every other.

    With 10,000 images of ten classes and share 0.2: 200 of each class. Where the number does not divide, the larger
    classes give one more; a class that is too small gives all but one and the others make up for it.

    Args:
        targets: int64 (N,).

    Returns:
        The positions in ascending order, int64.
    """
    counts = np.bincount(targets)
    total = round(len(targets) * share)
    room = np.maximum(counts - 1, 0)
    if total > room.sum():
        room = counts
    quota = np.zeros_like(counts)
    while (left := total - quota.sum()) > 0:
        open_ = np.flatnonzero(quota < room)
        each = left // len(open_)
        if each:
            quota[open_] = np.minimum(quota[open_] + each, room[open_])
        else:
            largest = open_[np.argsort(-counts[open_], kind="stable")[:left]]
            quota[largest] += 1
    return _draw(targets, quota, (seed, 1))


def proportional_share(targets: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw round(N * share) positions, at least one, each class in proportion to its size (largest remainders).

    Returns:
        The positions in ascending order, int64.
    """
    counts = np.bincount(targets)
    total = max(1, round(len(targets) * share))
    exact = counts * (total / len(targets))
    quota = np.floor(exact).astype(np.int64)
    largest = np.argsort(-(exact - quota), kind="stable")[: total - quota.sum()]
    quota[largest] += 1
    return _draw(targets, quota, (seed, 2))


def _draw(targets: np.ndarray, quota: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    drawn = [generator.permutation(np.flatnonzero(targets == label))[:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(drawn))
