"""Right ventricle in cardiac cine MR (report E): slices with contours, in splits that share no patient.

Source of the set: C. Petitjean et al., "Right ventricle segmentation from cardiac MRI: a collation study", Medical
Image Analysis 19(1), 2015 (RVSC, MICCAI 2012). Sunnybrook: P. Radau et al., MIDAS Journal, 2009.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from retable import checks
from retable.data.arrays import ImageSet, Splits, Unlabelled, blank
from retable.data.formats.contours import LEVELS, coded, filled, inside, line, read_contour, scaled
from retable.data.formats.dicom import read_slice
from retable.data.formats.files import plain_files, text
from retable.data.formats.pairs import pictures_in
from retable.data.formats.pictures import EXTENSIONS, read_image, read_labels, unlabelled
from retable.data.module import ImageData
from retable.data.samples.heart import VERSION, write_heart
from retable.errors import DataError

CLASSES = ("background", "ventricle")
LABELS = {0: 0, 1: 1, 255: 1}  # of masks in picture files
DICOM = ".dcm"
SPLITS = ("train", "val", "test")
JPEG_QUALITY = 75  # pillow's default
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


class VentricleData(ImageData):
    """Slices below `<root>/<subfolder>` in one of the layouts of `find_slices`, resized to a square.

    Args:
        subfolder: the set's folder: rvsc, sunnybrook, rvsc_png, ...
        contour: i (inner, endocardium) or o (outer); sets with masks have one kind.
        style: black (label 0 or 1), grey (background 0.5) or boundary (a black line on white); see `LEVELS`. A set with
            masks in place of contours has the region's inner boundary as its line.
        channels: grey, or rgb (the grey values three times).
        size: pixels a side; the aspect is not kept, as in the report.
        shares: of the patients in train, val and test, drawn by split_seed (report E, assumed).
        jpeg: pass images through 8-bit JPEG, as the report's were.
        **base: see ImageData.

    A set of fewer than three patients can be evaluated on (all of it), not trained on.
    """

    folder: ClassVar[str] = "rvsc"
    sample_version: ClassVar[int] = VERSION
    suffixes = (*EXTENSIONS, DICOM)
    extras = ("styles",)  # by `in_styles`

    def __init__(
        self,
        subfolder: str = "rvsc",
        contour: str = "i",
        style: str = "black",
        channels: str = "grey",
        size: int = 216,
        shares: Sequence[float] = (0.8, 0.1, 0.1),
        jpeg: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if not isinstance(subfolder, str) or not subfolder.strip("/"):
            raise checks.refuse("subfolder", subfolder, "the name of a folder below data.root")
        checks.one_of("contour", contour, ("i", "o"))
        checks.one_of("style", style, LEVELS)
        checks.one_of("channels", channels, ("grey", "rgb"))
        checks.integer("size", size, 8)
        checks.boolean("jpeg", jpeg)
        good = isinstance(shares, Sequence) and len(shares) == 3 and not isinstance(shares, str)
        good = good and all(isinstance(s, int | float) and s > 0 for s in shares) and abs(sum(shares) - 1) <= 1e-9
        if not good:
            raise checks.refuse("shares", shares, "three numbers above 0 that add up to 1")
        self.subfolder, self.contour, self.style, self.channels = subfolder, contour, style, channels
        self.size, self.shares, self.jpeg = size, tuple(float(share) for share in shares), jpeg
        self.levels = LEVELS[style]

    @property
    def location(self) -> Path:
        if self._location is None and self.source == "real":
            return self.root / self.subfolder
        return super().location

    def files(self) -> tuple[list[CineSlice], dict[str, int], list[Path]]:
        """The slices, how many images were left out, by reason, and the file that links patients, if there is one."""
        if not self.location.is_dir():
            raise DataError(
                f"{self.location}: no such folder (data.root or RETABLE_DATA names the folder above"
                f" {self.subfolder}, data.subfolder the set; data=sample needs no files)"
            )
        links = [path for path in (self.location / "link.csv",) if path.is_file()]
        return *find_slices(self.location, self.contour), links

    def read(self, files: tuple[list[CineSlice], dict[str, int], list[Path]]) -> Splits:
        slices, left_out, _ = files
        codes = 4 if self.style == "boundary" else None
        patients = sorted({found.patient for found in slices})
        if len(patients) < 3:
            if self._location is None:
                raise DataError(f"{self.location}: {len(patients)} patients; accepted: at least 3, one in each split")
            whole = self._images(slices)
            return Splits(whole, whole, CLASSES, whole, left_out, codes)
        split_of = split_patients(patients, self.shares, self.split_seed)
        train, val, test = (self._images([s for s in slices if split_of[s.patient] == split]) for split in SPLITS)
        return Splits(train, val, CLASSES, test, left_out, codes)

    def reading(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("contour", "style", "channels", "size", "shares", "jpeg")}
        return own | {"split_seed": self.split_seed, "elsewhere": self._location is not None}

    def make_sample(self, folder: Path) -> None:
        write_heart(folder)

    def unlabelled(self, path: Path, shape: tuple[int, int, int]) -> Unlabelled:
        """A slice from a DICOM file or a picture."""
        is_dicom = path.suffix.lower() == DICOM
        image = read_slice(path).image if is_dicom else read_image(path, mode="L")[0]
        return unlabelled(_through_jpeg(image) if self.jpeg else image, shape[1:], shape[0])

    def in_styles(self, name: str) -> dict[str, np.ndarray]:
        """What a network is trained on for a slice, by its name, in each style: float32 (size, size) in [0, 1]."""
        found = next(found for found in self.files()[0] if found.name == name)
        _, region, boundary, _ = self._drawn(found)
        codes = {style: coded(region, boundary) if style == "boundary" else region for style in LEVELS}
        return {style: np.array(LEVELS[style] or (0.0, 1.0), np.float32)[codes[style]] for style in LEVELS}

    def _images(self, slices: Sequence[CineSlice]) -> ImageSet:
        images = blank((len(slices), 3 if self.channels == "rgb" else 1, self.size, self.size), np.uint8)
        masks, spacings = blank((len(slices), self.size, self.size), np.uint8), []
        for place, found in enumerate(slices):
            images[place], masks[place], spacing = self._read(found)
            spacings.append(spacing)
        about = {
            "name": np.array([found.name for found in slices]),
            "patient": np.array([found.patient for found in slices]),
            "spacing": np.array(spacings, np.float64),
        }
        return ImageSet(images, masks, about)

    def _read(self, found: CineSlice) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        """Resized image and coded mask (size, size), uint8, and millimetres a pixel."""
        image, region, boundary, spacing = self._drawn(found)
        if self.jpeg:
            image = _through_jpeg(image)
        mask = coded(region, boundary) if self.style == "boundary" else region
        resized = Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BILINEAR)
        scale = (image.shape[0] / self.size, image.shape[1] / self.size)
        return np.asarray(resized), mask, (spacing[0] * scale[0], spacing[1] * scale[1])

    def _drawn(self, found: CineSlice) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[float, float]]:
        """Image as stored, region (size, size), the line of a contour where there is one, and millimetres a pixel."""
        size = (self.size, self.size)
        if found.image.suffix.lower() == DICOM:
            stored = read_slice(found.image)
            image, spacing = stored.image, stored.spacing
            points = read_contour(found.drawing)
            inside(points, image.shape, found.drawing, found.image)
            points = scaled(points, image.shape, size)
            region, boundary = filled(points, size), line(points, size)
        else:
            image, spacing = read_image(found.image, mode="L")[0], (np.nan, np.nan)
            region, boundary = _mask(found.drawing, found.image, image.shape, size), None
        return image, region, boundary, spacing


def split_patients(patients: Sequence[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """The split of each patient: val and test get the rounded share of them, train the rest, each at least one.

    >>> split = split_patients([f"P{n:02}" for n in range(1, 17)], (0.8, 0.1, 0.1), 0)
    >>> [list(split.values()).count(name) for name in ("train", "val", "test")]
    [12, 2, 2]
    """
    order = np.random.default_rng(np.random.SeedSequence((seed, 4))).permutation(len(patients))
    val = min(max(1, round(len(patients) * shares[1])), len(patients) - 2)
    test = min(max(1, round(len(patients) * shares[2])), len(patients) - val - 1)
    splits = ["val"] * val + ["test"] * test + ["train"] * (len(patients) - val - test)
    split_of = {patients[index]: split for index, split in zip(order, splits, strict=True)}
    return {patient: split_of[patient] for patient in patients}


def _mask(path: Path, image: Path, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """A filled mask of 0 and 1, or 0 and 255, resized to the nearest pixel; uint8 of 0 and 1."""
    values = read_labels(path, LABELS)
    if values.shape != shape:
        raise DataError(f"{path}: {values.shape[1]}x{values.shape[0]} pixels, {image.name} has {shape[1]}x{shape[0]}")
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))


def _through_jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))


# Which slices a folder holds, and where their contours or masks are: three layouts.


def find_slices(folder: Path, contour: str) -> tuple[list[CineSlice], dict[str, int]]:
    """All slices that have a contour (or mask), in the order of their names, and how many were left out and why.

    Args:
        folder: of the set; what it holds decides how it is read.
        contour: "i" or "o", inner or outer; masks have no choice.

    Raises:
        DataError: one line: an empty folder, a contour or mask without its image, an image without its mask.
    """
    left_out: Counter[str] = Counter()
    if (folder / "images").is_dir() or (folder / "masks").is_dir():
        slices = _folders(folder, left_out)
    elif (folder / "contourfiles").is_dir():
        slices = _sunnybrook(folder, contour, left_out)
    else:
        slices = _rvsc(folder, contour, left_out)
    if not slices:
        raise DataError(
            f"{folder}: no slice with a contour; expected: {EXPECTED}"
            " (data.root or RETABLE_DATA names the folder above; data=sample needs no files)"
        )
    return sorted(slices, key=lambda found: found.name), dict(left_out)


def _folders(folder: Path, left_out: Counter[str]) -> list[CineSlice]:
    images, masks = (_unique(_pictures(folder / kind, left_out)) for kind in ("images", "masks"))
    for name in sorted(images.keys() ^ masks.keys()):
        there, lacking = (images, "masks") if name in images else (masks, "images")
        raise DataError(f"{there[name]}: has no partner {name}.* in {folder / lacking}")
    return [CineSlice(name, name.partition("-")[0], images[name], masks[name]) for name in images]


def _rvsc(folder: Path, contour: str, left_out: Counter[str]) -> list[CineSlice]:
    images = _unique(plain_files(folder.rglob("P*-*.dcm"), folder, left_out))
    drawings = _unique(plain_files(folder.rglob(f"P*-*-{contour}contour-manual.txt"), folder, left_out))
    slices = []
    for stem, drawing in drawings.items():
        name = stem.removesuffix(f"-{contour}contour-manual")
        if name not in images:
            raise DataError(f"{drawing}: has no image {name}.dcm below {folder}")
        slices.append(CineSlice(name, name.partition("-")[0], images[name], drawing))
    left_out += _without_contour(len(images) - len(slices), contour)
    return slices


def _sunnybrook(folder: Path, contour: str, left_out: Counter[str]) -> list[CineSlice]:
    dicoms = _dicom_folders(folder)
    slices: dict[str, CineSlice] = {}
    files = {below: plain_files(below.rglob("*.dcm"), folder, left_out) for below in set(dicoms.values())}
    for patient in sorted(path for path in (folder / "contourfiles").iterdir() if path.is_dir()):
        found = patient.rglob(f"IM-*{contour}contour-manual.txt")
        drawings = sorted(plain_files(found, folder, left_out))
        if patient.name not in dicoms:
            raise DataError(
                f"{patient}: no folder below {folder / 'dicoms'} is linked to it in link.csv or named like it"
            )
        images = _numbered(files[dicoms[patient.name]])
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
    left_out += _without_contour(sum(map(len, files.values())) - len(slices), contour)
    return list(slices.values())


def _dicom_folders(folder: Path) -> dict[str, Path]:
    """Each patient's folder of DICOM files, by the name that contours are kept under."""
    below = {path.name: path for path in sorted((folder / "dicoms").glob("*")) if path.is_dir()}
    link = folder / "link.csv"
    if not link.is_file():
        return below
    try:
        rows = list(csv.DictReader(io.StringIO(text(link, "rows of patient_id, original_id"), newline="")))
    except csv.Error as error:
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
    # A linked folder has its images under one name alone: two names would be two patients, in different splits.
    return {name: path for name, path in below.items() if path not in linked.values()} | linked


def _numbered(files: Iterable[Path]) -> dict[int, Path]:
    """A patient's images by instance number, which two series of a patient would share."""
    found: dict[int, Path] = {}
    for path in sorted(files):
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


def _pictures(folder: Path, left_out: Counter[str]) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, beside {'masks' if folder.name == 'images' else 'images'}")
    return pictures_in(folder, left_out)


def _unique(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if path.stem in found:
            raise DataError(f"{path}: has the name of {found[path.stem]}; accepted: one file a slice")
        found[path.stem] = path
    return found


def _without_contour(count: int, contour: str) -> Counter[str]:
    return Counter({f"image without {'inner' if contour == 'i' else 'outer'} contour": count})
