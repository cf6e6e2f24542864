"""A beating phantom heart as DICOM slices with contour files, in RVSC's names, for trying things out."""

from pathlib import Path

import numpy as np

VERSION = 1  # raise it when other files are written
PATIENTS, PHASES, SLICES = 10, 2, 3
SHAPE = (96, 80)  # rows, columns
SPACING = 1.5  # millimetres a pixel


def write_heart(folder: Path) -> None:
    """Write patientNN/PNNdicom and patientNN/PNNcontours-manual for ten patients; the same files every time.

    Six slices of each patient (three heights at two phases) have an inner and an outer contour, one has none.
    """
    for patient in range(1, PATIENTS + 1):
        generator = np.random.default_rng(np.random.SeedSequence((VERSION, patient)))
        base = folder / f"patient{patient:02}"
        dicoms, contours = base / f"P{patient:02}dicom", base / f"P{patient:02}contours-manual"
        dicoms.mkdir(parents=True)
        contours.mkdir()
        centre = np.array(SHAPE[::-1]) / 2 + generator.uniform(-8, 8, 2)
        radius, turn = generator.uniform(11, 16), generator.uniform(0, np.pi)
        for phase in range(PHASES):
            for height in range(SLICES):
                name = f"P{patient:02}-{20 * phase + 20 * height + 40 * (phase + 1):04}"
                side = radius * (1 - 0.25 * phase) * (1 - 0.15 * height)
                inner = _crescent(centre, side, turn)
                outer = _crescent(centre, side + 3, turn)
                for kind, points in (("i", inner), ("o", outer)):
                    text = "".join(f"{x:.2f} {y:.2f}\n" for x, y in points)
                    (contours / f"{name}-{kind}contour-manual.txt").write_text(text)
                _write_slice(dicoms / f"{name}.dcm", _image(centre, inner, outer, generator), patient)
        _write_slice(dicoms / f"P{patient:02}-0000.dcm", _image(centre, inner, outer, generator), patient)


def _crescent(centre: np.ndarray, radius: float, turn: float, points: int = 60) -> np.ndarray:
    """An ellipse pressed in on one side, as the right ventricle lies against the left: (points, 2) x and y."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    r = radius * (1 - 0.35 * np.exp(-((np.angle(np.exp(1j * angle))) ** 2) / 0.5))
    x, y = r * np.cos(angle), 1.25 * r * np.sin(angle)
    return centre + np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)


def _image(centre: np.ndarray, inner: np.ndarray, outer: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Bright blood within a dark wall, on grey tissue with noise; uint16 (rows, columns)."""
    from scipy.ndimage import gaussian_filter
    from skimage.draw import polygon2mask

    rows, columns = np.indices(SHAPE)
    body = ((columns - SHAPE[1] / 2) / (SHAPE[1] * 0.48)) ** 2 + ((rows - SHAPE[0] / 2) / (SHAPE[0] * 0.48)) ** 2 < 1
    values = np.where(body, 350.0, 20.0) + 60 * gaussian_filter(generator.standard_normal(SHAPE), 4) * 4
    values[polygon2mask(SHAPE, outer[:, ::-1])] = 180
    values[polygon2mask(SHAPE, inner[:, ::-1])] = 900
    values = gaussian_filter(values, 0.7) + 25 * generator.standard_normal(SHAPE)
    return values.clip(0, 4095).astype(np.uint16)


def _write_slice(path: Path, values: np.ndarray, patient: int) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    uid = f"1.2.826.0.1.3680043.8.498.{patient}.{abs(int(values.sum()))}"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = Dataset()
    file.file_meta = meta
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = MRImageStorage, uid, "MR"
    file.PatientID = f"P{patient:02}"
    file.Rows, file.Columns = values.shape
    file.PixelSpacing = [SPACING, SPACING]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.WindowCenter, file.WindowWidth = 500, 1000
    file.PixelData = values.tobytes()
    file.save_as(path, enforce_file_format=True)
