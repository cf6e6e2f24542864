"""What holds for every loss: precision, huge logits, empty masks, ignored pixels, no reading back from the device."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from retable.errors import ConfigError
from retable.losses.base import class_masks
from tests.losses.cases import BINARY, NAMES, batch, gradient, make

BOTH = [(name, channels) for name in NAMES for channels in (1, 2, 4) if channels < 4 or name not in BINARY]
every_loss = pytest.mark.parametrize(("name", "channels"), BOTH)


@every_loss
def test_descent_lowers_it_and_every_pixel_counts(name, channels):
    logits, targets = batch(channels)
    value, grad = gradient(make(name), logits, targets)
    assert value.shape == ()
    assert make(name)(logits - 0.1 * grad, targets) < value
    if (name, channels) != ("lovasz", 1):  # the hinge has a margin, and no gradient beyond a class's last pixel
        assert (grad != 0).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(name, channels, dtype):
    logits, targets = batch(channels, size=(40, 40))
    low, loss = logits.to(dtype), make(name)
    expected, expected_grad = gradient(loss, low.float(), targets)
    with torch.autocast("cpu", dtype=dtype):
        value, grad = gradient(loss, low, targets)
    assert (value.dtype, grad.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    torch.testing.assert_close(grad, expected_grad.to(dtype), rtol=0, atol=0)
    # What the network's own rounding does to the value: bfloat16 keeps 8 bits, float16 11.
    torch.testing.assert_close(value, loss(logits, targets), rtol=2e-3, atol=1e-4)


@every_loss
@pytest.mark.parametrize("mask", ["mixed", "empty", "full"])
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_huge_logits_and_empty_masks_leave_value_and_gradient_finite(name, channels, mask, scale):
    logits, targets = batch(channels)
    logits = scale * logits.sign()
    if mask != "mixed":
        targets = torch.full_like(targets, int(mask == "full"))
    value, grad = gradient(make(name), logits, targets)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert 0 <= value <= 2.1e4 + 2


@every_loss
def test_ignored_pixels_change_neither_value_nor_gradient(name, channels):
    logits, targets = batch(channels, size=(6, 5))
    loss = make(name)
    value, grad = gradient(loss, logits, targets)
    # The same images with a border of ignored pixels, whatever the network says there.
    wide = 1e4 * batch(channels, size=(8, 9), seed=1)[0].sign()
    wide[:, :, 1:7, 2:7] = logits
    labels = torch.full((4, 8, 9), 255)
    labels[:, 1:7, 2:7] = targets
    wide_value, wide_grad = gradient(loss, wide, labels)
    torch.testing.assert_close(wide_value, value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(wide_grad[:, :, 1:7, 2:7], grad, rtol=1e-4, atol=1e-7)
    wide_grad[:, :, 1:7, 2:7] = 0
    assert not wide_grad.any()
    if channels == 1:
        assert loss(wide, labels.float()) == wide_value
        assert loss(wide, labels.to(torch.uint8)) == wide_value


@every_loss
def test_wholly_ignored_images_have_loss_0(name, channels):
    logits, targets = batch(channels)
    loss = make(name)
    value, grad = gradient(loss, logits, torch.full_like(targets, 255))
    assert value == 0
    assert not grad.any()
    part = targets.clone()
    part[2:] = 255  # two of four
    value, grad = gradient(loss, logits, part)
    torch.testing.assert_close(value, loss(logits[:2], targets[:2]) / 2)
    assert not grad[2:].any()
    assert grad.isfinite().all()


@every_loss
def test_an_image_weighs_the_same_in_every_batch(name, channels):
    logits, targets = batch(channels)
    alone = [make(name)(logits[i : i + 1], targets[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(make(name)(logits, targets), torch.stack(alone).mean())


@every_loss
def test_nothing_is_read_back_from_the_device(name, channels):
    # A fake tensor has no data: reading a value, or a shape that depends on values, raises.
    with FakeTensorMode():
        logits = torch.zeros(2, channels, 5, 4, requires_grad=True)
        make(name)(logits, torch.zeros(2, 5, 4, dtype=torch.int64)).backward()
        assert logits.grad.shape == logits.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_loss
def test_is_captured_in_a_cuda_graph(name, channels):
    logits, targets = (tensor.cuda() for tensor in batch(channels))
    targets[0, 0] = 255
    loss, logits = make(name), logits.requires_grad_()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = loss(logits, targets)
        expected.backward()
    torch.cuda.current_stream().wait_stream(side)
    expected_grad, logits.grad = logits.grad.clone(), None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(logits, targets)
        value.backward()
    graph.replay()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(logits.grad, expected_grad)


@pytest.mark.parametrize("name", NAMES)
def test_works_on_the_meta_device(name):
    assert make(name)(torch.zeros(2, 1, 5, 4, device="meta"), torch.zeros(2, 5, 4, device="meta")).shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_refused_targets(name):
    with pytest.raises(ValueError, match=r"^targets=\(1, 1, 2, 2\): accepted: \(N, H, W\) for outputs"):
        make(name)(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"^targets=torch\.float32: accepted: integer labels, for 2 outputs"):
        make(name)(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dice", {"smooth": 0}, r"loss.smooth=0: accepted: a number in \(0, inf\)"),
        ("dice", {"skip_background": 1}, "loss.skip_background=1: accepted: true, false"),
        ("inverse_dice", {"smooth": -1}, r"loss.smooth=-1: accepted: a number in \(0, inf\)"),
        ("tversky", {"beta": -0.1}, r"loss.beta=-0.1: accepted: a number in \[0, inf\)"),
        ("tversky", {"alpha": 0, "beta": 0}, "loss.alpha=0: accepted: a number above 0 where beta is 0"),
        ("focal", {"alpha": 1.5}, r"loss.alpha=1.5: accepted: a number in \[0, 1\]"),
        ("focal", {"gamma": 0.5}, "loss.gamma=0.5: accepted: 0, or a number of at least 1"),
        ("switching", {"lam": 2}, r"loss.lam=2: accepted: a number in \[0, 1\]"),
        ("switching", {"threshold": -1}, r"loss.threshold=-1: accepted: a number in \[0, inf\)"),
        ("ce_dice", {"ce": "much"}, r"loss.ce=much: accepted: a number in \[0, inf\)"),
        ("dice_bce", {"bce": 0, "dice": 0}, "loss.bce=0: accepted: a number above 0 where dice and inverse_dice are 0"),
        ("switching", {"weight": 1}, "loss.weight: no such key; accepted: lam, threshold, smooth, l1"),
    ],
)
def test_refused_arguments(name, arguments, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make(name, **arguments)


def test_class_masks_of_one_output_are_class_1s():
    """Probability sigmoid(logit) against the target, which may lie between 0 and 1; an ignored pixel is 0 in both."""
    logits = torch.tensor([0.0, math.log(3), -math.log(3), 5.0], requires_grad=True)
    targets = torch.tensor([1.0, 1.0, 0.5, 255.0])
    probabilities, masks, valid = class_masks(logits.view(1, 1, 2, 2), targets.view(1, 2, 2))
    torch.testing.assert_close(probabilities, torch.tensor([[[0.5, 0.75, 0.25, 0.0]]]))
    torch.testing.assert_close(masks, torch.tensor([[[1.0, 1.0, 0.5, 0.0]]]))
    assert valid.tolist() == [[[True, True, True, False]]]
    (probabilities - masks).square().sum().backward()
    # d/dz (p - t)^2 = 2 (p - t) p (1 - p)
    torch.testing.assert_close(logits.grad, torch.tensor([-0.25, -0.09375, -0.09375, 0.0]))
