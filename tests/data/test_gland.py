"""Gland images: both layouts, the parts' sizes with flips and held-out images, what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retable.data.arrays import ImageSet
from retable.data.fingerprints import paths_in
from retable.data.sets.gland import GlandData, with_flips
from retable.errors import DataError


@pytest.fixture
def make(tmp_path):
    def make(**arguments) -> GlandData:
        return GlandData(root=tmp_path, cache=tmp_path / "cache", **arguments)

    return make


def course(root: Path, train: int = 5, test: int = 3) -> Path:
    """Image n is filled with n; the upper half of its mask is gland."""
    label = np.zeros((8, 8), np.uint8)
    label[:4] = 255
    for part, count in (("Train", train), ("Test", test)):
        (root / "warwick" / part).mkdir(parents=True)
        for number in range(1, count + 1):
            Image.new("RGB", (8, 8), (number, 2 * number, 0)).save(root / "warwick" / part / f"image_{number:02d}.png")
            Image.fromarray(label).save(root / "warwick" / part / f"label_{number:02d}.png")
    return root / "warwick"


def release(folder: Path, train: int = 3, test_a: int = 2, test_b: int = 1) -> None:
    """As GlaS: bitmaps wider than high, glands numbered from 1, grades beside them."""
    folder.mkdir(parents=True)
    glands = np.zeros((4, 6), np.uint8)
    glands[:2, :2], glands[2:, 4:] = 1, 17
    for part, count in (("train", train), ("testA", test_a), ("testB", test_b)):
        for number in range(1, count + 1):
            Image.new("RGB", (6, 4), (number, 0, 90)).save(folder / f"{part}_{number}.bmp")
            Image.fromarray(glands).save(folder / f"{part}_{number}_anno.bmp")
    (folder / "Grade.csv").write_text("name,patient ID\n", encoding="utf-8")


def test_course_layout(make, tmp_path):
    course(tmp_path)
    data = make(size=4)
    data.prepare()
    assert data.counts == {"read": 8, "left_out": 0, "train": 5, "val": 3, "test": 3}
    assert data.splits.test is data.splits.val
    assert data.splits.train.images[:, :, 0, 0].tolist() == [[n, 2 * n, 0] for n in range(1, 6)]
    assert data.splits.train.targets[0].tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert data.splits.val.names == ["image_01", "image_02", "image_03"]
    assert data.classes == ("background", "gland")


@pytest.mark.parametrize("below", ["", "Warwick QU Dataset (Released 2016_07_08)"])
def test_release_in_order_of_numbers_with_numbered_glands_as_one_class(make, tmp_path, below):
    release(tmp_path / "warwick" / below, train=11)
    data = make(size=[2, 3])
    data.prepare()
    assert data.splits.train.names == [f"train_{number}" for number in range(1, 12)]
    assert data.splits.test.names == ["testA_1", "testA_2", "testB_1"]
    assert data.splits.train.targets[0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert data.splits.train.images[10, :, 0, 0].tolist() == [11, 0, 90]


def test_release_with_one_test_part_says_what_it_leaves_out(make, tmp_path):
    release(tmp_path / "warwick")
    data = make(size=4, test_parts=["testA"])
    data.prepare()
    assert data.splits.test.names == ["testA_1", "testA_2"]
    assert data.counts["reasons"] == {"testB: not in test_parts": 1}


def test_flips_by_hand():
    images = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    masks = np.array([[[0, 1], [2, 3]]], np.uint8)
    found = with_flips(ImageSet(images, masks, {"name": np.array(["a"])}))
    assert found.targets.tolist() == [[[0, 1], [2, 3]], [[1, 0], [3, 2]], [[2, 3], [0, 1]]]
    assert found.images[:, 0].tolist() == found.targets.tolist()
    assert found.names == ["a", "a left-right", "a up-down"]


def test_held_out_images_depend_on_the_seed_and_leave_the_test_alone(make, tmp_path):
    course(tmp_path, train=20)
    held_out = {}
    for seed in (0, 1):
        data = make(size=4, holdout=6, split_seed=seed)
        data.prepare()
        names = data.splits.train.names, data.splits.val.names
        assert sorted(names[0] + names[1]) == [f"image_{number:02d}" for number in range(1, 21)]
        assert (len(names[0]), len(names[1])) == (14, 6)
        assert data.splits.test.names == ["image_01", "image_02", "image_03"]
        held_out[seed] = names
    assert held_out[0] != held_out[1]
    again = make(size=4, holdout=6)
    again.prepare()
    assert (again.splits.train.names, again.splits.val.names) == held_out[0]


def test_seed_does_not_matter_without_held_out_images(make):
    assert make(split_seed=1).reading() == make(split_seed=2).reading()
    assert make(split_seed=1, holdout=5).reading() != make(split_seed=2, holdout=5).reading()


def label(folder: Path, value: int) -> None:
    Image.new("L", (8, 8), value).save(folder / "Train" / "label_02.png")


FAULTS = {
    "no mask": (lambda f: (f / "Train" / "label_02.png").unlink(), "Train/image_02.png: its mask is missing"),
    "no image": (lambda f: (f / "Test" / "image_03.png").unlink(), "Test/label_03.png: the image of this mask is miss"),
    "value": (lambda f: label(f, 1), "Train/label_02.png: unknown label value 1, accepted: 0, 255"),
    "size": (
        lambda f: Image.new("L", (8, 9)).save(f / "Test" / "label_01.png"),
        "Test/label_01.png: 8x9 pixels, but its image image_01.png has 8x8; accepted: the same size",
    ),
    "damaged": (lambda f: (f / "Test" / "image_01.png").write_bytes(b"x"), "Test/image_01.png: cut or damaged"),
    "empty": (lambda f: [file.unlink() for file in (f / "Test").iterdir()], "Test: holds no pictures"),
    "both layouts": (lambda f: release(f / "GlaS"), "holds Train/ and Test/ and"),
    "no folder": (lambda f: (f / "Test").rename(f / "other"), "expected here, but missing: Train/ and Test/ with"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_names_the_file(make, tmp_path, spoil, message):
    folder = course(tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        make(size=8).prepare()
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_other_pictures_are_counted(make, tmp_path):
    Image.new("L", (2, 2)).save(course(tmp_path) / "Train" / "overview.png")
    data = make(size=4)
    data.prepare()
    assert data.counts["reasons"] == {"neither image_NN nor label_NN": 1}


def test_too_many_held_out(make, tmp_path):
    course(tmp_path)
    with pytest.raises(DataError, match=r"^data\.holdout=15: accepted: fewer than the 15 training images$"):
        make(size=4, flips=True, holdout=15).prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"holdout": -1}, r"^holdout=-1: accepted: a whole number of at least 0$"),
        ({"flips": 1}, r"^flips=1: accepted: true, false$"),
        ({"test_parts": ["train"]}, r"^test_parts=.*: accepted: a list of testA, testB$"),
        ({"size": 0}, r"^size=0: accepted"),
    ],
)
def test_refusals(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_sample_is_in_the_course_layout_and_the_same_each_time(make, tmp_path):
    data = make(source="sample")
    data.prepare()
    assert data.counts == {"read": 32, "left_out": 0, "train": 24, "val": 8, "test": 8}
    assert data.image_shape == (3, 128, 128)
    assert not data.splits.train.images[:, 2].any()
    assert 0.1 < data.splits.train.targets.mean() < 0.6
    again = tmp_path / "again"
    data.make_sample(again)
    assert [f.read_bytes() for f in paths_in(data.files())] == [
        (again / f.relative_to(data.location)).read_bytes() for f in paths_in(data.files())
    ]


@pytest.mark.parametrize(
    ("arguments", "train", "val"),
    [({}, 85, 60), ({"flips": True}, 255, 60), ({"flips": True, "holdout": 60}, 195, 60), ({"holdout": 60}, 25, 60)],
)
def test_real(data_root, tmp_path, arguments, train, val):
    if not (data_root / "warwick").is_dir():
        pytest.skip("no warwick in RETABLE_DATA")
    data = GlandData(root=data_root, cache=tmp_path, **arguments)
    data.prepare()
    assert (len(data.splits.train), len(data.splits.val), len(data.splits.test)) == (train, val, 60)
    assert data.image_shape == (3, 128, 128)
    for part in data.splits.by_name.values():
        assert np.unique(part.targets).tolist() == [0, 1]
        assert not part.images[:, 2].any()  # two stains; blue is zero
