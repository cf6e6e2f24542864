"""Where Oxford-IIIT Pet, PASCAL VOC 2012 and CamVid keep their images, masks and lists of names."""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from retable.data.formats.pictures import Pair, disjoint, pair, pictures_in
from retable.errors import DataError

SHOWN = 4  # missing files that a message names


@dataclass(frozen=True)
class Found:
    """The parts' pairs; the lists that name them; how many pictures are left out, by reason. test may be empty."""

    train: list[Pair]
    val: list[Pair]
    test: list[Pair] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """All files of the set, lists last."""
        return [file for _, *both in (*self.train, *self.val, *self.test) for file in both] + self.lists


def find_pet(base: Path) -> Found:
    """images/*.jpg and annotations/trimaps/*.png, named in annotations/trainval.txt and test.txt. Raises DataError."""
    lists = [base / "annotations" / f"{name}.txt" for name in ("trainval", "test")]
    return _listed(lists, base / "images", base / "annotations" / "trimaps")


def find_voc(base: Path) -> Found:
    """JPEGImages/*.jpg and SegmentationClass/*.png, named in ImageSets/Segmentation/train.txt and val.txt.

    Most photographs of VOC have no segmentation and are in neither list; they are counted as left out.

    Raises:
        DataError: a list, image or mask that is missing, or an image in both lists.
    """
    lists = [base / "ImageSets" / "Segmentation" / f"{name}.txt" for name in ("train", "val")]
    return _listed(lists, base / "JPEGImages", base / "SegmentationClass")


def find_camvid(base: Path) -> Found:
    """train, val and, where it is there, test, with masks of equal names in trainannot, valannot, testannot.

    Raises:
        DataError: a folder that is missing or empty, an image without its mask, an image in two parts.
    """
    names = ["train", "val"] + ["test"] * any((base / name).is_dir() for name in ("test", "testannot"))
    missing = [name for part in names for name in (part, f"{part}annot") if not (base / name).is_dir()]
    if missing:
        raise DataError(f"{base}: expected here, but missing: {', '.join(missing)}")
    parts = [pair(pictures_in(base / name), pictures_in(base / f"{name}annot")) for name in names]
    for first, second in itertools.combinations(parts, 2):
        disjoint(first, second)
    return Found(*parts)


def _listed(lists: list[Path], images: Path, masks: Path) -> Found:
    train, val = (_named(path, images, masks) for path in lists)
    disjoint(train, val)
    absent = [file for _, *both in (*train, *val) for file in both if not file.is_file()]
    if absent:
        names = ", ".join(f"{file.parent.name}/{file.name}" for file in absent[:SHOWN])
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        raise DataError(f"{images.parent}: expected here, but missing: {names}{more}, which the lists name")
    others = len(pictures_in(images)) - len(train) - len(val)
    return Found(train, val, [], lists, {f"{images.name}: in neither list": others} if others else {})


def _named(path: Path, images: Path, masks: Path) -> list[Pair]:
    """The pairs that a list names: the first word of each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path.parent}: expected here, but missing: {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}), expected: a name a line") from error
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise DataError(f"{path}: names no images, expected: a name a line")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: names {name} {times} times, accepted: once")
    return [Pair(name, images / f"{name}.jpg", masks / f"{name}.png") for name in names]
