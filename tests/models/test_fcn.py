"""FCN-32s to 8s: initial upsampling and scores, what is scored, and VGG's own layers as convolutions."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg

from retable.errors import DataError
from retable.models import weights as pretrained
from retable.models.backbones import NAMES, backbone
from retable.models.fcn import FCN, Upsampling

UPSAMPLINGS = ("published", "learned", "bilinear")


def test_doubling_starts_as_bilinear_interpolation():
    scores = torch.randn(2, 3, 4, 5)
    expected = F.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsampling(3, 2)(scores), expected)


def test_doubling_keeps_constants_and_lines():
    line = torch.arange(4.0).expand(1, 1, 3, 4)
    doubled = Upsampling(1, 2)(line)[0, 0]
    assert doubled[0].tolist() == doubled[5].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert torch.equal(Upsampling(2, 2)(torch.full((1, 2, 3, 3), 7.0)), torch.full((1, 2, 6, 6), 7.0))


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_learned_upsampling_starts_as_bilinear_interpolation(factor):
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsampling(3, factor)(scores), expected)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_which_upsamplings_are_learned(stride):
    """Two classes: 4x4 weights a pair of classes of a doubling, 2 strides a side of the last one."""
    doublings = {32: 0, 16: 1, 8: 2}[stride]
    models = {u: FCN((3, 64, 64), 2, stride, "resnet18", head=None, upsampling=u) for u in UPSAMPLINGS}
    found = {name: sum(p.numel() for key, p in m.named_parameters() if ".up." in key) for name, m in models.items()}
    assert found == {
        "published": doublings * 4 * 16,
        "learned": doublings * 4 * 16 + 4 * (2 * stride) ** 2,
        "bilinear": 0,
    }
    fixed, images = models["bilinear"].eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for score in (fixed.score, *fixed.skips.values()):
            score.weight.normal_()
        for model in models.values():
            model.eval().load_state_dict(fixed.state_dict(), strict=False)
        expected = fixed(images)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(models["published"](images), expected)
        torch.testing.assert_close(models["learned"](images), expected)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_scores_are_zero_at_first(stride):
    model = FCN((3, 64, 64), 5, stride, "resnet18", head=None)
    assert torch.equal(model(torch.rand(2, 3, 64, 64)), torch.zeros(2, 5, 64, 64))


def test_fcn8s_adds_three_scores():
    """With scores of one kind alone, the output is those upsampled, by F.interpolate."""
    torch.manual_seed(0)
    model = FCN((3, 64, 96), 2, 8, "resnet18", head=None).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps, x = [], images
        for stage in model.stages:
            x = stage(x)
            maps.append(x)
        assert [tuple(m.shape[1:]) for m in maps[2:]] == [(128, 8, 12), (256, 4, 6), (512, 2, 3)]
        for score, features, steps in (
            (model.score, maps[4], (2, 2, 8)),
            (model.skips["3"], maps[3], (2, 8)),
            (model.skips["2"], maps[2], (8,)),
        ):
            score.weight.normal_()
            expected = score(features)
            for step in steps:
                expected = F.interpolate(expected, scale_factor=step, mode="bilinear", align_corners=False)
            torch.testing.assert_close(model(images), expected)
            score.weight.zero_()


@pytest.mark.parametrize("name", NAMES)
def test_strides_and_channels_of_backbones(name):
    with torch.device("meta"):
        base = backbone(name)
        x = torch.empty(1, 3, 64, 64)
    for i, stage in enumerate(base.stages):
        x = stage(x)
        assert tuple(x.shape[1:]) == (base.channels[i], 32 // 2**i, 32 // 2**i)


def features_of(name):
    """torchvision's layers before global pooling, under its keys."""
    model = torchvision.models.get_model(name, weights=None).eval()
    if name.startswith("resnet"):
        return model, nn.Sequential(*list(model.children())[:-2])
    return model, model.features


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_stages_are_the_whole_network(tmp_path, name):
    """With the same weights the stages in turn give what torchvision's own layers give."""
    model, features = features_of(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    stages = backbone(name, str(tmp_path / "weights.pth")).stages.eval()
    x = images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for stage in stages:
            x = stage(x)
        assert torch.equal(x, features(images))


@pytest.mark.parametrize(("name", "letter"), [("vgg11", "A"), ("vgg16_bn", "D")])
def test_vgg_is_cut_behind_its_pools(tmp_path, name, letter):
    features = vgg.make_layers(vgg.cfgs[letter], batch_norm=name.endswith("bn")).eval()
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, tmp_path / "weights.pth")
    stages = backbone(name, str(tmp_path / "weights.pth")).stages.eval()
    assert all(isinstance(stage[-1], nn.MaxPool2d) for stage in stages)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(nn.Sequential(*stages)(images), features(images))


def test_full_head_needs_the_files_classifier(tmp_path):
    with torch.device("meta"):
        model = torchvision.models.vgg11(weights=None)
    state = {k: torch.zeros(1).expand(v.shape) for k, v in model.state_dict().items() if k.startswith("features.")}
    with pytest.raises(DataError, match=r"a\.pth: has no classifier\.0\.weight; accepted: a state dict of vgg11$"):
        pretrained.fit(model, state, tmp_path / "a.pth", "vgg11", ("classifier.6.",))


def test_full_head_on_vgg_is_its_classifier(monkeypatch):
    """At the middle of a 7x7 map fc6's window is the whole map, so fc7 gives VGG's second hidden layer there."""
    torch.manual_seed(0)
    whole = torchvision.models.vgg11(weights=None).eval()
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: whole)
    model = FCN((3, 224, 224), 2, backbone="vgg11").eval()
    maps = torch.rand(1, 512, 7, 7)
    with torch.no_grad():
        expected = whole.classifier[:6](maps.flatten(1))
        torch.testing.assert_close(model.head(maps)[:, :, 3, 3], expected)
    assert model.head[0].weight.shape == (4096, 512, 7, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 4}, "stride=4: accepted: 32, 16, 8"),
        ({"backbone": "alexnet"}, f"backbone=alexnet: accepted: {', '.join(NAMES)}"),
        ({"head": 0}, "head=0: accepted: a whole number of at least 1"),
    ],
)
def test_refused_values(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        FCN((3, 32, 32), 2, **options)


def test_images_of_two_channels_are_refused():
    with pytest.raises(ValueError, match=r"^in_shape=\(2, 32, 32\): accepted: images of 1 or 3 channels$"):
        FCN((2, 32, 32), 2, backbone="resnet18", head=None)


def test_grey_is_repeated():
    model = FCN((1, 32, 32), 2, backbone="resnet18", head=None).eval()
    nn.init.normal_(model.score.weight)
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(grey), model(torch.cat([grey] * 3, 1)))
