"""Classification of images: cross-entropy over classes, accuracy and confusion counts (tasks `cifar`, `mnist`)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retable.metrics import classification as metrics
from retable.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd


class Classification(Task):
    """A classifier with the counts of its predictions.

    Args:
        classes: class names, in order of their labels.
        model, loss, optimizer, scheduler, l1: see `Task`.

    Attributes:
        matrices: confusion matrices of the last epoch by part: rows true, columns predicted.
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
        self._predicted: dict[str, list[torch.Tensor]] = {}

    def reset(self, part: str) -> None:
        size = len(self.classes)
        self.matrices[part] = torch.zeros(size, size, dtype=torch.int64, device=self.device)
        if part != "train":
            self._predicted[part] = []

    def reduce_output(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.argmax(1)

    def observe(self, part: str, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.matrices[part] += metrics.confusion(targets, outputs, len(self.classes))
        if part != "train":
            self._predicted[part].append(outputs)

    def summary(self, part: str) -> dict[str, float]:
        return {"accuracy": metrics.accuracy(self.matrices[part])}

    @property
    def val_predictions(self) -> torch.Tensor:
        return torch.cat(self._predicted["val"]).cpu()

    def figures_by_class(self, data: Any) -> dict[str, Any]:
        """Counts of the last epoch for result.json: confusion matrices and per-class figures of both parts."""
        matrices = {part: matrix.cpu() for part, matrix in self.matrices.items()}
        return {
            "confusion": {part: matrix.tolist() for part, matrix in matrices.items()},
            "per_class": {part: metrics.per_class(matrix, self.classes) for part, matrix in matrices.items()},
        }

    def tables(self, part: str, names: Sequence[str]) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """A part's figures by class, and each image's predicted label."""
        import pandas as pd

        predicted = [self.classes[label] for label in torch.cat(self._predicted[part]).tolist()]
        rows = metrics.per_class(self.matrices[part].cpu(), self.classes)
        return pd.DataFrame(rows), pd.DataFrame({"image": list(names), "predicted": predicted})

    def draw(self, folder: Path, data: Any, config: dict[str, Any], title: str) -> None:
        """Confusion matrices, misclassified validation images and the sheet of class samples."""
        from retable.figures import classification as figures

        for part, matrix in self.matrices.items():
            figures.confusion_matrix(
                matrix.tolist(), self.classes, folder / f"confusion_{part}.png", f"{title} · {part}"
            )
        val, predictions = data.splits.val, self.val_predictions.numpy()
        seen = len(predictions)
        figures.misclassified(
            val.images[:seen], val.targets[:seen], predictions, self.classes, folder / "misclassified.png", title
        )
        train = data.splits.train
        figures.class_samples(
            train.images, train.targets, self.classes, folder / "class_samples.png", config["data"]["split_seed"]
        )
