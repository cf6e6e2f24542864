"""ISIC 2016 part 1 (report C): 900 photographs of skin lesions to train, 379 to test, lesion against skin.

Source of the set: D. Gutman et al., "Skin lesion analysis toward melanoma detection: a challenge at ISBI 2016, hosted
by ISIC", arXiv:1605.01397.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from retable.data.arrays import Splits
from retable.data.formats.pairs import Pairs, disjoint, pair, pictures_in, read_pairs, size_of
from retable.data.module import ImageData
from retable.data.samples.lesions import VERSION, write_lesions
from retable.errors import DataError

CLASSES = ("skin", "lesion")
LABELS = {0: 0, 255: 1}
KINDS = ("Data", "GroundTruth")
FOLDER = "ISBI2016_ISIC_Part1_{}_{}"  # Training or Test, Data or GroundTruth


class LesionData(ImageData):
    """ISIC 2016 part 1 below `<root>/isic2016`, in its four folders, of any image sizes, resized to one.

    ISBI2016_ISIC_Part1_{Training,Test}_Data/ISIC_NNNNNNN.jpg, with their masks (0 or 255) in
    ISBI2016_ISIC_Part1_{Training,Test}_GroundTruth/ISIC_NNNNNNN_Segmentation.png. The test set is what the report
    validates on after every epoch.

    Args:
        size: pixels a side, or [height, width].
        **base: see ImageData.
    """

    folder: ClassVar[str] = "isic2016"
    sample_version: ClassVar[int] = VERSION

    def __init__(self, size: int | Sequence[int] = 128, **base: Any) -> None:
        super().__init__(**base)
        self.size = size_of("size", size)

    def files(self) -> Pairs:
        folders = [[self.location / FOLDER.format(split, kind) for kind in KINDS] for split in ("Training", "Test")]
        missing = [folder.name for both in folders for folder in both if not folder.is_dir()]
        if missing:
            raise DataError(
                f"{self.location}: expected here, but missing: {', '.join(missing)}, with ISIC_NNNNNNN.jpg and"
                f" ISIC_NNNNNNN_Segmentation.png {self._where}"
            )
        left_out: Counter[str] = Counter()
        train, test = (
            pair(pictures_in(images, left_out), pictures_in(masks, left_out), mask="{}_Segmentation")
            for images, masks in folders
        )
        disjoint(train, test)
        return Pairs(train, test, left_out=dict(left_out))

    def read(self, files: Pairs) -> Splits:
        train, val = (read_pairs(pairs, self.size, LABELS, "lesions") for pairs in (files.train, files.val))
        return Splits(train, val, CLASSES, left_out=files.left_out)

    def reading(self) -> dict[str, Any]:
        return {"size": list(self.size)}  # the split is the set's own

    def make_sample(self, folder: Path) -> None:
        write_lesions(*(folder / FOLDER.format(split, kind) for split in ("Training", "Test") for kind in KINDS))
