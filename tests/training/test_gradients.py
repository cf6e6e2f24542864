"""Gradient norms by layer."""

import torch
from torch import nn

from retable.training.gradients import GradientNorms


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))


def test_weight_and_bias_of_a_layer_together_averaged_over_what_was_taken():
    net = model()
    norms = GradientNorms(net)
    net[0].weight.grad, net[0].bias.grad = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([2.0, 0.0])
    norms.take()
    net[0].weight.grad = torch.zeros(2, 2)
    norms.take()
    assert norms.means() == {"0": (3 + 2) / 2, "2": 0}


def test_nothing_taken_has_no_mean():
    norms = GradientNorms(model())
    norms.take()
    norms.reset()
    assert norms.means() == {}


def test_a_parameter_without_gradient_is_a_zero_on_the_models_device():
    with torch.device("meta"):  # as strict about mixed devices as CUDA is
        net = model()
    net[0].weight.grad = torch.empty_like(net[0].weight)
    norms = GradientNorms(net)
    norms.take()
    assert [taken.device.type for taken in norms._taken] == ["meta"]
