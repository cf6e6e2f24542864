"""Transforms against torchvision and by hand, and the sizes of augmented sets."""

import math

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from retable.data.arrays import IGNORE
from retable.data.loader import mixed_seed
from retable.run.assemble import make_data
from retable.training.augment import Augment, GaussianNoise, HorizontalFlip, Rotate, VerticalFlip, rotate, rotate_masks


@pytest.fixture
def images():
    return torch.rand(6, 3, 28, 28, generator=generator(1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("degrees", [-120.0, -45.0, 0.0, 7.5, 20.0, 45.0, 90.0, 180.0])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (20, 31), (33, 16)])
def test_rotate_as_torchvision(degrees, size):
    images = torch.rand(2, 3, *size, generator=generator())
    expected = v2.rotate(images, degrees, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(rotate(images, torch.full((2,), degrees)), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("quarters", [1, 2, 3, 4, -1])
def test_quarter_turns_are_counter_clockwise(quarters):
    images = torch.rand(2, 1, 9, 9, dtype=torch.float64, generator=generator())
    turned = rotate(images, torch.full((2,), 90.0 * quarters, dtype=torch.float64))
    torch.testing.assert_close(turned, torch.rot90(images, quarters, (2, 3)), atol=1e-12, rtol=0)


def test_quarter_turn_by_hand():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    torch.testing.assert_close(rotate(image, torch.tensor([90.0])), torch.tensor([[[[2.0, 4.0], [1.0, 3.0]]]]))


def test_corners_are_filled_with_zero():
    turned = rotate(torch.ones(1, 1, 32, 32), torch.tensor([45.0]))[0, 0]
    assert turned[0, 0] == turned[0, -1] == turned[-1, 0] == turned[-1, -1] == 0
    assert turned[16, 16] == pytest.approx(1)
    # An octagon remains: a square of side s under 45 degrees covers 2 (sqrt(2) - 1) of itself.
    assert turned.mean().item() == pytest.approx(2 * (math.sqrt(2) - 1), abs=0.01)


def test_each_image_by_its_own_angle():
    images = torch.rand(3, 1, 8, 8, generator=generator())
    turned = rotate(images, torch.tensor([0.0, 90.0, 180.0]))
    expected = torch.stack([torch.rot90(image, quarters, (1, 2)) for quarters, image in enumerate(images)])
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


def test_flips_are_exact():
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    assert HorizontalFlip().copy(image, generator()).tolist() == [[[[3, 2, 1], [6, 5, 4]]]]
    assert VerticalFlip().copy(image, generator()).tolist() == [[[[4, 5, 6], [1, 2, 3]]]]


def test_a_copy_is_rotated_by_the_full_angle(images):
    expected = v2.rotate(images, 20, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(Rotate(20).copy(images, generator()), expected, atol=2e-5, rtol=0)


TRANSFORMS = [HorizontalFlip, VerticalFlip, Rotate, GaussianNoise]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_probability_0_changes_no_image_and_1_every_one(transform, images):
    assert torch.equal(transform(p=0).batch(images, generator()), images)
    made = transform(p=1).batch(images, generator())
    assert all(not torch.equal(a, b) for a, b in zip(made, images, strict=True))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_half_of_the_images_are_transformed_each_by_its_own_draw(transform):
    images = torch.rand(1, 1, 5, 5, generator=generator(1)).expand(4000, 1, 5, 5)
    made = transform(p=0.5).batch(images, generator())
    unchanged = int((made == images).flatten(1).all(1).sum())
    assert abs(unchanged - 2000) < 4 * math.sqrt(4000 / 4)
    different = len(torch.unique(made.flatten(1), dim=0))
    if transform in (HorizontalFlip, VerticalFlip):
        flipped = images[:1].flip(transform.axis)
        assert int((made == flipped).flatten(1).all(1).sum()) == 4000 - unchanged
        assert different == 2
    else:
        assert different == 4000 - unchanged + 1


def test_random_angles_are_uniform_within_the_limits():
    """A point at distance r to the right of the centre moves to r sin(angle) above it."""
    side, r = 41, 16
    images = torch.zeros(2000, 1, side, side)
    images[:, 0, 20, 20 + r] = 1
    made = Rotate(30, p=1).batch(images, generator())[:, 0]
    grid = torch.arange(side, dtype=torch.float32) - 20
    mass = made.sum((1, 2))
    up, right = -(made.sum(2) * grid).sum(1) / mass, (made.sum(1) * grid).sum(1) / mass
    angle = torch.rad2deg(torch.atan2(up, right))
    assert angle.abs().max() < 31
    assert angle.min() < -28
    assert angle.max() > 28
    assert abs(angle.mean().item()) < 4 * 30 / math.sqrt(3 * 2000)
    assert angle.std().item() == pytest.approx(30 / math.sqrt(3), rel=0.05)


def test_noise_has_its_deviation():
    grey = torch.full((10, 1, 100, 100), 0.5)
    made = GaussianNoise(sigma=0.05).copy(grey, generator()) - grey
    assert made.std().item() == pytest.approx(0.05, rel=0.01)
    assert made.mean().item() == pytest.approx(0, abs=4 * 0.05 / math.sqrt(grey.numel()))


def test_noise_is_clipped_to_the_range():
    black = GaussianNoise(sigma=0.1).copy(torch.zeros(10, 1, 100, 100), generator())
    white = GaussianNoise(sigma=0.1).copy(torch.ones(10, 1, 100, 100), generator())
    assert (black.min(), white.max()) == (0, 1)
    assert (black == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    # The positive half of a normal distribution has the mean sigma / sqrt(2 pi).
    assert black.mean().item() == pytest.approx(0.1 / math.sqrt(2 * math.pi), rel=0.02)
    assert 1 - white.mean().item() == pytest.approx(0.1 / math.sqrt(2 * math.pi), rel=0.02)


def test_draws_come_from_the_generator_alone(images):
    augment = Augment("fly", [Rotate(), HorizontalFlip(), GaussianNoise()])
    first = augment.batch(images, generator(5))
    torch.manual_seed(99)
    assert torch.equal(augment.batch(images, generator(5)), first)
    assert not torch.equal(augment.batch(images, generator(6)), first)


def test_fly_applies_one_after_another(images):
    flips = Augment("fly", [HorizontalFlip(p=1), VerticalFlip(p=1)])
    assert torch.equal(flips.batch(images, generator()), torch.rot90(images, 2, (2, 3)))


def test_copies_are_made_of_the_originals(images):
    rotated, flipped, noisy = Augment("copies", [Rotate(90), HorizontalFlip(), GaussianNoise()]).copies(images, 4)
    torch.testing.assert_close(rotated, torch.rot90(images, 1, (2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(flipped, images.flip(3))
    assert torch.equal(noisy, (images + 0.1 * torch.randn(images.shape, generator=generator(4))).clamp(0, 1))


@pytest.fixture
def masks():
    """Labels 0 to 2, and IGNORE, in blocks of 7x7 pixels."""
    blocks = torch.tensor([0, 1, 2, IGNORE], dtype=torch.uint8)[torch.randint(4, (6, 4, 4), generator=generator(2))]
    return blocks.repeat_interleave(7, 1).repeat_interleave(7, 2)


@pytest.mark.parametrize("form", ["copy", "batch"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_masks_change_no_image(transform, form, images, masks):
    alone = getattr(transform(), form)(images, generator(3))
    beside, made = getattr(transform(), form)(images, generator(3), masks)
    assert torch.equal(alone, beside)
    assert (made.dtype, made.shape) == (torch.uint8, masks.shape)


@pytest.mark.parametrize("degrees", [-120.0, -45.0, 0.0, 7.5, 20.0, 89.0, 180.0])
@pytest.mark.parametrize("size", [(28, 28), (20, 31), (33, 16)])
def test_masks_are_rotated_as_torchvision_does(degrees, size):
    masks = torch.randint(0, 255, (2, *size), generator=generator(), dtype=torch.uint8)
    expected = v2.rotate(masks[:, None], degrees, interpolation=InterpolationMode.NEAREST, fill=[IGNORE])[:, 0]
    # Where a pixel's place falls midway between two others, the last bit decides which one it takes.
    assert (rotate_masks(masks, torch.full((2,), degrees)) != expected).float().mean() < 0.003


@pytest.mark.parametrize("degrees", [13.0, 45.0])
def test_what_a_rotation_brings_in_is_ignored(degrees):
    masks = torch.full((1, 32, 32), 254, dtype=torch.uint8)
    inside = rotate(torch.ones(1, 1, 32, 32), torch.tensor([degrees]))[:, 0]
    made = rotate_masks(masks, torch.tensor([degrees]))
    assert set(made.unique().tolist()) == {254, IGNORE}
    assert (made[inside > 0.999] == 254).all()
    assert (made[inside == 0] == IGNORE).all()


@pytest.mark.parametrize("transform", [HorizontalFlip, VerticalFlip, Rotate])
def test_mask_has_its_images_draw(transform):
    """Image and mask hold the same block. The nearest of four pixels has a bilinear weight of a quarter at least."""
    masks = torch.zeros(64, 24, 24, dtype=torch.uint8)
    masks[:, 2:10, 5:10] = 1
    images = masks[:, None].float()
    for seed in range(3):
        made, turned = transform(p=0.5).batch(images, generator(seed), masks)
        same = (made == images).flatten(1).all(1)
        assert 10 < int(same.sum()) < 54
        assert torch.equal(turned[same], masks[same])
        assert ((made[:, 0] - turned.float()).abs()[turned != IGNORE] <= 0.751).all()


def test_noise_leaves_masks_alone(images, masks):
    assert torch.equal(GaussianNoise(p=1).batch(images, generator(), masks)[1], masks)
    assert torch.equal(GaussianNoise().copy(images, generator(), masks)[1], masks)


BOXES = torch.tensor(
    [  # an image of 4x3 on a canvas of 5x4 with one box and a row of padding; one that fills the canvas
        [[0, 0, 4, 3, -1], [1, 0, 3, 2, 7], [0, 0, 0, 0, -1]],
        [[0, 0, 5, 4, -1], [0, 1, 2, 2, 0], [4, 3, 5, 4, 1]],
    ],
    dtype=torch.float32,
)


def test_flips_take_boxes_along_within_the_images_extent():
    canvas = torch.arange(40.0).reshape(2, 1, 4, 5)
    images, boxes = HorizontalFlip(p=1.0).batch(canvas, generator(), BOXES)
    assert images[0, 0].tolist() == [[3, 2, 1, 0, 4], [8, 7, 6, 5, 9], [13, 12, 11, 10, 14], [18, 17, 16, 15, 19]]
    assert torch.equal(images[1], canvas[1].flip(-1))
    assert boxes.tolist() == [
        [[0, 0, 4, 3, -1], [1, 0, 3, 2, 7], [0, 0, 0, 0, -1]],
        [[0, 0, 5, 4, -1], [3, 1, 5, 2, 0], [0, 3, 1, 4, 1]],
    ]
    images, boxes = VerticalFlip(p=1.0).batch(canvas, generator(), BOXES)
    assert images[0, 0].tolist() == [[10, 11, 12, 13, 14], [5, 6, 7, 8, 9], [0, 1, 2, 3, 4], [15, 16, 17, 18, 19]]
    assert boxes[0].tolist() == [[0, 0, 4, 3, -1], [1, 1, 3, 3, 7], [0, 0, 0, 0, -1]]
    assert boxes[1].tolist() == [[0, 0, 5, 4, -1], [0, 2, 2, 3, 0], [4, 0, 5, 1, 1]]


def test_each_image_is_flipped_with_its_boxes_or_not_at_all():
    canvas = torch.rand(64, 1, 4, 5, generator=generator(1))
    given = BOXES[1:].expand(64, 3, 5)
    images, boxes = Augment("fly", [HorizontalFlip(p=0.5)]).batch(canvas, generator(3), given)
    moved = (images != canvas).flatten(1).any(1)
    assert 20 < int(moved.sum()) < 44
    assert torch.equal((boxes != given).flatten(1).any(1), moved)
    assert torch.equal(images[moved], canvas[moved].flip(-1))


def test_augment_with_masks(images, masks):
    turn = Augment("fly", [HorizontalFlip(p=1), VerticalFlip(p=1), GaussianNoise(p=0)])
    made, turned = turn.batch(images, generator(), masks)
    assert torch.equal(made, torch.rot90(images, 2, (2, 3)))
    assert torch.equal(turned, torch.rot90(masks, 2, (1, 2)))
    (rotated, rotated_masks), (flipped, flipped_masks) = Augment("copies", [Rotate(90), HorizontalFlip()]).copies(
        images, 4, masks
    )
    torch.testing.assert_close(rotated, torch.rot90(images, 1, (2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(rotated_masks, torch.rot90(masks, 1, (1, 2)))
    assert torch.equal(flipped, images.flip(3))
    assert torch.equal(flipped_masks, masks.flip(2))


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        (["augment=copies"], 5),
        (["augment=copies", "augment.transforms=[rotate,vflip,hflip]"], 4),
        (["augment=copies", "augment.transforms=[rotate]"], 2),
        (["augment=fly"], 1),
        (["augment=none"], 1),
    ],
    ids=["all", "without noise", "one", "fly", "none"],
)
def test_sizes_of_augmented_sets(compose, overrides, times):
    data = make_data(compose("task=cifar", *overrides))
    data.setup("fit")
    n = len(data.splits.train)
    assert n == 2000
    assert len(data.train_images) == len(data.train_targets) == times * n
    assert len(data.val_images) == 500


def test_copies_follow_the_originals_in_the_order_of_the_list(compose):
    data = make_data(compose("task=cifar", "augment=copies", "data.fraction=0.1"))
    data.setup("fit")
    images, rotated, vflip, hflip, noisy = data.train_images.split(200)
    assert torch.equal(images, torch.from_numpy(data.splits.train.images.copy()))
    assert torch.equal(data.train_targets.view(5, 200), data.train_targets[:200].expand(5, 200))
    assert torch.equal(vflip, images.flip(2))
    assert torch.equal(hflip, images.flip(3))
    expected = v2.rotate(images / 255, 45, interpolation=InterpolationMode.BILINEAR) * 255
    assert (rotated.float() - expected).abs().max() <= 0.51
    noise = torch.randn(images.shape, generator=generator(mixed_seed(0, 0, 2)))
    assert (noisy.float() - (images / 255 + 0.1 * noise).clamp(0, 1) * 255).abs().max() <= 0.51


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rotate(degrees=400), r"^degrees=400: accepted: a number in \[-360, 360\]$"),
        (lambda: Rotate(p=1.5), r"^p=1.5: accepted: a number in \[0, 1\]$"),
        (lambda: HorizontalFlip(p=-0.1), r"^p=-0.1: accepted: a number in \[0, 1\]$"),
        (lambda: GaussianNoise(sigma=-1), r"^sigma=-1: accepted: a number in \[0, inf\)$"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
