"""One MR slice from a DICOM file as 8-bit grey values, through pydicom (report E)."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retable.data.formats.files import content
from retable.data.formats.pictures import MOST_PIXELS
from retable.errors import DataError, in_one_line

PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2")
VOI_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Slice:
    """An image, uint8 (H, W), bright where the scanner's display is, and its pixels' (row, column) spacing in mm."""

    image: np.ndarray
    spacing: tuple[float, float]


def read_slice(path: Path) -> Slice:
    """Read a slice: stored bits, rescale slope and intercept, then the window, then MONOCHROME1 inverted.

    The window is the file's first WindowCenter and WindowWidth as its VOILUTFunction says (DICOM PS3.3, C.11.2.1.2.1
    and C.11.2.1.3), else the range of the values. Spacing is NaN where the file gives none.

    Raises:
        DataError: one line naming the file: no DICOM, cut off, in colour, of several frames, or with a window or a
            spacing that is none.
    """
    import pydicom

    raw = content(path)
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
            raise ValueError("its elements are deflated, which no scanner's are")
        file = pydicom.dcmread(io.BytesIO(raw))
        photometric, frames = str(file.PhotometricInterpretation)[:16], int(file.get("NumberOfFrames") or 1)
        samples, pixels = int(file.get("SamplesPerPixel") or 1), int(file.Rows) * int(file.Columns)
        bits = int(file.BitsAllocated), int(file.BitsStored), int(file.PixelRepresentation)
        if photometric not in PHOTOMETRIC or (frames, samples) != (1, 1):
            raise DataError(
                f"{path}: {photometric!r}, {frames} frames of {samples} values a pixel; accepted: one frame of"
                f" {' or '.join(PHOTOMETRIC)}"
            )
        if not 1 <= pixels <= MOST_PIXELS or not 1 <= bits[1] <= bits[0] <= 32:
            raise ValueError(f"{pixels} pixels of {bits[1]} of {bits[0]} bits")
        values = file.pixel_array
        if values.shape != (file.Rows, file.Columns) or values.dtype.kind not in "iu":
            raise ValueError(f"pixels of type {values.dtype}, shape {values.shape}")
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{path}: not a whole DICOM image ({in_one_line(error, 200)})") from error
    values = stored_values(values, *bits)
    try:
        slope, intercept = _first(file.get("RescaleSlope")), _first(file.get("RescaleIntercept"))
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
        low, high, function = _window(file, values)
        row, column = (float(value) for value in file.get("PixelSpacing") or (np.nan, np.nan))
    except Exception as error:  # elements are decoded when they are asked for: a damaged one can raise nearly anything
        raise DataError(f"{path}: rescaling, window or pixel spacing is not as DICOM has it ({error})") from error
    if not np.isfinite([low, high]).all() or not np.isfinite(values).all():
        span = f"{values.min():g} to {values.max():g}"
        raise DataError(f"{path}: window from {low:g} to {high:g}, values from {span}; accepted: finite ones")
    if file.get("PixelSpacing") and not (0 < row < np.inf and 0 < column < np.inf):
        raise DataError(f"{path}: pixel spacing {row:g}, {column:g} mm; accepted: two numbers above 0")
    grey = (values - low) / ((high - low) or 1.0)
    grey = 1 / (1 + np.exp(-4 * (grey - 0.5).clip(-9, 9))) if function == "SIGMOID" else grey.clip(0, 1)
    if photometric == "MONOCHROME1":
        grey = 1 - grey
    return Slice((grey * 255).round().astype(np.uint8), (row, column))


def stored_values(values: np.ndarray, allocated: int, stored: int, signed: int) -> np.ndarray:
    """The lowest `stored` of `allocated` bits as int64: the others may hold overlays."""
    unused = 64 - stored
    wide = values.astype(np.int64) << unused
    if stored == allocated or signed:
        return wide >> unused if signed else values.astype(np.int64)
    return (wide.view(np.uint64) >> np.uint64(unused)).astype(np.int64)


def _window(file: Any, values: np.ndarray) -> tuple[float, float, str]:
    """The lowest and the highest value, and the function between them, of VOI_FUNCTIONS."""
    centre, width = (_first(file.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if not all(math.isfinite(value) for value in (centre, width) if value is not None):
        raise ValueError(f"a window of {width} around {centre}")
    function = str(file.get("VOILUTFunction") or "LINEAR")
    if function not in VOI_FUNCTIONS:
        raise ValueError(f"VOILUTFunction {function!r}; accepted: {', '.join(VOI_FUNCTIONS)}")
    if centre is None or width is None or width < 1:
        return float(values.min()), float(values.max()), "LINEAR"
    if function == "LINEAR":
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2, function
    return centre - width / 2, centre + width / 2, function


def _first(value: object) -> float | None:
    """A window's value; the first of several alternatives."""
    if value is None or isinstance(value, int | float | str):
        return None if value in (None, "") else float(value)
    return float(value[0]) if len(value) else None
