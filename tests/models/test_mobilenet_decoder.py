"""Report C's model: a frozen encoder stays as it is, and the decoder's options do what they say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retable.models.mobilenet_decoder import MobileNetDecoder

FEW = (16, 8, 8, 4, 4)


def trained_one_step(frozen):
    torch.manual_seed(0)
    model = MobileNetDecoder((3, 32, 32), 1, FEW, frozen=frozen)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    model.eval()
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.rand(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
    after = model.state_dict()
    return model, {key for key in before if not torch.equal(before[key], after[key])}, set(before)


def test_frozen_encoder_is_unchanged_by_training():
    model, changed, keys = trained_one_step(frozen=True)
    assert changed == {key for key in keys if not key.startswith("encoder.")}
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert not any(m.training for m in model.encoder.modules())
    assert model.decoder.training


def test_fine_tuned_encoder_changes_in_weights_and_statistics():
    model, changed, keys = trained_one_step(frozen=False)
    assert changed == keys
    assert all(m.training for m in model.modules())


def test_layers_of_the_decoder():
    model = MobileNetDecoder((3, 128, 128), 1)
    sizes, x = [], torch.rand(2, 3, 128, 128)
    for part in (*model.encoder, *model.decoder):
        x = part(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[4] == (1280, 4, 4)
    assert sizes[5:] == [(512, 8, 8), (256, 16, 16), (128, 32, 32), (64, 64, 64), (32, 128, 128)]
    assert {(u.kernel_size, u.stride, u.padding) for u in model.modules() if isinstance(u, nn.ConvTranspose2d)} == {
        ((4, 4), (2, 2), (1, 1))
    }


def test_several_adds_encoder_maps():
    """With the decoder's norms at zero, its output is what the last lateral connection adds."""
    model = MobileNetDecoder((3, 64, 64), 1, FEW, features="several").eval()
    assert [(c.in_channels, c.out_channels) for c in model.laterals] == [(96, 16), (32, 8), (24, 8), (16, 4)]
    images = torch.rand(1, 3, 64, 64)
    for doubling in model.decoder:
        nn.init.zeros_(doubling.norm.weight)
    seen = []
    model.decoder[4].register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    with torch.no_grad():
        model(images)
        torch.testing.assert_close(seen[0], model.laterals[3](model.encoder[0](images)))


def test_residual_adds_the_upsampled_input():
    doubling = MobileNetDecoder((3, 32, 32), 1, FEW, residual=True).decoder[1].eval()
    nn.init.zeros_(doubling.norm.weight)
    x = torch.randn(1, 16, 3, 3)
    with torch.no_grad():
        nearest = doubling.shortcut(x).repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(doubling(x), F.relu(nearest))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": 1}, "frozen=1: accepted: true, false"),
        ({"features": "all"}, "features=all: accepted: last, several"),
        ({"residual": None}, "residual=None: accepted: true, false"),
        ({"widths": 32}, "widths=32: accepted: a list of 5 numbers of channels"),
    ],
)
def test_refused_values(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MobileNetDecoder((3, 32, 32), 1, **options)
