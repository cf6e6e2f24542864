"""The loss of a detector: its two terms, weighted."""

from collections.abc import Mapping

import torch
from torch import nn

from retable import checks


class Boxes(nn.Module):
    """classification * focal loss + regression * loss of the boxes (Lin et al. 2017, arXiv 1708.02002, section 4.1).

    The terms are computed by the model, which knows its anchors.

    Args:
        classification, regression: weights, at least 0.

    Raises:
        ValueError: for a value out of range.
    """

    def __init__(self, classification: float = 1.0, regression: float = 1.0) -> None:
        super().__init__()
        checks.number("classification", classification, 0)
        checks.number("regression", regression, 0)
        self.weights = {"classification": float(classification), "regression": float(regression)}

    def forward(self, terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Scalars by name -> scalar."""
        return sum(weight * terms[name] for name, weight in self.weights.items())
