"""A synthetic stand-in for the Warwick glands: pale lumina in dark, wavy rings, on tissue full of nuclei.

24 images to train, 8 to test, 128x128, in the course's layout (image_NN.png, label_NN.png), the blue channel zero as
there. Made for trying things out: dark spots lie in the tissue also, so that colour alone does not tell. No published
value may be compared with it.
"""

from pathlib import Path

import numpy as np
from PIL import Image

VERSION = 1
SEED = 40_000
TRAIN, TEST = 24, 8
SIDE = 128


def write_glands(folder: Path) -> None:
    """Write Train/ and Test/."""
    generator = np.random.default_rng(SEED)
    for split, count in (("Train", TRAIN), ("Test", TEST)):
        (folder / split).mkdir(parents=True)
        for number in range(1, count + 1):
            image, glands = draw_glands(generator)
            Image.fromarray(image).save(folder / split / f"image_{number:02d}.png")
            Image.fromarray(np.uint8(glands) * 255).save(folder / split / f"label_{number:02d}.png")


def draw_glands(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image, uint8 (128, 128, 3), and where its glands are, bool (128, 128)."""
    red = 0.75 + 0.08 * smooth_noise(generator, (SIDE, SIDE), 16)
    green = 0.45 + 0.12 * smooth_noise(generator, (SIDE, SIDE), 16)
    inside = np.full((SIDE, SIDE), np.inf, np.float32)
    circles: list[tuple[float, float, float]] = []
    for _ in range(40):
        x, y, radius = *generator.uniform(0, SIDE, 2), generator.uniform(14, 30)
        if len(circles) < 7 and all(np.hypot(x - a, y - b) > 1.1 * (radius + r) for a, b, r in circles):
            circles.append((x, y, radius))
            inside = np.minimum(inside, blob_distance(generator, (SIDE, SIDE), (x, y), radius, 0.12) / radius)
    ring, lumen = np.clip(-inside * 12, 0, 1), np.clip((-inside - 0.4) * 10, 0, 1)
    red, green = (_mix(_mix(value, 0.45, ring), pale, lumen) for value, pale in ((red, 0.92), (green, 0.82)))
    dots = np.clip(2 * smooth_noise(generator, (SIDE, SIDE), 3) - 1.2, 0, 1) * (lumen < 0.5)
    image = np.stack([_mix(red, 0.35, dots), _mix(green * (1 - 0.5 * ring * (1 - lumen)), 0.15, dots), 0 * red], -1)
    image[..., :2] += 0.03 * generator.standard_normal((SIDE, SIDE, 2))
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), inside < 0


def blob_distance(
    generator: np.random.Generator, shape: tuple[int, int], centre: tuple[float, float], radius: float, wobble: float
) -> np.ndarray:
    """Pixels (H, W) outside the outline of a wavy ellipse about centre (x, y); negative inside; float32."""
    y, x = np.indices(shape, np.float32)
    turn, flat = generator.uniform(0, np.pi), generator.uniform(0.7, 1)
    u = np.cos(turn) * (x - centre[0]) + np.sin(turn) * (y - centre[1])
    v = (np.cos(turn) * (y - centre[1]) - np.sin(turn) * (x - centre[0])) / flat
    angle, outline = np.arctan2(v, u), np.ones(shape, np.float32)
    for waves in (2, 3, 5):
        outline += wobble / waves * 2 * generator.uniform(0.3, 1) * np.cos(waves * angle + generator.uniform(0, 6.28))
    return (np.hypot(u, v) - radius * outline).astype(np.float32)


def smooth_noise(generator: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Normal values on a grid of `cell` pixels, interpolated: float32 (H, W)."""
    height, width = shape
    grid = generator.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def _mix(values: np.ndarray, other: float, share: np.ndarray) -> np.ndarray:
    return values * (1 - share) + other * share
