"""Images with boxes (report A3: 1,969 camera-trap images, 8 classes), in three forms of annotations.

Images of a set may differ in size. Each is resized on reading and laid into the top left corner of a canvas that all
share, where torchvision pads each batch to its largest image; how far an image reaches is row 0 of its targets.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from retable import checks
from retable.data.arrays import ImageSet, Splits, blank, box_targets
from retable.data.formats.annotations import coco_classes, read_classes, read_coco, read_csv, read_voc, voc_classes
from retable.data.formats.boxes import Annotated, Annotations, refuse_shared_images, valid_boxes
from retable.data.formats.pictures import picture_size, read_image
from retable.data.loader import IMAGENET_MEAN
from retable.data.module import ImageData
from retable.data.samples.traps import VERSION, write_traps

READ: dict[str, Callable[[Path, Path, Sequence[str]], Annotations]] = {
    "csv": read_csv,
    "coco": read_coco,
    "voc": read_voc,
}
FORMS = {".csv": "csv", ".json": "coco", ".txt": "voc"}
MULTIPLE = 32  # of a canvas's sides: the stride of the coarsest maps of a ResNet
# Beside images that do not fill the canvas: so near to zero once it is normalised as eight bits allow.
PADDING = np.array([round(255 * mean) for mean in IMAGENET_MEAN], np.uint8)


class WildlifeData(ImageData):
    """Images with boxes below `<root>/<subfolder>`.

    Args:
        subfolder: the set's folder.
        format: csv (RetinaNet's), coco (JSON) or voc (a list of names, with an XML file each).
        train, val, test: annotation files in that folder; test may be None. Of voc: ImageSets/Main/train.txt, ...
        class_file: `class,id` file; None, for voc, takes the names in the training annotations. coco has its own.
        images: folder that the names of images are relative to, in the set's folder; by default the annotation file's
            own (csv, coco) or JPEGImages (voc). Of annotations/instances_val2017.json it is val2017, where that is in
            the set's folder or in `images`.
        shorter, longer: pixels of an image's shorter side, and at most of its longer one.
        drop_invalid: leave boxes out that have no area or lie outside their image, and count them; False: refuse them.
        variant: 0 or 1, which sample set: they differ in colours and shapes.
        **base: see ImageData; of augmentation flips alone, batch by batch, which take the boxes with them.

    Targets are boxes in pixels of the resized images (`data.arrays.box_targets`). `read_at` takes a set's folder or
    one annotation file, which is then both splits; its name tells the form.
    """

    folder: ClassVar[str] = "wildlife"
    sample_version: ClassVar[int] = VERSION

    def __init__(
        self,
        subfolder: str = "wildlife",
        format: str = "csv",
        train: str = "train.csv",
        val: str = "val.csv",
        test: str | None = None,
        class_file: str | None = "classes.csv",
        images: str | None = None,
        shorter: int = 608,
        longer: int = 1024,
        drop_invalid: bool = False,
        variant: int = 0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        checks.one_of("format", format, tuple(READ))
        checks.integer("shorter", shorter, 32)
        checks.integer("longer", longer, shorter)
        checks.boolean("drop_invalid", drop_invalid)
        checks.one_of("variant", variant, (0, 1))
        for key, name in (("subfolder", subfolder), ("train", train), ("val", val)):
            checks.folder(key, name)
        if class_file is None and format == "csv":
            raise checks.refuse("class_file", class_file, "a file's name, for format=csv")
        if self.augment_mode == "copies":
            raise ValueError("augment.mode=copies: accepted for boxes: none, fly")
        for transform in self.augment.transforms if self.augment_mode == "fly" else ():
            if not getattr(transform, "takes_boxes", False):
                name = type(transform).__name__
                raise ValueError(f"augment.transforms: {name} leaves boxes behind; accepted for boxes: hflip, vflip")
        self.format, self.class_file, self.image_folder = format, class_file, images
        self.annotations = {"train": train, "val": val} | ({} if test is None else {"test": test})
        self.shorter, self.longer, self.drop_invalid, self.variant = shorter, longer, drop_invalid, variant
        self.folder = subfolder if self.source == "real" else f"wildlife-{variant}"
        self._known: tuple[str, ...] | None = None

    def read_at(self, location: Path, classes: Sequence[str] | None = None) -> None:
        """Read another set, or one annotation file; with `classes`, names by label, no class file is needed."""
        super().read_at(location)
        self._known = None if classes is None else tuple(classes)

    def reading(self) -> dict[str, Any]:
        keys = ("annotations", "class_file", "image_folder", "shorter", "longer", "drop_invalid")
        own = {key: getattr(self, key) for key in keys}
        return own | {"known": self._known, "single": self.location.is_file(), "format": self._form}

    def files(self) -> tuple[dict[str, Annotations], tuple[str, ...], list[Path]]:
        """What each split's annotation file says, the class names by label, and the file of these, if there is one."""
        paths = self._paths()
        class_files = self._class_files()
        self.expect([*class_files, *paths.values()])
        first = next(iter(paths.values()))
        if self._known is not None:
            classes = self._known
        elif self._form == "coco":
            classes = coco_classes(first)
        else:
            classes = read_classes(class_files[0]) if class_files else voc_classes(first)
        splits = {name: READ[self._form](path, self._images(path), classes) for name, path in paths.items()}
        refuse_shared_images(splits)
        return splits, classes, class_files

    def read(self, files: tuple[dict[str, Annotations], tuple[str, ...], list[Path]]) -> Splits:
        splits, classes, _ = files
        every = [item for split in splits.values() for item in split.images]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(lambda item: picture_size(item.image), every)
            sizes = dict(zip((item.image for item in every), found, strict=True))
        left_out: Counter[str] = Counter()
        kept: dict[str, list[Annotated]] = {}
        valid, dropped = valid_boxes(every, sizes, self.drop_invalid)
        for name, split in splits.items():
            kept[name], valid = valid[: len(split.images)], valid[len(split.images) :]
            left_out.update(split.left_out)
        left_out.update(dropped)
        scaled = {image: resized_size(h, w, self.shorter, self.longer) for image, (h, w) in sizes.items()}
        shape = canvas(list(scaled.values()))
        most = max(len(item.boxes) for items in kept.values() for item in items)
        sets = {name: _read_split(items, scaled, shape, most) for name, items in kept.items()}
        train = sets.get("train", sets["val"])
        return Splits(train, sets["val"], classes, sets.get("test"), extra={"boxes_left_out": dict(left_out)})

    def prepare(self) -> None:
        ready = self.splits is not None
        super().prepare()
        if not ready and (left_out := self.splits.extra["boxes_left_out"]):
            # Boxes are named beside images that were left out, but do not count among the images.
            self.counts["reasons"] = self.counts.get("reasons", {}) | left_out

    def describe(self) -> str:
        """Numbers of boxes by split, for what a run prints."""
        shown = ", ".join(
            f"{int((split.targets[..., 4] >= 0).sum()):,} {name}" for name, split in self.splits.by_name.items()
        )
        return f"boxes: {shown}; canvas {self.image_shape[1]}x{self.image_shape[2]}"

    def make_sample(self, folder: Path) -> None:
        write_traps(folder, self.variant)

    def _paths(self) -> dict[str, Path]:
        if self.location.is_file():
            return {"val": self.location}
        return {split: self.location / name for split, name in self.annotations.items()}

    def _class_files(self) -> list[Path]:
        if self._known is not None or self._form == "coco" or self.class_file is None:
            return []
        return [self._folder / self.class_file]

    def _images(self, annotations: Path) -> Path:
        """The folder that an annotation file's images are in."""
        given = self.image_folder if self._form == self.format else None
        if self._form == "coco":  # its own layout: annotations/instances_val2017.json beside val2017/
            own = annotations.absolute().parents[1] / (given or "") / annotations.stem.rpartition("_")[2]
            if annotations.parent.name == "annotations" and own.is_dir():
                return own
        if given is not None:
            return self._folder / given
        return annotations.absolute().parents[2] / "JPEGImages" if self._form == "voc" else annotations.parent

    @property
    def _folder(self) -> Path:
        return self.location.parent if self.location.is_file() else self.location

    @property
    def _form(self) -> str:
        """The form of the annotations: `format`, or what one file's name says."""
        return FORMS.get(self.location.suffix.lower(), self.format) if self.location.is_file() else self.format


def _read_split(
    items: Sequence[Annotated], scaled: dict[Path, tuple[int, int]], shape: tuple[int, int], most: int
) -> ImageSet:
    """Images on canvases of `shape`, each resized to its size in `scaled`, with at most `most` boxes."""
    images = blank((len(items), 3, *shape), np.uint8)
    images[:] = PADDING[:, None, None]

    def read(place: int) -> np.ndarray:
        """Fill in an image; its boxes at the new size."""
        found = read_image(items[place].image)
        height, width = scaled[items[place].image]
        images[place, :, :height, :width] = resized(found, (height, width))
        ratio = np.array([width / found.shape[2], height / found.shape[1]] * 2)
        return np.array([box[:4] for box in items[place].boxes]).reshape(-1, 4) * ratio

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        boxes = list(pool.map(read, range(len(items))))
    labels = [np.array([box.label for box in item.boxes], np.int64) for item in items]
    about = {"name": np.array([item.image.name for item in items])}
    return ImageSet(images, box_targets(boxes, labels, [scaled[item.image] for item in items], most), about)


# Sizes of images, by the convention of torchvision's GeneralizedRCNNTransform: bilinear without antialiasing, as its
# detectors were trained.


def resized_size(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """(height, width) after resizing; smaller images are enlarged.

    >>> resized_size(480, 640, 800, 1333), resized_size(500, 2000, 800, 1333)
    ((800, 1066), (333, 1333))
    """
    scale = min(shorter / min(height, width), longer / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def resized(image_CHW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A uint8 image (C, H, W) at another size, (height, width)."""
    if image_CHW.shape[1:] == size:
        return image_CHW
    values = torch.from_numpy(np.array(image_CHW, np.float32))[None]
    found = F.interpolate(values, size=size, mode="bilinear", align_corners=False)[0]
    return found.round_().clamp_(0, 255).to(torch.uint8).numpy()


def canvas(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The smallest (height, width) that holds all sizes and is a multiple of MULTIPLE."""
    height, width = (max(side) for side in zip(*sizes, strict=True))
    return -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE
