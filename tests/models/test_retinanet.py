"""RetinaNet against torchvision's own: outputs, losses and detections; weights of every kind, and what is trained."""

import hashlib
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2

from retable.config.identity import identity
from retable.errors import DataError
from retable.models import detector_weights
from retable.models.retinanet import OwnGroupNorm, RetinaNet, _Own

SCORES = detector_weights.SCORES
SMALL = {"in_shape": (3, 64, 96), "num_classes": 3, "backbone": "resnet18", "width": 8, "weights": "none"}


def make(**arguments) -> RetinaNet:
    torch.manual_seed(0)
    return RetinaNet(**(SMALL | arguments))


def lively(model: nn.Module) -> None:
    """Statistics other than 0 and 1, and scores that some detections pass."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    head = model.net.head.classification_head.cls_logits
    nn.init.normal_(head.weight, std=0.3, generator=generator)
    nn.init.constant_(head.bias, -2.0)


@pytest.fixture(scope="module")
def scene():
    """Two normalised images of a 64x96 canvas, the second only 50x80 with zeros beside it, and their boxes."""
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    images[1, :, 50:], images[1, :, :, 80:] = 0, 0
    targets = torch.tensor(
        [
            [[0, 0, 96, 64, -1], [10, 10, 50, 50, 2], [40, 5, 90, 40, 0]],
            [[0, 0, 80, 50, -1], [0, 0, 0, 0, -1], [0, 0, 0, 0, -1]],
        ]
    )
    return images, targets.float()


@pytest.mark.parametrize(
    "arguments",
    [{"box_loss": "l1"}, {"backbone": "resnet50_v2", "width": 256, "box_loss": "giou"}],
    ids=["resnet18", "v2"],
)
def test_losses_and_detections_are_those_of_torchvision(scene, arguments):
    images, targets = scene
    model = make(**arguments).eval()
    lively(model)
    net = model.net
    net.transform.image_mean, net.transform.image_std = [0.0] * 3, [1.0] * 3
    net.transform.min_size, net.transform.max_size = (64,), 96
    with torch.no_grad():
        outputs = model(images)
        losses = model.losses(outputs, targets, (64, 96))
        found = model.detections(outputs, [(64, 96), (64, 96)], (64, 96))
        expected = net(list(images))
        net.training = True  # losses, with the statistics of evaluation
        boxes = [{"boxes": t[t[:, 4] >= 0, :4], "labels": t[t[:, 4] >= 0, 4].long()} for t in targets]
        wanted = net(list(images), boxes)
        net.training = False
    torch.testing.assert_close(losses["classification"], wanted["classification"])
    torch.testing.assert_close(losses["regression"], wanted["bbox_regression"])
    for rows, one in zip(found, expected, strict=True):
        assert len(rows) > 3
        torch.testing.assert_close(rows[:, :4], one["boxes"])
        assert rows[:, 4].tolist() == one["labels"].tolist()
        torch.testing.assert_close(rows[:, 5], one["scores"])


def test_smooth_l1_by_hand():
    """Offsets of one anchor 10x10 to the box (1, 0, 11, 10): 0.1, 0, 0, 0; found 0.05, 1, 0, 0, beta 1/9.

    0.05 is 0.05 off: 0.05² / (2 / 9) = 0.01125; 1 is 1 off: 1 - 1/18. The other anchor has no object.
    """
    model = make()
    regression = model.net.head.regression_head
    outputs = {"bbox_regression": torch.tensor([[[0.05, 1, 0, 0], [9, 9, 9, 9]]], dtype=torch.float64)}
    anchors = [torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30]], dtype=torch.float64)]
    targets = [{"boxes": torch.tensor([[1, 0, 11, 10]], dtype=torch.float64)}]
    loss = regression.compute_loss(targets, outputs, anchors, [torch.tensor([0, -1])])
    assert loss.item() == pytest.approx(0.01125 + 1 - 1 / 18, abs=1e-12)
    none = regression.compute_loss(targets, outputs, anchors, [torch.tensor([-1, -2])])
    assert none.item() == 0


def test_smooth_l1_of_a_vanishing_beta_is_l1(scene):
    images, targets = scene
    found = []
    for arguments in ({"box_loss": "l1"}, {"beta": 1e-9}, {"beta": 1 / 9}):
        model = make(**arguments).eval()
        with torch.no_grad():
            found.append(model.losses(model(images), targets, (64, 96)))
    assert found[0]["classification"] == found[2]["classification"]
    torch.testing.assert_close(found[1]["regression"], found[0]["regression"])
    assert found[2]["regression"] < found[0]["regression"]


def test_boxes_are_clipped_to_the_image_not_the_canvas(scene):
    model = make().eval()
    lively(model)
    with torch.no_grad():
        _, found = model.detections(model(scene[0]), [(64, 96), (50, 80)], (64, 96))
    assert found[:, 2].max() == 80
    assert found[:, 3].max() == 50


@pytest.mark.parametrize(
    "arguments", [{}, {"backbone": "resnet50", "width": 256}, {"backbone": "resnet50_v2", "width": 256}]
)
def test_what_is_found_in_an_image_depends_on_it_alone(arguments):
    """The same image alone, and beside larger ones on canvases of three sizes with anything beside it."""
    model = make(**arguments).eval()
    lively(model)
    draw = torch.Generator().manual_seed(3)
    image, size = torch.randn(3, 50, 80, generator=draw), (50, 80)

    def found(height, width):
        images = torch.randn(2, 3, height, width, generator=draw)
        images[1, :, :50, :80] = image
        for indices, own, sizes in model.by_canvas(images, [(height, width), size]):
            rows = model.detections(model(own, sizes), sizes, own.shape[-2:])
            if 1 in indices:
                assert own.shape[-2:] == (64, 96)
                return rows[indices.index(1)]

    with torch.no_grad():
        alone = found(50, 80)
        assert len(alone) > 3
        for canvas in ((64, 96), (96, 128), (160, 192)):
            torch.testing.assert_close(found(*canvas), alone, rtol=1e-4, atol=1e-4)


def test_group_norm_over_an_images_own_part():
    own = _Own()
    plain, norm = nn.GroupNorm(2, 4), OwnGroupNorm(2, 4)
    norm.own = own
    for each in (plain, norm):
        nn.init.constant_(each.bias, 0.5)
    maps = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0)) + 3
    torch.testing.assert_close(norm(maps), plain(maps), rtol=0, atol=0)
    own.cells = [(6, 8), (3, 5)]
    found = norm(maps)
    torch.testing.assert_close(found[:1], plain(maps[:1]), rtol=0, atol=0)
    torch.testing.assert_close(found[1:, :, :3, :5], plain(maps[1:, :, :3, :5]), rtol=0, atol=0)
    assert not found[1, :, 3:].any()
    assert not found[1, :, :, 5:].any()


def test_anchors():
    model = make(anchor=16)
    anchors, counts = model.anchors((64, 96), torch.device("cpu"))
    assert counts == [9 * cells for cells in (8 * 12, 4 * 6, 2 * 3, 1 * 2, 1 * 1)]
    assert anchors.shape == (sum(counts), 4)
    sides = (anchors[:9, 2:] - anchors[:9, :2]).prod(1).sqrt()
    torch.testing.assert_close(sides, torch.tensor([16.0, 20, 25] * 3), atol=1.0, rtol=0)
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, sum(counts), 3 + 4)


def test_a_small_and_a_published_network():
    model = RetinaNet((3, 64, 64), 8, backbone="resnet50", weights="none")
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=8)
    assert {k: v.shape for k, v in model.net.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    assert model.net.anchor_generator.sizes == theirs.anchor_generator.sizes
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_what_is_trained():
    model = make(trainable="head")
    trained = {name for name, p in model.net.named_parameters() if p.requires_grad}
    assert trained == {f"{SCORES}weight", f"{SCORES}bias"}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()(torch.randn(2, 3, 64, 96))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())  # statistics, too
    assert not any(p.requires_grad for p in make(trainable="none").parameters())
    assert all(p.requires_grad for p in make().parameters())
    frozen = make(norm="frozen")
    assert {type(m) for m in frozen.modules() for p in m.parameters(recurse=False) if not p.requires_grad} == {
        nn.BatchNorm2d
    }
    assert not any(m.training for m in frozen.train().modules() if isinstance(m, nn.BatchNorm2d))
    assert all(m.training for m in make().train().modules())


@pytest.mark.parametrize("begin", ["head.classification_head", "head.regression_head", "backbone.fpn"])
def test_names_from_before_torchvision_0_13(begin):
    new = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2).state_dict()
    old = OrderedDict()
    for key, value in new.items():
        key = re.sub(r"(_blocks\.\d+)\.0\.", r"\1.", key)
        old[re.sub(r"(head\.\w+\.conv)\.(\d+)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", key)] = value
    assert [key for key in old if key not in new and key.startswith(begin)]
    found = detector_weights.modern(old)
    assert found.keys() == new.keys()
    assert all(found[key] is new[key] for key in new)
    assert detector_weights.modern(new).keys() == new.keys()


def test_variances_without_an_epsilon():
    norm = nn.BatchNorm2d(2).eval()
    state = {"running_var": torch.tensor([0.25, 1e-6]), "weight": torch.ones(2)}
    norm.load_state_dict(detector_weights.without_epsilon(state), strict=False)
    found = norm(torch.ones(1, 2, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor([2.0, 1000.0]), rtol=1e-3, atol=0)  # 1 / sqrt(variance)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file in the form of torchvision's COCO weights of v2: 91 classes, of them bird (16), cat (17) and car (3)."""
    net = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
    bias = net.head.classification_head.cls_logits.bias.detach().view(9, 91)
    bias.fill_(0.5)
    bias[:, [16, 17, 3]] = torch.tensor([-1.0, -2.0, -3.0])
    path = tmp_path_factory.mktemp("weights") / "coco.pth"
    torch.save(net.state_dict(), path)
    return path, net.state_dict()


V2 = {"in_shape": (3, 64, 64), "backbone": "resnet50_v2"}
ANIMALS = ("coyote", "bird", "car", "Cat")


def test_a_file_with_a_new_head_and_with_mapped_classes(published):
    path, state = published
    model = RetinaNet(**V2, num_classes=4, weights=str(path))
    own = model.net.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items() if not key.startswith(SCORES))
    assert own[f"{SCORES}bias"].tolist() == pytest.approx([-4.59512] * 36, abs=1e-5)  # logit of 0.01
    assert model.frozen_norms
    assert model.weights_source == {"weights": "coco.pth", "sha256": detector_weights.pretrained.digest(path)}
    mapped = RetinaNet(**V2, num_classes=4, classes=ANIMALS, weights=str(path), head="mapped", trainable="none")
    own = mapped.net.state_dict()
    biases = own[f"{SCORES}bias"].view(9, 4)
    assert biases[:, 1:].tolist() == [[-1.0, -3.0, -2.0]] * 9
    torch.testing.assert_close(biases[:, 0], torch.full((9,), -4.59512))
    weights = own[f"{SCORES}weight"].view(9, 4, 256, 3, 3)
    assert torch.equal(weights[:, 3], state[f"{SCORES}weight"].view(9, 91, 256, 3, 3)[:, 17])
    assert not weights[:, 0].any()
    with pytest.raises(DataError, match="knows none of wombat, accepted for"):
        RetinaNet(**V2, num_classes=1, classes=("wombat",), weights=str(path), head="mapped")


def test_a_classifier_gives_its_resnet(data_root):
    path = data_root.parent / "weights" / "resnet18_imagenet_through_layer3.pth"
    if not path.is_file():
        pytest.skip("no ImageNet weights beside the data")
    state = torch.load(path, weights_only=True)
    body = make(weights=str(path)).net.backbone.body.state_dict()
    assert torch.equal(body["layer3.1.conv2.weight"], state["layer3.1.conv2.weight"])


def test_weights_that_do_not_fit(tmp_path, published):
    with pytest.raises(
        DataError, match=r"coco\.pth: \S+ has shape .*; accepted: a state dict of RetinaNet, backbone=resnet18, shape"
    ):
        make(weights=str(published[0]), width=256)
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "last.ckpt")
    with pytest.raises(DataError, match=r"last\.ckpt: not a checkpoint of a run of this project$"):
        make(weights=str(tmp_path))
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=r"x/last\.ckpt: no such file"):
        make(weights=str(tmp_path / "x"))


@pytest.mark.parametrize(("kept", "taken"), [(["best"], "best"), (["last"], "last"), (["best", "last"], "last")])
def test_a_runs_weights_are_those_of_the_checkpoint_that_it_has_kept(tmp_path, kept, taken):
    """As with checkpoint=best, where there is no last.ckpt; a file that is named is that file."""
    state = make(num_classes=len(ANIMALS)).state_dict()
    for name, value in (("best", 0.25), ("last", 0.5)):
        filled = {f"model.{key}": torch.full_like(tensor, value) for key, tensor in state.items()}
        if name in kept:
            described = {"name": "a run", "classes": list(ANIMALS)}
            torch.save({"state_dict": filled, "retable": described}, tmp_path / f"{name}.ckpt")
    key, values = "backbone.body.layer1.0.conv1.weight", {"best": 0.25, "last": 0.5}
    model = make(weights=str(tmp_path))
    assert model.net.state_dict()[key].unique().tolist() == [values[taken]]
    assert model.weights_source["sha256"] == detector_weights.pretrained.digest(tmp_path / f"{taken}.ckpt")
    content = hashlib.sha256((tmp_path / f"{taken}.ckpt").read_bytes()).hexdigest()[:12]
    assert identity({"model": {"weights": str(tmp_path)}})["model.weights"] == f"{taken}.ckpt:{content}"
    for name in kept:
        named = make(weights=str(tmp_path / f"{name}.ckpt"))
        assert named.net.state_dict()[key].unique().tolist() == [values[name]]


@pytest.mark.parametrize("key", [f"{SCORES}weight", f"{SCORES}bias", "head.regression_head.bbox_reg.bias"])
def test_a_runs_weights_that_are_not_finite_are_refused(tmp_path, key):
    state = {f"model.{name}": tensor for name, tensor in make(num_classes=len(ANIMALS)).state_dict().items()}
    state[f"model.net.{key}"].view(-1)[3] = float("nan")
    described = {"name": "a run", "classes": list(ANIMALS)}
    torch.save({"state_dict": state, "retable": described}, tmp_path / "last.ckpt")
    message = rf"{tmp_path}/last\.ckpt: {key} holds values that are not finite"
    with pytest.raises(DataError, match=message):
        make(num_classes=len(ANIMALS), classes=ANIMALS, weights=str(tmp_path), head="mapped")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retable": 5}, "not a checkpoint of a run"),
        ({"retable": {"classes": "fox"}}, "not a checkpoint of a run"),
        ({"retable": {"classes": [1, 2]}}, "not a checkpoint of a run"),
        ({"state_dict": [1]}, "not a checkpoint of a run"),
        ({"state_dict": {1: torch.ones(1)}}, "its weights are no state dict"),
        ({"state_dict": {"model.net.a": 5}}, "its weights are no state dict"),
        ({"state_dict": {f"model.net.{SCORES}weight": torch.ones(7)}}, "has no backbone.body"),
        ({"retable": {"classes": list(ANIMALS) * 2}}, rf"{SCORES}weight has shape \(36, 8, 3, 3\), accepted: \(72, 8"),
    ],
)
def test_a_strangers_checkpoint_as_weights(tmp_path, changes, message):
    state = {f"model.{name}": tensor for name, tensor in make(num_classes=len(ANIMALS)).state_dict().items()}
    content = {"state_dict": state, "retable": {"name": "a run", "classes": list(ANIMALS)}}
    torch.save(content | changes, tmp_path / "last.ckpt")
    with pytest.raises(DataError, match=rf"last\.ckpt: {message}"):
        make(num_classes=len(ANIMALS), classes=ANIMALS, weights=str(tmp_path), head="mapped")


def test_nothing_is_read_under_meta(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", pytest.fail)
    with torch.device("meta"):
        model = RetinaNet(**V2, num_classes=4, classes=ANIMALS, weights="coco", head="mapped")
        assert model(torch.empty(2, 3, 64, 64)).shape[2] == 8
    assert model.weights_source["weights"] == "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1"
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "coco"}, "^weights=coco: accepted: for backbone=resnet18: none, imagenet, a run's directory"),
        ({"weights": "best"}, "^weights=best: accepted: none, coco, imagenet, a run's directory or checkpoint"),
        ({"backbone": "vgg16"}, "^backbone=vgg16: accepted: resnet50, resnet50_v2, resnet18$"),
        ({"backbone": "resnet50"}, "^width=8: accepted: 256, for backbone=resnet50$"),
        ({"trainable": "some"}, "^trainable=some: accepted: all, head, none$"),
        ({"in_shape": (1, 64, 64)}, "^RetinaNet takes images of 3 channels, not 1$"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
