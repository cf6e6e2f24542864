"""Losses at cases worked out by hand."""

from math import exp, log

import pytest
import torch

from tests.losses.cases import BINARY, NAMES, make

# 2x2 pixels, one of them class 1, all probabilities 1/2. Dice of class 1: sum(p t) = 1/2, sum(p) = 2, sum(t) = 1, so
# 1 - 1/3. Of class 0: 3/2, 2 and 3, so 1 - 3/5. Tversky: tp 1/2, fp 3/2, fn 1/2, so 1 - 0.5 / (0.5 + 0.45 + 0.35).
# Focal: (0.25 + 3 * 0.75) / 4 * (1/2)^2 * ln 2. Lovasz: every hinge error is 1 and the loss of "all wrong" is 1.
# Switching: 1 to 3 is below 0.5, so dice counts 1 - 0.75.
HALF = {
    "pixel_ce": log(2),
    "ce_dice": log(2) + 2 / 3,
    "dice": 2 / 3,
    "dice_bce": log(2) + 2 / 3,
    "dice_bce_inverse": log(2) + 2 / 3 + 2 / 5,
    "focal": 0.15625 * log(2),
    "inverse_dice": 2 / 5,
    "lovasz": 1.0,
    "switching": log(2) + 0.25 * 2 / 3 + 0.75 * 2 / 5,
    "tversky": 1 - 0.5 / 1.3,
}
TARGET = torch.tensor([[[1, 0], [0, 0]]])


def test_every_option_is_covered():
    assert sorted(HALF) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_sigmoid(name, dtype):
    assert make(name)(torch.zeros(1, 1, 2, 2), TARGET.to(dtype)).item() == pytest.approx(HALF[name], abs=1e-5)


# With two outputs dice, Tversky and Lovasz-softmax are means over both classes. Tversky of class 0: tp 3/2, fp 1/2,
# fn 3/2. Lovasz: all errors are 1/2, of "all wrong", for both classes.
SOFTMAX = {
    "dice": (2 / 3 + 2 / 5) / 2,
    "ce_dice": log(2) + (2 / 3 + 2 / 5) / 2,
    "tversky": ((1 - 0.5 / 1.3) + (1 - 1.5 / (1.5 + 0.15 + 1.05))) / 2,
    "lovasz": 0.5,
}


@pytest.mark.parametrize("name", NAMES)
def test_softmax_of_two(name):
    value = make(name)(torch.full((1, 2, 2, 2), 5.0), TARGET).item()
    assert value == pytest.approx(SOFTMAX.get(name, HALF[name]), abs=1e-5)


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_background_left_out_of_two_classes_is_class_1(name):
    loss = make(name, skip_background=True)
    logits = torch.tensor([[[[1.0, 2.0], [-3.0, 0.5]]]])
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    assert loss(two, TARGET).item() == pytest.approx(make(name)(logits, TARGET).item(), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_right_prediction_has_loss_0_and_a_wrong_one_the_most(name):
    logits = (20.0 * TARGET - 10)[:, None]
    loss = make(name)
    assert loss(logits, TARGET).item() == pytest.approx(0, abs=5e-4)
    assert loss(-logits, TARGET).item() > max(0.99, HALF[name])


def test_two_probabilities():
    # p = 3/4 at the one pixel of class 1, 1/4 at one of class 0, 0 at two more: sum(p t) = 3/4, sum(p) = 1, sum(t) = 1.
    logits = torch.tensor([[[[log(3), -log(3)], [-200.0, -200.0]]]])
    bce = -2 * log(3 / 4) / 4
    inverse = 1 - 2 * (3 / 4 + 2) / (3 + 3)
    expected = {"dice": 1 / 4, "pixel_ce": bce, "inverse_dice": inverse, "dice_bce_inverse": 1 / 4 + bce + inverse}
    # Hinge errors 1 - log 3 < 0 at class 1 and 1 - log 3 < 0 at class 0: on the right side by more than the margin.
    expected["lovasz"] = 0.0
    for name, value in expected.items():
        assert make(name)(logits, TARGET).item() == pytest.approx(value, abs=1e-5), name


def test_lovasz_hinge_sorts_errors():
    # Errors 1 - z s: 0.5 (class 1), 2, 0.75, below 0. Jaccard loss with the first, the
    # first two, all three wrong: 1/2, 2/3, 1.
    logits = torch.tensor([[[[0.5, 1.0], [-0.25, -9.0]]]])
    expected = 2 * 1 / 2 + 0.75 * (2 / 3 - 1 / 2) + 0.5 * (1 - 2 / 3)
    assert make("lovasz")(logits, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_three_classes():
    # Pixels 0 to 3 of classes 0, 0, 1, 2; sure of 0, 1, 1, 2. Dice of class 0: 2*1/(1+2), of 1: 2*1/(2+1), of 2: 1.
    targets = torch.tensor([[[0, 0], [1, 2]]])
    logits = 60.0 * torch.nn.functional.one_hot(torch.tensor([[[0, 1], [1, 2]]]), 3).permute(0, 3, 1, 2)
    assert make("dice")(logits, targets).item() == pytest.approx((1 / 3 + 1 / 3 + 0) / 3, abs=1e-5)
    assert make("dice", skip_background=True)(logits, targets).item() == pytest.approx(1 / 6, abs=1e-5)
    assert make("pixel_ce")(logits, targets).item() == pytest.approx(60 / 4, abs=1e-5)
    # IoU of sure predictions: 1/2, 1/2, 1.
    assert make("lovasz")(logits, targets).item() == pytest.approx(1 / 3, abs=1e-5)
    # Class 0: tp 1, fn 1; class 1: tp 1, fp 1.
    tversky = ((1 - 1 / 1.7) + (1 - 1 / 1.3) + 0) / 3
    assert make("tversky")(logits, targets).item() == pytest.approx(tversky, abs=1e-5)


def test_a_class_that_is_absent_and_not_predicted_has_dice_loss_0():
    targets = torch.tensor([[[0, 0], [1, 1]]])
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 2] = -60
    # p = 1/2 for classes 0 and 1: 1 - 2*1/(2+2) each; class 2 adds nothing. Lovasz-softmax leaves absent classes out.
    assert make("dice")(logits, targets).item() == pytest.approx((1 / 2 + 1 / 2 + 0) / 3, abs=1e-5)
    assert make("lovasz")(logits, targets).item() == pytest.approx(1 / 2, abs=1e-5)


@pytest.mark.parametrize("size", [3, 100])
def test_smoothing_leaves_ordinary_values(size):
    # p = 1/4 everywhere, half of the upper row of class 1.
    count = size // 2
    targets = torch.zeros(1, size, size)
    targets[0, 0, :count] = 1
    exact = 1 - 2 * count / 4 / (size**2 / 4 + count)
    assert make("dice")(torch.full((1, 1, size, size), -log(3)), targets).item() == pytest.approx(exact, abs=1e-5)


def test_images_are_averaged_not_pooled():
    # Image 0: one pixel of class 1, found, and one more predicted: 1 - 2/3. Image 1: three, all found: 0.
    targets = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [1, 0]]])
    logits = 100.0 * torch.tensor([[[[1, 1], [-1, -1]]], [[[1, 1], [1, -1]]]])
    mean, pooled = (1 / 3 + 0) / 2, 1 - 2 * 4 / (5 + 4)
    assert make("dice")(logits, targets).item() == pytest.approx(mean, abs=1e-5)
    assert abs(mean - pooled) > 0.05
    # Cross-entropy: image 0 has one pixel that counts and is wrong (100), image 1 four right ones (0).
    targets[0] = torch.tensor([[255, 0], [255, 255]])
    assert make("pixel_ce")(logits, targets).item() == pytest.approx((100 + 0) / 2, abs=1e-4)


@pytest.mark.parametrize("lam", [0.25, 0.5, 0.75, 1.0])
def test_switching_on_both_sides_of_its_threshold(lam):
    # Six pixels at p = 1/2. Two of class 1 and four of class 0: 2/4 does not exceed 0.5. Dice 1 - 2*1/(3+2) = 3/5,
    # inverse 1 - 2*2/(3+4) = 3/7. With one background pixel ignored, 2/3 does: dice over five pixels
    # 1 - 2*1/(2.5+2) = 5/9, inverse 1 - 2*1.5/(2.5+3) = 5/11.
    loss, logits = make("switching", lam=lam), torch.zeros(1, 1, 2, 3)
    at = torch.tensor([[[1, 1, 0], [0, 0, 0]]])
    above = torch.tensor([[[1, 1, 0], [0, 0, 255]]])
    value_at = log(2) + (1 - lam) * 3 / 5 + lam * 3 / 7
    value_above = log(2) + lam * 5 / 9 + (1 - lam) * 5 / 11
    assert loss(logits, at).item() == pytest.approx(value_at, abs=1e-5)
    assert loss(logits, above).item() == pytest.approx(value_above, abs=1e-5)
    # Each image of a batch takes its own side.
    both = loss(torch.zeros(2, 1, 2, 3), torch.cat([at, above]))
    assert both.item() == pytest.approx((value_at + value_above) / 2, abs=1e-5)


def test_switching_without_background_is_above_every_threshold():
    # p = 1/2 at four pixels of class 1: dice 1 - 2*2/(2+4) = 1/3, inverse of an empty background: 1.
    value = make("switching", lam=0.25, threshold=1e6)(torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2))
    assert value.item() == pytest.approx(log(2) + 0.25 / 3 + 0.75, abs=1e-4)


def test_grey_targets():
    # t = 1/2 on background, 1 on the region, p = 1/2: sum(p t) = 1/2 * 2.5, sum(p) = 2, sum(t) = 2.5.
    grey = torch.tensor([[[1.0, 0.5], [0.5, 0.5]]])
    logits = torch.zeros(1, 1, 2, 2)
    assert make("dice")(logits, grey).item() == pytest.approx(1 - 2.5 / 4.5, abs=1e-5)
    assert make("pixel_ce")(logits, grey).item() == pytest.approx(log(2), abs=1e-6)
    assert make("lovasz")(logits, grey).item() == pytest.approx(1, abs=1e-6)
    # Foreground is what exceeds 1/2: 1 to 3, so dice counts 1 - lam. Complements: sum(q s) = 3/4, 2 and 3/2.
    expected = log(2) + 0.25 * (1 - 2.5 / 4.5) + 0.75 * (1 - 1.5 / 3.5)
    assert make("switching")(logits, grey).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "label", "logit"), [("dice", 0, -100), ("tversky", 0, -100), ("inverse_dice", 1, 100)]
)
def test_an_empty_region(name, label, logit):
    # `label` everywhere leaves the region empty, `logit` everywhere predicts it empty.
    loss, empty = make(name), torch.full((1, 2, 2), label)
    assert loss(torch.full((1, 1, 2, 2), float(logit)), empty).item() == 0
    assert loss(torch.zeros(1, 1, 2, 2), empty).item() == pytest.approx(1, abs=1e-4)
    assert loss(torch.full((1, 1, 2, 2), float(logit)), 1 - empty).item() == pytest.approx(1, abs=1e-4)


def test_weights_of_sums():
    logits = torch.zeros(1, 1, 2, 2)
    weighted = make("dice_bce_inverse", bce=2, dice=0.5, inverse_dice=3)(logits, TARGET).item()
    assert weighted == pytest.approx(2 * log(2) + 0.5 * 2 / 3 + 3 * 2 / 5, abs=1e-5)
    assert make("ce_dice", ce=0, dice=3)(logits, TARGET).item() == pytest.approx(2, abs=1e-4)


def test_focal_weighs_sure_pixels_less():
    # p_t = 1 / (1 + e^-2) at both pixels, alpha_t 0.25 and 0.75.
    p = 1 / (1 + exp(-2))
    value = make("focal")(torch.tensor([[[[2.0, -2.0]]]]), torch.tensor([[[1, 0]]])).item()
    assert value == pytest.approx(-((1 - p) ** 2) * log(p) * (0.25 + 0.75) / 2, abs=1e-7)


@pytest.mark.parametrize("name", BINARY)
def test_binary_losses_refuse_more_than_two_outputs(name):
    with pytest.raises(ValueError, match=r"^\w+: 3 outputs; accepted: 1 \(sigmoid\), or 2 \(softmax, class 1 .*\)$"):
        make(name)(torch.zeros(1, 3, 2, 2), TARGET)
