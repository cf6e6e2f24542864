"""Images from files and folders, one at a time, cut to one size; those that can't be read are named."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
ACCEPTED = "8-bit images that pillow reads, and folders of " + ", ".join(sorted(_SUFFIXES))


def files_below(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(name, file) of every image: named files whatever their suffix, a folder's by suffix and in order."""
    found = []
    for path in paths:
        if not path.is_dir():
            found.append((path.name, path))
            continue
        inside = sorted(p.relative_to(path) for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES)
        found += [(str(p), path / p) for p in inside if not any(part.startswith(".") for part in p.parts)]
    return found


def read(
    files: Sequence[tuple[str, Path]], shape: tuple[int, int, int], refused: Callable[[Path, str], None]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, pixels) of every image that can be read; pixels: uint8 (C, H, W).

    An image is scaled (bilinear) until it covers H x W, and its middle is cut out.

    Args:
        files: as `files_below` gives them.
        shape: (C, H, W), with 1 channel (grey) or 3 (RGB).
        refused: told the file and the reason, for each that can't be read.
    """
    channels, height, width = shape
    for name, path in files:
        try:
            with Image.open(path) as picture:
                if picture.mode.startswith(("I", "F")):  # pillow would cut their values off at 255
                    raise ValueError(f"pixels of more than 8 bits (mode {picture.mode})")
                picture = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
                picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
                pixels = np.asarray(picture, np.uint8)
        except Exception as error:  # a damaged picture can raise nearly anything
            reason = " ".join(str(error).split()).replace(str(path), path.name) or type(error).__name__
            refused(path, reason)
            continue
        yield name, pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy()
