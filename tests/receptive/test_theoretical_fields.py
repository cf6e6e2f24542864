"""Theoretical receptive fields against published tables and against fields worked out by hand."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from retable.models.cnn import CNN
from retable.models.segnet import SegNet
from retable.models.unet import UNet
from retable.receptive.probe import probed
from retable.receptive.theoretical import layer_fields


def fields(model, in_shape=(3, 224, 224)):
    return {field.name: field for field in layer_fields(model, in_shape)}


def of_torchvision(name, **arguments):
    with torch.device("meta"):  # no content is needed
        return torchvision.models.get_model(name, weights=None, **arguments)


def test_resnet18_by_hand():
    known = fields(of_torchvision("resnet18"))
    expected = {"conv1": (7, 2), "maxpool": (11, 4), "layer1": (43, 4), "layer2": (99, 8), "layer3": (211, 16)}
    for name, (size, stride) in (expected | {"layer4": (435, 32)}).items():
        assert (known[name].size, known[name].stride) == ((size, size), (stride, stride)), name
        assert known[name].centre == (0, 0)
    assert known["layer4"].start == (-217, -217)
    assert known["layer4"].units == (7, 7)
    assert known["avgpool"].size == known["fc"].size == (None, None)


# Araujo, Norris, Sim 2019, table of end points: size, stride, effective padding (which is -start).
PUBLISHED = [
    ("vgg16", {}, "features.28", 196, 16, 90),  # conv5_3
    ("vgg16", {}, "features.30", 212, 32, 90),  # pool5
    ("alexnet", {}, "features.12", 195, 32, 66),  # 64 there, where conv1 has no padding; 2 in torchvision
    ("inception_v3", {"init_weights": False}, "Mixed_7c", 1311, 32, 618),
]


@pytest.mark.parametrize(("name", "arguments", "layer", "size", "stride", "padding"), PUBLISHED)
def test_published(name, arguments, layer, size, stride, padding):
    found = fields(of_torchvision(name, **arguments))[layer]
    assert (found.size, found.stride, found.start) == ((size,) * 2, (stride,) * 2, (-padding,) * 2)


def test_resnet50_halves_in_the_3x3_convolutions():
    model = of_torchvision("resnet50")
    # 11 behind the pool; layer1 3 x 8; then the first 3x3 of a stage has taps 4, 8, 16 apart, the others 8, 16, 32.
    assert 11 + 24 + (8 + 3 * 16) + (16 + 5 * 32) + (32 + 2 * 64) == 427
    assert fields(model)["layer4"].size == (427, 427)
    for stage in (model.layer2, model.layer3, model.layer4):  # as in the ResNet-50 of the published table
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert fields(model)["layer4"].size == (483, 483)


def test_densenet121_by_hand():
    # 11 pixels behind the stem; each of 6, 12, 24, 16 layers adds 2 taps, each transition's pool one.
    expected = 11 + 2 * (6 * 4 + 12 * 8 + 24 * 16 + 16 * 32) + 4 + 8 + 16
    assert fields(of_torchvision("densenet121"))["features.denseblock4"].size == (expected, expected)


def test_depthwise_convolutions_and_channel_shuffles_by_hand():
    # MobileNetV2: the taps of its 18 3x3 convolutions lie this far apart; strides in the 1st, 3rd, 5th, 8th, 15th.
    distances = [1, 2, 2, 4, 4, 8, 8, 8] + 6 * [16] + [16, 32, 32, 32]
    found = fields(of_torchvision("mobilenet_v2"))["features.18"]
    assert (found.size, found.stride) == ((1 + 2 * sum(distances),) * 2, (32, 32))
    # ShuffleNetV2: convolution and pool of stride 2, then one of stride 2 and three of stride 1.
    found = fields(of_torchvision("shufflenet_v2_x1_0"))["stage2"]
    assert (found.size, found.stride) == ((1 + 2 * (1 + 2 + 4 + 8 + 8 + 8),) * 2, (8, 8))


def test_whole_image_behind_squeeze_and_excitation():
    known = fields(of_torchvision("mobilenet_v3_small"))
    assert known["features.0"].size == (3, 3)
    assert known["features.1"].size == (None, None)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(1, 2, (1, 5), padding=(0, 2))
        self.dilated = nn.Conv2d(1, 2, 3, padding=3, dilation=3)
        self.joined, self.halved = nn.Identity(), nn.Conv2d(4, 1, 2, stride=2)
        self.back, self.up = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1), nn.Identity()

    def forward(self, x):
        x = self.joined(torch.cat([self.wide(x), self.dilated(x)], 1))
        x = self.halved(x)
        self.up(F.interpolate(x, scale_factor=2, mode="bilinear"))
        return self.back(x)


def test_branches_dilation_and_upsampling():
    known = fields(Branches(), (1, 32, 32))
    assert (known["wide"].size, known["dilated"].size) == ((1, 5), (7, 7))
    assert (known["joined"].size, known["joined"].start) == ((7, 7), (-3, -3))
    assert (known["halved"].size, known["halved"].stride) == ((8, 8), (2, 2))
    # Even outputs hear from one unit (8 pixels), odd ones from two (10); two places on lies the field two pixels on.
    assert known["back"].stride == (1, 1)
    assert [known["back"].axes[0].span(i) for i in (0, 1, 2)] == [(-3, 4), (-3, 6), (-1, 6)]
    assert [known["up"].axes[0].span(i) for i in (0, 1, 2)] == [(-5, 4), (-3, 6), (-3, 6)]


@pytest.mark.parametrize(
    ("mode", "factor", "rows", "unit", "seen"),
    [
        # torch steps by 1 / factor, whatever size of the map it rounds to: 17 rows become 12 (not 17 / 12 apart),
        # and the middle of unit 5 lies at 5.5 / 0.75 - 0.5 = 6.83; nearest: 5 / 0.75 = 6.67.
        ("bilinear", 0.75, 17, 5, (6, 7)),
        ("nearest", 0.75, 17, 5, (6, 6)),
        ("bilinear", 0.5, 31, 7, (14, 15)),  # at 15 - 0.5
        ("bilinear", 2.5, 25, 33, (12, 13)),  # at 33.5 / 2.5 - 0.5 = 12.9; of 62 rows, 13.01
        ("bilinear", 2.3, 10, 21, (8, 9)),  # at 21.5 / 2.3 - 0.5 = 8.85; of 23 rows it is the same
    ],
)
def test_interpolation_steps_by_the_factor_that_it_is_given(mode, factor, rows, unit, seen):
    model = nn.Sequential(nn.Upsample(scale_factor=factor, mode=mode))
    assert fields(model, (1, rows, rows))["0"].axes[0].span(unit) == seen
    image = torch.rand(1, 1, rows, rows, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(model(image)[0, 0, unit, unit], image)
    reached = slope[0, 0].abs().sum(1).nonzero().flatten()
    assert (int(reached[0]), int(reached[-1])) == seen


def test_what_can_not_be_known_is_reported():
    class Uneven(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = nn.Identity()

        def forward(self, x):
            return self.sum(F.max_pool2d(x, 2) + x[..., :16, :16])

    assert "strides" in fields(Uneven(), (1, 32, 32))["sum"].unknown
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU()).train()
    fields(model, (1, 8, 8))
    assert model.training
    assert not model[0]._forward_hooks


def test_this_projects_networks():
    assert list(fields(CNN((3, 32, 32), 10), (3, 64, 64)))[-2:] == ["features", "head.0"]  # its head refuses 64 x 64
    known = fields(CNN((3, 32, 32), 10), (3, 32, 32))
    assert [known[f"features.block{i}"].size[0] for i in (1, 2, 3)] == [4, 10, 22]
    assert known["features.block3"].stride == (8, 8)
    # Unpooling looks where each window's maximum was, so all of the window.
    segnet = fields(SegNet((1, 24, 24), 2, widths=[2] * 5, convolutions=[1] * 5), (1, 20, 24))
    assert segnet["encoder.4"].size == (30, 30)
    assert segnet["up.2"].size == (34, 34)


CHECKED = [
    (lambda: torchvision.models.resnet18(weights=None), "layer1", (3, 96, 96)),
    (lambda: UNet((1, 96, 96), 2, width=2, depth=2), "decoder.1", (1, 96, 96)),
    (lambda: SegNet((1, 96, 96), 2, [2] * 5, [1] * 5, up="transposed", skip=True), "up.2", (1, 96, 96)),
    (lambda: Branches(), "halved", (1, 32, 32)),
]


@pytest.mark.parametrize(("make", "layer", "in_shape"), CHECKED)
def test_units_answer_as_the_layers_say(make, layer, in_shape):
    torch.manual_seed(0)
    model = make().eval()
    derived, asked = fields(model, in_shape)[layer], probed(model, layer, in_shape)
    middle = tuple(count // 2 for count in asked.units)
    big = (4096, 4096)  # no border is near
    assert asked.spans(middle, big) == derived.spans(middle, big)
    if derived.axes[0].stride.denominator == 1 and len(derived.axes[0].spans) == 1:
        assert (asked.size, asked.stride, asked.start) == (derived.size, derived.stride, derived.start)
