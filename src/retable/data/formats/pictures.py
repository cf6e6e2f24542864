"""Pictures and label masks from files, read at one size. Whoever reads a picture reads it here.

A picture is its first frame, turned as its EXIF orientation says. Of 16 bits a channel the upper eight count, a palette
stands for its colours (in a mask for its indices), and transparency is left out: what lies beneath it counts.

Images are resized bilinearly with antialiasing, masks by nearest neighbour; both with the pixels' centres as Pillow
places them, so that they stay aligned. The sides' ratio is not kept: every task here wants one size for all.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retable import atomic
from retable.data.arrays import Unlabelled
from retable.data.formats.files import DEFLATED, open_plain
from retable.errors import DataError, in_one_line

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")  # whatever a file is called; Pillow would run gs on EPS
DRAFT = 2  # a JPEG is decoded at least so many times as large as it is wanted, where it is much larger
MOST_PIXELS = 2**27  # of one picture
SMALL = 2**20  # pixels that a GIF's canvas may have whatever is drawn on it
LZW = 4096 * 8 // 12  # by which a GIF's pixels are compressed at most
MOST_SCANS = 200  # of a progressive JPEG; encoders write ten, and each is a walk over the whole picture
_ORIENTATION = 0x0112  # EXIF tag: how to turn what is stored into what is seen, 1 as it is
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Size = tuple[int, int]


def unlabelled(source: Path | np.ndarray, size: Size, channels: int) -> Unlabelled:
    """A picture, or grey values (H, W), as a model takes it that was trained on pictures of one size.

    Args:
        size: (height, width) that the model takes; channels: 1 or 3.

    Raises:
        DataError: see `read_image`.
    """
    if isinstance(source, Path):
        whole, small = read_image(source), read_image(source, size, "L" if channels == 1 else "RGB")
    else:
        whole = source[None]
        small = np.asarray(Image.fromarray(source).resize(size[::-1], Image.Resampling.BILINEAR))[None]
        small = small.repeat(channels, 0)
    height, width = whole.shape[1:]

    def mask(labels_1HW: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(labels_1HW[0]).resize((width, height), Image.Resampling.NEAREST))

    return Unlabelled(small[None], whole, mask)


def read_image(path: Path, size: Size | None = None, mode: str = "RGB") -> np.ndarray:
    """Read a picture of 8 or 16 bits a channel.

    Args:
        size: (height, width) to resize to; None: as it is.
        mode: RGB, or L for grey.

    Returns:
        uint8 (3, H, W), or (1, H, W) for L.

    Raises:
        DataError: missing, cut or damaged file, or pixels of another type.
    """
    return image_and_size(path, size, mode)[0]


def picture_size(path: Path) -> Size:
    """(height, width) of a picture as `read_image` gives it, from its header. Raises DataError."""
    with _opened(path) as picture:
        width, height = _seen_size(picture)
    return height, width


def read_labels(path: Path, labels: Mapping[int, int], size: Size | None = None) -> np.ndarray:
    """Read a label mask: the values of its only channel, or the indices of a palette, never its colours.

    Args:
        labels: label of each value that is accepted, e.g. {0: 0, 255: 1}.
        size: (height, width) to resize to; None: as it is.

    Returns:
        uint8 (H, W).

    Raises:
        DataError: missing, cut or damaged file, a colour picture, or a value that is not accepted.
    """
    return labels_and_size(path, labels, size)[0]


def image_and_size(path: Path, size: Size | None, mode: str) -> tuple[np.ndarray, tuple[int, int]]:
    """What `read_image` gives, and (width, height) of the picture in its file."""
    with _opened(path) as picture:
        original = _seen_size(picture)
        _check_scans(picture)
        if size is not None:
            # JPEG alone: decodes a half, a quarter or an eighth of the size, which takes that much less time.
            wanted = size if original == picture.size else size[::-1]
            picture.draft(None, (DRAFT * wanted[1], DRAFT * wanted[0]))
        found = _eight_bits(path, _turned(picture))
        if found.mode == "P" and "transparency" in found.info:
            found = found.convert("RGBA")
        found = found.convert(mode)
        if size is not None and found.size != size[::-1]:
            found = found.resize(size[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(found)
    return values.reshape(*values.shape[:2], -1).transpose(2, 0, 1), original


def labels_and_size(path: Path, labels: Mapping[int, int], size: Size | None) -> tuple[np.ndarray, tuple[int, int]]:
    """What `read_labels` gives, and (width, height) of the mask in its file."""
    with _opened(path) as picture:
        _check_scans(picture)
        picture.load()
        picture = _turned(picture)
        if picture.mode == "1":
            picture = picture.convert("L")
        if picture.mode not in ("L", "P"):
            picture = _grey(path, picture)
        present = np.flatnonzero(picture.histogram())  # of the whole mask: resizing may lose a value
        for value in present:
            if int(value) not in labels:
                raise DataError(f"{path}: unknown label value {value}, accepted: {_ranges(labels)}")
        original = picture.size
        if size is not None and picture.size != size[::-1]:
            picture = picture.resize(size[::-1], Image.Resampling.NEAREST)
        values = np.asarray(picture)
    table = np.zeros(256, np.uint8)
    table[list(labels)] = list(labels.values())
    return table[values], original


def _check_size(picture: Image.Image, length: int) -> None:
    """Raise ValueError for a picture that claims more than it can hold, or more than is taken in."""
    pixels = picture.width * picture.height
    if pixels > MOST_PIXELS:
        raise ValueError(f"{picture.width}x{picture.height} pixels, at most {MOST_PIXELS} are taken in")
    # Of 1 bit a pixel at least, and nothing that is deflated shrinks further.
    if picture.format == "PNG" and pixels > 8 * DEFLATED * length:
        raise ValueError(f"{picture.width}x{picture.height} pixels in {length} bytes")
    # Its first strips may be all that Pillow looks for, and the rest of the picture left empty.
    if picture.format == "TIFF" and picture.info.get("compression") == "raw" and pixels > 8 * length:
        raise ValueError(f"{picture.width}x{picture.height} pixels in {length} bytes")
    # Of twelve bits that stand for 4,096 pixels at most; a canvas may be larger than what is drawn on it.
    if picture.format == "GIF" and pixels > max(SMALL, LZW * length):
        raise ValueError(f"{picture.width}x{picture.height} pixels in {length} bytes")


def _check_scans(picture: Image.Image) -> None:
    """Raise ValueError for a JPEG that takes minutes to decode, being walked over again and again."""
    if picture.format in ("JPEG", "MPO"):
        place = picture.fp.tell()
        picture.fp.seek(0)
        scans = picture.fp.read().count(b"\xff\xda")
        picture.fp.seek(place)
        if scans > MOST_SCANS:
            raise ValueError(f"{scans} scans, at most {MOST_SCANS} are taken in")


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How a picture is to be turned. One whose EXIF part is damaged is taken as it is stored."""
    if picture.format == "TIFF":
        return None  # Pillow turns these as it decodes them
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # the picture itself may be whole
        return None


def _seen_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) once it is turned."""
    across = _turn(picture) in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])
    return picture.size[::-1] if across else picture.size


def _turned(picture: Image.Image) -> Image.Image:
    turn = _turn(picture)
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(path: Path, picture: Image.Image) -> Image.Image:
    """The upper eight of 16 bits, as Pillow itself takes them of colours. Raises DataError for wider pixels."""
    # Of 16 bits are also the Netpbm formats' mode I.
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode[0] in "IF":
        raise DataError(f"{path}: pixels of type {picture.mode}, accepted: images of 8 or 16 bits a channel")
    return picture


def _grey(path: Path, picture: Image.Image) -> Image.Image:
    """One channel of a mask that was saved in another mode."""
    values = np.asarray(picture)
    if values.ndim == 3:
        colours = values[..., : len(picture.getbands()) - (picture.mode[-1] in "Aa")]
        if picture.mode not in ("RGB", "RGBA", "LA") or (colours != colours[..., :1]).any():
            raise DataError(f"{path}: a mask in colours, accepted: one channel, or a palette, with label values")
        values = colours[..., 0]
    elif values.min(initial=0) < 0 or values.max(initial=0) > 255 or (values != values.astype(np.uint8)).any():
        raise DataError(f"{path}: label values from {values.min()} to {values.max()}, accepted: 0 to 255")
    return Image.fromarray(np.ascontiguousarray(values, np.uint8))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An opened picture; what Pillow raises on it, now or when it is decoded, becomes a DataError."""
    if not path.exists():
        raise DataError(f"{path}: no such file, expected: a picture")
    try:
        # A handle, not the path: Pillow maps a file that it has the path of, and mixes up the sides of a turned TIFF.
        with open_plain(path) as file, Image.open(file, formats=FORMATS) as picture:
            _check_size(picture, os.fstat(file.fileno()).st_size)
            yield picture
    except DataError:
        raise
    except Exception as error:  # Pillow: OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        reason = "no picture" if isinstance(error, Image.UnidentifiedImageError) else in_one_line(error)
        raise DataError(f"{path}: cut or damaged ({reason}), accepted: a picture that can be read in full") from error


def _ranges(values: Iterable[int]) -> str:
    """0, 1, 2, 3, 255 -> "0 to 3, 255"."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def write_picture(picture: Image.Image, path: Path, **options: Any) -> None:
    """Write Pillow's picture whole or not at all, in the format of the path's suffix, making its folder."""
    content = io.BytesIO()
    picture.save(content, path.suffix[1:].upper(), **options)
    atomic.write_bytes(path, content.getvalue())
