"""Brain tissue: what patches hold, class counts as the report prints them, figures, refusals, IBSR-18's facts."""

import re
import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from retable.data.arrays import IGNORE
from retable.data.fingerprints import paths_in
from retable.data.formats.nifti import normalised
from retable.data.sets.brain import BrainData, class_table, stitched
from retable.errors import DataError
from retable.figures.brain import draw
from retable.training.augment import Augment, GaussianNoise, HorizontalFlip


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    data = BrainData(source="sample", cache=tmp_path_factory.mktemp("cache"))
    data.prepare()
    return data


def positions_of(part) -> np.ndarray:
    return np.stack([part.about[key] for key in ("slice", "row", "column")], 1)


def ladder(root: Path, name: str, fill: np.ndarray | None = None) -> None:
    """A volume whose values count up from 1; its labels, 1, 2, 3, 1, ..., count along, or are `fill`."""
    folder = root / "ibsr18"
    folder.mkdir(parents=True, exist_ok=True)
    labels = (np.arange(40) % 3 + 1).reshape(5, 4, 2) if fill is None else fill
    values = 1 + np.arange(labels.size).reshape(labels.shape)
    for array, ending in ((np.where(labels > 0, values, 0), ""), (labels, "_seg")):
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), folder / f"{name}{ending}.nii.gz")


def test_training_patches_are_balanced_windows_of_their_volumes(sample):
    part = sample.splits.train
    assert (part.images.dtype, part.targets.dtype) == (np.float32, np.uint8)
    assert part.images.shape == (len(part), 1, 16, 16)
    assert sample.classes == ("CSF", "GM", "WM")
    assert set(part.about["volume"]) == {1, 3, 5}
    assert all(((part.targets == label).sum((1, 2)) >= 60).all() for label in (0, 1, 2))
    assert part.largest() == 2
    assert not (part.targets == IGNORE).any()
    for index in (0, len(part) // 2, len(part) - 1):
        volume = sample.volume(int(part.about["volume"][index]))
        z, x, y = positions_of(part)[index]
        window = np.s_[x : x + 16, y : y + 16, z]
        np.testing.assert_array_equal(part.targets[index], volume.labels_XYZ[window] - 1)
        np.testing.assert_array_equal(part.images[index, 0], normalised(volume.image_XYZ)[window])


def test_validation_patches_hold_all_tissue_and_leave_the_rest_out(sample):
    part, volume = sample.splits.val, sample.volume(13)
    assert set(part.about["volume"]) == {13}
    truth = np.where(volume.labels_XYZ == 0, IGNORE, volume.labels_XYZ - 1)
    np.testing.assert_array_equal(stitched(part.targets, positions_of(part), truth.shape, IGNORE), truth)
    assert (part.targets != IGNORE).any((1, 2)).all()
    rows, columns, slices = truth.shape
    empty = -(-rows // 16) * -(-columns // 16) * slices - len(part)
    assert sample.counts["reasons"] == {"validation patch of background alone": empty}
    assert sample.counts["read"] == len(sample.splits.train) + len(part) + empty


def test_the_sample_is_learnable_and_always_the_same(sample, tmp_path):
    part = sample.splits.train
    means = [part.images[:, 0][part.targets == label].mean() for label in (0, 1, 2)]
    found = np.abs(part.images - np.reshape(means, (3, 1, 1))).argmin(1)  # the class of the nearest mean intensity
    assert (found == part.targets).mean() > 0.95
    sample.make_sample(tmp_path)
    files = paths_in(sample.files())
    assert len(files) == 8
    for file in files:
        again = nibabel.load(tmp_path / file.relative_to(sample.location))
        assert again.get_data_dtype() == np.int16
        assert again.ndim == 4
        np.testing.assert_array_equal(again.dataobj, nibabel.load(file).dataobj)


@pytest.mark.parametrize(("size", "train", "val"), [(16, 801, 38), (32, 723, 14), (40, 69, 12)])
def test_the_sample_has_patches_of_every_size(sample, size, train, val):
    data = BrainData(source="sample", cache=sample.cache, patch_size=size)
    data.prepare()
    assert (data.counts["train"], data.counts["val"]) == (train, val)
    assert set(data.splits.train.about["volume"]) == {1, 3, 5}


def test_patches_are_held_once(sample):
    data = BrainData(source="sample", cache=sample.cache, patch_size=32, min_pixels=0)
    data.volume(1)  # what nibabel imports is not counted
    tracemalloc.start()
    splits = data.read(data.files())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1.6 * (splits.train.images.nbytes + splits.train.targets.nbytes)  # 3.7 MB, and 0.5 MB of volumes


def test_a_folder_without_training_volumes_can_be_evaluated(sample, tmp_path):
    ladder(tmp_path, "IBSR_07")
    folder = tmp_path / "ibsr18"
    data = BrainData(cache=tmp_path, val=[7], patch_size=3)
    data.read_at(folder)
    data.prepare()
    assert data.splits.train is data.splits.val
    assert data.counts == {"read": 8, "left_out": 0, "train": 8, "val": 8}  # 5x4 pixels are two patches by two
    assert set(data.splits.val.about["volume"]) == {7}
    ladder(tmp_path, "IBSR_03")  # one of them is there, so the others are missed
    data = BrainData(cache=tmp_path, val=[7], patch_size=3)
    data.read_at(folder)
    with pytest.raises(DataError, match=f"^{re.escape(str(folder))}: no image of IBSR_01;"):
        data.prepare()
    with pytest.raises(DataError, match=f"^{re.escape(str(folder))}: no image of IBSR_01;"):
        BrainData(root=tmp_path, cache=tmp_path, val=[7]).prepare()


def test_volumes_of_background_are_refused(tmp_path):
    ladder(tmp_path, "IBSR_01")
    ladder(tmp_path, "IBSR_02", fill=np.zeros((5, 4, 2), np.int16))
    data = BrainData(root=tmp_path, cache=tmp_path, train=[1], val=[2], patch_size=3, min_pixels=1)
    with pytest.raises(DataError, match="IBSR_02 holds background alone"):
        data.read(data.files())
    data = BrainData(root=tmp_path, cache=tmp_path, train=[2], val=[1], patch_size=3, min_pixels=1)
    with pytest.raises(DataError, match="no patch of 3x3 pixels"):
        data.read(data.files())


def test_what_a_folder_of_known_voxels_gives(tmp_path):
    ladder(tmp_path, "IBSR_02")
    fill = np.zeros((5, 4, 2), np.int16)
    fill[0, 3, 0] = fill[4, 0, 1] = 3
    ladder(tmp_path, "IBSR_04_ana_strip", fill=fill)
    (tmp_path / "ibsr18" / "IBSR_04_ana_strip_seg.nii.gz").rename(tmp_path / "ibsr18" / "IBSR_04_segTRI_ana.nii.gz")
    data = BrainData(root=tmp_path, cache=tmp_path, train=[2], val=[4], patch_size=3, stride=2, min_pixels=2)
    splits = data.read(data.files())
    assert positions_of(splits.train).tolist() == [[z, x, 0] for z in (0, 1) for x in (0, 2)]
    assert splits.train.targets[0].tolist() == [[0, 2, 1], [2, 1, 0], [1, 0, 2]]  # (8 x + 2 y + z) mod 3
    values = np.array([[1, 3, 5], [9, 11, 13], [17, 19, 21]])  # of 1 to 40: mean 20.5, variance (40 ^ 2 - 1) / 12
    np.testing.assert_allclose(splits.train.images[0, 0], (values - 20.5) / np.sqrt(1599 / 12), rtol=1e-5)
    # 5x4 pixels in a grid of 3: two patches by two, the last beyond both edges.
    assert positions_of(splits.val).tolist() == [[0, 0, 3], [1, 3, 0]]
    ignored = 255
    assert splits.val.targets.tolist() == [
        [[2, ignored, ignored], *[[ignored] * 3] * 2],
        [[ignored] * 3, [2, ignored, ignored], [ignored] * 3],
    ]
    assert splits.left_out == {"validation patch of background alone": 6}
    assert splits.extra == {"class_counts": {"IBSR_02": [0, 14, 13, 13], "IBSR_04": [38, 0, 0, 2]}}


@pytest.mark.parametrize("size", [32, 40])
def test_other_patch_sizes_cover_the_edge(tmp_path, size):
    fill = np.random.default_rng(0).choice([1, 2, 3], (50, 45, 2))
    ladder(tmp_path, "IBSR_01", fill=fill)
    ladder(tmp_path, "IBSR_02", fill=fill)
    data = BrainData(root=tmp_path, cache=tmp_path, train=[1], val=[2], patch_size=size)
    splits = data.read(data.files())
    assert splits.train.images.shape == ((51 - size) * (46 - size) * 2, 1, size, size)
    assert splits.val.images.shape == (2 * 2 * 2, 1, size, size)
    truth = stitched(splits.val.targets, positions_of(splits.val), (50, 45, 2), IGNORE)
    np.testing.assert_array_equal(truth, fill - 1)
    assert (splits.val.targets == IGNORE).sum() == splits.val.targets.size - fill.size


def test_class_table_has_the_published_totals():
    published = {
        "volume 1": [7294795, 14555, 725132, 354126],
        "volume 2": [7273521, 13701, 675954, 425432],
        "volume 3": [7438497, 13784, 596162, 340165],
    }
    lines = [line.split() for line in class_table(published).splitlines()]
    assert lines[0] == ["volume", "0", "1", "2", "3"]
    assert [int(word) for word in lines[1][2:]] == published["volume 1"]
    assert lines[4] == ["total", "22006813", "42040", "1997248", "1119723"]  # the report's 42050 is a slip
    assert [word for word in lines[5] if word != "%"] == ["share", "1.33", "63.22", "35.45"]


def test_describe_counts_the_training_volumes(sample):
    lines = [line.split() for line in sample.describe().splitlines()]
    assert [line[0] for line in lines[1:4]] == ["IBSR_01", "IBSR_03", "IBSR_05"]
    for line, number in zip(lines[1:4], (1, 3, 5), strict=True):
        labels = sample.volume(number).labels_XYZ
        assert [int(word) for word in line[1:5]] == [(labels == label).sum() for label in range(4)]


def test_figures_show_something_and_predict_sees_patches(sample, tmp_path):
    seen = []

    def predict(images):
        seen.append((images.dtype, images.shape[1:]))
        return np.full((len(images), 16, 16), 1, np.uint8)

    draw(sample, tmp_path, predict, "title")
    assert set(seen) == {(np.dtype(np.float32), (1, 16, 16))}
    for name in ("slices.png", "stitched.png", "patches.png"):
        assert imread(tmp_path / name)[..., :3].std() > 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["patches.png", "slices.png", "stitched.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": []}, "train=[]"),
        ({"train": 1}, "train=1"),
        ({"val": "13"}, "val=13"),
        ({"train": [1, "a"]}, "train=a"),
        ({"train": [1, 1]}, "train=[1, 1]"),
        ({"val": [3]}, "IBSR_03 is in both"),
        ({"patch_size": 1}, "patch_size=1"),
        ({"stride": 0}, "stride=0"),
        ({"min_pixels": -1}, "min_pixels=-1"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BrainData(**arguments)


def test_noise_that_clips_intensities_is_refused(sample):
    # Normalised intensities lie around 0; noise of deviation 0 would take all that is below it, and above 1.
    for mode in ("fly", "copies"):
        data = BrainData(
            source="sample", cache=sample.cache, augment=Augment(mode, [HorizontalFlip(), GaussianNoise()])
        )
        with pytest.raises(
            DataError, match=r"^augment\.transforms: GaussianNoise clips to \[0, 1\], and the images are"
        ):
            data.prepare()
    BrainData(source="sample", cache=sample.cache, augment=Augment("fly", [HorizontalFlip()])).prepare()


def test_a_missing_volume_is_named(sample):
    data = BrainData(source="sample", cache=sample.cache, train=[1, 2])
    with pytest.raises(DataError, match=r"no image of IBSR_02; .*IBSR_02\.nii\.gz"):
        data.prepare()


def test_no_balanced_patch_is_reported(sample):
    with pytest.raises(DataError, match=r"no patch of 16x16 .* 86 pixels of each class; accepted: a smaller"):
        BrainData(source="sample", cache=sample.cache, min_pixels=86).prepare()  # 3 x 86 is more than 16 x 16


def test_ibsr_18_gives_the_report_s_counts(data_root, tmp_path):
    if not all((data_root / "ibsr18" / f"IBSR_{number:02}").is_dir() for number in (1, 3, 5, 13)):
        pytest.skip("no ibsr18 in RETABLE_DATA")
    data = BrainData(root=data_root, cache=tmp_path)
    start = time.process_time()
    splits = data.read(data.files())
    assert time.process_time() - start < 20  # seconds, not minutes; measured: 4
    counts = splits.extra["class_counts"]
    assert counts["IBSR_01"] == [7294795, 14555, 725132, 354126]
    assert counts["IBSR_05"] == [7438497, 13784, 596162, 340165]
    volumes, patches = np.unique(splits.train.about["volume"], return_counts=True)
    assert dict(zip(volumes.tolist(), patches.tolist(), strict=True)) == {1: 4208, 3: 1643, 5: 3920}
    assert len(splits.val) + splits.left_out["validation patch of background alone"] == 128 * 256
    assert 5900 < len(splits.val) < 6100  # "about 6,000"
    # The grid loses no voxel of tissue.
    tissue = np.bincount(splits.val.targets.ravel(), minlength=256)[:3].tolist()
    assert tissue == counts["IBSR_13"][1:]
