"""Warwick glands (report B2): 85 stained slides to train, 60 to test, glands against the rest.

Source of the set: K. Sirinukunwattana et al., "Gland segmentation in colon histology images: the GlaS challenge
contest", Medical Image Analysis 35, 2017.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from retable import checks
from retable.data.arrays import ImageSet, Splits, joined
from retable.data.formats.pairs import Pair, Pairs, disjoint, pair, pictures_in, read_pairs, size_of
from retable.data.module import ImageData
from retable.data.samples.glands import VERSION, write_glands
from retable.errors import DataError

CLASSES = ("background", "gland")
COURSE = {0: 0, 255: 1}
NUMBERED = {0: 0} | dict.fromkeys(range(1, 256), 1)  # GlaS: every gland has a number of its own
TEST_PARTS = ("testA", "testB")


class GlandData(ImageData):
    """Gland images below `<root>/warwick`, in one of two layouts, resized to one size.

    The course's: Train/ and Test/ with image_NN.png and label_NN.png (0 or 255). The GlaS release's, in the folder
    itself or one below it: train_N.bmp, testA_N.bmp, testB_N.bmp, each with its *_anno.bmp (numbered glands).

    Args:
        size: pixels a side, or [height, width].
        holdout: number of training images that are held out for validation, shuffled by split_seed; 0: validation is
            the test set. With flips, it is drawn from all 255, as the report did (B2.4): an image may be held out
            while its mirror image is trained on, so this validation is kinder than the test.
        flips: add a left-right and an up-down flipped copy of each training image (85 -> 255).
        test_parts: of the GlaS release: testA (60 images), testB (20) or both.
        **base: see ImageData.

    The test set is always the set's own.
    """

    folder: ClassVar[str] = "warwick"
    sample_version: ClassVar[int] = VERSION

    def __init__(
        self,
        size: int | Sequence[int] = 128,
        holdout: int = 0,
        flips: bool = False,
        test_parts: Sequence[str] = TEST_PARTS,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.size = size_of("size", size)
        checks.integer("holdout", holdout, 0)
        checks.boolean("flips", flips)
        self.holdout, self.flips = holdout, flips
        self.extras = ("copies",) if flips else ()  # named after their originals in the training set
        self.test_parts = (test_parts,) if isinstance(test_parts, str) else tuple(test_parts)
        if not self.test_parts or not set(self.test_parts) <= set(TEST_PARTS):
            raise checks.refuse("test_parts", test_parts, f"a list of {', '.join(TEST_PARTS)}")

    def files(self) -> Pairs:
        course = all((self.location / split).is_dir() for split in ("Train", "Test"))
        release = self._release()
        if course and release:
            raise DataError(f"{self.location}: holds Train/ and Test/ and {release}/train_*.bmp, accepted: one layout")
        if course:
            return self._course_pairs()
        if release:
            return self._release_pairs(release)
        raise DataError(
            f"{self.location}: expected here, but missing: Train/ and Test/ with image_NN.png and label_NN.png,"
            f" or GlaS's train_N.bmp, testA_N.bmp and testB_N.bmp with *_anno.bmp {self._where}"
        )

    def read(self, files: Pairs) -> Splits:
        train, test = (read_pairs(pairs, self.size, files.labels, "glands") for pairs in (files.train, files.test))
        left_out = files.left_out
        if self.flips:
            train = with_flips(train)
        if not self.holdout:
            return Splits(train, test, CLASSES, test=test, left_out=left_out)
        if self.holdout >= len(train):
            raise DataError(f"data.holdout={self.holdout}: accepted: fewer than the {len(train)} training images")
        order = np.random.default_rng(np.random.SeedSequence((self.split_seed, 3))).permutation(len(train))
        held_out, rest = np.sort(order[: self.holdout]), np.sort(order[self.holdout :])
        return Splits(train.take(rest), train.take(held_out), CLASSES, test=test, left_out=left_out)

    def reading(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("size", "holdout", "flips", "test_parts")}
        return own | ({"split_seed": self.split_seed} if self.holdout else {})

    def make_sample(self, folder: Path) -> None:
        write_glands(folder)

    def _course_pairs(self) -> Pairs:
        pairs, left_out = [], Counter[str]()
        for name in ("Train", "Test"):
            folder = self.location / name
            found = pictures_in(folder, left_out)
            images = [file for file in found if file.stem.startswith("image_")]
            masks = [file for file in found if file.stem.startswith("label_")]
            if not images:
                raise DataError(f"{folder}: holds no images, expected: image_NN.png with label_NN.png")
            left_out["neither image_NN nor label_NN"] += len(found) - len(images) - len(masks)
            pairs.append(pair(images, masks, "image_{}", "label_{}"))
        train, test = pairs
        return Pairs(train, test=test, left_out=dict(+left_out), labels=COURSE)

    def _release(self) -> Path | None:
        """The folder with train_N.bmp: this set's, or one below it."""
        below = sorted(folder for folder in self.location.glob("*") if folder.is_dir())
        return next((folder for folder in (self.location, *below) if any(folder.glob("train_*.bmp"))), None)

    def _release_pairs(self, folder: Path) -> Pairs:
        left_out: Counter[str] = Counter()
        found = pictures_in(folder, left_out)
        pairs: dict[str, list[Pair]] = {}
        used = 0
        for split in ("train", *TEST_PARTS):
            images = [file for file in found if re.fullmatch(rf"{split}_\d+", file.stem)]
            masks = [file for file in found if re.fullmatch(rf"{split}_\d+_anno", file.stem)]
            pairs[split] = pair(images, masks, mask="{}_anno")
            used += len(images) + len(masks)
        left_out["not one of train_N, testA_N, testB_N, *_anno"] = len(found) - used
        for part in set(TEST_PARTS) - set(self.test_parts):
            left_out[f"{part}: not in test_parts"] = len(pairs[part])
        test = [item for part in TEST_PARTS if part in self.test_parts for item in pairs[part]]
        if not test:
            raise DataError(f"{folder}: holds no {' or '.join(f'{part}_N.bmp' for part in self.test_parts)}")
        disjoint(pairs["train"], test)
        return Pairs(pairs["train"], test=test, left_out=dict(+left_out), labels=NUMBERED)


def with_flips(images: ImageSet) -> ImageSet:
    """The images, behind them all left-right flipped copies, then all up-down flipped ones, with their masks."""
    names = images.about["name"]
    copies = [
        ImageSet(images.images[..., ::-1], images.targets[..., ::-1], {"name": names + " left-right"}),
        ImageSet(images.images[..., ::-1, :], images.targets[..., ::-1, :], {"name": names + " up-down"}),
    ]
    return joined([ImageSet(images.images, images.targets, {"name": names}), *copies])
