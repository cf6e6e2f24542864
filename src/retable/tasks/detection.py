"""Detection of objects by boxes (task `wildlife`)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retable import checks
from retable.data.loader import Chunk
from retable.errors import ConfigError
from retable.losses.boxes import Boxes
from retable.metrics import detection as boxes
from retable.models.retinanet import RetinaNet
from retable.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("classification", "regression")
SHOWN = 3  # images a class in the figure of boxes


class Detection(Task):
    """A detector with its detections and what they are worth.

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
        before: what validation before the first epoch found, or None: confusion (C + 1, C + 1), ap50 by class, and the
            detections of the images that are drawn, by their places.
    """

    any_size = True
    fixed_work = False  # matching anchors to boxes

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
        self._parts: dict[str, torch.Tensor] = {}
        self._found: dict[str, list[torch.Tensor]] = {}
        self._objects: dict[str, list[torch.Tensor]] = {}
        self._worth: dict[str, dict[str, Any]] = {}
        self._still: list[nn.Parameter] = []

    def output_shape(self, n: int, num_classes: int, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        anchors, _ = self.model.anchors(image_shape[1:], torch.device("meta"))
        return (n, len(anchors), num_classes + 4)

    def compute_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Under meta alone, where a config is checked: `__init__` has seen that model and loss fit."""
        assert outputs.is_meta
        return outputs.sum()

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the optimizer is given: where the model trains nothing, one number that is no part of it."""
        self._still = (
            [] if (found := super().trained_parameters()) else [nn.Parameter(torch.zeros((), device=self.device))]
        )
        return found or self._still

    # Accumulation -----------------------------------------------------------------------------------------------------

    def reset(self, part: str) -> None:
        self._parts[part] = torch.zeros(len(PARTS), dtype=torch.float64, device=self.device)
        self._found[part], self._objects[part] = [], []
        self._worth.pop(part, None)

    def forward_loss(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and (1, 2) its parts times the number of images."""
        parts = self.model.losses(self.model(images), targets, images.shape[-2:])
        loss = self.loss(parts)
        if not loss.requires_grad:
            loss = loss + 0 * self._still[0]
        return loss, self._stacked(parts)[None] * len(images)

    def observe(self, part: str, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Of training: sums (K, 2) of the parts of the loss."""
        self._parts[part] += outputs.sum(0)

    def reduce_output(self, outputs: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError  # forward_loss and judge keep other things

    def judge(self, part: str, chunk: Chunk) -> None:
        shape, count = chunk.images.shape[-2:], len(chunk.targets)
        outputs = self.model(chunk.images)
        parts = self.model.losses(outputs, chunk.targets, shape)
        self._losses[part] += self.loss(parts).double() * count
        self._counts[part] += count
        self._parts[part] += self._stacked(parts) * count
        sizes = [(int(height), int(width)) for width, height in chunk.targets[:, 0, 2:4].tolist()]
        self._found[part] += [found.cpu() for found in self.model.detections(outputs, sizes, shape)]
        self._objects[part] += [rows[rows[:, 4] >= 0] for rows in chunk.targets.cpu()]

    @staticmethod
    def _stacked(parts: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([parts[name].detach() for name in PARTS]).double()

    def summary(self, part: str) -> dict[str, float]:
        means = (self._parts[part] / max(self._counts[part], 1)).tolist()
        figures = {f"{name}_loss": mean for name, mean in zip(PARTS, means, strict=True)}
        if part == "train":
            return figures
        worth = self.worth(part)
        figures |= {name: worth[name] for name in ("map50", "map", "iou")}
        return figures | {f"ap50/{name}": ap for name, ap in zip(self.classes, worth["ap50"], strict=True)}

    def worth(self, part: str) -> dict[str, Any]:
        """A part's figures: of `boxes.average_precision`, iou, confusion (C + 1, C + 1), and each image's pairs."""
        if part not in self._worth:
            objects, sure = self._objects[part], self.sure(part)
            pairs = [boxes.match(d, o, self.overlap) for d, o in zip(sure, objects, strict=True)]
            each = list(zip(sure, objects, pairs, strict=True))
            matrices = [boxes.confusion(*image, len(self.classes)) for image in each]
            overlaps = [pair.iou for image in each for pair in boxes.right(*image)]
            self._worth[part] = boxes.average_precision(self._found[part], objects, len(self.classes)) | {
                "confusion": torch.stack(matrices).sum(0),
                "iou": sum(overlaps) / len(overlaps) if overlaps else math.nan,
                "pairs": pairs,
            }
        return self._worth[part]

    def sure(self, part: str) -> list[torch.Tensor]:
        """Each image's detections from `confidence` on."""
        return [found[found[:, 5] >= self.confidence] for found in self._found[part]]

    def objects(self, part: str) -> list[torch.Tensor]:
        """Each image's objects: float32 (m, 5), x1, y1, x2, y2, label."""
        return self._objects[part]

    # Before and after training ----------------------------------------------------------------------------------------

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.before is None and self.trainer.validating and self.trainer.global_step == 0:
            worth, sure = self.worth("val"), self.sure("val")
            places = [place for _, place in self.shown("val")]
            kept = {"confusion": worth["confusion"], "ap50": list(worth["ap50"])}
            self.before = kept | {"detections": {place: sure[place].clone() for place in places}}

    def shown(self, part: str) -> list[tuple[int, int]]:
        """Label and place of the images that are drawn: the first ones with an object of each class."""
        chosen: list[tuple[int, int]] = []
        for label in range(len(self.classes)):
            having = [i for i, rows in enumerate(self._objects[part]) if bool((rows[:, 4] == label).any())]
            chosen += [(label, place) for place in having[:SHOWN]]
        return chosen

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["before"] = self.before

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.before = checkpoint.get("before")

    # What is left of a run --------------------------------------------------------------------------------------------

    def figures_by_class(self, data: Any) -> dict[str, Any]:
        """Counts of the last epoch for result.json: confusion matrices and each class's average precision."""
        found: dict[str, Any] = {"confusion": {}, "per_class": {}}
        for part in filter(self.has_judged, ("val", "test")):
            found["confusion"][part] = self.worth(part)["confusion"].tolist()
            found["per_class"][part] = self._per_class(part)
        if self.before is not None:
            found["confusion"]["before"] = self.before["confusion"].tolist()
        return found

    def _per_class(self, part: str) -> list[dict[str, Any]]:
        labels = torch.cat([rows[:, 4] for rows in self._objects[part]]).long()
        counts = torch.bincount(labels, minlength=len(self.classes)).tolist()
        worth = self.worth(part)
        return [
            {"class": name, "boxes": counts[i]}
            | {key: None if math.isnan(worth[key][i]) else worth[key][i] for key in ("ap50", "ap")}
            for i, name in enumerate(self.classes)
        ]

    def tables(self, part: str, names: Sequence[str]) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """A part's average precision by class, and each image's objects, detections, right ones and their mean IoU."""
        import pandas as pd

        rows = []
        each = zip(names, self.sure(part), self._objects[part], self.worth(part)["pairs"], strict=True)
        for name, sure, objects, pairs in each:
            overlaps = [pair.iou for pair in boxes.right(sure, objects, pairs)]
            counts = {"boxes": len(objects), "detected": len(sure), "right": len(overlaps)}
            rows.append({"image": name, **counts, "iou": sum(overlaps) / len(overlaps) if overlaps else math.nan})
        return pd.DataFrame(self._per_class(part)), pd.DataFrame(rows)

    def draw(self, folder: Path, data: Any, config: dict[str, Any], title: str) -> None:
        """Class distribution, features, boxes and confusions before and after training, average precision."""
        from retable.figures import detection as figures_boxes

        figures_boxes.draw(self, data, folder, title, config["data"]["split_seed"])
