"""Augmentation on the device: every image of a batch by its own draw, or one transformed copy of the whole set.

Transforms take float images (N, C, H, W) in [0, 1] and a generator on the images' device. `copy` is the fixed form that
added copies use (A1.4, B1.11): the full angle, every image flipped. `batch` is the random form: with probability p an
image is transformed, a rotation by an angle uniform in ±degrees.

Label masks (N, H, W), uint8, may come as a third argument; (images, masks) is returned then, each mask transformed by
its image's draw, with nearest neighbours, so that it holds labels only. Where a rotation looks outside the image, the
image gets 0 and the mask IGNORE: black corners are nobody's background. Noise leaves masks alone.

Boxes, float32 (N, 1 + M, 5) (`data.arrays.box_targets`), may come in place of masks to the random form of the flips: an
image is flipped within its own extent, so that what pads it on its canvas stays where it is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from retable import checks
from retable.config.build import build
from retable.data.arrays import IGNORE
from retable.errors import ConfigError

Masks = torch.Tensor | None
Transformed = torch.Tensor | tuple[torch.Tensor, torch.Tensor]  # images, or images and masks where masks were given


class Transform(Protocol):
    """What augment.transforms can name. One for classification alone needs no third argument."""

    def copy(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        """Every image transformed, in full strength."""

    def batch(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        """Each image transformed with the transform's probability, by its own draw."""


class _Flip:
    axis: int
    takes_boxes = True

    def __init__(self, p: float = 0.5) -> None:
        checks.number("p", p, 0, 1)
        self.p = p

    def copy(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        return _as_given(images.flip(self.axis), None if masks is None else masks.flip(self.axis))

    def batch(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        chosen = _chosen(images, self.p, generator)
        if masks is not None and masks.is_floating_point():
            flipped, boxes = flip_boxes(images, masks, self.axis)
            return torch.where(chosen, flipped, images), torch.where(chosen[:, 0], boxes, masks)
        if masks is not None:
            masks = torch.where(chosen[:, 0], masks.flip(self.axis), masks)
        return _as_given(torch.where(chosen, images.flip(self.axis), images), masks)


class HorizontalFlip(_Flip):
    """Left and right exchanged."""

    axis = -1


class VerticalFlip(_Flip):
    """Top and bottom exchanged."""

    axis = -2


class Rotate:
    """Rotation about the centre, counter-clockwise, bilinear, corners filled with 0 (masks: nearest, IGNORE).

    Args:
        degrees: angle of the copy, and largest angle of the random form.
        p: probability of the random form.
    """

    def __init__(self, degrees: float = 45.0, p: float = 0.5) -> None:
        checks.number("degrees", degrees, -360, 360)
        checks.number("p", p, 0, 1)
        self.degrees, self.p = degrees, p

    def copy(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        angles = torch.full((len(images),), float(self.degrees), device=images.device)
        return _as_given(rotate(images, angles), None if masks is None else rotate_masks(masks, angles))

    def batch(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        draws = torch.rand(2, len(images), generator=generator, device=images.device)
        angles, chosen = (2 * draws[0] - 1) * self.degrees, (draws[1] < self.p).view(-1, 1, 1, 1)
        if masks is not None:
            masks = torch.where(chosen[:, 0], rotate_masks(masks, angles), masks)
        return _as_given(torch.where(chosen, rotate(images, angles), images), masks)


class GaussianNoise:
    """Independent noise on every value, clipped to the value range.

    Args:
        sigma: standard deviation as a share of the value range (A1.4, assumed 0.1).
        p: probability of the random form.
    """

    clips = True

    def __init__(self, sigma: float = 0.1, p: float = 0.5) -> None:
        checks.number("sigma", sigma, 0)
        checks.number("p", p, 0, 1)
        self.sigma, self.p = sigma, p

    def copy(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        return _as_given(self._noisy(images, generator), masks)

    def batch(self, images: torch.Tensor, generator: torch.Generator, masks: Masks = None) -> Transformed:
        chosen = _chosen(images, self.p, generator)
        return _as_given(torch.where(chosen, self._noisy(images, generator), images), masks)

    def _noisy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return (images + self.sigma * noise).clamp_(0, 1)


class Augment:
    """A list of transforms and how they are used.

    Args:
        mode: "none", "copies" (each transform adds one transformed copy of the set) or "fly" (batch by batch).
        transforms: applied one after another in mode "fly".

    Raises:
        ValueError: for another mode.
    """

    def __init__(self, mode: str, transforms: Sequence[Transform]) -> None:
        checks.one_of("mode", mode, ("none", "copies", "fly"))
        self.mode, self.transforms = mode, list(transforms)

    def copies(self, images_NCHW: torch.Tensor, seed: int, masks_NHW: Masks = None) -> list[Transformed]:
        """One transformed copy of all images (and masks) for each transform; noise is drawn from the seed."""
        generator = torch.Generator(images_NCHW.device).manual_seed(seed)
        more = () if masks_NHW is None else (masks_NHW,)
        return [transform.copy(images_NCHW, generator, *more) for transform in self.transforms]

    def batch(self, images_NCHW: torch.Tensor, generator: torch.Generator, masks_NHW: Masks = None) -> Transformed:
        """The images (and masks) with every transform applied by chance, each image by its own draw."""
        for transform in self.transforms:
            if masks_NHW is None:
                images_NCHW = transform.batch(images_NCHW, generator)
            else:
                images_NCHW, masks_NHW = transform.batch(images_NCHW, generator, masks_NHW)
        return _as_given(images_NCHW, masks_NHW)


def make_augment(node: Mapping[str, Any]) -> Augment | None:
    """The augmentation of a config's `augment` node: its mode, and those of its mappings that `transforms` names.

    Returns:
        None where nothing is augmented.

    Raises:
        ConfigError: one line.
    """
    names, mode = node["transforms"], node["mode"]
    known = [name for name, value in node.items() if isinstance(value, Mapping)]
    if unread := [key for key in node if key not in ("name", "mode", "transforms", *known)]:
        raise ConfigError(f"augment.{unread[0]}: no such key; accepted: mode, transforms, {', '.join(known)}")
    if not isinstance(names, list):
        raise ConfigError(f"augment.transforms={names}: accepted: a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError(f"augment.transforms: unknown transform {name!r}; accepted: {', '.join(known)}")
    if not names and mode != "none":
        raise ConfigError(f"augment.transforms=[]: accepted: at least one of {', '.join(known)}")
    if names and mode == "none":
        raise ConfigError("augment.transforms: nothing uses them; choose augment=copies or augment=fly")
    transforms = [build(node[name], f"augment.{name}") for name in names]
    given = {"_target_": "retable.training.augment.Augment", "mode": mode}
    return build(given, "augment", transforms=transforms) if transforms else None


def flip_boxes(images_NCHW: torch.Tensor, boxes_NM5: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image and its boxes flipped within the image's own extent, which row 0 of its boxes states.

    Args:
        axis: -1: left and right are exchanged; -2: top and bottom.
    """
    low, high = (0, 2) if axis == -1 else (1, 3)
    extents_N1 = boxes_NM5[:, 0, high, None]
    positions = torch.arange(images_NCHW.shape[axis], device=images_NCHW.device)
    index_NS = torch.where(positions < extents_N1, extents_N1.long() - 1 - positions, positions)
    index = index_NS[:, None, None] if axis == -1 else index_NS[:, None, :, None]
    boxes = boxes_NM5.clone()
    boxes[..., low], boxes[..., high] = extents_N1 - boxes_NM5[..., high], extents_N1 - boxes_NM5[..., low]
    objects = boxes_NM5[..., 4:] >= 0  # not the row of the extent, nor padding
    return images_NCHW.gather(axis, index.expand_as(images_NCHW)), torch.where(objects, boxes, boxes_NM5)


def rotate(images_NCHW: torch.Tensor, degrees_N: torch.Tensor) -> torch.Tensor:
    """Rotate each image about its centre by its own angle in degrees, counter-clockwise; bilinear, filled with 0."""
    grid = _rotation_grid(images_NCHW.shape, degrees_N, images_NCHW.dtype)
    return F.grid_sample(images_NCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def rotate_masks(masks_NHW: torch.Tensor, degrees_N: torch.Tensor) -> torch.Tensor:
    """Rotate label masks as `rotate` does images; nearest neighbour, filled with IGNORE; the type is kept."""
    shifted = masks_NHW.unsqueeze(1).to(torch.float32) + 1  # so that grid_sample's 0 is no label
    grid = _rotation_grid(shifted.shape, degrees_N, shifted.dtype)
    turned = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False).squeeze(1)
    return torch.where(turned == 0, IGNORE, turned - 1).to(masks_NHW.dtype)


def _rotation_grid(shape: torch.Size, degrees_N: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    n, _, height, width = shape
    angle = degrees_N * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Grid coordinates are shares of the image's sides, so the off-diagonal terms carry the aspect ratio.
    theta = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1).view(n, 2, 3)
    return F.affine_grid(theta.to(dtype), [n, 1, height, width], align_corners=False)


def _chosen(images: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < p


def _as_given(images: torch.Tensor, masks: Masks) -> Transformed:
    return images if masks is None else (images, masks)
