"""Boxes in three forms: the same records from each, one line for each fault, and what is resized and left out."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from retable.data.formats.annotations import read_classes
from retable.data.samples.traps import CLASSES, draw_scene
from retable.data.sets.wildlife import PADDING, WildlifeData, canvas, resized, resized_size
from retable.errors import DataError
from retable.training.augment import Augment, HorizontalFlip, Rotate

# Two images to train, one to validate; classes fox (0) and owl (1). The second training image has no boxes.
BOXES = {"a.png": [(2, 4, 10, 20, "fox"), (0, 0, 40, 30, "owl")], "b.png": []}
VAL = {"c.png": [(5, 6, 7, 9, "owl")]}


@pytest.fixture
def make(tmp_path):
    def make(**arguments) -> WildlifeData:
        given = {"shorter": 32, "longer": 64} | arguments
        return WildlifeData(root=tmp_path, cache=tmp_path / "cache", **given)

    return make


def images(folder: Path) -> None:
    """a.png 40x30 and c.png 40x30 of one colour each, b.png 30x40."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, size) in enumerate((("a", (40, 30)), ("b", (30, 40)), ("c", (40, 30)))):
        Image.new("RGB", size, (200, 10 * number, 0)).save(folder / f"{name}.png")


def write_csv(folder: Path) -> Path:
    images(folder / "pictures")
    for name, part in (("train", BOXES), ("val", VAL)):
        rows = [(f"pictures/{image}", *box) for image, boxes in part.items() for box in boxes or [("",) * 5]]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    (folder / "classes.csv").write_text("fox,0\nowl,1\n")
    return folder


def write_coco(folder: Path) -> Path:
    images(folder / "pictures")
    for name, part in (("train", BOXES), ("val", VAL)):
        content = {
            "images": [{"id": 10 * n, "file_name": image} for n, image in enumerate(part)],
            "categories": [{"id": 7, "name": "owl"}, {"id": 3, "name": "fox"}],
            "annotations": [
                {"image_id": 10 * n, "category_id": {"fox": 3, "owl": 7}[c], "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for n, boxes in enumerate(part.values())
                for x1, y1, x2, y2, c in boxes
            ],
        }
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def write_voc(folder: Path) -> Path:
    images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name, part in (("train", BOXES), ("val", VAL)):
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{image[0]}\n" for image in part))
        for image, boxes in part.items():
            objects = "".join(
                f"<object><name>{c}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
                f"<ymax>{y2}</ymax></bndbox></object>"
                for x1, y1, x2, y2, c in boxes
            )
            text = f"<annotation><filename>{image}</filename>{objects}</annotation>"
            (folder / "Annotations" / f"{image[0]}.xml").write_text(text)
    return folder


LISTS = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
FORMS = {
    "csv": (write_csv, {}),
    "coco": (write_coco, {"format": "coco", "train": "train.json", "val": "val.json", "images": "pictures"}),
    "voc": (write_voc, {"format": "voc", "class_file": None} | LISTS),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(make, tmp_path, form):
    write, arguments = FORMS[form]
    write(tmp_path / "wildlife")
    data = make(**arguments)
    data.prepare()
    assert data.classes == ("fox", "owl")
    assert data.counts == {"read": 3, "left_out": 0, "train": 2, "val": 1}
    # 40x30 becomes 42x32, 30x40 becomes 32x42, on a canvas of 64x64; the ratios are 42/40 and 32/30.
    assert data.image_shape == (3, 64, 64)
    x, y = 42 / 40, 32 / 30
    expected = [[0, 0, 42, 32, -1], [2 * x, 4 * y, 10 * x, 20 * y, 0], [0, 0, 42, 32, 1]]
    np.testing.assert_allclose(data.splits.train.targets[0], expected, rtol=1e-6)
    assert data.splits.train.targets[1].tolist() == [[0, 0, 32, 42, -1]] + [[0, 0, 0, 0, -1]] * 2
    np.testing.assert_allclose(data.splits.val.targets[0][1], [5 * x, 6 * y, 7 * x, 9 * y, 1], rtol=1e-6)
    assert data.splits.train.names == ["a.png", "b.png"]
    picture = data.splits.train.images[1]
    assert picture[:, 41, 31].tolist() == [200, 10, 0]
    assert picture[:, 42, 0].tolist() == picture[:, 0, 32].tolist() == PADDING.tolist()


@pytest.mark.parametrize("below", ["", "images"])
def test_cocos_own_layout(make, tmp_path, below):
    """train2017/ and val2017/ beside annotations/, or in a folder of their own."""
    folder = write_coco(tmp_path / "wildlife")
    (folder / "annotations").mkdir()
    for split, names in (("train", "ab"), ("val", "c")):
        (folder / f"{split}.json").rename(folder / "annotations" / f"instances_{split}2017.json")
        (folder / below / f"{split}2017").mkdir(parents=True)
        for name in names:
            (folder / "pictures" / f"{name}.png").rename(folder / below / f"{split}2017" / f"{name}.png")
    annotations = {split: f"annotations/instances_{split}2017.json" for split in ("train", "val")}
    data = make(format="coco", images=below or None, **annotations)
    data.prepare()
    assert data.counts == {"read": 3, "left_out": 0, "train": 2, "val": 1}
    assert data.splits.train.names == ["a.png", "b.png"]
    data = make(format="coco", images=below or None)
    data.read_at(folder / annotations["val"], ("fox", "owl"))
    data.prepare()
    assert data.splits.val.names == ["c.png"]


def test_normalised_padding_is_nearly_the_zero_of_torchvision(make, tmp_path):
    write_csv(tmp_path / "wildlife")
    data = make(scale="imagenet")
    data.setup()
    images, targets = next(iter(data.val_dataloader()))
    assert images[0, :, :, 42:].abs().max() < 0.5 / 255 / 0.224
    assert targets.dtype == torch.float32


# Which row of train.csv is replaced by what, and the line that it gives. Row 1: a.png's fox, row 3: b.png's absence.
FAULTS = {
    "no area": (
        1,
        "pictures/a.png,2,4,2,20,fox",
        "train.csv, row 1: box 2, 4, 2, 20 is without area, accepted: x1 < x2",
    ),
    "outside": (
        2,
        "pictures/a.png,0,0,41,30,owl",
        "row 2: box 0, 0, 41, 30 is outside the image, accepted: within 40x30",
    ),
    "class": (1, "pictures/a.png,2,4,10,20,cow", "train.csv, row 1: unknown class 'cow', accepted: fox, owl"),
    "image": (3, "pictures/x.png,,,,,", "train.csv, row 3: no such image: {folder}/pictures/x.png"),
    "fields": (
        2,
        "pictures/a.png,0,0,owl",
        "row 2: 'pictures/a.png,0,0,owl', accepted: path,x1,y1,x2,y2,class, or path",
    ),
    "number": (1, "pictures/a.png,2,four,10,20,fox", "train.csv, row 1: y1='four', accepted: a number of pixels"),
    "half empty": (1, "pictures/a.png,2,4,10,,fox", "train.csv, row 1: y2='', accepted: a number of pixels"),
    "quote": (2, 'pictures/a.png,"0,0,40,30,owl', "train.csv, row 2: no CSV in UTF-8"),
    "two parts": (
        3,
        "pictures/c.png,,,,,",
        "val.csv, row 1: c.png is in {folder}/train.csv, row 3 too, accepted: in one",
    ),
}


@pytest.mark.parametrize(("row", "text", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_with_file_and_row(make, tmp_path, row, text, message):
    folder = write_csv(tmp_path / "wildlife")
    lines = (folder / "train.csv").read_text().splitlines()
    lines[row - 1] = text
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=re.escape(message.format(folder=folder))) as caught:
        make().prepare()
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_the_whole_line_of_an_invalid_box(make, tmp_path):
    folder = write_csv(tmp_path / "wildlife")
    with (folder / "train.csv").open("a") as file:
        file.write("pictures/b.png,1,1,1,1,fox\npictures/b.png,0,0,30,41,fox\n")
    line = (
        f"{folder}/train.csv, row 4: box 1, 1, 1, 1 is without area, accepted: x1 < x2 and y1 < y2"
        " (invalid boxes in all: 2; data.drop_invalid=true leaves them out)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(line)}$"):
        make().prepare()
    data = make(drop_invalid=True)
    data.prepare()
    reasons = {"boxes without area": 1, "boxes outside the image": 1}
    assert data.counts == {"read": 3, "left_out": 0, "train": 2, "val": 1, "reasons": reasons}
    assert (data.splits.train.targets[1, :, 4] >= 0).sum() == 0


CLASS_FAULTS = {
    "name": ("fox,0\nfox,1\n", "classes.csv, row 2: 'fox,1' is there twice, accepted: each class and each id once"),
    "number": ("fox,0\nowl,one\n", "classes.csv, row 2: 'owl,one', accepted: class,id with a whole number as id"),
    "gap": ("fox,0\nowl,2\n", "classes.csv: ids 0, 2, accepted: 0, 1, 2, ... without a gap"),
    "fields": ("fox\n", "classes.csv, row 1: 'fox', accepted: class,id with a whole number as id"),
    "empty": ("", "classes.csv: ids none, accepted: 0, 1, 2, ... without a gap"),
}


@pytest.mark.parametrize(("text", "message"), CLASS_FAULTS.values(), ids=CLASS_FAULTS)
def test_faults_of_the_class_file(tmp_path, text, message):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(DataError, match=f"^{re.escape(f'{tmp_path}/{message}')}$"):
        read_classes(tmp_path / "classes.csv")


def test_order_is_by_id(tmp_path):
    (tmp_path / "classes.csv").write_text("owl,1\nfox,0\n")
    assert read_classes(tmp_path / "classes.csv") == ("fox", "owl")


ELEMENTS = {
    "image": ("annotations", 0, {"image_id": 5}, "annotations[0]: image_id=5, accepted: the id of one of images"),
    "class": ("annotations", 1, {"category_id": 9}, "annotations[1]: unknown class 9, accepted: fox, owl"),
    "box": ("annotations", 0, {"bbox": [1, 2, 3]}, "annotations[0]: bbox=[1, 2, 3], accepted: [x, y, width, height]"),
    "no area": ("annotations", 0, {"bbox": [2, 4, 0, 3]}, "annotations[0]: box 2, 4, 2, 7 is without area"),
    "key": ("images", 1, {"file_name": None}, "images[1]: has no file_name, accepted: an element with id, file_name"),
    "file": ("images", 1, {"file_name": "x.png"}, "images[1]: no such image: "),
}


@pytest.mark.parametrize(("list_", "place", "change", "message"), ELEMENTS.values(), ids=ELEMENTS)
def test_a_fault_in_coco_names_the_element(make, tmp_path, list_, place, change, message):
    folder = write_coco(tmp_path / "wildlife")
    content = json.loads((folder / "train.json").read_text())
    content[list_][place] |= change
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"^{re.escape(f'{folder}/train.json, {message}')}") as caught:
        make(**FORMS["coco"][1]).prepare()
    assert "\n" not in str(caught.value)


def test_crowds_are_left_out_and_counted(make, tmp_path):
    folder = write_coco(tmp_path / "wildlife")
    content = json.loads((folder / "train.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    (folder / "train.json").write_text(json.dumps(content))
    data = make(**FORMS["coco"][1])
    data.prepare()
    assert data.counts["reasons"] == {"boxes of crowds": 1}
    assert data.splits.train.targets[0, :, 4].tolist() == [-1, 1]


def test_a_fault_in_voc_names_the_object(make, tmp_path):
    folder = write_voc(tmp_path / "wildlife")
    file = folder / "Annotations" / "a.xml"
    text = file.read_text()
    for old, new, message in (
        ("<name>owl</name>", "<name>cow</name>", "object 2: unknown class 'cow', accepted: fox, owl"),
        ("<xmax>10</xmax>", "", "object 1: has no bndbox/xmax, accepted: VOC's form"),
        ("<xmax>10</xmax>", "<xmax>2</xmax>", "object 1: box 2, 4, 2, 20 is without area"),
    ):
        file.write_text(text.replace(old, new))
        (folder / "classes.csv").write_text("fox,0\nowl,1\n")
        with pytest.raises(DataError, match=f"^{re.escape(f'{file}, {message}')}"):
            make(**FORMS["voc"][1] | {"class_file": "classes.csv"}).prepare()


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (500, 2000), (96, 128), (333, 334)])
def test_resized_as_torchvision_does(height, width):
    image = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    transform = GeneralizedRCNNTransform(160, 266, [0.0] * 3, [1.0] * 3).eval()
    (expected,) = transform([torch.from_numpy(image) / 255])[0].tensors
    size = resized_size(height, width, 160, 266)
    assert canvas([size]) == expected.shape[1:]
    found = torch.from_numpy(resized(image, size)) / 255
    assert (found - expected[:, : size[0], : size[1]]).abs().max() <= 0.501 / 255
    assert not expected[:, size[0] :].any()
    assert not expected[..., size[1] :].any()


def test_sample_sets_differ_and_are_the_same_each_time(make, tmp_path):
    found = {}
    for variant in (0, 1):
        data = make(source="sample", variant=variant)
        data.prepare()
        assert (data.counts["train"], data.counts["val"]) == (64, 24)
        assert data.classes == CLASSES
        labels = data.splits.val.targets[..., 4]
        assert set(range(8)) <= set(labels.ravel().astype(int).tolist())
        assert (data.splits.train.targets[:, 1:, 4] < 0).all(1).any()  # images without boxes
        again = tmp_path / f"again{variant}"
        data.make_sample(again)
        assert (again / "train.csv").read_text() == (data.location / "train.csv").read_text()
        assert (again / "images" / "0000.png").read_bytes() == (data.location / "images" / "0000.png").read_bytes()
        found[variant] = (data.location / "images" / "0000.png").read_bytes()
    assert found[0] != found[1]


def test_a_box_of_the_sample_fits_its_object():
    scene, ((_, (x1, y1, x2, y2)),) = draw_scene(np.random.default_rng(1), [4], 0)  # a red car by day
    red = scene[..., 0] > scene[..., 1].astype(int) + 60
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (columns[0], columns[-1] + 1) == (pytest.approx(x1, abs=1), pytest.approx(x2, abs=1))
    assert rows[0] >= y1 - 1
    assert rows[-1] < y2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "yolo"}, "^format=yolo: accepted: csv, coco, voc$"),
        ({"longer": 31}, "^longer=31: accepted: a whole number of at least 32$"),
        ({"variant": 2}, "^variant=2: accepted: 0, 1$"),
        ({"class_file": None}, "^class_file=None: accepted: a file's name, for format=csv$"),
    ],
)
def test_refusals(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (Augment("copies", [HorizontalFlip()]), "^augment.mode=copies: accepted for boxes: none, fly$"),
        (
            Augment("fly", [HorizontalFlip(), Rotate()]),
            "^augment.transforms: Rotate leaves boxes behind; accepted for boxes: hflip, vflip$",
        ),
    ],
)
def test_augmentation_that_would_leave_boxes_behind(make, augment, message):
    with pytest.raises(ValueError, match=message):
        make(augment=augment)
    make(augment=Augment("fly", [HorizontalFlip()]))


@pytest.fixture
def bccd(data_root, tmp_path):
    if not (data_root / "bccd").is_dir():
        pytest.skip("no bccd in RETABLE_DATA")

    def make(**arguments) -> WildlifeData:
        given = {"subfolder": "bccd", "val": "test.csv", "shorter": 60, "longer": 80} | arguments
        return WildlifeData(root=data_root, cache=tmp_path, **given)

    return make


def test_real_blood_cells(bccd):
    with pytest.raises(DataError, match=r"train\.csv, row 2288: box 181, 329, 181, 329 is without area.*in all: 2;"):
        bccd().prepare()
    data = bccd(drop_invalid=True)
    data.prepare()
    reasons = {"boxes without area": 2}
    assert data.counts == {"read": 364, "left_out": 0, "train": 292, "val": 72, "reasons": reasons}
    assert data.classes == ("RBC", "WBC", "Platelets")
    counts = [
        np.bincount((labels := part.targets[..., 4])[labels >= 0].astype(int)) for part in data.splits.by_name.values()
    ]
    assert [count.tolist() for count in counts] == [[3348, 301, 292], [805, 71, 69]]
    assert data.image_shape == (3, 64, 96)


def test_the_name_of_one_annotation_file_tells_its_form(make, tmp_path):
    file = write_csv(tmp_path / "wildlife") / "train.csv"
    data = make(**FORMS["coco"][1])
    data.read_at(file, ("owl", "fox"))  # labels as a model has them
    data.prepare()
    assert data.classes == ("owl", "fox")
    assert data.splits.val.targets[0, :, 4].tolist() == [-1, 1, 0]


def test_one_annotation_file_is_a_set(bccd, data_root):
    data = bccd(format="coco")
    data.read_at(data_root / "bccd" / "test.csv", ("RBC", "WBC", "Platelets"))
    data.prepare()
    assert data.splits.train is data.splits.val
    assert len(data.splits.val) == 72
