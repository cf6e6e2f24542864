"""Sizes of images for detection: the shorter side at a length, the longer one capped, the ratio kept.

The convention of torchvision's GeneralizedRCNNTransform: bilinear without antialiasing, as its detectors were trained.
"""

import numpy as np
import torch
from torch.nn import functional as F

MULTIPLE = 32  # of a canvas's sides: the stride of the coarsest maps of a ResNet


def resized_size(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """(height, width) after resizing; smaller images are enlarged.

    >>> resized_size(480, 640, 800, 1333), resized_size(500, 2000, 800, 1333)
    ((800, 1066), (333, 1333))
    """
    scale = min(shorter / min(height, width), longer / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def resized(image_CHW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A uint8 image (C, H, W) at another size, (height, width)."""
    if image_CHW.shape[1:] == size:
        return image_CHW
    values = torch.from_numpy(np.array(image_CHW, np.float32))[None]
    found = F.interpolate(values, size=size, mode="bilinear", align_corners=False)[0]
    return found.round_().clamp_(0, 255).to(torch.uint8).numpy()


def canvas(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The smallest (height, width) that holds all sizes and is a multiple of MULTIPLE."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    return -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE
