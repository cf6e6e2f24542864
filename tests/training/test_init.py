"""Initialisations, layer by layer."""

import math

import pytest
import torch
import torchvision
from torch import nn

from retable.models.cnn import CNN
from retable.training import init
from tests.checking import check, refusal

CONV = ["features.block1.0", "features.block2.0"]
FC = ["head.1", "head.3"]
WHERE = {"conv": CONV, "fc": FC, "both": CONV + FC}
NORMS = ["features.block1.1", "features.block2.1"]
# conv 3->8 and 8->16 (3x3), fc 64->20 and 20->10
FANS = {CONV[0]: (27, 72), CONV[1]: (72, 144), FC[0]: (64, 20), FC[1]: (20, 10)}


def model():
    torch.manual_seed(3)
    return CNN((3, 8, 8), 10, 2, width=8, hidden=20, batch_norm=True)


def changed(made):
    """Names of the tensors that are not bit-equal to the framework's initialisation under the same seed."""
    plain = model().state_dict()
    return {name for name, value in made.state_dict().items() if not torch.equal(value, plain[name])}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("name", "options", "value"), [("zero", {}, 0.0), ("constant", {}, 0.01)])
def test_zero_and_constant_set_weights_and_biases(name, options, value, where):
    made = model()
    getattr(init, name)(made, where, **options)
    assert changed(made) == {f"{layer}.{part}" for layer in WHERE[where] for part in ("weight", "bias")}
    state = made.state_dict()
    for tensor in changed(made):
        assert torch.equal(state[tensor], torch.full_like(state[tensor], value))


def test_constants_value():
    made = model()
    init.constant(made, "fc", value=-0.25)
    assert made.head[3].bias.tolist() == [-0.25] * 10


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", ["he", "xavier"])
def test_he_and_xavier_draw_weights_alone_within_their_bounds(name, where):
    made = model()
    getattr(init, name)(made, where)
    assert changed(made) == {f"{layer}.weight" for layer in WHERE[where]}
    for layer in WHERE[where]:
        weight, (fan_in, fan_out) = made.get_submodule(layer).weight, FANS[layer]
        bound = math.sqrt(6 / fan_in) if name == "he" else math.sqrt(6 / (fan_in + fan_out))
        assert 0.95 * bound < weight.abs().max() <= bound * (1 + 1e-6)
        # The standard deviation of a uniform distribution is its bound / sqrt(3).
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert abs(weight.mean().item()) < 4 * bound / math.sqrt(3 * weight.numel())


@pytest.mark.parametrize("name", ["he", "xavier"])
def test_draws_are_uniform_in_order_of_definition(name):
    made = model()
    torch.manual_seed(11)
    getattr(init, name)(made, "both")
    torch.manual_seed(11)
    for layer in WHERE["both"]:
        fan_in, fan_out = FANS[layer]
        bound = math.sqrt(6 / (fan_in + (fan_out if name == "xavier" else 0)))
        weight = made.get_submodule(layer).weight
        torch.testing.assert_close(weight.detach(), (2 * torch.rand_like(weight) - 1) * bound)


@pytest.mark.parametrize("where", WHERE)
def test_default_leaves_the_frameworks_own(where):
    made = model()
    init.default(made, where)
    assert changed(made) == set()
    for layer, (fan_in, _) in FANS.items():
        for tensor in made.get_submodule(layer).parameters():
            assert tensor.abs().max() <= 1 / math.sqrt(fan_in)


def test_layers_without_bias_and_other_dimensions():
    made = nn.Sequential(nn.Conv1d(1, 2, 3, bias=False), nn.ConvTranspose2d(2, 3, 2), nn.Linear(4, 5, bias=False))
    init.constant(made, "conv", 0.5)
    assert made[0].weight.unique().tolist() == [0.5]
    assert made[1].bias.tolist() == [0.5] * 3
    assert 0.5 not in made[2].weight.unique().tolist()


def test_weights_that_are_brought_along_are_not_drawn_anew(compose, tmp_path):
    path = tmp_path / "mobilenet_v2.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), path)
    said = refusal(compose("task=lesion", f"model.weights={path}", "init=he"))
    assert (
        said == f"init=he: draws anew what model.weights={path} brings along; accepted: default, or model.weights=none"
    )
    check(compose("task=lesion", f"model.weights={path}"))
    check(compose("task=lesion", "init=he"))  # the sample set's default is none


@pytest.mark.parametrize("name", ["zero", "constant", "he", "xavier"])
def test_a_kind_of_layers_that_a_model_lacks_is_refused(name):
    alone = nn.Sequential(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match=r"^where=fc: accepted: conv, both \(this model has no such layer\)$"):
        getattr(init, name)(alone, "fc")
    getattr(init, name)(alone, "both")
    init.default(nn.Identity())


def test_refusals():
    with pytest.raises(ValueError, match=r"^where=all: accepted: conv, fc, both$"):
        init.he(model(), "all")
    with pytest.raises(ValueError, match=r"^value=nan: accepted: a number in \(-inf, inf\)$"):
        init.constant(model(), value=math.nan)
