"""Small head-like phantoms as NIfTI files in IBSR's names: three tissues in an ellipsoid, for trying things out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

VERSION = 2  # raise it when other files are written
SHAPE = (72, 64, 3)  # voxels: room for patches of 40x40 within the head; a fourth axis of one is added, as IBSR has it
ZOOMS = (0.9375, 1.5, 0.9375)  # millimetres
INTENSITY = (0, 300, 700, 1000)  # of background, CSF, GM and WM
NOISE = 60


def write_volumes(folder: Path, names: Sequence[str]) -> None:
    """Write `<name>/<name>.nii.gz` and `<name>/<name>_seg.nii.gz` for each name; the same files every time."""
    import nibabel
    from scipy.ndimage import gaussian_filter

    axes = [np.linspace(-1, 1, side) for side in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    for number, name in enumerate(names):
        generator = np.random.default_rng(np.random.SeedSequence((VERSION, number)))
        head = (x / 0.9) ** 2 + (y / 0.9) ** 2 + (z / 1.3) ** 2 < 1
        # The tissue of a voxel is the strongest of three smooth random fields: blobs some six voxels wide.
        fields = [gaussian_filter(generator.standard_normal(SHAPE), (2.5, 2.5, 1)) for _ in range(3)]
        labels = np.where(head, np.argmax(fields, 0) + 1, 0)
        image = np.array(INTENSITY)[labels] + NOISE * generator.standard_normal(SHAPE)
        image = np.where(head, image.clip(1), 0)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for values, ending in ((image, ""), (labels, "_seg")):
            file = nibabel.Nifti1Image(values[..., None].round().astype(np.int16), np.diag([*ZOOMS, 1]))
            nibabel.save(file, folder / name / f"{name}{ending}.nii.gz")
