"""The base of every task's data on images: arrays (retable.data.reading) -> tensors on the device -> chunks.

A task is a subclass with `files` and `read`, e.g.

    class LeafData(ImageData):
        folder = "leaves"                                        # below data.root

        def __init__(self, size: int = 64, **base):              # data.size, and the keys of conf/data/real.yaml
            super().__init__(**base)
            self.size = size

        def files(self):
            return self.expect([self.location / "train.npz", self.location / "val.npz"])

        def read(self, files):
            train, val = (np.load(path) for path in files)
            return Splits(ImageSet(...), ImageSet(...), ("oak", "beech"))

For segmentation it is the same, with label masks in place of labels.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch

from retable import checks
from retable.config.stepping import is_whole
from retable.data.arrays import Splits, Unlabelled
from retable.data.formats.pictures import EXTENSIONS, unlabelled
from retable.data.loader import DeviceLoader, batches_per_chunk, enlarged, free_memory
from retable.data.reading import Reading
from retable.errors import DataError


class ImageData(Reading, pl.LightningDataModule):
    """Images with one class each, or with one label mask each, resident on the training device.

    Args:
        source: real, or sample: a small synthetic set in the same file formats.
        root: folder of the real sets; this one's lies in `folder` below it.
        cache: folder of decoded arrays, fingerprints and samples.
        resident: whether images are kept in memory, on a GPU in its own; False: they are read from the cache's files as
            they are needed; auto: False where they take more than half of what is free, and on a CPU the processes of a
            machine share one copy: the cache's files, mapped. Metrics are the same either way.
        fraction: share of the training set that is used, in (0, 1], in proportion to the classes.
        split_seed: which images are held out, and which share is used.
        batch_size, eval_batch_size: images a mini-batch in training and in validation.
        scale: unit: [0, 1]; standard: mean 0 and standard deviation 1 a channel of the training images; imagenet: by
            mean and deviation of what torchvision's pretrained models were trained with. float32 images stay as read.
        seed: order of the images, and augmentation.
        augment: None, or an object with `mode` (none, copies, fly), `copies` and `batch` (retable.training.Augment).

    Raises:
        ValueError: an argument that is not accepted.

    After `prepare()`: splits, fingerprint, counts (read, left_out, train, val, and test where there is one), classes,
    num_classes, image_shape, mean, std. After `setup()`: train_images, train_targets, val_images, val_targets and,
    where there is a test set, test_images and test_targets, on the device.
    """

    # Training targets by a mask's value, where a mask's values are codes: label = code % number of classes (report E).
    levels: tuple[float, ...] | None = None
    # What a run's figures can show beside images and masks: "volumes" (see BrainData), "copies" (see
    # GlandData) or "styles" (see VentricleData).
    extras: tuple[str, ...] = ()

    block: int | None = None  # steps that one graph holds, where steps are recorded
    whole_chunks = False  # whether training is given whole chunks, which a Task alone can take (retable.run.steps)

    def __new__(cls, **given: Any) -> "ImageData":
        self = super().__new__(cls)
        self._given = given
        return self

    def __init__(
        self,
        *,
        source: str = "real",
        root: str | Path = "data",
        cache: str | Path = "~/.cache/retable",
        resident: bool | str = "auto",
        fraction: float = 1.0,
        split_seed: int = 0,
        batch_size: int = 32,
        eval_batch_size: int = 125,
        scale: str = "unit",
        seed: int = 0,
        augment: Any = None,
    ) -> None:
        super().__init__()
        checks.one_of("source", source, ("real", "sample"))
        checks.one_of("scale", scale, ("unit", "standard", "imagenet"))
        checks.one_of("resident", resident, ("auto", True, False))
        checks.number("fraction", fraction, 0, 1, open_low=True)
        for key, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            checks.integer(key, value, 1)
        for key, value in (("split_seed", split_seed), ("seed", seed)):
            checks.integer(key, value, 0, 2**32 - 1)
        self.source, self.scale, self.fraction = source, scale, float(fraction)
        self.root, self.cache = checks.folder("root", root), checks.folder("cache", cache)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.split_seed, self.seed, self.augment, self.resident = split_seed, seed, augment, resident
        self._location: Path | None = None
        self.splits: Splits | None = None
        self.fingerprint: str | None = None
        self.counts: dict[str, Any] = {}
        self.mean: tuple[float, ...] = ()
        self.std: tuple[float, ...] = ()
        self.train_images: torch.Tensor | None = None
        self._device: torch.device | None = None
        self._fits: dict[torch.device, bool] = {}
        self._shift_scale: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    # What a task writes

    # How the names of files end that `unlabelled` takes.
    suffixes: ClassVar[tuple[str, ...]] = EXTENSIONS

    def unlabelled(self, path: Path, shape: tuple[int, int, int]) -> Unlabelled:
        """A file without labels, as a segmentation model takes it that was trained on images (C, H, W) of this set.

        Raises:
            DataError: naming the file and its fault.
        """
        return unlabelled(path, shape[1:], shape[0])

    def describe(self) -> str:
        """What a run prints of the set beside its numbers of images: nothing, unless a set has something to say."""
        return ""

    # What it gets

    def prepare(self) -> None:
        """Read the set, through the cache. Needs no device. Raises DataError."""
        super().prepare()
        images = self.splits.train.images
        clipping = [type(t).__name__ for t in getattr(self.augment, "transforms", ()) if getattr(t, "clips", False)]
        if clipping and images.dtype == np.float32 and (images.min() < 0 or images.max() > 1):
            raise DataError(
                f"augment.transforms: {clipping[0]} clips to [0, 1], and the images are intensities from"
                f" {images.min():.3g} to {images.max():.3g}; accepted for them: transforms that clip nothing"
            )

    @property
    def augment_mode(self) -> str:
        return "none" if self.augment is None else self.augment.mode

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits.classes

    @property
    def num_classes(self) -> int:
        return len(self.splits.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return self.splits.train.images.shape[1:]

    def setup(self, stage: str | None = None) -> None:
        """Put the images on the trainer's device, or on the CPU when there is no trainer."""
        self.prepare()
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        if self.train_images is not None and self._device == device:
            return
        self._device = device
        splits = self.resident_on(device) if self.is_resident(device) else self._resident.mapped()
        self.train_images, self.train_targets = splits["train"]
        self.val_images, self.val_targets = splits["val"]
        self.test_images, self.test_targets = splits.get("test", (None, None))
        if self.augment_mode == "copies" and not self.is_resident(device):
            raise DataError("augment=copies: keeps them all in memory; accepted with data.resident=false: none, fly")
        if self.augment_mode == "copies":
            self.train_images, self.train_targets = enlarged(
                self.train_images, self.train_targets, self.augment.copies, self.seed
            )

    @property
    def nbytes(self) -> int:
        """Bytes of all images and targets, as read."""
        return self._resident.size

    def is_resident(self, device: torch.device) -> bool:
        """Whether the images are kept in a device's memory. Measured when it is first asked: later they take it up."""
        if self.resident != "auto":
            return bool(self.resident)
        if device not in self._fits:
            self._fits[device] = device in self._resident.tensors or self._resident.size <= free_memory(device) / 2
        return self._fits[device]

    def resident_on(self, device: torch.device) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Images and targets of each split, as read, on a device; on a CPU those of the cache's files, unless
        data.resident=true."""
        return self._resident.mapped() if self._takes_maps(device) else self._resident.on(device)

    def is_shared(self, device: torch.device) -> bool:
        """Whether the processes of a machine share the training images that are kept in memory: not copies that are
        added to them, and not data.fraction of them, which each makes for itself."""
        mapped = not self.splits.train.images.flags.writeable
        return self._takes_maps(device) and mapped and self.augment_mode != "copies"

    def _takes_maps(self, device: torch.device) -> bool:
        return device.type == "cpu" and self.resident == "auto"

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images, or float images in [0, 1], (N, C, H, W) -> float32 as the model takes them (see `scale`)."""
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        if not self.normalises:
            return images
        if images.device not in self._shift_scale:
            values = (torch.tensor(v, dtype=torch.float32, device=images.device) for v in (self.mean, self.std))
            self._shift_scale[images.device] = tuple(value.view(-1, 1, 1) for value in values)
        mean, std = self._shift_scale[images.device]
        return (images - mean).div_(std)

    @property
    def normalises(self) -> bool:
        """Whether images are shifted and scaled; those that were read as float32 are normalised already."""
        return self.scale != "unit" and self.splits.train.images.dtype == np.uint8

    def train_dataloader(self) -> DeviceLoader:
        return DeviceLoader(
            self.train_images,
            self.train_targets,
            self.batch_size,
            self.normalise,
            seed=self.seed,
            shuffle=self.trainer is None or not self.trainer.overfit_batches,  # overfitting means the same few again
            augment=self.augment.batch if self.augment_mode == "fly" else None,
            chunk=self._chunk(),
            whole=self.whole_chunks,
            device=self._device,
        )

    def val_dataloader(self) -> DeviceLoader:
        return self._in_order(self.val_images, self.val_targets)

    def test_dataloader(self) -> DeviceLoader:
        """The test split; that of validation for a set without one."""
        if self.test_images is None:
            return self.val_dataloader()
        return self._in_order(self.test_images, self.test_targets)

    def _in_order(self, images: torch.Tensor, targets: torch.Tensor) -> DeviceLoader:
        return DeviceLoader(images, targets, self.eval_batch_size, self.normalise, shuffle=False, device=self._device)

    def predict_dataloader(self) -> DeviceLoader:
        """The images, with their targets, of `test_dataloader`."""
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # it is there already

    def _chunk(self) -> int:
        trainer = self.trainer
        if trainer is not None:
            # Lightning's limits count its own steps; with one mini-batch to a step those are optimizer steps.
            limited = trainer.fast_dev_run or trainer.overfit_batches or trainer.max_steps != -1
            if (
                not is_whole(trainer.limit_train_batches)
                or limited
                or getattr(trainer, "val_check_interval", "a time") != 1.0
            ):
                return 1
        # Augmentation draws for a chunk, and would draw others for another one.
        recorded = self.block is not None and self.augment_mode != "fly" and self._device.type == "cuda"
        return batches_per_chunk(self.batch_size, self.image_shape, self.block if recorded else 1)
