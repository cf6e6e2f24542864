"""A synthetic stand-in for ISIC 2016: brown spots with ragged outlines on skin, under hairs and a dark frame.

24 images to train, 8 to test, 128x96, as JPEG with PNG masks. Made for trying things out: hairs and frame are as dark
as the lesions. No published value may be compared with it.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from retable.data.samples.glands import blob_distance, smooth_noise

VERSION = 1
SEED = 50_000
TRAIN, TEST = 24, 8
SHAPE = (96, 128)


def write_lesions(train: Path, train_masks: Path, test: Path, test_masks: Path) -> None:
    """Write ISIC_NNNNNNN.jpg and ISIC_NNNNNNN_Segmentation.png into the folders of images and of masks."""
    generator = np.random.default_rng(SEED)
    number = 0
    for images, masks, count in ((train, train_masks, TRAIN), (test, test_masks, TEST)):
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for _ in range(count):
            image, lesion = draw_lesion(generator)
            Image.fromarray(image).save(images / f"ISIC_{number:07d}.jpg", quality=90)
            Image.fromarray(np.uint8(lesion) * 255).save(masks / f"ISIC_{number:07d}_Segmentation.png")
            number += 1


def draw_lesion(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image, uint8 (96, 128, 3), and where its lesion is, bool (96, 128)."""
    height, width = SHAPE
    centre = generator.uniform(0.35, 0.65) * width, generator.uniform(0.35, 0.65) * height
    outside = blob_distance(generator, SHAPE, centre, generator.uniform(14, 34), 0.12)
    y, x = np.indices(SHAPE, np.float32)
    frame = np.clip(np.hypot((x - width / 2) / width, (y - height / 2) / height) * 4 - 2.2, 0, 1)
    skin = np.array([0.85, 0.65, 0.55]) + generator.uniform(-0.08, 0.08, 3)
    spot = np.array([0.42, 0.26, 0.2]) + generator.uniform(-0.1, 0.1, 3)
    share = np.clip(0.5 - outside / generator.uniform(1.5, 5), 0, 1)[..., None]
    texture = smooth_noise(generator, SHAPE, 8)[..., None]
    image = (skin + 0.03 * texture) * (1 - share) + (spot + 0.08 * texture) * share
    for _ in range(generator.integers(0, 8)):
        turn, offset = generator.uniform(0, np.pi), generator.uniform(-40, 40)
        line = np.abs(np.cos(turn) * (x - width / 2) + np.sin(turn) * (y - height / 2) - offset)
        image *= 1 - 0.6 * np.clip(1 - line, 0, 1)[..., None]
    image = image * (1 - 0.8 * frame[..., None]) + 0.02 * generator.standard_normal(image.shape)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), outside < 0
