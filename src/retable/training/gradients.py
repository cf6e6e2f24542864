"""Gradient norms of a model's layers, taken now and then in an epoch and averaged over it."""

import torch
from torch import nn

# Taken at every so many-th step and at an epoch's last one.
GRAD_NORM_EVERY = 50


class GradientNorms:
    """Euclidean norms, a layer's weight and bias together, kept on the device until they are asked for.

    Args:
        model: its trainable parameters are followed, by the names of their modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self._layers.setdefault(name.rpartition(".")[0] or name, []).append(parameter)
        self._taken: list[torch.Tensor] = []

    def reset(self) -> None:
        """Forget what was taken: an epoch begins."""
        self._taken = []

    def take(self) -> None:
        """Note the norms of the gradients as they are now; a layer without gradients counts as 0."""
        if not self._layers:  # nothing is trained
            return
        trained = [p for group in self._layers.values() for p in group]
        gradients = [p.grad if p.grad is not None else torch.zeros(1, device=p.device) for p in trained]
        norms = iter(torch._foreach_norm(gradients))
        self._taken.append(
            torch.stack([torch.stack([next(norms) for _ in group]).norm() for group in self._layers.values()])
        )

    def means(self) -> dict[str, float]:
        """Mean norm by layer; nothing where nothing was taken."""
        if not self._taken:
            return {}
        return dict(zip(self._layers, torch.stack(self._taken).mean(0).tolist(), strict=True))
