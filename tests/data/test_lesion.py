"""ISIC 2016: its four folders, images of any size, what is refused."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retable.data.fingerprints import paths_in
from retable.data.sets.lesion import LesionData
from retable.errors import DataError

START = "ISBI2016_ISIC_Part1"


@pytest.fixture
def make(tmp_path):
    def make(**arguments) -> LesionData:
        return LesionData(root=tmp_path, cache=tmp_path / "cache", **arguments)

    return make


def lesions(root: Path) -> Path:
    """Three images to train, two to test, each of another size, filled with 40 times their number; left half lesion."""
    folder = root / "isic2016"
    for part, numbers in (("Training", (1, 2, 3)), ("Test", (4, 5))):
        images, masks = folder / f"{START}_{part}_Data", folder / f"{START}_{part}_GroundTruth"
        images.mkdir(parents=True)
        masks.mkdir()
        for number in numbers:
            mask = np.zeros((10 * number, 20), np.uint8)
            mask[:, :10] = 255
            Image.new("RGB", (20, 10 * number), (40 * number,) * 3).save(images / f"ISIC_000000{number}.jpg")
            Image.fromarray(mask).save(masks / f"ISIC_000000{number}_Segmentation.png")
    return folder


def test_images_of_all_sizes_at_one(make, tmp_path):
    lesions(tmp_path)
    data = make(size=4)
    data.prepare()
    assert data.counts == {"read": 5, "left_out": 0, "train": 3, "val": 2}
    assert data.splits.train.names == ["ISIC_0000001", "ISIC_0000002", "ISIC_0000003"]
    assert data.splits.val.names == ["ISIC_0000004", "ISIC_0000005"]
    assert data.splits.test is None
    assert np.abs(data.splits.train.images.mean((1, 2, 3)) - [40, 80, 120]).max() <= 1
    assert data.splits.train.targets.tolist() == [[[1, 1, 0, 0]] * 4] * 3


def renamed(folder: Path) -> None:
    for kind, name in (("Data", "ISIC_0000004.jpg"), ("GroundTruth", "ISIC_0000004_Segmentation.png")):
        file = folder / f"{START}_Test_{kind}" / name
        file.rename(file.with_name(name.replace("4", "1")))


FAULTS = {
    "no folder": (
        lambda f: (f / f"{START}_Test_GroundTruth").rename(f / "x"),
        f": expected here, but missing: {START}_Test_GroundTruth, with ISIC_NNNNNNN.jpg",
    ),
    "no mask": (
        lambda f: (f / f"{START}_Training_GroundTruth" / "ISIC_0000002_Segmentation.png").unlink(),
        f"/{START}_Training_Data/ISIC_0000002.jpg: its mask is missing",
    ),
    "grey mask": (
        lambda f: Image.new("L", (20, 40), 128).save(f / f"{START}_Test_GroundTruth" / "ISIC_0000004_Segmentation.png"),
        f"/{START}_Test_GroundTruth/ISIC_0000004_Segmentation.png: unknown label value 128, accepted: 0, 255",
    ),
    "cut": (
        lambda f: (f / f"{START}_Training_Data" / "ISIC_0000003.jpg").write_bytes(
            (f / f"{START}_Training_Data" / "ISIC_0000003.jpg").read_bytes()[:-20]
        ),
        f"/{START}_Training_Data/ISIC_0000003.jpg: cut or damaged",
    ),
    "both parts": (renamed, f"/{START}_Test_Data/ISIC_0000001.jpg: is in two splits of the set"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_names_the_file(make, tmp_path, spoil, message):
    folder = lesions(tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=f"^{re.escape(str(folder) + message)}") as caught:
        make(size=4).prepare()
    assert "\n" not in str(caught.value)


def test_reading_is_not_the_seeds(make):
    assert make(split_seed=1).reading() == make(split_seed=2).reading() == {"size": [128, 128]}


def test_sample(make, tmp_path):
    data = make(source="sample")
    data.prepare()
    assert data.counts == {"read": 32, "left_out": 0, "train": 24, "val": 8}
    assert data.image_shape == (3, 128, 128)
    assert 0.03 < data.splits.train.targets.mean() < 0.4
    # A lesion is darker than its skin, on average, in every image.
    for part in (data.splits.train, data.splits.val):
        grey, inside = part.images.mean(1), part.targets == 1
        assert all(g[i].mean() < g[~i].mean() - 20 for g, i in zip(grey, inside, strict=True))
    data.make_sample(tmp_path / "again")
    assert [f.read_bytes() for f in paths_in(data.files())] == [
        (tmp_path / "again" / f.relative_to(data.location)).read_bytes() for f in paths_in(data.files())
    ]


def test_real(data_root, tmp_path):
    if not (data_root / "isic2016").is_dir():
        pytest.skip("no isic2016 in RETABLE_DATA")
    data = LesionData(root=data_root, cache=tmp_path)
    start = time.process_time()
    data.prepare()
    assert time.process_time() - start < 20
    assert data.counts == {"read": 1145, "left_out": 0, "train": 806, "val": 339}
    assert data.image_shape == (3, 128, 128)
    assert data.splits.train.names[:3] == ["ISIC_0000000", "ISIC_0000001", "ISIC_0000004"]
    for part in data.splits.by_name.values():
        assert np.unique(part.targets).tolist() == [0, 1]
        assert part.targets.any((1, 2)).all()  # a lesion in every image
