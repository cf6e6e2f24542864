"""A synthetic stand-in for CIFAR-10: ten coloured shapes and textures on noisy backgrounds with distractors.

2,500 images, 250 of each class, in one data_batch_1 with its batches.meta. Its form makes a class; the colours of
object and background are hints, as the sky is for a plane. Made for trying things out: a small network gets four of
five right after a few epochs. No published value may be compared with it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from retable.data.formats.cifar_batch import write_batch, write_names

VERSION = 1
SEED = 30_000
COUNT = 2500
SIDE = 32

Form = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _box(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) * 0.87 + y * 0.5, -y) - 0.5


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.68 - 0.32 * np.cos(5 * np.arctan2(y, x))


# Signed distances, roughly: negative inside a form of about radius 1, in the class order plane, car, bird, ...
FORMS: tuple[Form, ...] = (
    lambda x, y: np.minimum(_box(x, y, 1.0, 0.25), _box(x, y, 0.25, 1.0)),  # cross
    lambda x, y: _box(x, y, 0.8, 0.8),  # square
    _triangle,
    lambda x, y: np.hypot(x, y) - 0.9,  # disc
    _star,
    lambda x, y: np.abs(np.hypot(x, y) - 0.8) - 0.2,  # ring
    lambda x, y: np.maximum(np.hypot(x, y) - 0.95, 0.75 - np.hypot(x - 0.45, y)),  # crescent
    lambda x, y: np.minimum(np.hypot(x - 0.55, y), np.hypot(x + 0.55, y)) - 0.42,  # two discs
    lambda x, y: np.maximum(np.hypot(x, y) - 1.0, np.sin(7 * x) * 0.2),  # stripes
    lambda x, y: np.maximum(_box(x, y, 0.9, 0.9), np.sin(5.2 * x) * np.sin(5.2 * y) * 0.3),  # checks
)


def draw_objects(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` images, each class as often as any other (count must be a multiple of 10), in random order.

    Returns:
        uint8 (count, 3, 32, 32) and int64 labels (count,).
    """
    labels = generator.permutation(np.repeat(np.arange(10), count // 10))

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return generator.uniform(low, high, (count, *shape)).astype(np.float32)

    images = _background(uniform, labels * 0.3 + generator.normal(0, 0.12, count))
    for _ in range(2):
        kind = generator.integers(0, 2, count)  # small discs and bars, behind the object
        distance = _place(uniform, kind + 3 * (kind == 0), size=(0.12, 0.28), reach=0.9, aspect=0.7)
        images = _paint(images, distance, _colour(uniform(0, 1), uniform(0.2, 0.8), uniform(0.2, 0.9)))
    hue = labels / 10 + generator.normal(0, 0.06, count)
    distance = _place(uniform, labels, size=(0.5, 0.85), reach=0.25, aspect=0.8)
    images = _paint(images, distance, _colour(hue, uniform(0.5, 1.0), uniform(0.5, 1.0)))
    images = images * uniform(0.75, 1.15, 1, 1, 1) + uniform(-0.05, 0.05, 1, 1, 1)
    images += generator.standard_normal(images.shape, dtype=np.float32) * uniform(0.02, 0.13, 1, 1, 1)
    return (np.clip(images, 0, 1) * 255).round().astype(np.uint8), labels


def _background(uniform: Callable[..., np.ndarray], hue: np.ndarray) -> np.ndarray:
    """A gradient between two colours under a coarse texture, float32 (N, 3, 32, 32)."""
    first = _colour(hue, uniform(0.3, 0.9), uniform(0.3, 0.9))
    second = _colour(uniform(0, 1), uniform(0, 0.5), uniform(0.2, 0.8))
    ramp = np.linspace(0, 1, SIDE, dtype=np.float32)
    slope = uniform(0, 1, 1, 1)
    mix = slope * ramp[None, None, :] + (1 - slope) * ramp[None, :, None]
    texture = uniform(-0.15, 0.15, 3, 8, 8).repeat(4, axis=2).repeat(4, axis=3)
    return first[..., None, None] * (1 - mix[:, None]) + second[..., None, None] * mix[:, None] + texture


def _place(
    uniform: Callable[..., np.ndarray], kinds: np.ndarray, size: tuple[float, float], reach: float, aspect: float
) -> np.ndarray:
    """Distance (N, 32, 32), in pixels, to one form an image, at a random place, angle, size and aspect."""
    grid = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / (SIDE / 2)
    scale, angle = uniform(*size, 1, 1), uniform(-np.pi, np.pi, 1, 1)
    x = grid[None, None, :] - uniform(-reach, reach, 1, 1)
    y = grid[None, :, None] - uniform(-reach, reach, 1, 1)
    u = (np.cos(angle) * x + np.sin(angle) * y) / scale
    v = (np.cos(angle) * y - np.sin(angle) * x) / (scale * uniform(aspect, 1, 1, 1))
    distance = np.empty(u.shape, np.float32)
    for kind in np.unique(kinds):
        where = kinds == kind
        distance[where] = FORMS[kind](u[where], v[where])
    return distance * scale * (SIDE / 2)


def _paint(images: np.ndarray, distance: np.ndarray, colour: np.ndarray) -> np.ndarray:
    cover = np.clip(0.5 - distance, 0, 1)[:, None]
    return images * (1 - cover) + colour[..., None, None] * cover


def _colour(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """HSV (N,), hue in turns, to RGB (N, 3), float32."""
    turn = np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return (value[:, None] * (1 - saturation[:, None] * (1 - np.clip(turn, 0, 1)))).astype(np.float32)


def write_objects(folder: Path, names: tuple[str, ...]) -> None:
    """Write data_batch_1 and batches.meta."""
    images, labels = draw_objects(COUNT, np.random.default_rng(SEED))
    write_batch(folder / "data_batch_1", images, labels, "synthetic batch 1 of 1")
    write_names(folder / "batches.meta", names, COUNT)
