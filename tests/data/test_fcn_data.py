"""Oxford-IIIT Pet, PASCAL VOC 2012 and CamVid: labels by hand, lists, downloads, what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from retable.data.arrays import IGNORE
from retable.data.fingerprints import paths_in
from retable.data.sets.fcn import CAMVID_CLASSES, VOC_CLASSES, FcnData
from retable.errors import DataError


@pytest.fixture
def make(tmp_path):
    def make(**arguments) -> FcnData:
        return FcnData(root=tmp_path, cache=tmp_path / "cache", **arguments)

    return make


def save(folder: Path, name: str, values: list[list[int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(folder / name)


def pet(base: Path) -> Path:
    for name in ("Abyssinian_1", "Abyssinian_2", "pug_7", "unlisted_1"):
        save(base / "images", f"{name}.jpg", [[100] * 3])
        save(base / "annotations" / "trimaps", f"{name}.png", [[1, 2, 3]])
        save(base / "annotations" / "trimaps", f"._{name}.png", [[0]])  # as in the original archive
    (base / "annotations" / "trainval.txt").write_text("Abyssinian_2 1 1 1\nAbyssinian_1 1 1 1\n")
    (base / "annotations" / "test.txt").write_text("#Image CLASS-ID SPECIES BREED ID\npug_7 26 2 15\n")
    return base


def voc(base: Path) -> Path:
    for name in ("2007_000001", "2007_000002", "2008_000003"):
        save(base / "JPEGImages", f"{name}.jpg", [[100] * 4])
    for name in ("2007_000001", "2007_000002"):
        (base / "SegmentationClass").mkdir(exist_ok=True)
        mask = Image.fromarray(np.array([[0, 7, 20, 255]], np.uint8))
        mask.putpalette([value % 251 for value in range(768)])
        mask.save(base / "SegmentationClass" / f"{name}.png")
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000001\n")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000002\n")
    return base


def camvid(base: Path, parts: tuple[str, ...] = ("train", "val")) -> Path:
    for part in parts:
        save(base / part, f"{part}_1.png", [[100] * 12])
        save(base / f"{part}annot", f"{part}_1.png", [list(range(12))])
    return base


def test_pet_trimaps(make, tmp_path):
    pet(tmp_path / "pet" / "oxford-iiit-pet")
    data = make(size=[1, 3])
    data.prepare()
    assert data.counts == {
        "read": 4, "left_out": 1, "train": 2, "val": 1, "reasons": {"images: in neither list": 1}
    }  # fmt: skip
    assert data.splits.train.targets.tolist() == [[[1, 0, IGNORE]]] * 2
    assert data.splits.train.names == ["Abyssinian_2", "Abyssinian_1"]
    assert data.splits.val.names == ["pug_7"]
    assert data.classes == ("background", "foreground")


def test_lists_are_read_as_torchvision_reads_them(make, tmp_path):
    data = make(source="sample", size=8)
    data.prepare()
    theirs = torchvision.datasets.OxfordIIITPet(str(data.location), "trainval", "segmentation")
    image, trimap = theirs[3]
    assert len(theirs) == len(data.splits.train) == 24
    assert theirs._images[3].stem == data.splits.train.names[3]
    assert image.size == (128, 96)
    assert np.unique(np.asarray(trimap)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("binary", "labels", "classes"),
    [(False, [0, 7, 20, IGNORE], VOC_CLASSES), (True, [0, 1, 1, IGNORE], ("background", "object"))],
)
def test_voc_palette_indices(make, tmp_path, binary, labels, classes):
    voc(tmp_path / "voc" / "VOCdevkit" / "VOC2012")
    data = make(set="voc", size=[1, 4], binary=binary)
    data.prepare()
    assert data.splits.val.targets.tolist() == [[labels]]
    assert data.classes == classes
    assert data.counts["reasons"] == {"JPEGImages: in neither list": 1}


def test_voc_classes_are_torchvisions():
    weights = torchvision.models.segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
    assert weights.meta["categories"] == ["__background__", *VOC_CLASSES[1:]]


def test_camvid_labels(make, tmp_path):
    camvid(tmp_path / "camvid")
    data = make(set="camvid", size=[1, 12])
    data.prepare()
    assert data.splits.train.targets.tolist() == [[[*range(11), IGNORE]]]
    assert (data.num_classes, data.classes[0], data.classes[10]) == (11, "Sky", "Bicyclist")
    assert data.splits.test is None


def test_camvid_test_part(make, tmp_path):
    camvid(tmp_path / "camvid", ("train", "val", "test"))
    data = make(set="camvid", size=8)
    data.prepare()
    assert data.splits.test.names == ["test_1"]


def text(path: Path, content: str) -> None:
    path.write_text(content)


FAULTS = {
    "no list": (
        "pet", pet, lambda b: (b / "annotations/test.txt").unlink(), "annotations: expected here, but missing: test.txt"
    ),
    "empty list": (
        "pet", pet, lambda b: text(b / "annotations/test.txt", "\n"), "annotations/test.txt: names no images"
    ),
    "twice": (
        "pet", pet, lambda b: text(b / "annotations/test.txt", "a 1\na 1\n"), "annotations/test.txt: names a 2 times"
    ),
    "both lists": (
        "pet", pet, lambda b: text(b / "annotations/test.txt", "Abyssinian_1"), "images/Abyssinian_1.jpg: is in two"
    ),
    "no image": (
        "pet", pet, lambda b: (b / "images/pug_7.jpg").unlink(), ": expected here, but missing: images/pug_7.jpg"
    ),
    "trimap": (
        "pet", pet, lambda b: save(b / "annotations/trimaps", "pug_7.png", [[1, 2, 0]]),
        "annotations/trimaps/pug_7.png: unknown label value 0, accepted: 1 to 3",
    ),
    "voc value": (
        "voc", voc, lambda b: save(b / "SegmentationClass", "2007_000002.png", [[0, 1, 2, 21]]),
        "SegmentationClass/2007_000002.png: unknown label value 21, accepted: 0 to 20, 255",
    ),
    "void": (
        "camvid", camvid, lambda b: save(b / "valannot", "val_1.png", [[12] * 12]),
        "valannot/val_1.png: unknown label value 12, accepted: 0 to 11",
    ),
    "size": (
        "camvid", camvid, lambda b: save(b / "trainannot", "train_1.png", [[0] * 6] * 2),
        "trainannot/train_1.png: 6x2 pixels, but its image train_1.png has 12x1; accepted: the same size",
    ),
    "pair": (
        "camvid", camvid, lambda b: save(b / "val", "val_2.png", [[0] * 12]),
        "val/val_2.png: its mask is missing, expected",
    ),
    "part": (
        "camvid", camvid, lambda b: (b / "trainannot").rename(b / "labels"),
        ": expected here, but missing: trainannot",
    ),
    "half a test part": (
        "camvid", camvid, lambda b: save(b / "test", "a.png", [[0]]), ": expected here, but missing: testannot"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "write", "spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_names_the_file(make, tmp_path, monkeypatch, name, write, spoil, message):
    base = write(tmp_path / name / {"pet": "oxford-iiit-pet", "voc": "VOCdevkit/VOC2012", "camvid": ""}[name])
    spoil(base)
    monkeypatch.setattr(FcnData, "download", lambda self: None)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        make(set=name, size=4).prepare()
    assert str(caught.value).startswith(str(base))
    assert "\n" not in str(caught.value)


def test_download_keeps_what_the_lists_name(make, tmp_path, monkeypatch):
    """In place of torchvision's downloader, one that unpacks as it does; archives and unlisted files are not kept."""

    def downloaded(root: str, download: bool) -> None:
        assert download
        (pet(Path(root) / "oxford-iiit-pet") / "images.tar.gz").touch()

    monkeypatch.setattr(torchvision.datasets, "OxfordIIITPet", downloaded)
    data = make(size=4)
    data.prepare()
    assert data.counts == {"read": 3, "left_out": 0, "train": 2, "val": 1}
    kept = {file.name for file in (tmp_path / "pet").rglob("*") if file.is_file() and file.name[0] != "."}
    names = ("Abyssinian_1", "Abyssinian_2", "pug_7")
    assert kept == {f"{n}.jpg" for n in names} | {f"{n}.png" for n in names} | {"trainval.txt", "test.txt"}


def test_failed_download_says_what_is_expected_where(make, tmp_path, monkeypatch):
    def fails(*_, **__) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", fails)
    message = r"^PASCAL VOC 2012: the download failed \(no route to host\); expected in "
    with pytest.raises(DataError, match=message) as caught:
        make(set="voc").prepare()
    assert f"{tmp_path}/voc/VOCdevkit/VOC2012/ImageSets/Segmentation: train.txt, val.txt;" in str(caught.value)


def test_camvid_is_not_downloaded(make):
    message = r"camvid: expected here, but missing: train, trainannot, val, valannot \(data\.root"
    with pytest.raises(DataError, match=message):
        make(set="camvid").prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"set": "coco"}, r"^set=coco: accepted: pet, voc, camvid$"),
        ({"binary": True}, r"^binary=True: accepted: false, for set=pet$"),
        ({"binary": 1, "set": "voc"}, r"^binary=1: accepted: true, false$"),
        ({"size": [224]}, r"^size=\[224\]: accepted"),
    ],
)
def test_refusals(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(("name", "labels"), [("pet", 2), ("voc", 21), ("camvid", 11)])
def test_sample(make, tmp_path, name, labels):
    data = make(source="sample", set=name, size=[96, 128])
    data.prepare()
    assert data.counts == {"read": 32, "left_out": 0, "train": 24, "val": 8}
    assert np.unique(data.splits.train.targets).tolist() == [*range(labels), IGNORE]
    data.make_sample(tmp_path / "again")
    assert [f.read_bytes() for f in paths_in(data.files())] == [
        (tmp_path / "again" / f.relative_to(data.location)).read_bytes() for f in paths_in(data.files())
    ]


def test_real_camvid(data_root, tmp_path):
    if not (data_root / "camvid").is_dir():
        pytest.skip("no camvid in RETABLE_DATA")
    data = FcnData(root=data_root, cache=tmp_path, set="camvid", size=[180, 240])
    data.prepare()
    assert data.counts == {"read": 468, "left_out": 0, "train": 367, "val": 101}
    assert data.image_shape == (3, 180, 240)
    assert np.unique(data.splits.train.targets).tolist() == [*range(11), IGNORE]
    labels = np.asarray(Image.open(data_root / "camvid" / "valannot" / "0016E5_07959.png"))
    place = data.splits.val.names.index("0016E5_07959")
    assert np.array_equal(data.splits.val.targets[place], np.where(labels == 11, IGNORE, labels))
    # Sky is at the top of the pictures and road at their bottom: the names are in the labels' order.
    sky, road = (data.splits.train.targets[::20] == CAMVID_CLASSES.index(name) for name in ("Sky", "Road"))
    assert sky.nonzero()[1].mean() < 60
    assert road.nonzero()[1].mean() > 120
