"""Natural images for FCN (report D1): Oxford-IIIT Pet, PASCAL VOC 2012, or street scenes in CamVid's layout.

Sources of the sets: O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, "Cats and dogs", CVPR 2012; M. Everingham
et al., "The PASCAL visual object classes challenge: a retrospective", IJCV 111, 2015; G. J. Brostow, J. Fauqueur,
R. Cipolla, "Semantic object classes in video: a high-definition ground truth database", Pattern Recognition Letters
30(2), 2009, in the 11 classes of V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", PAMI 39(12), 2017.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from retable import checks
from retable.data.arrays import IGNORE, Splits
from retable.data.download import fetch
from retable.data.fingerprints import paths_in
from retable.data.formats.files import text
from retable.data.formats.pairs import Pair, Pairs, disjoint, pair, pictures_in, read_pairs, size_of
from retable.data.module import ImageData
from retable.data.samples.shapes import VERSION, write_camvid, write_pet, write_voc
from retable.errors import DataError

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CAMVID_CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip
SHOWN = 4  # missing files that a message names


def find_pet(base: Path) -> Pairs:
    """images/*.jpg and annotations/trimaps/*.png, named in annotations/trainval.txt and test.txt. Raises DataError."""
    lists = [base / "annotations" / f"{name}.txt" for name in ("trainval", "test")]
    return _listed(lists, base / "images", base / "annotations" / "trimaps")


def find_voc(base: Path) -> Pairs:
    """JPEGImages/*.jpg and SegmentationClass/*.png, named in ImageSets/Segmentation/train.txt and val.txt.

    Most photographs of VOC have no segmentation and are in neither list; they are counted as left out.

    Raises:
        DataError: a list, image or mask that is missing, or an image in both lists.
    """
    lists = [base / "ImageSets" / "Segmentation" / f"{name}.txt" for name in ("train", "val")]
    return _listed(lists, base / "JPEGImages", base / "SegmentationClass")


def find_camvid(base: Path) -> Pairs:
    """train, val and, where it is there, test, with masks of equal names in trainannot, valannot, testannot.

    Raises:
        DataError: a folder that is missing or empty, an image without its mask, an image in two splits.
    """
    names = ["train", "val"] + ["test"] * any((base / name).is_dir() for name in ("test", "testannot"))
    missing = [name for split in names for name in (split, f"{split}annot") if not (base / name).is_dir()]
    if missing:
        raise DataError(f"{base}: expected here, but missing: {', '.join(missing)}")
    left_out: Counter[str] = Counter()
    splits = [pair(*(pictures_in(base / each, left_out) for each in (name, f"{name}annot"))) for name in names]
    for first, second in itertools.combinations(splits, 2):
        disjoint(first, second)
    return Pairs(*splits, left_out=dict(left_out))


def _listed(lists: list[Path], images: Path, masks: Path) -> Pairs:
    train, val = (_named(path, images, masks) for path in lists)
    disjoint(train, val)
    absent = [file for _, *both in (*train, *val) for file in both if not file.is_file()]
    if absent:
        names = ", ".join(f"{file.parent.name}/{file.name}" for file in absent[:SHOWN])
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        raise DataError(f"{images.parent}: expected here, but missing: {names}{more}, which the lists name")
    left_out: Counter[str] = Counter()
    left_out[f"{images.name}: in neither list"] = len(pictures_in(images, left_out)) - len(train) - len(val)
    return Pairs(train, val, [], lists, dict(+left_out))


def _named(path: Path, images: Path, masks: Path) -> list[Pair]:
    """The pairs that a list names: the first word of each line."""
    if not path.exists():
        raise DataError(f"{path.parent}: expected here, but missing: {path.name}")
    lines = text(path, "a name a line").splitlines()
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise DataError(f"{path}: names no images, expected: a name a line")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: names {name} {times} times, accepted: once")
    return [Pair(name, images / f"{name}.jpg", masks / f"{name}.png") for name in names]


FIND = {"pet": find_pet, "voc": find_voc, "camvid": find_camvid}
SAMPLE = {"pet": write_pet, "voc": write_voc, "camvid": write_camvid}
BELOW = {"pet": "oxford-iiit-pet", "voc": "VOCdevkit/VOC2012", "camvid": ""}  # as torchvision unpacks them
CLASSES = {"pet": ("background", "foreground"), "voc": VOC_CLASSES, "camvid": CAMVID_CLASSES}
LABELS = {
    "pet": {1: 1, 2: 0, 3: IGNORE},  # trimap: pet, background, border
    "voc": {label: label for label in range(21)} | {IGNORE: IGNORE},
    "camvid": {label: label for label in range(11)} | {11: IGNORE},
}
VOC_BINARY = {0: 0, IGNORE: IGNORE} | dict.fromkeys(range(1, 21), 1)


class FcnData(ImageData):
    """One of three sets, resized to one size.

    Args:
        set: pet: foreground against background, trimaps' borders ignored, below `<root>/pet/oxford-iiit-pet`; trainval
            to train, test to validate. voc: 21 classes, borders ignored, below `<root>/voc/VOCdevkit/VOC2012`; train
            and val of its segmentation lists. camvid: 11 classes, void (11) ignored, below `<root>/camvid`, in train,
            trainannot, val, valannot and, where they are, test and testannot, masks named as their images.
            torchvision downloads the first two.
        size: pixels a side, or [height, width].
        binary: of voc: all objects against background, two classes.
        **base: see ImageData.
    """

    sample_version: ClassVar[int] = VERSION

    def __init__(self, set: str = "pet", size: int | Sequence[int] = 224, binary: bool = False, **base: Any) -> None:
        super().__init__(**base)
        checks.one_of("set", set, tuple(FIND))
        checks.boolean("binary", binary)
        if binary and set != "voc":
            raise checks.refuse("binary", binary, f"false, for set={set}")
        self.set, self.binary, self.size = set, binary, size_of("size", size)
        self.folder = set

    def files(self) -> Pairs:
        base = self.location / BELOW[self.set]
        try:
            return FIND[self.set](base)
        except DataError as error:
            if base.is_dir():
                raise
            raise DataError(f"{error} {self._where}") from error

    def read(self, files: Pairs) -> Splits:
        labels = VOC_BINARY if self.binary else LABELS[self.set]
        classes = ("background", "object") if self.binary else CLASSES[self.set]
        train, val = (read_pairs(split, self.size, labels, self.set) for split in (files.train, files.val))
        test = read_pairs(files.test, self.size, labels, self.set) if files.test else None
        return Splits(train, val, classes, test, files.left_out)

    def reading(self) -> dict[str, Any]:
        return {"set": self.set, "size": list(self.size), "binary": self.binary}  # the split is the set's own

    def download(self) -> None:
        from torchvision import datasets

        get = {
            "pet": lambda folder: datasets.OxfordIIITPet(str(folder), download=True),
            "voc": lambda folder: datasets.VOCSegmentation(str(folder), year="2012", image_set="train", download=True),
        }.get(self.set)
        if get is None:
            return  # nowhere to fetch it from: files() says what is missing
        lists = {
            "pet": ["annotations/trainval.txt", "annotations/test.txt"],
            "voc": ["ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"],
        }[self.set]
        wanted = [self.location / BELOW[self.set] / name for name in lists]

        def get_all(folder: Path) -> None:
            get(folder)
            found = FIND[self.set](folder / BELOW[self.set])
            # Which pictures make the set complete is known only now. The lists stay last: they say that it is.
            wanted[:] = [self.location / file.relative_to(folder) for file in paths_in(found)]

        fetch({"pet": "Oxford-IIIT Pet", "voc": "PASCAL VOC 2012"}[self.set], self.location, wanted, get_all)

    def make_sample(self, folder: Path) -> None:
        SAMPLE[self.set](folder / BELOW[self.set])
