"""Every segmentation model of conf/model: size of its output, its parameters, and whether it can learn one batch."""

import functools
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from retable.config.build import build
from retable.models.fcn import FCN
from retable.models.fcn_small import SmallFCN
from retable.models.mobilenet_decoder import MobileNetDecoder
from retable.models.parts import Dropout
from retable.models.segnet import SegNet
from retable.models.smp import SMP
from retable.models.unet import UNet

CONF = Path(__file__).parents[2] / "conf" / "model"
# The layers do not depend on it, and a full head takes seconds to build.
SMALLER = {"fcn32s": {"head": 16}, "fcn16s": {"head": 16}, "fcn8s": {"head": 16}, "unet": {"width": 8}}
SEGMENTATION = sorted(
    path.stem for path in CONF.glob("*.yaml") if path.stem not in ("cnn", "cnn_digits", "fnn", "numpy_fnn", "retinanet")
)


def configured(name, in_shape, num_classes, dropout=None, **changes):
    node = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")) | changes
    context = {"activation": nn.ReLU, "dropout": dropout or Dropout()}
    return build(node, "model", in_shape=in_shape, num_classes=num_classes, **context)


def count(model):
    return sum(p.numel() for p in model.parameters())


def bn_conv(i, o):
    """Weights of a 3x3 convolution without bias, or a transposed one, and its batch norm."""
    return 9 * i * o + 2 * o


SEGNET = sum(map(bn_conv, (1, 64, 128, 256, 512), (64, 128, 256, 512, 512)))
SEGNET += sum(map(bn_conv, (512, 512, 256, 128, 64), (512, 256, 128, 64, 64))) + (9 * 64 * 3 + 3)
# Further convolutions of a block keep its channels, in the encoder and in the decoder: 1, 1, 2, 2, 2 more.
MORE = 2 * sum(bn_conv(c, c) * n for c, n in zip((64, 128, 256, 512, 512), (1, 1, 2, 2, 2), strict=True))
HALVINGS = sum(bn_conv(c, c) for c in (64, 256, 512))
MOBILENET_V2 = 3_504_872 - (1280 * 1000 + 1000)  # published, less its classifier
DECODER = sum(16 * i * o + 2 * o for i, o in zip((1280, 512, 256, 128, 64), (512, 256, 128, 64, 32), strict=True)) + 33


@pytest.mark.parametrize(
    ("name", "channels", "classes", "expected"),
    [
        ("segnet", 1, 3, SEGNET + MORE),  # 29,457,923
        ("segnet_transposed", 1, 3, SEGNET + MORE + HALVINGS),
        ("segnet_strided", 1, 3, SEGNET + MORE + 2 * HALVINGS),
        ("segnet_skip", 1, 3, SEGNET + MORE + 2 * HALVINGS + 9 * 256 * 256 + 9 * 64 * 64),
        ("fcn_small", 3, 2, 8_634),
        ("fcn_small_bn", 3, 2, 11_698),
        # VGG-16 has 138,357,544, of which 4,097,000 in its last layer, which scores of two classes replace.
        ("fcn32s", 3, 2, 138_357_544 - 4_097_000 + 4097 * 2),
        ("fcn16s", 3, 2, 138_357_544 - 4_097_000 + 4097 * 2 + 513 * 2 + (2 * 2 * 16)),
        ("fcn8s", 3, 2, 138_357_544 - 4_097_000 + 4097 * 2 + 513 * 2 + 257 * 2 + 2 * (2 * 2 * 16)),
        ("mobilenet_decoder", 3, 1, MOBILENET_V2 + DECODER),
        ("unet", 3, 1, 31_037_633),  # as often published of U-Nets with batch norm
        ("smp", 3, 1, 24_436_369),  # the library's Unet on ResNet-34
    ],
)
def test_parameters(name, channels, classes, expected):
    with torch.device("meta"):
        assert count(configured(name, (channels, 64, 64), classes)) == expected


def test_one_convolution_a_block_is_an_option():
    with torch.device("meta"):
        assert count(configured("segnet", (1, 64, 64), 3, convolutions=[1] * 5)) == SEGNET == 7_859_331


def test_every_segmentation_file_is_counted_above():
    (mark,) = test_parameters.pytestmark
    assert sorted(case[0] for case in mark.args[1]) == SEGMENTATION


@pytest.mark.parametrize("name", SEGMENTATION)
def test_output_has_the_inputs_size(name):
    for channels, classes in ((1, 3), (3, 1)):
        model = configured(name, (channels, 33, 47), classes, **SMALLER.get(name, {})).eval()
        with torch.no_grad():
            for height, width in ((33, 47), (16, 16)):
                assert model(torch.rand(2, channels, height, width)).shape == (2, classes, height, width)
        assert model.weights_source is None


@pytest.mark.parametrize(
    ("name", "multiple"), [("segnet", 8), ("fcn_small", 4), ("unet", 16), ("mobilenet_decoder", 32)]
)
def test_padding_repeats_the_border(name, multiple):
    model = configured(name, (3, 33, 47), 2, **SMALLER.get(name, {}))
    images = torch.rand(2, 3, 33, 47)
    rows = list(range(33)) + [32] * (-33 % multiple)
    columns = list(range(47)) + [46] * (-47 % multiple)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(images[:, :, rows][..., columns])[..., :33, :47])
        other = model(F.pad(images, (0, -47 % multiple, 0, -33 % multiple)))[..., :33, :47]
        assert not torch.allclose(model(images), other)


@pytest.mark.parametrize("name", ["fcn_small", "fcn_small_bn", "mobilenet_decoder", "unet", "fcn32s"])
def test_dropout_stands_where_it_is_asked_for(name):
    place, layers = {"fcn32s": ("fc", 2), "mobilenet_decoder": ("conv", 5), "unet": ("conv", 1)}.get(name, ("conv", 2))
    model = configured(name, (3, 32, 32), 2, Dropout(0.2, place), **SMALLER.get(name, {}))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.2] * layers
    other = {"fc": "conv", "conv": "fc"}[place]
    with pytest.raises(Exception, match=rf"^model: dropout\.where={other}: accepted: {place}, all"):
        configured(name, (3, 32, 32), 2, Dropout(0.2, other), **SMALLER.get(name, {}))


def blobs(channels, size, coarse=False):
    """Two noisy images of bright shapes: discs, or halves of the image where `coarse`."""
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    if coarse:
        targets = torch.stack([x >= 0.5, y >= 0.5])
    else:
        targets = torch.stack([(x - a) ** 2 + (y - b) ** 2 < 0.28**2 for a, b in ((0.6, 0.4), (0.4, 0.6))])
    noise = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    return noise / 2 + targets[:, None] / 2, targets.long()


WIDTHS, FEW = (8, 16, 16, 32, 32), (64, 32, 32, 16, 16)
SLIM = {"decoder_channels": [32, 32, 16, 16, 8]}
OVERFIT = {
    "segnet": (functools.partial(SegNet, widths=WIDTHS), 1, 32, 1e-2),
    "segnet_transposed": (functools.partial(SegNet, widths=WIDTHS, up="transposed"), 1, 32, 1e-2),
    "segnet_strided": (functools.partial(SegNet, widths=WIDTHS, down="strided", up="transposed"), 1, 32, 1e-2),
    "segnet_skip": (functools.partial(SegNet, widths=WIDTHS, down="strided", up="transposed", skip=True), 1, 32, 1e-2),
    "fcn_small": (SmallFCN, 3, 32, 1e-2),
    "fcn_small_bn": (functools.partial(SmallFCN, batch_norm=True), 3, 32, 1e-2),
    "fcn32s": (functools.partial(FCN, stride=32, backbone="resnet18", head=None), 3, 64, 1e-3),
    "fcn16s": (functools.partial(FCN, stride=16, backbone="mobilenet_v2", head=None), 3, 64, 3e-3),
    "fcn8s": (functools.partial(FCN, stride=8, backbone="mobilenet_v2", head=None), 3, 64, 3e-3),
    "mobilenet_decoder": (functools.partial(MobileNetDecoder, widths=FEW), 3, 64, 3e-3),
    "mobilenet_decoder, several": (
        functools.partial(MobileNetDecoder, widths=FEW, features="several", residual=True),
        *(3, 64, 3e-3),
    ),
    "mobilenet_decoder, frozen": (
        functools.partial(MobileNetDecoder, widths=FEW, features="several", residual=True, frozen=True),
        *(3, 32, 1e-2),
    ),
    "unet": (functools.partial(UNet, width=8, depth=3), 1, 32, 1e-2),
    "smp": (functools.partial(SMP, encoder="mobilenet_v2", options=SLIM), 3, 32, 1e-2),
}
VGG = {
    "fcn32s": (functools.partial(FCN, stride=32, backbone="vgg11", head=64), 3, 64, 1e-3),
    "fcn8s": (functools.partial(FCN, stride=8, backbone="vgg11", head=64), 3, 64, 1e-3),
}


def overfit(make, channels, size, rate, coarse):
    """Dice of the foreground on one batch after up to 80 steps on it, by the batch's own statistics."""
    torch.manual_seed(0)
    model = make((channels, size, size), 2)
    images, targets = blobs(channels, size, coarse)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    dice = 0.0
    for step in range(80):
        optimizer.zero_grad()
        logits = model(images)
        F.cross_entropy(logits, targets).backward()
        predicted = logits.detach().argmax(1)
        dice = float(2 * (predicted * targets).sum() / (predicted.sum() + targets.sum()))
        if dice > 0.95:
            return dice, step
        optimizer.step()
    return dice, 80


@pytest.mark.parametrize("name", OVERFIT)
def test_one_batch_is_learnt(name):
    dice, steps = overfit(*OVERFIT[name], coarse=name == "fcn32s")
    assert dice > 0.95
    assert steps > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", VGG)
def test_one_batch_is_learnt_on_vgg(name):
    dice, _ = overfit(*VGG[name], coarse=name == "fcn32s")
    assert dice > 0.95
