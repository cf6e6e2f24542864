"""A synthetic stand-in for MNIST: ten digits drawn as strokes, each bent, turned, shifted, thick or thin, and noisy.

2,000 to train, 500 to test, as idx files. Made for trying things out: a small network gets most of them right after a
few epochs, but not all. No published value may be compared with it.
"""

from pathlib import Path

import numpy as np

from retable.data.formats.idx import write_idx

VERSION = 1
SEED = 20_000
TRAIN, TEST = 2000, 500
SIDE = 28


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float, points: int = 9) -> list[tuple]:
    angles = np.radians(np.linspace(start, end, points))
    return [(x + rx * np.cos(a), y + ry * np.sin(a)) for a in angles]


# Each digit's strokes as polylines in [-1, 1] x [-1, 1], y downwards.
STROKES: tuple[tuple[list[tuple], ...], ...] = (
    (_arc(0, 0, 0.6, 0.95, 0, 360, 13),),
    ([(-0.35, -0.6), (0.1, -0.95), (0.1, 0.95)],),
    ([*_arc(0, -0.45, 0.55, 0.5, -170, 50), (-0.6, 0.95), (0.65, 0.95)],),
    (_arc(-0.05, -0.48, 0.55, 0.47, -150, 90), _arc(-0.05, 0.47, 0.6, 0.48, -90, 150)),
    ([(0.3, 0.95), (0.3, -0.95), (-0.6, 0.35), (0.65, 0.35)],),
    ([(0.55, -0.95), (-0.45, -0.95), (-0.5, -0.1), *_arc(-0.02, 0.38, 0.6, 0.56, -115, 140)],),
    ([(0.4, -0.95), *_arc(0, 0.4, 0.55, 0.55, -160, 200, 11)],),
    ([(-0.6, -0.9), (0.6, -0.9), (-0.15, 0.95)],),
    (_arc(0, -0.47, 0.48, 0.45, 90, 450, 11), _arc(0, 0.45, 0.58, 0.5, -90, 270, 11)),
    ([*_arc(0, -0.4, 0.52, 0.52, 0, 360, 11), (0.4, 0.95)],),
)


def draw_digits(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` digits, each as often as any other (count must be a multiple of 10), in random order.

    Returns:
        uint8 (count, 28, 28), white on black, and uint8 labels (count,).
    """
    labels = generator.permutation(np.repeat(np.arange(10, dtype=np.uint8), count // 10))
    images = np.empty((count, SIDE, SIDE), np.uint8)
    for digit in range(10):
        where = np.flatnonzero(labels == digit)
        images[where] = _draw(STROKES[digit], len(where), generator)
    return images, labels


def _draw(strokes: tuple[list[tuple], ...], count: int, generator: np.random.Generator) -> np.ndarray:
    grid = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / (SIDE / 2)
    x_NHW = np.broadcast_to(grid[None, None, :], (count, SIDE, SIDE))
    y_NHW = np.broadcast_to(grid[None, :, None], (count, SIDE, SIDE))

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return generator.uniform(low, high, (count, *shape)).astype(np.float32)

    angle, shear = uniform(-0.4, 0.4), uniform(-0.35, 0.35)
    width, height = uniform(0.4, 0.75), uniform(0.5, 0.78)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
    shift = uniform(-0.18, 0.18, 2)
    distance = np.full((count, SIDE, SIDE), 4.0, np.float32)
    for stroke in strokes:
        points = np.asarray(stroke, np.float32)[None] + 0.09 * generator.standard_normal((count, len(stroke), 2))
        points = np.stack([points[..., 0] * width[:, None], points[..., 1] * height[:, None]], -1).astype(np.float32)
        points[..., 0] += shear[:, None] * points[..., 1]
        points = np.einsum("nij,npj->npi", turn, points) + shift[:, None]
        for first, second in zip(points.swapaxes(0, 1)[:-1], points.swapaxes(0, 1)[1:], strict=True):
            distance = np.minimum(distance, _to_segment(x_NHW, y_NHW, first, second))
    radius, edge = uniform(0.04, 0.13, 1, 1), 0.07
    ink = np.clip((radius + edge - distance) / edge, 0, 1) * uniform(0.45, 1.0, 1, 1)
    noise = generator.standard_normal(ink.shape, dtype=np.float32) * uniform(0.05, 0.35, 1, 1)
    return (np.clip(ink + noise, 0, 1) * 255).round().astype(np.uint8)


def _to_segment(x: np.ndarray, y: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance of each pixel (N, H, W) to its image's line from `first` to `second` (N, 2)."""
    ax, ay = first[:, 0, None, None], first[:, 1, None, None]
    dx, dy = second[:, 0, None, None] - ax, second[:, 1, None, None] - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
    return np.hypot(x - ax - along * dx, y - ay - along * dy)


def write_digits(folder: Path, train_images: str, train_labels: str, test_images: str, test_labels: str) -> None:
    """Write the four idx files under the names given."""
    generator = np.random.default_rng(SEED)
    for count, images_name, labels_name in ((TRAIN, train_images, train_labels), (TEST, test_images, test_labels)):
        images, labels = draw_digits(count, generator)
        write_idx(folder / images_name, images)
        write_idx(folder / labels_name, labels)
