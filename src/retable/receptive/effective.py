"""The effective receptive field of a unit from gradients: a cheap check of the empirical one (report D2).

Source: Luo, Li, Urtasun, Zemel 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks", arXiv 1701.04128, sections 2 and 3: the derivative of a unit by each pixel, its size averaged over images.
A pixel counts where it exceeds 1 - 95.45 % of the largest; the field's side is the root of their number.
"""

import numpy as np
import torch

from retable.receptive.empirical import Top
from retable.receptive.network import Network, activations

LEVEL = 1 - 0.9545


def gradient(network: Network, layer: str, unit: int, found: Top) -> np.ndarray:
    """(H, W) size of the unit's derivative by each pixel of what the network is given, summed over channels."""
    image = network.normalise(torch.from_numpy(found.pixels)[None].to(network.device)).detach().requires_grad_()
    row, column = found.position
    with torch.enable_grad():
        # A copy goes in, since the network may change what it is given in place.
        answer = activations(network.model, layer, image.clone())[0, unit, row, column]
        (slope,) = torch.autograd.grad(answer, image)
    return slope[0].abs().sum(0).double().cpu().numpy()
