"""The fully connected classifier."""

import pytest
import torch
from torch import nn

from retable.models.fnn import FNN, NumpyFNN
from retable.models.parts import Dropout


def test_parameters_of_b1_1():
    assert sum(p.numel() for p in FNN((1, 28, 28), 10).parameters()) == 784 * 800 + 800 + 800 * 10 + 10 == 636_010


def test_layers():
    model = FNN((3, 4, 5), 7, hidden=6, activation=nn.Tanh, dropout=Dropout(0.2, "all", channels=True))
    assert [type(layer).__name__ for layer in model.layers] == ["Flatten", "Linear", "Tanh", "Dropout", "Linear"]
    assert model.layers[3].p == 0.2
    assert [type(layer).__name__ for layer in FNN((1, 2, 2), 2).layers] == ["Flatten", "Linear", "ReLU", "Linear"]


def test_forward_by_hand():
    torch.manual_seed(0)
    model, images = FNN((3, 4, 5), 7, hidden=6), torch.rand(2, 3, 4, 5)
    (w1, b1, w2, b2) = model.parameters()
    expected = (images.reshape(2, 60) @ w1.T + b1).clamp(min=0) @ w2.T + b2
    assert expected.shape == (2, 7)
    torch.testing.assert_close(model(images), expected)


def test_dropout_behind_convolutions_is_refused():
    with pytest.raises(ValueError, match=r"^dropout\.where=conv: accepted: fc, all \(this model has no such place\)$"):
        FNN((1, 2, 2), 2, dropout=Dropout(0.2, "conv"))


def test_dropout_drops_and_scales_hidden_units():
    """With p = 0.5 a hidden unit gives 0 or twice its value."""
    torch.manual_seed(0)
    model = FNN((1, 1, 1), 1, hidden=2000, dropout=Dropout(0.5, "fc"))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
        hidden = model.layers[:4](torch.ones(1, 1, 1, 1))
    assert set(hidden.unique().tolist()) == {0.0, 4.0}
    assert 900 < int((hidden == 0).sum()) < 1100
    assert model.eval()(torch.ones(1, 1, 1, 1)).item() == 2 * 2000 + 1


def test_numpy_agrees_with_torch_in_outputs_and_gradients():
    torch.manual_seed(0)
    one = FNN((3, 4, 5), 7, hidden=6)
    torch.manual_seed(0)
    other = NumpyFNN((3, 4, 5), 7, hidden=6)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    pictures = torch.randn(9, 3, 4, 5)
    found = []
    for model in (one, other):
        images = pictures.clone().requires_grad_()
        outputs = model(images)
        nn.functional.cross_entropy(outputs, torch.arange(9) % 7).backward()
        found.append([outputs.detach(), images.grad, *(p.grad for p in model.parameters())])
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-7)


def test_numpy_by_hand():
    """Hidden units relu(2 - 1) = 1 and relu(-2) = 0, logit 3 * 1 + 4 * 0 + 0.5; the gradient is that of the logit."""
    model = NumpyFNN((1, 1, 1), 1, hidden=2)
    values = ([[1.0], [-1.0]], [-1.0, 0.0], [[3.0, 4.0]], [0.5])
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    output = model(torch.tensor([[[[2.0]]]]))
    assert output.tolist() == [[3.5]]
    output.sum().backward()
    assert [p.grad.tolist() for p in model.parameters()] == [[[6.0], [0.0]], [3.0, 0.0], [[1.0, 0.0]], [1.0]]


def test_numpy_has_relu_and_no_dropout():
    with pytest.raises(TypeError):
        NumpyFNN((1, 2, 2), 2, activation=nn.Tanh)


@pytest.mark.parametrize("hidden", [0, 1.5, True, "many"])
def test_hidden_units_are_checked(hidden):
    with pytest.raises(ValueError, match=rf"^hidden={hidden}: accepted: a whole number of at least 1$"):
        FNN((1, 2, 2), 2, hidden=hidden)
