"""Natural images for FCN (report D1): Oxford-IIIT Pet, PASCAL VOC 2012, or street scenes in CamVid's layout.

Sources of the sets: O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, "Cats and dogs", CVPR 2012; M. Everingham
et al., "The PASCAL visual object classes challenge: a retrospective", IJCV 111, 2015; G. J. Brostow, J. Fauqueur,
R. Cipolla, "Semantic object classes in video: a high-definition ground truth database", Pattern Recognition Letters
30(2), 2009, in the 11 classes of V. Badrinarayanan, A. Kendall, R. Cipolla, "SegNet", PAMI 39(12), 2017.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from retable import checks
from retable.data.arrays import IGNORE, Splits
from retable.data.download import fetch
from retable.data.formats.pictures import read_pairs, size_of
from retable.data.module import ImageData
from retable.data.samples.shapes import VERSION, write_camvid, write_pet, write_voc
from retable.data.sets.picture_sets import Found, find_camvid, find_pet, find_voc
from retable.errors import DataError

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CAMVID_CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip
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

    def files(self) -> list[Path]:
        return self._find_pairs().files

    def read(self) -> Splits:
        found = self._find_pairs()
        labels = VOC_BINARY if self.binary else LABELS[self.set]
        classes = ("background", "object") if self.binary else CLASSES[self.set]
        train, val = (read_pairs(part, self.size, labels, self.set) for part in (found.train, found.val))
        test = read_pairs(found.test, self.size, labels, self.set) if found.test else None
        return Splits(train, val, classes, test, found.left_out)

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
            wanted[:] = [self.location / file.relative_to(folder) for file in found.files]

        fetch({"pet": "Oxford-IIIT Pet", "voc": "PASCAL VOC 2012"}[self.set], self.location, wanted, get_all)

    def make_sample(self, folder: Path) -> None:
        SAMPLE[self.set](folder / BELOW[self.set])

    def _find_pairs(self) -> Found:
        base = self.location / BELOW[self.set]
        try:
            return FIND[self.set](base)
        except DataError as error:
            if base.is_dir():
                raise
            raise DataError(
                f"{error} (data.root or RETABLE_DATA names the folder above {self.folder}; data=sample needs no files)"
            ) from error
