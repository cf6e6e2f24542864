"""The convolutional classifier: sizes, order of layers, places of dropout, and its arithmetic."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retable.models.cnn import CNN
from retable.models.parts import Dropout
from retable.run.assemble import make_data, make_task

DIGITS, COLOUR = (1, 28, 28), (3, 32, 32)
digits = functools.partial(CNN, DIGITS, 10, width=8, hidden=None, pool="between", pool_strides=(2, 2, 1))


def count(model):
    return sum(p.numel() for p in model.parameters())


def names(block):
    return [type(layer).__name__ for layer in block]


def test_parameters_of_b1_2():
    # 1*9*8+8, 8*9*16+16, 16*9*32+32, 32*7*7*10+10
    assert count(digits()) == 80 + 1168 + 4640 + 15_690 == 21_578


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (1, 896 + (32 * 16 * 16 * 100 + 100) + 1010),
        (2, 896 + 18_496 + (64 * 8 * 8 * 100 + 100) + 1010),
        (3, 896 + 18_496 + 73_856 + (128 * 4 * 4 * 100 + 100) + 1010),  # 299,158
        (4, 896 + 18_496 + 73_856 + 295_168 + (256 * 2 * 2 * 100 + 100) + 1010),
    ],
)
def test_parameters_of_a1(blocks, expected):
    assert count(CNN(COLOUR, 10, blocks)) == expected


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (1, 80 + 8 * 28 * 28 * 10 + 10),
        (2, 80 + 1168 + 16 * 14 * 14 * 10 + 10),
        (3, 21_578),
        (4, 80 + 1168 + 4640 + 18_496 + 64 * 6 * 6 * 10 + 10),  # the stride-1 pool takes 7x7 to 6x6
    ],
)
def test_parameters_of_b1_5(blocks, expected):
    assert count(digits(blocks=blocks)) == expected


def test_batch_norm_adds_two_parameters_a_map():
    assert count(digits(batch_norm=True)) == 21_578 + 2 * (8 + 16 + 32)


@pytest.mark.parametrize(
    ("model", "shape", "maps"),
    [
        (CNN(COLOUR, 7), (5, 3, 32, 32), [(32, 16, 16), (64, 8, 8), (128, 4, 4)]),
        (digits(), (5, 1, 28, 28), [(8, 14, 14), (16, 7, 7), (32, 7, 7)]),
        (digits(blocks=4), (5, 1, 28, 28), [(8, 14, 14), (16, 7, 7), (32, 6, 6), (64, 6, 6)]),
        (CNN((2, 9, 12), 7, 2, width=3, pool_strides=[2, 3]), (5, 2, 9, 12), [(3, 4, 6), (6, 1, 2)]),
    ],
    ids=["A1", "B1.2", "B1.5", "not square"],
)
def test_shapes(model, shape, maps):
    x = torch.rand(shape)
    for block, expected in zip(model.features, maps, strict=True):
        x = block(x)
        assert tuple(x.shape) == (5, *expected)
    assert model(torch.rand(shape)).shape == (5, model.head[-1].out_features)


@pytest.mark.parametrize(
    ("options", "each", "last"),
    [
        ({}, "Conv2d ReLU MaxPool2x2", "Conv2d ReLU MaxPool2x2"),
        ({"order": "pool_activation"}, "Conv2d MaxPool2x2 ReLU", "Conv2d MaxPool2x2 ReLU"),
        ({"pool": "between"}, "Conv2d ReLU MaxPool2x2", "Conv2d ReLU"),
        ({"batch_norm": True}, "Conv2d BatchNorm2d ReLU MaxPool2x2", "Conv2d BatchNorm2d ReLU MaxPool2x2"),
        (
            {"batch_norm": True, "order": "pool_activation", "pool": "between", "activation": nn.Tanh},
            "Conv2d BatchNorm2d MaxPool2x2 Tanh",
            "Conv2d BatchNorm2d Tanh",
        ),
    ],
)
def test_order_of_layers(options, each, last):
    model = CNN(COLOUR, 10, **options)
    assert [" ".join(names(block)) for block in model.features] == [each, each, last]
    act = options.get("activation", nn.ReLU).__name__
    assert names(model.head) == ["Flatten", "Linear", act, "Linear"]


def test_head_without_hidden_layer():
    assert names(digits().head) == ["Flatten", "Linear"]


def test_strides_of_pools():
    model = digits(blocks=4)
    pools = [layer for layer in model.features.modules() if isinstance(layer, nn.MaxPool2d)]
    assert [(p.kernel_size, p.stride) for p in pools] == [(2, 2), (2, 2), (2, 1)]


@pytest.mark.parametrize(
    ("where", "channels", "block", "hidden"),
    [
        ("conv", False, "Dropout", None),
        ("conv", True, "Dropout2d", None),
        ("fc", False, None, "Dropout"),
        ("fc", True, None, "Dropout"),
        ("all", False, "Dropout", "Dropout"),
        ("all", True, "Dropout2d", "Dropout"),
    ],
)
def test_positions_of_dropout(where, channels, block, hidden):
    model = CNN(COLOUR, 10, dropout=Dropout(0.3, where, channels))
    conv, head = ["Conv2d", "ReLU", "MaxPool2x2"], ["Flatten", "Linear", "ReLU"]
    assert [names(b) for b in model.features] == [conv + [block] * (block is not None)] * 3
    assert names(model.head) == head + [hidden] * (hidden is not None) + ["Linear"]
    drops = [m for m in model.modules() if type(m).__name__.startswith("Dropout")]
    assert {m.p for m in drops} == {0.3}
    assert len(drops) == {"conv": 3, "fc": 1, "all": 4}[where]


def test_dropout_stands_behind_pools_alone():
    model = digits(dropout=Dropout(0.1, "conv", channels=True))
    assert [names(b)[-1] for b in model.features] == ["Dropout2d", "Dropout2d", "ReLU"]


def test_no_dropout_no_layers():
    assert not [m for m in CNN(COLOUR, 10).modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]


@pytest.mark.parametrize("where", ["conv", "fc"])
def test_dropout_that_would_do_nothing_is_refused(where):
    options = {"hidden": None} if where == "fc" else {"blocks": 1, "pool": "between"}
    with pytest.raises(ValueError, match=rf"^dropout\.where={where}: accepted: "):
        CNN(COLOUR, 10, **options, dropout=Dropout(0.3, where))


@pytest.mark.parametrize("order", ["activation_pool", "pool_activation"])
def test_forward_by_hand(order):
    torch.manual_seed(0)
    model = CNN((3, 12, 12), 5, 2, width=4, hidden=6, batch_norm=True, order=order, activation=nn.Sigmoid).double()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    w = dict(model.named_parameters()) | dict(model.named_buffers())
    x = images = torch.rand(7, 3, 12, 12, dtype=torch.float64)
    for block in ("features.block1", "features.block2"):
        x = F.conv2d(x, w[f"{block}.0.weight"], w[f"{block}.0.bias"], padding=1)
        mean, var, scale, shift = (
            w[f"{block}.1.{name}"].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (var + 1e-5).sqrt() * scale + shift
        x = F.max_pool2d(torch.sigmoid(x), 2) if order == "activation_pool" else torch.sigmoid(F.max_pool2d(x, 2))
    x = torch.sigmoid(x.flatten(1) @ w["head.1.weight"].T + w["head.1.bias"])
    x = x @ w["head.3.weight"].T + w["head.3.bias"]
    torch.testing.assert_close(model.eval()(images), x)


def test_an_activation_of_torchs_takes_its_keys(compose):
    """In a sweep over such a key all runs were equal: the class alone was taken."""
    words = ("task=mnist", "data=sample", "activation._target_=torch.nn.LeakyReLU", "+activation.negative_slope=0.3")
    config = compose(*words)
    model = make_task(config, make_data(config)).model
    slopes = [layer.negative_slope for layer in model.modules() if isinstance(layer, torch.nn.LeakyReLU)]
    assert slopes == [0.3, 0.3, 0.3]
