"""Ventricle: three layouts of folders, three mask styles, splits by patient, what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retable.data.fingerprints import paths_in
from retable.data.sets.ventricle import VentricleData, split_patients
from retable.errors import DataError
from tests.data.dicoms import write_dicom

SHAPE = (8, 6)  # rows, columns; read at 24 pixels a side: times 3 and times 4
BOX = "0.5 1.5\n3.5 1.5\n3.5 5.5\n0.5 5.5\n"  # columns 1 to 3, rows 2 to 5
LARGER = "-0.5 0.5\n4.5 0.5\n4.5 6.5\n-0.5 6.5\n"  # columns 0 to 4, rows 1 to 6
REGION = np.zeros(SHAPE, int)
REGION[2:6, 1:4] = 1
STORED = np.arange(48, dtype=np.uint16).reshape(SHAPE)


@pytest.fixture
def make(tmp_path):
    def make(**arguments) -> VentricleData:
        return VentricleData(root=tmp_path, cache=tmp_path / "cache", **({"size": 24} | arguments))

    return make


def rvsc(root: Path, patients: int = 3) -> Path:
    """Each patient has slices 0000 (no contour), 0080 (both contours) and 0100 (an inner one)."""
    folder = root / "rvsc"
    for patient in (f"P{number:02}" for number in range(1, patients + 1)):
        base = folder / "TrainingSet" / f"patient{patient[1:]}"
        contours = base / f"{patient}contours-manual"
        contours.mkdir(parents=True)
        for number in ("0000", "0080", "0100"):
            write_dicom(base / f"{patient}dicom" / f"{patient}-{number}.dcm", STORED, PixelSpacing=[1.5, 1.2])
        (contours / f"{patient}-0080-icontour-manual.txt").write_text(BOX)
        (contours / f"{patient}-0080-ocontour-manual.txt").write_text(LARGER)
        (contours / f"{patient}-0100-icontour-manual.txt").write_text(BOX)
        (base / f"{patient}list.txt").write_text(f".\\patient\\{patient}contours-manual\\")
    return folder


def sunnybrook(root: Path, patients: int = 3) -> Path:
    """Patient N is linked to contours SC-N: slices 48 with both contours, 59 with the inner one, 60 with none."""
    folder = root / "sunnybrook"
    rows = ["patient_id,original_id"]
    for number in range(1, patients + 1):
        rows.append(f"SCD{number},SC-{number}")
        for place in (48, 59, 60):
            write_dicom(folder / "dicoms" / f"SCD{number}" / f"{place}.dcm", STORED)
        for place, kind, text in (("0048", "i", BOX), ("0048", "o", LARGER), ("0059", "i", BOX)):
            contours = folder / "contourfiles" / f"SC-{number}" / f"{kind}-contours"
            contours.mkdir(parents=True, exist_ok=True)
            (contours / f"IM-0001-{place}-{kind}contour-manual.txt").write_text(text)
    (folder / "link.csv").write_text("\n".join(rows) + "\n")
    return folder


def pictures(root: Path) -> Path:
    """Three patients with a slice each, and its filled mask."""
    folder = root / "rvsc_png"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in (1, 2, 3):
        Image.fromarray(STORED.astype(np.uint8)).save(folder / "images" / f"P{number}-0080.png")
        Image.fromarray((255 * REGION).astype(np.uint8)).save(folder / "masks" / f"P{number}-0080.png")
    return folder


def everything(data: VentricleData, key: str) -> list:
    return sorted(value for split in data.splits.by_name.values() for value in split.about[key].tolist())


def enlarged(mask: np.ndarray) -> np.ndarray:
    return mask.repeat(3, 0).repeat(4, 1)


def test_rvsc(make, tmp_path):
    rvsc(tmp_path)
    data = make()
    data.prepare()
    assert data.counts == {
        "read": 9, "left_out": 3, "train": 2, "val": 2, "test": 2, "reasons": {"image without inner contour": 3},
    }  # fmt: skip
    assert everything(data, "name") == [f"P0{n}-{place}" for n in (1, 2, 3) for place in ("0080", "0100")]
    assert everything(data, "patient") == ["P01", "P01", "P02", "P02", "P03", "P03"]
    train = data.splits.train
    assert (train.targets == enlarged(REGION)).all()
    assert np.allclose(train.about["spacing"], (0.5, 0.3))  # 1.5 mm over 3 rows, 1.2 mm over 4 columns
    assert data.image_shape == (1, 24, 24)
    # Values 0 to 47 are stretched to 0 to 255; halfway between the first two pixels of a row lies half a step.
    assert train.images[0, 0, 1, [1, 2, 3, 4]].astype(float) == pytest.approx([0, 1, 2, 3], abs=1)
    assert (train.images.min(), train.images.max()) == (0, 255)


def test_outer_contour(make, tmp_path):
    rvsc(tmp_path)
    data = make(contour="o")
    data.prepare()
    assert data.counts["reasons"] == {"image without outer contour": 6}
    assert data.splits.val.targets.sum() == 6 * 3 * 5 * 4  # rows 1 to 6, columns 0 to 4


def test_sunnybrook(make, tmp_path):
    folder = sunnybrook(tmp_path)
    write_dicom(folder / "dicoms" / "SCD9" / "48.dcm", STORED)  # a patient without contours
    data = make(subfolder="sunnybrook")
    data.prepare()
    assert data.counts["read"] == 10
    assert data.counts["reasons"] == {"image without inner contour": 4}
    assert everything(data, "name") == [f"SC-{n}-{place}" for n in (1, 2, 3) for place in ("0048", "0059")]
    assert np.isnan(data.splits.train.about["spacing"]).all()
    assert (data.splits.test.targets == enlarged(REGION)).all()


def test_pictures(make, tmp_path):
    pictures(tmp_path)
    data = make(subfolder="rvsc_png")
    data.prepare()
    assert data.counts == {"read": 3, "left_out": 0, "train": 1, "val": 1, "test": 1}
    assert everything(data, "patient") == ["P1", "P2", "P3"]
    for split in data.splits.by_name.values():
        assert (split.targets == enlarged(REGION)).all()
        assert split.images.max() == 47  # as they are: no window


def test_styles(make, tmp_path):
    rvsc(tmp_path)
    pictures(tmp_path)
    region = enlarged(REGION)
    for style, levels, codes in (("black", None, 2), ("grey", (0.5, 1.0), 2), ("boundary", (1.0, 1.0, 0.0, 0.0), 4)):
        for subfolder in ("rvsc", "rvsc_png"):
            data = make(style=style, subfolder=subfolder)
            data.prepare()
            assert data.levels == levels
            assert (data.splits.train.targets % 2 == region).all()
            assert data.splits.train.targets.max() < codes
    # A mask's own inner boundary: 12 x 12 pixels but for the inner 10 x 10.
    assert (data.splits.train.targets[0] == 3).sum() == 44
    assert not (data.splits.train.targets == 2).any()
    # A contour's line: it runs along the edge between pixels, once around.
    data = make(style="boundary")
    data.prepare()
    rows, columns = np.nonzero(data.splits.train.targets[0] > 1)
    assert len(rows) == 48
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 18, 4, 16)


def test_one_slice_in_three_styles(make, tmp_path):
    rvsc(tmp_path)
    region = enlarged(REGION)
    for style in ("black", "boundary"):  # whatever the run's own is
        data = make(style=style)
        data.prepare()
        found = data.in_styles(data.splits.train.names[0])
        assert list(found) == ["black", "grey", "boundary"]
        assert (found["black"] == region).all()
        assert (found["grey"] == np.where(region == 1, 1, 0.5)).all()
        line = found["boundary"] == 0
        assert np.isin(found["boundary"], (0, 1)).all()
        assert (int(line.sum()), *(int(v) for v in np.argwhere(line).min(0))) == (48, 6, 4)


def test_channels_and_jpeg(make, tmp_path):
    rvsc(tmp_path)
    grey, rgb, jpeg = make(), make(channels="rgb"), make(jpeg=True)
    for data in (grey, rgb, jpeg):
        data.prepare()
    assert rgb.image_shape == (3, 24, 24)
    assert (rgb.splits.train.images == grey.splits.train.images).all()
    difference = np.abs(jpeg.splits.train.images.astype(int) - grey.splits.train.images)
    assert 0 < difference.max() <= 8


@pytest.mark.parametrize("count", [3, 4, 10, 16, 45])
@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.1, 0.45, 0.45), (0.01, 0.98, 0.01)])
def test_parts_share_no_patient(count, shares):
    patients = [str(number) for number in range(count)]
    split = split_patients(patients, shares, 0)
    assert list(split) == patients
    assert set(split.values()) == {"train", "val", "test"}
    assert split != split_patients(patients, shares, 1) or count < 5
    assert split == split_patients(patients, shares, 0)


def test_two_patients_are_for_evaluation_alone(make, tmp_path):
    folder = rvsc(tmp_path, patients=2)
    with pytest.raises(DataError, match=f"^{re.escape(str(folder))}: 2 patients; accepted: at least 3"):
        make().prepare()
    data = make()
    data.read_at(folder)
    data.prepare()
    assert data.counts["read"] == 6
    assert len(data.splits.test) == 4


def test_another_set_is_read_where_it_lies(make, tmp_path):
    # The very folder that is the default: what a run on rvsc_png is asked to evaluate as data/rvsc.
    pictures(tmp_path)
    data = make(subfolder="rvsc_png")
    data.read_at(rvsc(tmp_path))
    data.prepare()
    assert data.counts["read"] == 9


RVSC = {
    "no folder": (lambda f: f.rename(f.with_name("other")), ": no such folder"),
    "empty": (lambda f: (f.rename(f.with_name("other")), f.mkdir()), ": no slice with a contour; expected: RVSC's"),
    "no image": (
        lambda f: (f / "TrainingSet/patient02/P02dicom/P02-0080.dcm").unlink(),
        "/TrainingSet/patient02/P02contours-manual/P02-0080-icontour-manual.txt: has no image P02-0080.dcm",
    ),
    "no points": (
        lambda f: (f / "TrainingSet/patient02/P02contours-manual/P02-0080-icontour-manual.txt").write_text(""),
        "/TrainingSet/patient02/P02contours-manual/P02-0080-icontour-manual.txt: 0 points",
    ),
    "outside": (
        lambda f: (f / "TrainingSet/patient01/P01contours-manual/P01-0080-icontour-manual.txt").write_text(
            "1 1\n1 7.4\n5.6 1\n"
        ),
        "/TrainingSet/patient01/P01contours-manual/P01-0080-icontour-manual.txt: point 3 (5.6, 1) lies outside"
        " P01-0080.dcm of 6x8 pixels",
    ),
    "cut": (
        lambda f: (f / "TrainingSet/patient03/P03dicom/P03-0100.dcm").write_bytes(
            (f / "TrainingSet/patient03/P03dicom/P03-0100.dcm").read_bytes()[:-7]
        ),
        "/TrainingSet/patient03/P03dicom/P03-0100.dcm: not a whole DICOM image",
    ),
    "twice": (
        lambda f: write_dicom(f / "Test1Set/patient01/P01dicom/P01-0080.dcm", STORED),
        "/TrainingSet/patient01/P01dicom/P01-0080.dcm: has the name of",
    ),
}
SUNNYBROOK = {
    "no image": (
        lambda f: (f / "dicoms/SCD1/59.dcm").unlink(),
        "/contourfiles/SC-1/i-contours/IM-0001-0059-icontour-manual.txt: has no image 59.dcm",
    ),
    "no link": (
        lambda f: (f / "link.csv").write_text("patient_id,original_id\nSCD1,SC-1\nSCD2,SC-2\n"),
        "/contourfiles/SC-3: no folder below",
    ),
    "columns": (lambda f: (f / "link.csv").write_text("a,b\n1,2\n"), "/link.csv: columns a, b; accepted: patient_id"),
    "one image, two patients": (
        lambda f: (f / "link.csv").write_text("patient_id,original_id\nSCD1,SC-1\nSCD2,SC-2\nSCD1,SC-3\n"),
        "/link.csv, row 4: SCD1, SC-3; accepted: each patient and folder once",
    ),
    "two series": (
        lambda f: write_dicom(f / "dicoms/SCD2/other/IM-0001-0048.dcm", STORED),
        "/dicoms/SCD2/other/IM-0001-0048.dcm: has the number of",
    ),
}
PICTURES = {
    "no mask": (lambda f: (f / "masks/P2-0080.png").unlink(), "/images/P2-0080.png: has no partner"),
    "no image": (lambda f: (f / "images/P2-0080.png").unlink(), "/masks/P2-0080.png: has no partner"),
    "no masks": (lambda f: (f / "masks").rename(f / "other"), "/masks: no such folder"),
    "size": (
        lambda f: Image.new("L", (6, 9)).save(f / "masks/P2-0080.png"),
        "/masks/P2-0080.png: 6x9 pixels, P2-0080.png has 6x8",
    ),
    "label": (
        lambda f: Image.new("L", (6, 8), 7).save(f / "masks/P2-0080.png"),
        "/masks/P2-0080.png: unknown label value 7, accepted: 0, 1, 255",
    ),
    "32 bits": (
        lambda f: (
            (f / "images/P2-0080.png").unlink(),
            Image.fromarray(STORED.astype(np.int32)).save(f / "images/P2-0080.tif"),
        ),
        "/images/P2-0080.tif: pixels of type I, accepted: images of 8 or 16 bits a channel",
    ),
}
FAULTS = {
    f"{maker.__name__}, {name}": (maker, *case)
    for maker, cases in ((rvsc, RVSC), (sunnybrook, SUNNYBROOK), (pictures, PICTURES))
    for name, case in cases.items()
}


@pytest.mark.parametrize(("maker", "spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_names_the_file(make, tmp_path, maker, spoil, message):
    folder = maker(tmp_path)
    spoil(folder)
    with pytest.raises(DataError, match=f"^{re.escape(str(folder) + message)}") as caught:
        make(subfolder=folder.name).prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contour": "inner"}, "contour=inner: accepted: i, o"),
        ({"style": "white"}, "style=white: accepted: black, grey, boundary"),
        ({"channels": 3}, "channels=3: accepted: grey, rgb"),
        ({"size": 4}, "size=4: accepted: a whole number of at least 8"),
        ({"shares": [0.8, 0.2]}, "shares=[0.8, 0.2]: accepted: three numbers above 0 that add up to 1"),
        ({"shares": [0.8, 0.2, 0.0]}, "shares=[0.8, 0.2, 0.0]: accepted: three numbers above 0"),
        ({"shares": [0.8, 0.1, float("nan")]}, "shares=[0.8, 0.1, nan]: accepted: three numbers above 0"),
        ({"jpeg": 1}, "jpeg=1: accepted: true, false"),
    ],
)
def test_argument_refused(make, arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make(**arguments)


def test_sample(make, tmp_path):
    data = make(source="sample", size=96, subfolder="rvsc_png")
    data.prepare()
    assert data.counts == {
        "read": 70, "left_out": 10, "train": 48, "val": 6, "test": 6, "reasons": {"image without inner contour": 10},
    }  # fmt: skip
    images, masks = data.splits.train.images[:, 0], data.splits.train.targets == 1
    assert np.allclose(data.splits.train.about["spacing"], (1.5, 1.5 * 80 / 96))
    # Blood is brighter than what surrounds it, in every slice.
    assert all(image[mask].mean() > image[~mask].mean() + 50 for image, mask in zip(images, masks, strict=True))
    # It beats: the region of the second phase is (1 - 0.25)² of the first's, at each of three heights.
    sizes = masks.sum((1, 2)).reshape(-1, 2, 3)
    assert np.allclose(sizes[:, 1] / sizes[:, 0], 0.5625, atol=0.03)
    data.make_sample(tmp_path / "again")
    assert [f.read_bytes() for f in paths_in(data.files())] == [
        (tmp_path / "again" / f.relative_to(data.location)).read_bytes() for f in paths_in(data.files())
    ]


def test_real_pictures(data_root, tmp_path):
    if not (data_root / "rvsc_png").is_dir():
        pytest.skip("no rvsc_png in RETABLE_DATA")
    data = VentricleData(root=data_root, cache=tmp_path, subfolder="rvsc_png")
    data.prepare()
    splits = data.splits.by_name
    assert sum(len(split) for split in splits.values()) == data.counts["read"] == 214
    patients = {name: set(split.about["patient"].tolist()) for name, split in splits.items()}
    assert {name: len(found) for name, found in patients.items()} == {"train": 12, "val": 2, "test": 2}
    assert len(set.union(*patients.values())) == 16
    assert data.image_shape == (1, 216, 216)
    masks = np.concatenate([split.targets for split in splits.values()])
    assert np.unique(masks).tolist() == [0, 1]
    # Doubled columns and 216/128 rows, to the nearest pixel: the share of the region stays what it is in the files.
    shares = [np.asarray(Image.open(path)).astype(bool).mean() for path in (data_root / "rvsc_png/masks").iterdir()]
    assert masks.mean() == pytest.approx(np.mean(shares), rel=0.01)


@pytest.mark.parametrize(("contour", "count"), [("i", 18), ("o", 9)])
def test_real_contours(data_root, tmp_path, contour, count):
    if not (data_root / "sunnybrook").is_dir():
        pytest.skip("no sunnybrook in RETABLE_DATA")
    data = VentricleData(cache=tmp_path, contour=contour)
    data.read_at(data_root / "sunnybrook")
    data.prepare()
    kind = {"i": "inner", "o": "outer"}[contour]
    assert data.counts["reasons"] == {f"image without {kind} contour": 36 - count}
    assert data.counts["read"] == 36
    test = data.splits.test
    assert len(test) == count
    assert set(test.about["patient"]) == {"SC-HF-I-1"}
    assert np.allclose(test.about["spacing"], 1.367188 * 256 / 216)
    if contour == "i":  # blood is brighter than the rest of the chest, in every slice
        assert all(i[0][m == 1].mean() > 2 * i[0].mean() for i, m in zip(test.images, test.targets, strict=True))
