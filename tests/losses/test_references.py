"""Losses against torch, torchvision and segmentation-models-pytorch where those define the same thing."""

import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from tests.losses.cases import batch, gradient, make


def per_image(loss, logits, targets):
    """The mean over images of a reference that pools its batch."""
    return torch.stack([loss(z[None], y[None]) for z, y in zip(logits, targets, strict=True)]).mean()


def same(name, reference, logits, targets, **arguments):
    value, grad = gradient(make(name, **arguments), logits, targets)
    expected, expected_grad = gradient(reference, logits, targets)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-7)


def with_ignored(targets):
    targets = targets.clone()
    targets[:, 0, :3] = 255
    targets[1, 2:6] = 255
    return targets


def test_cross_entropy_is_torchs_where_images_count_alike():
    for channels in (2, 4):
        same("pixel_ce", F.cross_entropy, *batch(channels))
    logits, targets = batch(1)
    same("pixel_ce", lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float()), logits, targets)


def test_cross_entropy_with_ignored_label_is_torchs_of_each_image():
    logits, targets = batch(3)
    targets = with_ignored(targets)
    same(
        "pixel_ce", lambda z, y: per_image(lambda a, b: F.cross_entropy(a, b, ignore_index=255), z, y), logits, targets
    )


def test_two_outputs_are_one_of_their_difference():
    logits, targets = batch(2)
    difference = logits[:, 1:] - logits[:, :1]
    for name in ("pixel_ce", "dice_bce", "dice_bce_inverse", "focal", "inverse_dice", "switching"):
        torch.testing.assert_close(make(name)(logits, targets), make(name)(difference, targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.0), (0.25, 1.5)])
def test_focal_is_torchvisions(alpha, gamma):
    def reference(z, y):
        return sigmoid_focal_loss(z[:, 0], y.float(), alpha, gamma, reduction="mean")

    same("focal", reference, *batch(1), alpha=alpha, gamma=gamma)


def test_focal_with_gamma_0_and_even_weights_is_half_the_cross_entropy():
    logits, targets = batch(1)
    half = make("focal", alpha=0.5, gamma=0)(logits, targets)
    torch.testing.assert_close(half, make("pixel_ce")(logits, targets) / 2)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_dice_is_smps_of_each_image(channels):
    reference = smp.DiceLoss("binary" if channels == 1 else "multiclass", ignore_index=255)
    logits, targets = batch(channels)
    same("dice", lambda z, y: per_image(reference, z, y), logits, with_ignored(targets), smooth=1e-9)
    pooled = reference(logits, targets)
    assert abs(make("dice")(logits, targets) - pooled) > 1e-4


def test_inverse_dice_is_the_dice_of_swapped_labels():
    logits, targets = batch(1)
    torch.testing.assert_close(make("inverse_dice")(logits, targets), make("dice")(-logits, 1 - targets))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (1.0, 0.5)])
def test_tversky_is_smps_of_each_image(channels, alpha, beta):
    mode = "binary" if channels == 1 else "multiclass"
    reference = smp.TverskyLoss(mode, alpha=alpha, beta=beta, ignore_index=255)
    logits, targets = batch(channels)
    targets = with_ignored(targets)
    same("tversky", lambda z, y: per_image(reference, z, y), logits, targets, alpha=alpha, beta=beta, smooth=1e-9)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_tversky_with_even_weights_is_dice(channels):
    logits, targets = batch(channels)
    even = make("tversky", alpha=0.5, beta=0.5)(logits, targets)
    torch.testing.assert_close(even, make("dice", smooth=2e-5)(logits, targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_lovasz_is_smps(channels):
    reference = smp.LovaszLoss("binary" if channels == 1 else "multiclass", per_image=True, ignore_index=255)
    logits, targets = batch(channels)
    targets = with_ignored(targets)
    targets[0][targets[0] == 1] = 0  # a class that one image lacks
    same("lovasz", lambda z, y: reference(z[:, 0] if channels == 1 else z, y), logits, targets)
