"""MNIST's idx files: a big-endian header, then raw bytes.

    0   0 0 type ndim      type 8 is uint8, the only one MNIST uses: magic 2051 for images, 2049 for labels
    4   ndim sizes         uint32 each
    ..  the values, last dimension fastest

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
Gzipped files are recognised by their first two bytes, not their names.
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from retable.data.arrays import ImageSet
from retable.data.formats.files import DEFLATED, content, is_gzip, unzipped
from retable.errors import DataError

UINT8 = 8


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read one idx file of `ndim` dimensions.

    Returns:
        uint8 array of the shape that the header gives.

    Raises:
        DataError: missing, unreadable or cut file, another magic number, or a size that contradicts the header.
    """
    packed, header = content(path), 4 + 4 * ndim
    raw = _unzipped(path, packed, header)
    if len(raw) < 4:
        raise DataError(f"{path}: {len(raw)} bytes are too few for an idx file")
    magic, expected = struct.unpack(">I", raw[:4])[0], UINT8 << 8 | ndim
    if magic != expected:
        raise DataError(f"{path}: magic number {magic}, expected {expected} (uint8, {ndim} dimensions)")
    if len(raw) < header:
        raise DataError(f"{path}: {len(raw)} bytes, cut within the header of {header}")
    shape = struct.unpack(f">{ndim}I", raw[4:header])
    size = math.prod(shape)
    if (
        not size and math.prod(side or 1 for side in shape) > 2**62
    ):  # none of them may be, and numpy has no such shape all the same
        raise DataError(f"{path}: shape {shape}, accepted: one of fewer values")
    if is_gzip(packed) and size > DEFLATED * len(packed):
        raise DataError(f"{path}: cut: {size} bytes of values expected for shape {shape}, more than it can hold")
    raw = _unzipped(path, packed, header + size + 1)
    if len(raw) - header != size:
        fault = "cut" if len(raw) - header < size else "too long"
        raise DataError(f"{path}: {fault}: {len(raw) - header} bytes of values, {size} expected for shape {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _unzipped(path: Path, raw: bytes, most: int) -> bytes:
    """What a file holds, of a gzipped one the first `most` bytes. Raises DataError."""
    if not is_gzip(raw):
        return raw
    try:
        return unzipped(raw, most)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({str(error) or type(error).__name__})") from error


def read_pair(images: Path, labels: Path, classes: int = 10) -> ImageSet:
    """Read an image file and its label file.

    Returns:
        Grey images (N, 1, H, W) with targets 0 to classes - 1.

    Raises:
        DataError: as `read_idx`; no images; labels out of range; other counts in the one than in the other.
    """
    pixels_NHW, targets = read_idx(images, 3), read_idx(labels, 1)
    if not pixels_NHW.size:
        raise DataError(f"{images}: holds no pixels (shape {pixels_NHW.shape})")
    if len(pixels_NHW) != len(targets):
        raise DataError(f"{labels}: {len(targets)} labels, but {images.name} has {len(pixels_NHW)} images")
    if targets.max() >= classes:
        place = int(np.argmax(targets >= classes))
        raise DataError(f"{labels}: label {targets[place]} at position {place}, expected 0 to {classes - 1}")
    return ImageSet(pixels_NHW[:, None], targets.astype(np.int64))


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an uncompressed idx file."""
    assert array.dtype == np.uint8
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">I{array.ndim}I", UINT8 << 8 | array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
