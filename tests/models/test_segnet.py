"""Report A2's networks: pooling indices, what replaces them, and the skip connections."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retable.models.segnet import SegNet

WIDTHS = (2, 3, 4, 5, 6)


def outputs(model, modules, images):
    """What each of the modules gave in one pass, in order."""
    seen = []
    handles = [module.register_forward_hook(lambda _m, given, out: seen.append((given, out))) for module in modules]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return seen


def test_unpooling_puts_maxima_where_they_were():
    """Upsampled maps are zero but at the pool's maxima: each 2x2 window's largest place holds the value, by hand."""
    model = SegNet((1, 16, 16), 3, WIDTHS).eval()
    images = torch.rand(2, 1, 16, 16)
    before, after = outputs(model, model.encoder, images), outputs(model, model.up, images)
    assert [tuple(out.shape[1:]) for _, out in after] == [(6, 4, 4), (4, 8, 8), (2, 16, 16)]
    for (_, maps), (given, unpooled) in zip([before[4], before[2], before[0]], after, strict=True):
        windows = F.unfold(maps.flatten(0, 1)[:, None], 2, stride=2)  # (N C, 4, windows)
        filled = F.unfold(unpooled.flatten(0, 1)[:, None], 2, stride=2)
        values = given[0].flatten(0, 1).flatten(1)
        assert torch.equal(filled.gather(1, windows.argmax(1, keepdim=True)).squeeze(1), values)
        assert torch.equal(filled.sum(1), values)  # and nothing in the other three places


def test_unpooling_by_hand():
    """The decoder without its convolutions: 4x4 numbers pooled and unpooled through the model's own layers."""
    model = SegNet((1, 16, 16), 1, (1, 1, 1, 1, 1))
    x = torch.tensor([[1.0, 2, 0, 0], [3, 4, 0, 9], [5, 0, 7, 0], [0, 0, 0, 8]])[None, None]
    pooled, indices = model.down[0](x)
    assert pooled.flatten().tolist() == [4, 9, 5, 8]
    restored = model.up[0](pooled, indices)[0, 0]
    assert restored.tolist() == [[0, 0, 0, 0], [0, 4, 0, 9], [5, 0, 0, 0], [0, 0, 0, 8]]


@pytest.mark.parametrize(("down", "skip"), [("pool", False), ("strided", False), ("strided", True)])
def test_maps_of_the_decoder(down, skip):
    model = SegNet((1, 16, 16), 3, WIDTHS, (2, 2, 3, 3, 3), down, "transposed", skip).eval()
    sizes = [tuple(out.shape[1:]) for _, out in outputs(model, model.decoder, torch.rand(1, 1, 16, 16))]
    assert sizes == [(5, 4, 4), (4, 4, 4), (3, 8, 8), (2, 8, 8), (2, 16, 16)]
    kinds = {type(layer).__name__ for layer in model.down.modules() if not list(layer.children())}
    assert kinds == ({"MaxPool2d"} if down == "pool" else {"Conv2d", "BatchNorm2d", "ReLU"})
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)} == {(3, 3)}


def test_convolutions_of_each_block_mirrored_in_the_decoder():
    """As in the repository that the report cites: 2, 2, 3, 3, 3 in the encoder, the last of the decoder's narrows."""

    def shapes(blocks):
        return [[(m.in_channels, m.out_channels) for m in b.modules() if isinstance(m, nn.Conv2d)] for b in blocks]

    model = SegNet((1, 16, 16), 3, WIDTHS, (2, 2, 3, 3, 3), up="transposed", skip=True)
    assert shapes(model.encoder) == [
        [(1, 2), (2, 2)],
        [(2, 3), (3, 3)],
        [(3, 4), (4, 4), (4, 4)],
        [(4, 5), (5, 5), (5, 5)],
        [(5, 6), (6, 6), (6, 6)],
    ]
    assert shapes(model.decoder) == [
        [(2 + 2, 2), (2, 2)],
        [(3, 3), (3, 2)],
        [(4 + 4, 4), (4, 4), (4, 3)],
        [(5, 5), (5, 5), (5, 4)],
        [(6, 6), (6, 6), (6, 5)],
    ]


def test_skip_concatenates_the_encoders_maps():
    model = SegNet((1, 16, 16), 3, WIDTHS, (1,) * 5, "strided", "transposed", skip=True).eval()
    images = torch.rand(2, 1, 16, 16)
    encoder, decoder = outputs(model, model.encoder, images), outputs(model, model.decoder, images)
    upsampled = outputs(model, model.up, images)
    for block, up in ((2, 1), (0, 2)):  # the third block's maps at half size, the first's at full size
        joined = decoder[4 - block][0][0]
        assert torch.equal(joined, torch.cat([encoder[block][1], upsampled[up][1]], 1))
    assert decoder[0][0][0].shape[1] == WIDTHS[4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"down": "strided"}, r"up=unpool: accepted: transposed \(there are no pooling indices with down=strided\)"),
        ({"down": "mean"}, "down=mean: accepted: pool, strided"),
        ({"up": "nearest"}, "up=nearest: accepted: unpool, transposed"),
        ({"widths": [64, 128]}, r"widths=\[64, 128\]: accepted: a list of 5 numbers of channels"),
        ({"widths": [64, 128, 0, 1, 1]}, "widths=0: accepted: a whole number of at least 1"),
        ({"convolutions": [2, 2]}, r"convolutions=\[2, 2\]: accepted: a list of 5 numbers of convolutions"),
        ({"convolutions": [0] * 5}, "convolutions=0: accepted: a whole number of at least 1"),
        ({"skip": "yes"}, "skip=yes: accepted: true, false"),
    ],
)
def test_refused_values(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SegNet((1, 16, 16), 3, **options)
