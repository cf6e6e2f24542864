"""Augmentation on the device: every image of a batch by its own draw, or one transformed copy of the whole set.

Transforms take float images (N, C, H, W) in [0, 1] and a generator on the images' device. `copy` is the fixed form that
added copies use (A1.4, B1.11): the full angle, every image flipped. `batch` is the random form: with probability p an
image is transformed, a rotation by an angle uniform in ±degrees.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn import functional as F

from ablate import checks


class Transform(Protocol):
    """What augment.transforms can name."""

    def copy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Every image transformed, in full strength."""

    def batch(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each image transformed with the transform's probability, by its own draw."""


class _Flip:
    axis: int

    def __init__(self, p: float = 0.5) -> None:
        checks.number("p", p, 0, 1)
        self.p = p

    def copy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images.flip(self.axis)

    def batch(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.where(_chosen(images, self.p, generator), images.flip(self.axis), images)


class HorizontalFlip(_Flip):
    """Left and right exchanged."""

    axis = -1


class VerticalFlip(_Flip):
    """Top and bottom exchanged."""

    axis = -2


class Rotate:
    """Rotation about the centre, counter-clockwise, bilinear, corners filled with 0.

    Args:
        degrees: angle of the copy, and largest angle of the random form.
        p: probability of the random form.
    """

    def __init__(self, degrees: float = 45.0, p: float = 0.5) -> None:
        checks.number("degrees", degrees, -360, 360)
        checks.number("p", p, 0, 1)
        self.degrees, self.p = degrees, p

    def copy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return rotate(images, torch.full((len(images),), float(self.degrees), device=images.device))

    def batch(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        draws = torch.rand(2, len(images), generator=generator, device=images.device)
        rotated = rotate(images, (2 * draws[0] - 1) * self.degrees)
        return torch.where((draws[1] < self.p).view(-1, 1, 1, 1), rotated, images)


class GaussianNoise:
    """Independent noise on every value, clipped to the value range.

    Args:
        sigma: standard deviation as a share of the value range (A1.4, assumed 0.1).
        p: probability of the random form.
    """

    def __init__(self, sigma: float = 0.1, p: float = 0.5) -> None:
        checks.number("sigma", sigma, 0)
        checks.number("p", p, 0, 1)
        self.sigma, self.p = sigma, p

    def copy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return (images + self.sigma * noise).clamp_(0, 1)

    def batch(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.where(_chosen(images, self.p, generator), self.copy(images, generator), images)


class Augment:
    """A list of transforms and how they are used.

    Args:
        mode: "none", "copies" (each transform adds one transformed copy of the set) or "fly" (batch by batch).
        transforms: applied one after another in mode "fly".
    """

    def __init__(self, mode: str, transforms: Sequence[Transform]) -> None:
        self.mode, self.transforms = mode, list(transforms)

    def copies(self, images_NCHW: torch.Tensor, seed: int) -> list[torch.Tensor]:
        """One transformed copy of all images for each transform; noise is drawn from the seed."""
        generator = torch.Generator(images_NCHW.device).manual_seed(seed)
        return [transform.copy(images_NCHW, generator) for transform in self.transforms]

    def batch(self, images_NCHW: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The images with every transform applied by chance, each image by its own draw."""
        for transform in self.transforms:
            images_NCHW = transform.batch(images_NCHW, generator)
        return images_NCHW


def rotate(images_NCHW: torch.Tensor, degrees_N: torch.Tensor) -> torch.Tensor:
    """Rotate each image about its centre by its own angle in degrees, counter-clockwise; bilinear, filled with 0."""
    n, _, height, width = images_NCHW.shape
    angle = degrees_N * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Grid coordinates are shares of the image's sides, so the off-diagonal terms carry the aspect ratio.
    theta = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1).view(n, 2, 3)
    grid = F.affine_grid(theta.to(images_NCHW.dtype), [n, 1, height, width], align_corners=False)
    return F.grid_sample(images_NCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _chosen(images: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < p
