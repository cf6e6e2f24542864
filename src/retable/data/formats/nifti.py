"""MRI volumes with tissue labels in NIfTI files, read through nibabel and paired by name (report A2)."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retable.data.formats.files import DEFLATED, MOST_BYTES, content, is_gzip, unzipped
from retable.errors import DataError, in_one_line

# Names of a volume's image and label file: as IBSR's authors give them, and as common copies do.
IMAGE_NAMES = ("{}_ana_strip", "{}")
LABEL_NAMES = ("{}_segTRI_ana", "{}_seg")
SUFFIXES = (".nii", ".nii.gz")
HEADER = 544  # bytes of the longer of both kinds of headers
LABELS = (0, 1, 2, 3)  # background, CSF, GM, WM


@dataclass(frozen=True)
class Volume:
    """A T1 volume and its tissue labels.

    Attributes:
        name: e.g. IBSR_01.
        image_XYZ: float32, intensities as stored.
        labels_XYZ: uint8, values of LABELS.
        affine: (4, 4), voxel indices to millimetres.
        zooms: millimetres a voxel along each axis.
    """

    name: str
    image_XYZ: np.ndarray
    labels_XYZ: np.ndarray
    affine: np.ndarray
    zooms: tuple[float, float, float]


class Scan(NamedTuple):
    """Voxels (X, Y, Z) as stored, the affine (4, 4) from their indices to millimetres, and millimetres a voxel."""

    values: np.ndarray
    affine: np.ndarray
    zooms: tuple[float, float, float]


def find_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Image and label file of a volume, anywhere below a folder.

    Raises:
        DataError: none, or more than one of either.
    """
    return _find(folder, name, IMAGE_NAMES, "image"), _find(folder, name, LABEL_NAMES, "label")


def has_volume(folder: Path, name: str) -> bool:
    """Whether a volume's image or label file is below a folder."""
    return bool(_named(folder, name, IMAGE_NAMES + LABEL_NAMES)[0])


def read_volume(name: str, image: Path, labels: Path) -> Volume:
    """Read a volume and its labels, (X, Y, Z) or (X, Y, Z, 1).

    Raises:
        DataError: one line naming the file: damaged, of another shape or place than its partner, an unknown label, an
            intensity that is not finite.
    """
    image_XYZ, affine, zooms = read_nifti(image)
    labels_XYZ, label_affine, _ = read_nifti(labels)
    if labels_XYZ.shape != image_XYZ.shape:
        raise DataError(f"{labels}: labels of shape {labels_XYZ.shape}, {image.name} has {image_XYZ.shape}")
    if not np.allclose(affine, label_affine, atol=1e-3):
        raise DataError(f"{labels}: lies elsewhere in space than {image.name} (their affines differ)")
    unknown = sorted(set(np.unique(labels_XYZ).tolist()) - set(LABELS))
    if unknown:
        raise DataError(f"{labels}: unknown label {unknown[0]}; accepted: {', '.join(map(str, LABELS))}")
    if not np.isfinite(image_XYZ).all():
        raise DataError(f"{image}: {np.count_nonzero(~np.isfinite(image_XYZ))} voxels are not finite; accepted: none")
    return Volume(name, image_XYZ.astype(np.float32), labels_XYZ.astype(np.uint8), affine, zooms)


def normalised(image_XYZ: np.ndarray) -> np.ndarray:
    """Intensities of mean 0 and standard deviation 1 over the voxels that are not 0: the stripped brain (assumed).

    Shape: (X, Y, Z) -> (X, Y, Z) float32.
    """
    brain = image_XYZ[image_XYZ != 0]
    if not len(brain):
        return image_XYZ.astype(np.float32)
    return ((image_XYZ - brain.mean(dtype=np.float64)) / (brain.std(dtype=np.float64) or 1.0)).astype(np.float32)


def _named(folder: Path, name: str, patterns: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    """The files of a volume below a folder, and the names that they may have."""
    names = [pattern.format(name) + suffix for pattern in patterns for suffix in SUFFIXES]
    return sorted(path for each in names for path in folder.rglob(each) if path.is_file()), names


def _find(folder: Path, name: str, patterns: tuple[str, ...], kind: str) -> Path:
    found, names = _named(folder, name, patterns)
    if not found:
        raise DataError(
            f"{folder}: no {kind} of {name}; expected in it or below: {' or '.join(names)}"
            " (data.root or RETABLE_DATA names the folder above ibsr18, data.train and data.val the volumes;"
            " data=sample needs no files)"
        )
    if len(found) > 1:
        shown = ", ".join(str(path.relative_to(folder)) for path in found)
        raise DataError(f"{folder}: {len(found)} {kind}s of {name}: {shown}; accepted: one")
    return found[0]


def read_nifti(path: Path) -> Scan:
    """Read the voxels of a NIfTI file, (X, Y, Z) or (X, Y, Z, 1), gzipped or not.

    Raises:
        DataError: one line naming the file: damaged, cut, longer than its header says, of another shape, voxels that
            are no real numbers, a voxel size or an affine that is none.
    """
    import nibabel

    raw = content(path)
    try:
        head = unzipped(raw, HEADER) if is_gzip(raw) else raw[:HEADER]
        kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
        kind = next((k for k in kinds if k.header_class.may_contain_header(head)), None)
        if kind is None:
            raise ValueError("it has no NIfTI header")
        header = kind.header_class.from_fileobj(io.BytesIO(head), check=False)  # nibabel would mend voxel sizes
        zooms = tuple(float(zoom) for zoom in header.get_zooms()[:3])
        if not all(math.isfinite(zoom) and zoom > 0 for zoom in zooms):
            raise ValueError(f"voxels of {' x '.join(f'{zoom:g}' for zoom in zooms)} mm")
        voxels = header.get_data_dtype().itemsize * math.prod(max(0, int(side)) for side in header.get_data_shape())
        size = int(header.get_data_offset()) + voxels
        if size > min(MOST_BYTES, len(raw) * (DEFLATED if is_gzip(raw) else 1)):
            raise ValueError(f"its header speaks of {size} bytes, more than there are")
        # In one piece: nibabel alone stops before the checksum at a compressed file's end, and takes spoilt voxels.
        whole = unzipped(raw, size + 1) if is_gzip(raw) else raw
        if len(whole) > size:
            raise ValueError(f"it is longer than the {size} bytes that its header speaks of")
        file = kind.from_bytes(whole)
        values, affine = np.asanyarray(file.dataobj), file.affine
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(f"{path}: not a whole NIfTI file ({in_one_line(error)})") from error
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or not values.size:
        raise DataError(f"{path}: shape {values.shape}; accepted: (X, Y, Z) or (X, Y, Z, 1)")
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path}: voxels of type {values.dtype}; accepted: one real number a voxel")
    if not np.isfinite(affine).all():
        raise DataError(f"{path}: its affine holds values that are not finite; accepted: those that are")
    return Scan(values, affine, zooms)
