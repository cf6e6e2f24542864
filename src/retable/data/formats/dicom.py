"""One MR slice from a DICOM file as 8-bit grey values, through pydicom (report E)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retable.errors import DataError

PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Slice:
    """An image, uint8 (H, W), bright where the scanner's display is, and its pixels' (row, column) spacing in mm."""

    image: np.ndarray
    spacing: tuple[float, float]


def read_slice(path: Path) -> Slice:
    """Read a slice: stored bits, rescale slope and intercept, then the window, then MONOCHROME1 inverted.

    The window is the file's first WindowCenter and WindowWidth (DICOM PS3.3, C.11.2.1.2.1), else the range of the
    values. Spacing is NaN where the file gives none.

    Raises:
        DataError: one line naming the file: no DICOM, cut off, in colour, or of several frames.
    """
    import pydicom

    try:
        file = pydicom.dcmread(path)
        photometric = str(file.PhotometricInterpretation)
        values = file.pixel_array
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{path}: not a whole DICOM image ({' '.join(str(error).split())})") from error
    if photometric not in PHOTOMETRIC or values.ndim != 2:
        raise DataError(
            f"{path}: {photometric}, shape {values.shape}; accepted: one frame of {' or '.join(PHOTOMETRIC)}"
        )
    values = stored_values(values, int(file.BitsAllocated), int(file.BitsStored), int(file.PixelRepresentation))
    try:
        slope, intercept = _first(file.get("RescaleSlope")), _first(file.get("RescaleIntercept"))
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
        low, high = _window(file, values)
        row, column = (float(value) for value in file.get("PixelSpacing") or (np.nan, np.nan))
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: rescaling, window or pixel spacing is not as DICOM has it ({error})") from error
    grey = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
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


def _window(file: object, values: np.ndarray) -> tuple[float, float]:
    centre, width = (_first(file.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width < 1:
        return float(values.min()), float(values.max())
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _first(value: object) -> float | None:
    """A window's value; the first of several alternatives."""
    if value is None or isinstance(value, int | float | str):
        return None if value in (None, "") else float(value)
    return float(value[0]) if len(value) else None
