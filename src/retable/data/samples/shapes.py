"""Synthetic stand-ins for Oxford-IIIT Pet, PASCAL VOC 2012 and CamVid, in their files and folders.

24 images to train, 8 to validate, 128x96. Pet: one bright form on a dull background. VOC: one or two forms; class k
has the form (k - 1) % 10 and one of 20 hues. CamVid: a street in bands, with poles, cars and people on it. Forms are
coarse, so that a network with stride 32 can tell them. No published value may be compared with them.
"""

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image

from retable.data.samples.glands import smooth_noise
from retable.data.samples.objects import FORMS

VERSION = 1
SEED = 60_000
TRAIN, VAL = 24, 8
SHAPE = (96, 128)
COARSE = (1, 2, 3, 4, 11, 12, 13, 14)  # squares, triangles, discs and stars, in two hues
BORDER = 1.5  # pixels to both sides of an outline that have no label, in Pet and VOC

# CamVid's labels and the colours they are drawn in here.
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, VOID = range(12)
COLOURS = (
    (150, 190, 230), (130, 90, 80), (190, 190, 170), (80, 80, 85), (160, 140, 150), (60, 120, 50),
    (220, 200, 40), (120, 110, 60), (160, 30, 50), (40, 50, 140), (30, 150, 160), (10, 10, 10),
)  # fmt: skip


def write_pet(base: Path) -> None:
    """Write images/*.jpg, annotations/trimaps/*.png, annotations/trainval.txt and test.txt."""
    generator = np.random.default_rng(SEED)
    images, annotations = base / "images", base / "annotations"
    _folders(images, annotations / "trimaps")
    for split, count in (("trainval", TRAIN), ("test", VAL)):
        names = [f"shape_{split}_{number}" for number in range(1, count + 1)]
        for name in names:
            image, (_, distance) = draw_forms(generator, [int(generator.choice(COARSE))])
            trimap = np.where(np.abs(distance) <= BORDER, 3, np.where(distance < 0, 1, 2))
            Image.fromarray(image).save(images / f"{name}.jpg", quality=90)
            Image.fromarray(np.uint8(trimap)).save(annotations / "trimaps" / f"{name}.png")
        # As in the original: name, class, species, breed.
        (annotations / f"{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names), encoding="utf-8")


def write_voc(base: Path) -> None:
    """Write JPEGImages/*.jpg, SegmentationClass/*.png (palette) and ImageSets/Segmentation/{train,val}.txt."""
    generator = np.random.default_rng(SEED + 1)
    images, masks, lists = base / "JPEGImages", base / "SegmentationClass", base / "ImageSets" / "Segmentation"
    _folders(images, masks, lists)
    order = iter([int(kind) for _ in range(4) for kind in generator.permutation(20)])  # 36 forms to train: all classes
    number = 0
    for split, count in (("train", TRAIN), ("val", VAL)):
        names = [f"2012_{number + place:06d}" for place in range(1, count + 1)]
        number += count
        for name in names:
            classes = [next(order) for _ in range(1 + int(name[-1]) % 2)]
            image, (labels, distance) = draw_forms(generator, classes)
            mask = Image.fromarray(np.uint8(np.where(np.abs(distance) <= BORDER, 255, labels)))
            mask.putpalette([(37 * value * k) % 256 for value in range(256) for k in (1, 3, 5)])
            Image.fromarray(image).save(images / f"{name}.jpg", quality=90)
            mask.save(masks / f"{name}.png")
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def write_camvid(base: Path) -> None:
    """Write train, trainannot, val and valannot."""
    generator = np.random.default_rng(SEED + 2)
    for split, count in (("train", TRAIN), ("val", VAL)):
        _folders(base / split, base / f"{split}annot")
        for number in range(1, count + 1):
            image, labels = draw_street(generator)
            Image.fromarray(image).save(base / split / f"{split}_{number:03d}.png")
            Image.fromarray(labels).save(base / f"{split}annot" / f"{split}_{number:03d}.png")


def draw_forms(generator: np.random.Generator, classes: list[int]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Forms side by side, one for each of `classes` (0 to 19), in the order from left to right.

    Returns:
        uint8 image (96, 128, 3); labels (96, 128), class + 1 or 0; pixels to the nearest outline, negative inside.
    """
    height, width = SHAPE
    y, x = np.indices(SHAPE, np.float32)
    image = 0.45 + 0.1 * np.stack([smooth_noise(generator, SHAPE, 12) for _ in range(3)], -1)
    labels, nearest = np.zeros(SHAPE, np.uint8), np.full(SHAPE, np.inf, np.float32)
    room = width / len(classes)
    for place, kind in enumerate(classes):
        radius = generator.uniform(0.6, 0.9) * min(room, height) / 2
        turn = generator.uniform(-0.4, 0.4)
        u = x - room * (place + 0.5) - generator.uniform(-6, 6)
        v = y - height / 2 - generator.uniform(-10, 10)
        u, v = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
        distance = (FORMS[kind % 10](u / radius, v / radius) * radius).astype(np.float32)
        colour = np.array(colorsys.hsv_to_rgb(kind / 20, generator.uniform(0.7, 1), generator.uniform(0.7, 1)))
        share = np.clip(0.5 - distance, 0, 1)[..., None]
        image = image * (1 - share) + colour * share
        labels[distance < 0] = kind + 1
        nearest = np.minimum(nearest, distance)
    return _finished(image, generator), (labels, nearest)


def draw_street(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A street scene, uint8 (96, 128, 3), and its labels, 0 to 11, uint8 (96, 128)."""
    height, width = SHAPE
    labels = np.full(SHAPE, SKY, np.uint8)
    horizon = int(generator.integers(44, 56))
    for label in (BUILDING, TREE, BUILDING, TREE):
        left, top = generator.integers(0, width - 24), generator.integers(8, horizon - 16)
        labels[top:horizon, left : left + generator.integers(24, 56)] = label
    labels[horizon:] = PAVEMENT
    y, x = np.indices(SHAPE)
    middle = width / 2 + generator.uniform(-12, 12)
    labels[(y >= horizon) & (np.abs(x - middle) < 12 + (y - horizon) * 0.9)] = ROAD
    labels[horizon - 8 : horizon, : generator.integers(16, 40)] = FENCE
    things = ((CAR, 18, 28), (CAR, 14, 22), (PEDESTRIAN, 24, 9), (BICYCLIST, 22, 12), (POLE, 50, 4))
    for label, high, wide in things:
        left, bottom = generator.integers(0, width - wide), generator.integers(horizon + 6, height - 6)
        labels[max(bottom - high, 0) : bottom, left : left + wide] = label
        if label == POLE:
            labels[max(bottom - high, 0) : max(bottom - high, 0) + 10, left : left + 10] = SIGN
    labels[height - 4 :] = VOID  # the car's own bonnet
    image = np.array(COLOURS, np.float32)[labels] / 255 + generator.uniform(-0.08, 0.08, 3)
    return _finished(image + 0.04 * smooth_noise(generator, SHAPE, 6)[..., None], generator), labels


def _finished(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    noisy = image + 0.03 * generator.standard_normal(image.shape)
    return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8)


def _folders(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
