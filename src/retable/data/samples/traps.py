"""A synthetic stand-in for camera-trap images: animals and cars on grass by day, or in infra-red by night, with boxes.

64 images to train, 24 to validate, 128x96, as PNG, in RetinaNet's CSV form; the classes are those of report A3, as
unevenly distributed. Two variants differ in colours and in the animals' build, so that a model trained on one knows
something, but not all, of the other. Made for trying things out: no published value may be compared with it.
"""

import colorsys
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from retable.data.samples.glands import smooth_noise

VERSION = 1
SEED = 60_000
TRAIN, VAL = 64, 24
WIDTH, HEIGHT = 128, 96
SCALE = 4  # drawn so many times as large, for soft edges
CLASSES = ("coyote", "bobcat", "bird", "raccoon", "car", "rabbit", "squirrel", "cat")
SHARES = (0.2, 0.14, 0.14, 0.13, 0.12, 0.1, 0.09, 0.08)
EMPTY = 0.06  # share of images without boxes
# Of each class: hue, saturation, value of its colour; height of its box as a share of the image's; width by height;
# length of the tail and of the ears by the body's length.
BUILD = {
    "coyote": ((0.09, 0.45, 0.62), 0.42, 1.5, 0.35, 0.18),
    "bobcat": ((0.07, 0.65, 0.75), 0.4, 1.25, 0.1, 0.16),
    "bird": ((0.6, 0.7, 0.75), 0.24, 1.3, 0.3, 0.0),
    "raccoon": ((0.65, 0.08, 0.4), 0.34, 1.2, 0.32, 0.12),
    "car": ((0.0, 0.8, 0.75), 0.45, 1.9, 0.0, 0.0),
    "rabbit": ((0.08, 0.2, 0.72), 0.3, 0.95, 0.06, 0.42),
    "squirrel": ((0.03, 0.8, 0.5), 0.25, 1.1, 0.5, 0.1),
    "cat": ((0.5, 0.05, 0.15), 0.32, 1.3, 0.42, 0.16),
}
Extent = tuple[float, float, float, float]


def write_traps(folder: Path, variant: int) -> None:
    """Write images/*.png, train.csv, val.csv and classes.csv into an empty folder."""
    (folder / "images").mkdir(parents=True)
    with (folder / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows((name, label) for label, name in enumerate(CLASSES))
    generator = np.random.default_rng((SEED, variant))
    number = 0
    for split, count in (("train", TRAIN), ("val", VAL)):
        # Every class in turn before chance has its way, so that none is missing from a part.
        wanted = [generator.permutation(len(CLASSES)) for _ in range(2 if split == "val" else 3)]
        first = [int(label) for order in wanted for label in order]
        rows: list[tuple[object, ...]] = []
        for place in range(count):
            labels = [first[place]] if place < len(first) else []
            if not labels and generator.random() >= EMPTY:
                labels = [int(generator.choice(len(CLASSES), p=SHARES))]
            if labels and generator.random() < 0.35:
                labels.append(int(generator.choice(len(CLASSES), p=SHARES)))
            image, boxes = draw_scene(generator, labels, variant)
            name = f"images/{number:04d}.png"
            Image.fromarray(image).save(folder / name)
            rows += [(name, *box, CLASSES[label]) for label, box in boxes] or [(name, "", "", "", "", "")]
            number += 1
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def draw_scene(
    generator: np.random.Generator, labels: list[int], variant: int
) -> tuple[np.ndarray, list[tuple[int, tuple[int, int, int, int]]]]:
    """An image, uint8 (96, 128, 3), and the label and the box x1, y1, x2, y2 of each object in it."""
    night = generator.random() < 0.3
    scene = _background(generator, variant)
    boxes: list[tuple[int, tuple[int, int, int, int]]] = []
    for label in labels:
        _, share, ratio, *_ = BUILD[CLASSES[label]]
        height = share * HEIGHT * generator.uniform(0.8, 1.25)
        width = min(height * (ratio * (0.8 if variant else 1.0)), WIDTH - 4)
        for _ in range(20):
            left, top = generator.uniform(1, WIDTH - width - 1), generator.uniform(HEIGHT * 0.2, HEIGHT - height - 1)
            distinct = all(
                left > box[2] or left + width < box[0] or top > box[3] or top + height < box[1] for _, box in boxes
            )
            if distinct:
                break
        else:
            continue  # no room for it
        extent = (left, top, left + width, top + height)
        layer = _object(generator, CLASSES[label], extent, variant)
        scene.alpha_composite(layer)
        visible = layer.getchannel("A").point(lambda alpha: 255 if alpha > 127 else 0).getbbox()
        boxes.append((label, visible))
    values = np.asarray(scene.convert("RGB"), np.float32) / 255
    if night:
        grey = values.mean(2, keepdims=True)
        y, x = np.indices((HEIGHT, WIDTH), np.float32)
        lamp = np.exp(-((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.6) ** 2) * 2.5)[..., None]
        values = (grey * 1.3 * lamp).repeat(3, 2)
    values = values + generator.standard_normal(values.shape) * (0.04 if night else 0.02)
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8), boxes


def _background(generator: np.random.Generator, variant: int) -> Image.Image:
    """Ground below, trees or sand behind; RGBA."""
    ground = np.array([(0.36, 0.46, 0.24), (0.62, 0.54, 0.38)][variant])
    behind = np.array([(0.22, 0.32, 0.2), (0.56, 0.62, 0.68)][variant])
    horizon = generator.uniform(0.25, 0.4) * HEIGHT
    y = np.indices((HEIGHT, WIDTH), np.float32)[0]
    share = np.clip((y - horizon) / 4 + 0.5, 0, 1)[..., None]
    texture = smooth_noise(generator, (HEIGHT, WIDTH), 5)[..., None]
    values = behind * (1 - share) + ground * share + 0.05 * texture + generator.uniform(-0.06, 0.06)
    pixels = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGBA")


def _object(generator: np.random.Generator, name: str, extent: Extent, variant: int) -> Image.Image:
    """One object that reaches about as far as `extent`, facing left or right, on a transparent layer."""
    (hue, saturation, value), _, _, tail, ears = BUILD[name]
    if variant:
        hue, value = (hue + 0.06) % 1, min(1.0, value * 1.15)
    value *= generator.uniform(0.85, 1.1)
    body, dark, light = (
        tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, saturation, min(1.0, max(0.0, value * factor))))
        for factor in (1, 0.5, 1.5)
    )
    layer = Image.new("RGBA", (WIDTH * SCALE, HEIGHT * SCALE))
    pen = ImageDraw.Draw(layer)
    left, top, right, bottom = (SCALE * v for v in extent)
    width, height = right - left, bottom - top

    def at(x1: float, y1: float, x2: float, y2: float) -> Extent:
        """Shares of the extent as pixels of the layer."""
        return left + x1 * width, top + y1 * height, left + x2 * width, top + y2 * height

    if name == "car":
        pen.rounded_rectangle(at(0, 0.4, 1, 0.85), height * 0.12, body)
        pen.polygon([*at(0.2, 0.42, 0.32, 0), *at(0.72, 0, 0.88, 0.42)], dark)
        for x in (0.12, 0.66):
            pen.ellipse(
                (left + x * width, bottom - 0.3 * height, left + x * width + 0.3 * height, bottom), (25, 25, 25)
            )
    elif name == "bird":
        pen.ellipse(at(0.15, 0.25, 0.85, 0.85), body)
        pen.ellipse(at(0.02, 0.05, 0.36, 0.5), light)
        pen.polygon([*at(0.7, 0.5, 1, 0.3), *at(1, 0.6, 0.7, 0.7)], dark)
        pen.line(at(0.5, 0.8, 0.5, 1), dark, width=SCALE * 2)
    else:
        slim = 0.16 if variant else 0.12
        for x in (0.2, 0.34, 0.66, 0.8):
            pen.rectangle(at(x, 0.6, x + slim / 2, 1), dark)
        pen.ellipse(at(0.12, 0.36 if variant else 0.3, 0.9, 0.78), body)
        pen.ellipse(at(0, 0.16, 0.34, 0.58), body)
        for x in (0.05, 0.22):
            pen.polygon([*at(x, 0.24, x + 0.04, 0.22 - 0.5 * ears), *at(x + 0.09, 0.24, x, 0.24)], dark)
        if tail:
            pen.line(at(0.84, 0.5, 1, 0.5 - tail), dark if name in ("raccoon", "coyote") else body, width=SCALE * 3)
        if name == "raccoon":
            pen.rectangle(at(0.04, 0.3, 0.3, 0.4), (20, 20, 20))
        if name == "bobcat":
            for _ in range(9):
                x, y = generator.uniform(0.25, 0.8), generator.uniform(0.38, 0.68)
                pen.ellipse(at(x, y, x + 0.05, y + 0.07), dark)
    layer = layer.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    if generator.random() < 0.5:
        x = round(extent[0] + extent[2])
        flipped = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        layer = Image.new("RGBA", layer.size)
        layer.paste(flipped, (x - WIDTH, 0))
    return layer
