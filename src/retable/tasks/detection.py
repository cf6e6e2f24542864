"""Detection of objects by boxes (task `wildlife`)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from retable import checks
from retable.data.arrays import ImageSet
from retable.data.module import ImageData
from retable.errors import ConfigError
from retable.losses.boxes import Boxes
from retable.metrics import detection as boxes
from retable.models.retinanet import RetinaNet
from retable.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

TERMS = ("classification", "regression")  # of the loss
SHOWN = 3  # images a class in the figure of boxes
_SEED = 0  # of which these are, the same in every run of a set


class Detection(Task):
    """A detector with its detections and their metrics.

    Args:
        model: see `retable.models.retinanet.RetinaNet`.
        loss: the weights of the model's two losses.
        classes: class names by label.
        confidence: lowest score of the detections that are matched, counted as confusions and drawn; average precision
            takes all.
        overlap: IoU from which a detection is taken for an object.
        optimizer, scheduler, l1: see `Task`.

    Raises:
        ValueError, ConfigError: an argument, or a model or loss of another kind, that is not accepted.

    Metrics: classification_loss and regression_loss; of validation and test map50, ap50/<class>, map (COCO's) and iou,
    the mean IoU of detections with objects of their class. NaN where there is nothing to take a mean of.

    Attributes:
        before: what validation before the first epoch found, or None: confusion (C + 1, C + 1), ap50 by class, the
            detections of the images that are drawn, by their indices, and plane: all images in the plane of t-SNE.
    """

    any_size = True
    fixed_work = False  # matching anchors to boxes
    shareable = False  # its loss is no mean over images

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        classes: Sequence[str],
        scheduler: Callable[..., Any] | None = None,
        l1: float = 0.0,
        confidence: float = 0.3,
        overlap: float = 0.5,
    ) -> None:
        super().__init__(model, loss, optimizer, scheduler, l1)
        checks.number("confidence", confidence, 0, 1)
        checks.number("overlap", overlap, 0, 1, open_low=True)
        for name, part, kind in (("model", model, RetinaNet), ("loss", loss, Boxes)):
            if not isinstance(part, kind):
                raise ConfigError(
                    f"{name}: {type(part).__name__} does not fit a task of detection;"
                    f" accepted: {name}={kind.__name__.lower()}"
                )
        self.classes, self.confidence, self.overlap = tuple(classes), confidence, overlap
        self.before: dict[str, Any] | None = None
        self._terms: dict[str, torch.Tensor] = {}
        self._found: dict[str, list[torch.Tensor]] = {}
        self._objects: dict[str, list[torch.Tensor]] = {}
        self._results: dict[str, dict[str, Any]] = {}
        self._placeholder: list[nn.Parameter] = []

    def output_shape(self, n: int, num_classes: int, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        anchors, _ = self.model.anchors(image_shape[1:], torch.device("meta"))
        return (n, len(anchors), num_classes + 4)

    def targets_like(self, n: int, image_shape: tuple[int, int, int]) -> None:
        return None

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimizer is given; where the model trains nothing, a parameter that is no part of the model."""
        found = super().trained_parameters()
        self._placeholder = [] if found else [nn.Parameter(torch.zeros((), device=self.device))]
        return found or self._placeholder

    # Accumulation -----------------------------------------------------------------------------------------------------

    def reset(self, split: str) -> None:
        self._terms[split] = torch.zeros(len(TERMS), dtype=torch.float64, device=self.device)
        self._found[split], self._objects[split] = [], []
        self._results.pop(split, None)

    def shared_step(self, split: str, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The loss, and its terms (1, 2) times the number of images; but in training each image's detections too."""
        sizes = [(int(height), int(width)) for width, height in targets[:, 0, 2:4].tolist()]
        if split == "train":
            terms = self.model.losses(self.model(images, sizes), targets, images.shape[-2:])
            loss = self.loss(terms)
            loss = loss if loss.requires_grad else loss + 0 * self._placeholder[0]
            return loss, torch.stack([terms[name].detach() for name in TERMS]).double()[None] * len(images)
        sums, detections = torch.zeros(len(TERMS), device=images.device), [torch.empty(0, 6)] * len(images)
        for indices, own, own_sizes in self.model.by_canvas(images, sizes):
            shape, outputs = own.shape[-2:], self.model(own, own_sizes)
            terms = self.model.losses(outputs, targets[indices], shape)
            sums += torch.stack([terms[name] for name in TERMS]) * len(indices)
            for index, found in zip(indices, self.model.detections(outputs, own_sizes, shape), strict=True):
                detections[index] = found
        means = dict(zip(TERMS, sums / len(images), strict=True))
        return self.loss(means), (sums.double()[None], detections)

    def update(self, split: str, kept: Any, targets: torch.Tensor) -> None:
        terms, detections = (kept, []) if split == "train" else kept
        self._terms[split] += terms.sum(0)
        if split != "train":
            self._found[split] += [found.cpu() for found in detections]
            self._objects[split] += [rows[rows[:, 4] >= 0] for rows in targets.cpu()]

    def metrics(self, split: str) -> dict[str, bool]:
        losses = super().metrics(split) | {f"{name}_loss": False for name in TERMS}
        if split == "train":
            return losses
        names = ["map50", "map", "iou", *(f"ap50/{name}" for name in self.classes)]
        return losses | {name: boxes.HIGHER_IS_BETTER[name.partition("/")[0]] for name in names}

    def compute(self, split: str) -> dict[str, float]:
        means = (self._terms[split] / max(self._counts[split], 1)).tolist()
        found = {f"{name}_loss": mean for name, mean in zip(TERMS, means, strict=True)}
        if split == "train":
            return found
        results = self.results(split)
        found |= {name: results[name] for name in ("map50", "map", "iou")}
        return found | {f"ap50/{name}": ap for name, ap in zip(self.classes, results["ap50"], strict=True)}

    def results(self, split: str) -> dict[str, Any]:
        """What `boxes.average_precision` gives, iou, confusion (C + 1, C + 1), and each image's pairs."""
        if split not in self._results:
            objects, confident = self._objects[split], self.confident(split)
            pairs = [boxes.match(d, o, self.overlap) for d, o in zip(confident, objects, strict=True)]
            each = list(zip(confident, objects, pairs, strict=True))
            matrices = [boxes.confusion(*image, len(self.classes)) for image in each]
            overlaps = [pair.iou for image in each for pair in boxes.right(*image)]
            self._results[split] = boxes.average_precision(self._found[split], objects, len(self.classes)) | {
                "confusion": torch.stack(matrices).sum(0),
                "iou": sum(overlaps) / len(overlaps) if overlaps else math.nan,
                "pairs": pairs,
            }
        return self._results[split]

    def confident(self, split: str) -> list[torch.Tensor]:
        """Each image's detections from `confidence` on."""
        return [found[found[:, 5] >= self.confidence] for found in self._found[split]]

    def objects(self, split: str) -> list[torch.Tensor]:
        """Each image's objects: float32 (m, 5), x1, y1, x2, y2, label."""
        return self._objects[split]

    def predict_step(self, batch: Any, index: int) -> list[torch.Tensor]:
        """Each image's detections: float32 (n, 6), x1, y1, x2, y2, label, score, the best first."""
        images, targets = (batch, None) if isinstance(batch, torch.Tensor) else batch
        sizes = [tuple(images.shape[-2:])] * len(images)
        if targets is not None:
            sizes = [(int(height), int(width)) for width, height in targets[:, 0, 2:4].tolist()]
        return self.detect(images, sizes)

    def detect(self, images: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """Each image's detections, as `predict_step` gives them, from images of several sizes on one canvas.

        Args:
            sizes: (height, width) of each image, from the top left corner on.
        """
        detections = [torch.empty(0, 6)] * len(images)
        for indices, own, own_sizes in self.model.by_canvas(images, sizes):
            found = self.model.detections(self.model(own, own_sizes), own_sizes, own.shape[-2:])
            for index, rows in zip(indices, found, strict=True):
                detections[index] = rows
        return detections

    # Before and after training ----------------------------------------------------------------------------------------

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.before is None and self.trainer.validating and self.trainer.global_step == 0:
            results, confident = self.results("val"), self.confident("val")
            indices = [index for _, index in self.shown("val")]
            kept = {"confusion": results["confusion"], "ap50": list(results["ap50"])}
            self.before = kept | {"detections": {index: confident[index].clone() for index in indices}}
            data = self.trainer.datamodule
            if isinstance(data, ImageData):  # not of anybody's plain DataLoader
                from retable.figures.detection import plane

                self.before["plane"] = plane(self, data, data.split_seed)

    def shown(self, split: str) -> list[tuple[int, int]]:
        """Label and index of the images that are drawn: random ones with an object of each class."""
        chosen: list[tuple[int, int]] = []
        for label in range(len(self.classes)):
            having = [i for i, rows in enumerate(self._objects[split]) if bool((rows[:, 4] == label).any())]
            order = np.random.default_rng((_SEED, label)).permutation(len(having))[:SHOWN]
            chosen += [(label, having[index]) for index in sorted(order)]
        return chosen

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["before"] = self.before

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.before = checkpoint.get("before")

    # What is left of a run --------------------------------------------------------------------------------------------

    def split_counts(self, split: str) -> dict[str, Any]:
        """The confusion matrix and each class's average precision; none of training."""
        if split == "train":
            return {}
        return {"confusion": self.results(split)["confusion"].tolist(), "per_class": self._per_class(split)}

    def counts(self, data: Any) -> dict[str, Any]:
        """`split_counts`, and the confusion matrix before training."""
        found = super().counts(data)
        if self.before is not None:
            found.setdefault("confusion", {})["before"] = self.before["confusion"].tolist()
        return found

    def _per_class(self, split: str) -> list[dict[str, Any]]:
        labels = torch.cat([rows[:, 4] for rows in self._objects[split]]).long()
        counts = torch.bincount(labels, minlength=len(self.classes)).tolist()
        results = self.results(split)
        return [
            {"class": name, "boxes": counts[i]}
            | {key: None if math.isnan(results[key][i]) else results[key][i] for key in ("ap50", "ap")}
            for i, name in enumerate(self.classes)
        ]

    def tables(
        self, split: str, images: ImageSet, normalise: Callable[[torch.Tensor], torch.Tensor]
    ) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """A split's average precision by class, and each image's objects, detections, right ones and their mean IoU."""
        import pandas as pd

        rows = []
        pairs_of = self.results(split)["pairs"]
        each = zip(images.names, self.confident(split), self._objects[split], pairs_of, strict=True)
        for name, confident, objects, pairs in each:
            overlaps = [pair.iou for pair in boxes.right(confident, objects, pairs)]
            counts = {"boxes": len(objects), "detected": len(confident), "right": len(overlaps)}
            rows.append({"image": name, **counts, "iou": sum(overlaps) / len(overlaps) if overlaps else math.nan})
        return pd.DataFrame(self._per_class(split)), pd.DataFrame(rows)

    def draw(self, folder: Path, data: Any, config: dict[str, Any], title: str) -> None:
        """Class distribution, features, boxes and confusions before and after training, average precision."""
        from retable.figures import detection as figures_boxes

        figures_boxes.draw(self, data, folder, title, config["data"]["split_seed"])
