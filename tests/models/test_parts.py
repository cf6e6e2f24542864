"""The quick max-pool against torch's own."""

import pytest
import torch
from torch import nn

from retable.models.parts import MaxPool2x2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 2, 8, 6), (2, 3, 7, 5), (1, 1, 2, 2)])
def test_equals_torch_bit_for_bit_where_no_gradient_is_wanted(shape, layout):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    x[0, 0, :2, :2] = float("-inf")
    with torch.inference_mode():
        found, expected = MaxPool2x2()(x), nn.MaxPool2d(2)(x)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=layout)


def test_nan_goes_through():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 3, 0] = float("nan")
    with torch.inference_mode():
        assert MaxPool2x2()(x).isnan().tolist() == [[[[False, False], [True, False]]]]


def test_gradients_are_torchs():
    x = torch.ones(1, 1, 4, 4, requires_grad=True)  # all ties: torch takes the first of each window
    MaxPool2x2()(x).sum().backward()
    assert x.grad[0, 0].tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]
