"""Detection metrics: average precision, matched boxes, and confusions of classes.

Detections of an image: float32 (n, 6), x1, y1, x2, y2, label, score. Its objects: float32 (m, 5), the first five.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou

HIGHER_IS_BETTER = {"map50": True, "map": True, "iou": True, "ap50": True}
MOST = 100  # detections of an image that count, as in COCO's evaluation
# As pycocotools has them, in 64 bits: torchmetrics' own have 32, of which 0.6 lies above a recall of 3 / 5.
OVERLAPS, RECALLS = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0.0, 1.0, 101).tolist()


class Match(NamedTuple):
    """A detection and the object that it is taken for, by their indices, and their IoU."""

    detection: int
    object: int
    iou: float


def average_precision(
    detections: Sequence[torch.Tensor], objects: Sequence[torch.Tensor], num_classes: int
) -> dict[str, Any]:
    """COCO's metrics over images: precision averaged over 101 recalls, the best 100 detections of an image.

    Source: T.-Y. Lin et al. 2014, arXiv 1405.0312; computed by pycocotools through torchmetrics.

    Returns:
        "map" (mean over classes and IoU thresholds 0.5, 0.55, ..., 0.95), "map50" (at 0.5), and by class the lists "ap"
        and "ap50". NaN where there are no objects.
    """
    from torchmetrics.detection import MeanAveragePrecision

    thresholds = {"iou_thresholds": OVERLAPS, "rec_thresholds": RECALLS}
    metric = MeanAveragePrecision(**thresholds, extended_summary=True, max_detection_thresholds=[1, 10, MOST])
    metric.warn_on_many_detections = False
    metric.update(
        [{"boxes": d[:, :4], "labels": d[:, 4].long(), "scores": d[:, 5]} for d in detections],
        [{"boxes": o[:, :4], "labels": o[:, 4].long()} for o in objects],
    )
    found = metric.compute()
    by_class = {"ap": [math.nan] * num_classes, "ap50": [math.nan] * num_classes}
    present = set(torch.cat([o[:, 4] for o in objects]).long().tolist())
    precision = found["precision"][..., 0, -1]  # (IoU thresholds, recalls, classes) of boxes of any area
    for index, label in enumerate(found["classes"].reshape(-1).tolist()):
        if label in present:
            by_class["ap"][label] = float(precision[:, :, index].mean())
            by_class["ap50"][label] = float(precision[0, :, index].mean())
    return {"map": _mean(by_class["ap"]), "map50": _mean(by_class["ap50"]), **by_class}


def match(detections: torch.Tensor, objects: torch.Tensor, iou: float) -> list[Match]:
    """Pair an image's detections with its objects, whatever their classes.

    From the highest score on, each detection takes the object that it overlaps most, of those that are left and
    overlap it by `iou` at least.
    """
    overlaps = box_iou(detections[:, :4], objects[:, :4])
    pairs = []
    for detection in detections[:, 5].argsort(descending=True, stable=True).tolist() if len(objects) else []:
        best, target = overlaps[detection].max(0)
        if best >= iou:
            pairs.append(Match(detection, int(target), float(best)))
            overlaps[:, target] = -1
    return pairs


def confusion(
    detections: torch.Tensor, objects: torch.Tensor, pairs: Sequence[Match], num_classes: int
) -> torch.Tensor:
    """Counts (C + 1, C + 1), rows true, columns predicted; the last of each is background.

    An object that no detection was taken for is predicted background; a detection without an object is truly so.
    """
    true, predicted = objects[:, 4].long(), detections[:, 4].long()
    matrix = torch.zeros(num_classes + 1, num_classes + 1, dtype=torch.int64)
    for pair in pairs:
        matrix[true[pair.object], predicted[pair.detection]] += 1
    for missed in set(range(len(true))) - {pair.object for pair in pairs}:
        matrix[true[missed], num_classes] += 1
    for spare in set(range(len(predicted))) - {pair.detection for pair in pairs}:
        matrix[num_classes, predicted[spare]] += 1
    return matrix


def right(detections: torch.Tensor, objects: torch.Tensor, pairs: Sequence[Match]) -> list[Match]:
    """The pairs of one class."""
    return [pair for pair in pairs if detections[pair.detection, 4] == objects[pair.object, 4]]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
