"""Classification metrics from one confusion matrix, counted in integers so that every metric has its counts."""

from collections.abc import Sequence

import torch

HIGHER_IS_BETTER = {"accuracy": True}


def confusion(targets_N: torch.Tensor, predictions_N: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Counts by true (row) and predicted (column) class.

    Shape: (N,), (N,) int64 -> (num_classes, num_classes) int64.
    """
    return counted(targets_N * num_classes + predictions_N, num_classes**2).view(num_classes, num_classes)


def counted(cells_N: torch.Tensor, size: int) -> torch.Tensor:
    """How often each of the numbers 0 to size - 1 occurs: int64 (N,) -> int64 (size,).

    On a GPU without waiting for it, as `torch.bincount` does to look at the largest number.
    """
    return _scattered(cells_N, size) if cells_N.is_cuda else torch.bincount(cells_N, minlength=size)


def _scattered(cells_N: torch.Tensor, size: int) -> torch.Tensor:
    counts = torch.zeros(size, dtype=torch.int64, device=cells_N.device)
    return counts.scatter_add_(0, cells_N, torch.ones_like(cells_N))


def accuracy(matrix_CC: torch.Tensor) -> float:
    """Share of correct predictions; NaN for an empty matrix."""
    total = int(matrix_CC.sum())
    return int(matrix_CC.diagonal().sum()) / total if total else float("nan")


def per_class(matrix_CC: torch.Tensor, classes: Sequence[str]) -> list[dict[str, object]]:
    """Per class: support, tp, fp, fn, recall (its accuracy), precision, F1 (None where undefined)."""
    rows: list[dict[str, object]] = []
    for index, name in enumerate(classes):
        tp = int(matrix_CC[index, index])
        support, predicted = int(matrix_CC[index].sum()), int(matrix_CC[:, index].sum())
        rows.append(
            {
                "class": name,
                "support": support,
                "tp": tp,
                "fp": predicted - tp,
                "fn": support - tp,
                "recall": tp / support if support else None,
                "precision": tp / predicted if predicted else None,
                "f1": 2 * tp / (support + predicted) if support + predicted else None,
            }
        )
    return rows
