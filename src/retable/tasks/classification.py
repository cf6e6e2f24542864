"""Classification of images: cross-entropy over classes, accuracy and confusion counts (tasks `cifar`, `mnist`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retable.data.arrays import ImageSet
from retable.metrics import classification as metrics
from retable.tasks.base import Task
from retable.training.kept import Kept

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Classification(Task):
    """A classifier with the counts of its predictions.

    Args:
        classes: class names, in order of their labels.
        model, loss, optimizer, scheduler, l1: see `Task`.

    Attributes:
        matrices: confusion matrices of the last epoch by split: rows true, columns predicted.
        val_predictions: (number of validation images,) predicted labels of the last validation, in the set's order.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        classes: Sequence[str],
        scheduler: Callable[..., Any] | None = None,
        l1: float = 0.0,
    ) -> None:
        super().__init__(model, loss, optimizer, scheduler, l1)
        self.classes = tuple(classes)
        self.matrices: dict[str, torch.Tensor] = {}
        self._predicted: dict[str, Kept] = {}
        self._right: dict[str, Kept] = {}

    def reset(self, split: str) -> None:
        size = len(self.classes)
        self.matrices[split] = torch.zeros(size, size, dtype=torch.int64, device=self.device)
        if split != "train":
            self._predicted[split], self._right[split] = Kept(), Kept()

    def reduce_output(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.argmax(1)

    def update(self, split: str, kept: torch.Tensor, targets: torch.Tensor) -> None:
        self.matrices[split] += metrics.confusion(targets, kept, len(self.classes))
        if split != "train":
            self._predicted[split].add(kept)
            self._right[split].add(kept == targets)

    def metrics(self, split: str) -> dict[str, bool]:
        return super().metrics(split) | metrics.HIGHER_IS_BETTER

    def compute(self, split: str) -> dict[str, float]:
        return {"accuracy": metrics.accuracy(self.matrices[split])}

    @property
    def val_predictions(self) -> torch.Tensor:
        return self._predicted["val"].rows.cpu()

    def split_counts(self, split: str) -> dict[str, Any]:
        """The confusion matrix and each class's metrics."""
        matrix = self.matrices[split].cpu()
        return {"confusion": matrix.tolist(), "per_class": metrics.per_class(matrix, self.classes)}

    def image_metrics(self, split: str) -> "dict[str, np.ndarray]":
        """Whether each image is classified right, of which the accuracy is the mean."""
        return {"accuracy": self._right[split].rows.cpu().numpy()}

    def tables(
        self, split: str, images: ImageSet, normalise: Callable[[torch.Tensor], torch.Tensor]
    ) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """A split's metrics by class, and each image's predicted label."""
        import pandas as pd

        predicted = [self.classes[label] for label in self._predicted[split].rows.tolist()]
        rows = metrics.per_class(self.matrices[split].cpu(), self.classes)
        return pd.DataFrame(rows), pd.DataFrame({"image": list(images.names), "predicted": predicted})

    def draw(self, folder: Path, data: Any, config: dict[str, Any], title: str) -> None:
        """Confusion matrices, misclassified validation images and the sheet of class samples."""
        from retable.figures import classification as figures

        for split, counts in self.counted().items():
            path = folder / f"confusion_{split}.png"
            figures.confusion_matrix(counts["confusion"], self.classes, path, f"{title} · {split}")
        val, predictions = data.splits.val, self.val_predictions.numpy()
        seen = len(predictions)
        figures.misclassified(
            val.images[:seen], val.targets[:seen], predictions, self.classes, folder / "misclassified.png", title
        )
        train = data.splits.train
        figures.class_samples(
            train.images, train.targets, self.classes, folder / "class_samples.png", config["data"]["split_seed"]
        )
