"""Weight initialisations (A1.3), applied to convolutional layers, fully connected layers, or both.

`he` and `xavier` are the uniform forms; biases keep the framework's default but for `zero` and `constant` (assumed).
Sources: He et al. 2015, arXiv 1502.01852, eq. 10; Glorot and Bengio 2010, eq. 16.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from retable import checks

_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.modules.conv._ConvNd,),
    "fc": (nn.Linear,),
    "both": (nn.modules.conv._ConvNd, nn.Linear),
}


def layers(model: nn.Module, where: str) -> Iterator[nn.Module]:
    """The convolutional ("conv") or fully connected ("fc") layers of a model, or both, in order of definition.

    Raises:
        ValueError: another `where`, or a kind that the model does not have, where nothing would be done.
    """
    checks.one_of("where", where, _KINDS)
    found = [module for module in model.modules() if isinstance(module, _KINDS[where])]
    if not found and where != "both":
        raise checks.refuse(
            "where", where, f"{'fc' if where == 'conv' else 'conv'}, both (this model has no such layer)"
        )
    return iter(found)


def default(model: nn.Module, where: str = "both") -> None:
    """Leave the framework's own: uniform in ±1/sqrt(fan_in)."""
    layers(model, where)


def zero(model: nn.Module, where: str = "both") -> None:
    """Weights and biases 0."""
    constant(model, where, 0.0)


def constant(model: nn.Module, where: str = "both", value: float = 0.01) -> None:
    """Weights and biases at one value."""
    checks.number("value", value)
    with torch.no_grad():
        for layer in layers(model, where):
            layer.weight.fill_(value)
            if layer.bias is not None:
                layer.bias.fill_(value)


def he(model: nn.Module, where: str = "both") -> None:
    """Weights uniform in ±sqrt(6 / fan_in)."""
    _weights(model, where, lambda w: nn.init.kaiming_uniform_(w, mode="fan_in", nonlinearity="relu"))


def xavier(model: nn.Module, where: str = "both") -> None:
    """Weights uniform in ±sqrt(6 / (fan_in + fan_out))."""
    _weights(model, where, nn.init.xavier_uniform_)


def _weights(model: nn.Module, where: str, fill: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for layer in layers(model, where):
        fill(layer.weight)
