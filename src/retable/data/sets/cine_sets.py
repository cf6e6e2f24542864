"""Which slices of cardiac cine MR a folder holds, and where their contours or masks are: three layouts (report E)."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from retable.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
EXPECTED = (
    "RVSC's P01-0080.dcm with P01-0080-icontour-manual.txt, Sunnybrook's dicoms/ and contourfiles/,"
    " or images/ and masks/ named like P01-0080.png"
)


@dataclass(frozen=True)
class CineSlice:
    """A slice with a drawn region: `drawing` is a contour's text file, or a mask where `image` is no DICOM file."""

    name: str
    patient: str
    image: Path
    drawing: Path


def find_slices(folder: Path, contour: str) -> tuple[list[CineSlice], dict[str, int]]:
    """All slices that have a contour (or mask), in the order of their names, and how many were left out and why.

    Args:
        folder: of the set; its layout is told by what it holds.
        contour: "i" or "o", inner or outer; masks have no choice.

    Raises:
        DataError: one line: an empty folder, a contour or mask without its image, an image without its mask.
    """
    if (folder / "images").is_dir() or (folder / "masks").is_dir():
        slices, left_out = _folders(folder)
    elif (folder / "contourfiles").is_dir():
        slices, left_out = _sunnybrook(folder, contour)
    else:
        slices, left_out = _rvsc(folder, contour)
    if not slices:
        raise DataError(
            f"{folder}: no slice with a contour; expected: {EXPECTED}"
            " (data.root or RETABLE_DATA names the folder above; data=sample needs no files)"
        )
    return sorted(slices, key=lambda found: found.name), left_out


def _folders(folder: Path) -> tuple[list[CineSlice], dict[str, int]]:
    images, masks = (_unique(_pictures(folder / part)) for part in ("images", "masks"))
    for name in sorted(images.keys() ^ masks.keys()):
        there, lacking = (images, "masks") if name in images else (masks, "images")
        raise DataError(f"{there[name]}: has no partner {name}.* in {folder / lacking}")
    return [CineSlice(name, name.partition("-")[0], images[name], masks[name]) for name in images], {}


def _rvsc(folder: Path, contour: str) -> tuple[list[CineSlice], dict[str, int]]:
    images = _unique(folder.rglob("P*-*.dcm"))
    drawings = _unique(folder.rglob(f"P*-*-{contour}contour-manual.txt"))
    slices = []
    for stem, drawing in drawings.items():
        name = stem.removesuffix(f"-{contour}contour-manual")
        if name not in images:
            raise DataError(f"{drawing}: has no image {name}.dcm below {folder}")
        slices.append(CineSlice(name, name.partition("-")[0], images[name], drawing))
    return slices, _left_out(len(images) - len(slices), contour)


def _sunnybrook(folder: Path, contour: str) -> tuple[list[CineSlice], dict[str, int]]:
    dicoms = _dicom_folders(folder)
    slices: dict[str, CineSlice] = {}
    count = len([path for images in set(dicoms.values()) for path in images.rglob("*.dcm")])
    for patient in sorted(path for path in (folder / "contourfiles").iterdir() if path.is_dir()):
        drawings = sorted(patient.rglob(f"IM-*{contour}contour-manual.txt"))
        if patient.name not in dicoms:
            raise DataError(
                f"{patient}: no folder below {folder / 'dicoms'} is linked to it in link.csv or named like it"
            )
        images = _numbered(dicoms[patient.name])
        for drawing in drawings:
            numbers = re.match(r"IM-\d+-(\d+)-[io]contour", drawing.name)
            if numbers is None:
                raise DataError(f"{drawing}: accepted: names like IM-0001-0048-{contour}contour-manual.txt")
            number = int(numbers.group(1))
            if number not in images:
                raise DataError(f"{drawing}: has no image {number}.dcm in {dicoms[patient.name]}")
            name = f"{patient.name}-{number:04}"
            if name in slices:
                raise DataError(f"{drawing}: is of the image of {slices[name].drawing}; accepted: one file a slice")
            slices[name] = CineSlice(name, patient.name, images[number], drawing)
    return list(slices.values()), _left_out(count - len(slices), contour)


def _dicom_folders(folder: Path) -> dict[str, Path]:
    """Each patient's folder of DICOM files, by the name that contours are kept under."""
    below = {path.name: path for path in sorted((folder / "dicoms").glob("*")) if path.is_dir()}
    link = folder / "link.csv"
    if not link.is_file():
        return below
    try:
        with link.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a mark before the first column
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{link}: cannot be read ({error})") from error
    if rows and not {"patient_id", "original_id"} <= rows[0].keys():
        raise DataError(f"{link}: columns {', '.join(map(str, rows[0]))}; accepted: patient_id, original_id")
    linked: dict[str, Path] = {}
    for number, row in enumerate(rows, start=2):
        patient, original = row["patient_id"], row["original_id"]
        if original in linked or below.get(patient) in linked.values():
            raise DataError(f"{link}, row {number}: {patient}, {original}; accepted: each patient and folder once")
        if patient in below:
            linked[original] = below[patient]
    # A linked folder has its images under one name alone: two names would be two patients, in different parts.
    return {name: path for name, path in below.items() if path not in linked.values()} | linked


def _numbered(folder: Path) -> dict[int, Path]:
    """A patient's images by instance number, which two series of a patient would share."""
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob("*.dcm")):
        if (number := _number(path)) in found:
            raise DataError(f"{path}: has the number of {found[number]}; accepted: one series a patient")
        found[number] = path
    return found


def _number(path: Path) -> int:
    """The instance number in `200.dcm` or `IM-0001-0200.dcm`."""
    found = re.search(r"(\d+)\.dcm$", path.name)
    if found is None:
        raise DataError(f"{path}: accepted: names like 200.dcm or IM-0001-0200.dcm")
    return int(found.group(1))


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, beside {'masks' if folder.name == 'images' else 'images'}")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _unique(paths) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if path.stem in found:
            raise DataError(f"{path}: has the name of {found[path.stem]}; accepted: one file a slice")
        found[path.stem] = path
    return found


def _left_out(count: int, contour: str) -> dict[str, int]:
    return {f"image without {'inner' if contour == 'i' else 'outer'} contour": count} if count else {}
