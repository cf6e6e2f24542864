"""What the classification models share: activations and dropout by place."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ablate import checks

Activation = Callable[[], nn.Module]


@dataclass(frozen=True)
class Dropout:
    """Where and how often units are dropped.

    Attributes:
        p: probability in [0, 1).
        where: "conv" (behind each block), "fc" (behind the hidden fully connected layer) or "all".
        channels: drop whole feature maps behind blocks (Tompson et al. 2015, arXiv 1411.4280).
    """

    p: float = 0.0
    where: str = "all"
    channels: bool = False

    def layer(self, place: str) -> list[nn.Module]:
        """The layers to put at a place ("conv" or "fc"): one, or none."""
        if self.p == 0 or self.where not in (place, "all"):
            return []
        return [nn.Dropout2d(self.p) if self.channels and place == "conv" else nn.Dropout(self.p)]

    def require(self, model: nn.Module) -> None:
        """Refuse a place that a model does not have, where dropout would silently do nothing.

        Raises:
            ValueError: `dropout.where=...: accepted: ...`.
        """
        if self.p > 0 and not any(isinstance(module, nn.Dropout | nn.Dropout2d) for module in model.modules()):
            other = "fc" if self.where == "conv" else "conv"
            raise checks.refuse("dropout.where", self.where, f"{other}, all (this model has no such place)")
