"""Segmentation: a label for every pixel (tasks `brain`, `gland`, `lesion`, `fcn`, `ventricle`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from retable import checks
from retable.data.arrays import IGNORE, ImageSet
from retable.metrics import segmentation as metrics
from retable.tasks.base import Task
from retable.training.kept import Kept

if TYPE_CHECKING:
    import pandas as pd


class Segmentation(Task):
    """A segmentation network with the counts of its predictions, one confusion matrix an image.

    Args:
        model: (N, C, H, W) images -> (N, K, H, W) logits; K is the number of classes, or 1 for output="sigmoid".
        loss: (logits, targets (N, H, W)) -> scalar, the mean over the images.
        classes: class names by label.
        output: softmax over the classes, or sigmoid: one logit for class 1 of two.
        average: image or global (retable.metrics.segmentation): what the metrics dice and iou are.
        background: whether class 0 counts in dice and iou.
        distances: whether a finished run measures Hausdorff distances too (of class 1, two classes only).
        levels: training targets by a mask's value where masks hold codes (`ImageData.levels`); the label is then
            code % number of classes, and a pixel is of class 1 from midway between the levels of codes 0 and 1 on.
        optimizer, scheduler, l1: see `Task`.

    Raises:
        ValueError: an argument that is not accepted.

    Metrics: dice and iou (mean over the classes), accuracy (share of right pixels over all images), and for more than
    one class that counts dice/<class> and accuracy/<class>, the class's recall.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        classes: Sequence[str],
        scheduler: Callable[..., Any] | None = None,
        l1: float = 0.0,
        output: str = "softmax",
        average: str = "image",
        background: bool = False,
        distances: bool = False,
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__(model, loss, optimizer, scheduler, l1)
        checks.one_of("output", output, ("softmax", "sigmoid"))
        checks.one_of("average", average, metrics.AVERAGES)
        checks.boolean("background", background)
        if output == "sigmoid" and len(classes) != 2:
            raise checks.refuse("output", output, f"softmax, for {len(classes)} classes")
        if levels is not None and output != "sigmoid":
            raise checks.refuse("output", output, "sigmoid, for masks in grey levels")
        self.classes, self.output, self.average = tuple(classes), output, average
        checks.boolean("distances", distances)
        if distances and len(classes) != 2:
            raise checks.refuse("distances", distances, f"false, for {len(classes)} classes")
        self.distances = distances
        self.scored = list(range(0 if background else 1, len(classes)))
        levels_V = None
        if levels is not None:
            levels_V = torch.full((IGNORE + 1,), float(IGNORE))  # which losses ignore among grey levels too
            levels_V[: len(levels)] = torch.tensor(levels, dtype=torch.float32)
        self.register_buffer("levels", levels_V, persistent=False)
        # On the logits: sigmoid(0) is 0.5, and half is also where the levels of both classes are equal.
        middle = 0.5 if levels is None or levels[0] == levels[1] else (levels[0] + levels[1]) / 2
        self.threshold = float(torch.tensor(middle).logit())
        self._matrices: dict[str, Kept] = {}

    @classmethod
    def channels(cls, node: dict[str, Any], num_classes: int) -> int:
        """Outputs that a model needs, from the task's config node."""
        return 1 if node.get("output") == "sigmoid" else num_classes

    def output_shape(self, n: int, num_classes: int, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        return (n, 1 if self.output == "sigmoid" else num_classes, *image_shape[1:])

    def targets_like(self, n: int, image_shape: tuple[int, int, int]) -> torch.Tensor:
        return torch.empty(n, *image_shape[1:], dtype=torch.int64)

    def labels(self, targets: torch.Tensor) -> torch.Tensor:
        """Class indices, IGNORE included, of what the data holds."""
        if self.levels is None:
            return targets
        return torch.where(targets == IGNORE, targets, targets % len(self.classes))

    def compute_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.loss(outputs, targets if self.levels is None else self.levels.to(targets.device)[targets])

    def reset(self, split: str) -> None:
        self._matrices[split] = Kept()

    def reduce_output(self, outputs: torch.Tensor) -> torch.Tensor:
        if self.output == "sigmoid":
            return outputs[:, 0] > self.threshold
        if len(self.classes) == 2:  # a comparison is several times as fast as argmax over two channels
            return outputs[:, 1] > outputs[:, 0]
        return outputs.argmax(1)

    def update(self, split: str, kept: torch.Tensor, targets: torch.Tensor) -> None:
        self._matrices[split].add(metrics.image_confusions(self.labels(targets), kept, len(self.classes)))

    def matrices(self, split: str) -> torch.Tensor:
        """(N, C, C) pixels of each image by true and predicted class, in the order in which they were seen."""
        return self._matrices[split].rows.cpu()

    def metrics(self, split: str) -> dict[str, bool]:
        by_class = [f"{name}/{self.classes[label]}" for label in self.scored for name in ("dice", "accuracy")]
        names = ["dice", "iou", "accuracy", *(by_class if len(self.scored) > 1 else [])]
        return super().metrics(split) | {name: metrics.HIGHER_IS_BETTER[name.partition("/")[0]] for name in names}

    def compute(self, split: str) -> dict[str, float]:
        matrices = self.matrices(split)
        dice, iou = metrics.dice(matrices, self.average), metrics.iou(matrices, self.average)
        found = {
            "dice": metrics.mean_over(dice[self.scored]),
            "iou": metrics.mean_over(iou[self.scored]),
            "accuracy": metrics.pixel_accuracy(matrices),
        }
        if len(self.scored) > 1:
            recall = metrics.recall(matrices)
            for label in self.scored:
                found[f"dice/{self.classes[label]}"] = float(dice[label])
                found[f"accuracy/{self.classes[label]}"] = float(recall[label])
        return found

    @torch.inference_mode()
    def predict(self, images: torch.Tensor, batch_size: int = 16) -> torch.Tensor:
        """uint8 labels (N, H, W) on the CPU of normalised images (N, C, H, W); leaves the model in evaluation mode."""
        self.eval()
        batches = (self.reduce_output(self.model(batch.to(self.device))) for batch in images.split(batch_size))
        return torch.cat([batch.to(torch.uint8).cpu() for batch in batches])

    def hausdorff(self, images: ImageSet, normalise: Callable[[torch.Tensor], torch.Tensor]) -> tuple[np.ndarray, str]:
        """Hausdorff distance of each image's region, and its unit (`metrics.hausdorff`); leaves evaluation mode on.

        Args:
            normalise: images as stored -> as the model takes them.
        """
        found = self.predict(normalise(torch.from_numpy(np.array(images.images)))).numpy()
        truth = self.labels(torch.from_numpy(np.array(images.targets)).long()).numpy()
        return metrics.hausdorff(truth == 1, found == 1, images.about.get("spacing"))

    def split_counts(self, split: str) -> dict[str, Any]:
        """The confusion matrix over all pixels and, in both averages, each class's metrics."""
        matrices = self.matrices(split)
        return {"confusion": matrices.sum(0).tolist(), "per_class": metrics.per_class(matrices, self.classes)}

    def counts(self, data: Any) -> dict[str, Any]:
        """`split_counts`, and Hausdorff distances where they are wanted."""
        found: dict[str, Any] = {"average": self.average} | super().counts(data)
        for split in filter(self.has_seen, ("val", "test") if self.distances else ()):
            values, unit = self.hausdorff(data.splits.by_name[split], data.normalise)
            known = values[~np.isnan(values)]
            mean = float(known.mean()) if len(known) else None
            counts = {"images": len(values), "undefined": len(values) - len(known)}
            found.setdefault("hausdorff", {})[split] = {"mean": mean, "unit": unit, **counts}
        return found

    def image_metrics(self, split: str) -> dict[str, np.ndarray]:
        """Each image's dice and IoU where they are averaged over images and one class counts; NaN where undefined."""
        if self.average != "image" or len(self.scored) != 1:
            return {}
        matrices, label = self.matrices(split), self.scored[0]
        named = {"dice": metrics.image_dice(matrices), "iou": metrics.image_iou(matrices)}
        return {name: values[:, label].numpy() for name, values in named.items()}

    def tables(
        self, split: str, images: ImageSet, normalise: Callable[[torch.Tensor], torch.Tensor]
    ) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """A split's metrics by class; dice and IoU of each image and class, and its Hausdorff distance."""
        import pandas as pd

        matrices = self.matrices(split)
        dice, iou = metrics.image_dice(matrices), metrics.image_iou(matrices)
        by_image: dict[str, Any] = {"image": list(images.names)}
        for label in self.scored:
            ending = f" {self.classes[label]}" if len(self.scored) > 1 else ""
            by_image |= {f"dice{ending}": dice[:, label].tolist(), f"iou{ending}": iou[:, label].tolist()}
        if self.distances:
            values, unit = self.hausdorff(images, normalise)
            by_image[f"hausdorff {unit}"] = values
        return pd.DataFrame(metrics.per_class(matrices, self.classes)), pd.DataFrame(by_image)

    def draw(self, folder: Path, data: Any, config: dict[str, Any], title: str) -> None:
        """Confusion matrices, pictures of predictions, and what else a set has to show (`ImageData.extras`)."""
        from retable.figures import brain, flips, styles
        from retable.figures import classification as figures
        from retable.figures import segmentation as figures_masks

        for split, counts in self.counted().items():
            path = folder / f"confusion_{split}.png"
            figures.confusion_matrix(counts["confusion"], self.classes, path, f"{title} · {split}", True)
        figures_masks.draw(self, data, folder, title)
        if "volumes" in data.extras:
            brain.draw(data, folder, lambda x: self.predict(data.normalise(torch.from_numpy(x))).numpy(), title)
        if "copies" in data.extras:
            flips.draw(data.splits.train, folder / "flips.png", title)
        if "styles" in data.extras:
            styles.draw(data, folder / "styles.png", title)
