"""An optimizer whose rates lie on the device takes the steps of torch's own, whatever a scheduler changes."""

import copy

import pytest
import torch
from torch import nn

from retable.training.rates import RatesOnDevice

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}),
    "sgd, momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "sgd, all": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {}),
    "adam, decay": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1, "amsgrad": True}),
}
OTHERS = {
    "rmsprop": (torch.optim.RMSprop, {}),
    "sgd, dampening": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "adam, maximised": (torch.optim.Adam, {"maximize": True}),
}
# What a scheduler makes of the rates, step by step; a rate of 0 first, as a warm-up has it.
CHANGES = [{"lr": 0.0}, {"lr": 0.01}, {}, {"lr": 0.003, "momentum": 0.8}, {"weight_decay": 0.03}, {"lr": 0.001}, {}]


def trained(kind, options, dtype, with_rates):
    """The model, its optimizer, and what a recording depends on after each of seven steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    model[2].bias.requires_grad_(False)  # given to the optimizer, without a gradient
    optimizer = kind(model.parameters(), lr=0.1, **options)
    rates, settings, gradients = RatesOnDevice(optimizer) if with_rates else None, [], []
    for change in CHANGES:
        group = optimizer.param_groups[0]
        group.update({key: value for key, value in change.items() if key == "lr" or group.get(key)})
        optimizer.zero_grad()
        images = torch.randn(8, 6, dtype=dtype)
        nn.functional.cross_entropy(model(images), torch.arange(8) % 3).backward()
        if rates is not None:
            rates.refresh()
            settings.append(copy.deepcopy(rates.settings()))
        (rates or optimizer).step()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    return model, optimizer, settings, gradients


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_torch_s_own(name, dtype, within):
    """In float32 to a rounding; float64 shows that it is nothing but that."""
    plain, its_optimizer, _, its_gradients = trained(*OPTIMIZERS[name], dtype, False)
    model, optimizer, _, gradients = trained(*OPTIMIZERS[name], dtype, True)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=within, atol=within)
    torch.testing.assert_close(gradients, its_gradients, rtol=within, atol=within)
    own, other = optimizer.state_dict(), its_optimizer.state_dict()
    assert own["param_groups"] == other["param_groups"]  # numbers, as schedulers and checkpoints find them
    for number, state in other["state"].items():
        torch.testing.assert_close(own["state"][number], state, rtol=within, atol=within)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_change_of_a_rate_needs_another_recording(name):
    settings = trained(*OPTIMIZERS[name], torch.float32, True)[2]
    assert all(one == settings[0] for one in settings)


@pytest.mark.parametrize("name", OTHERS)
def test_other_optimizers_take_their_own_steps_and_say_every_number(name):
    plain, *_ = trained(*OTHERS[name], torch.float32, False)
    model, _, settings, _ = trained(*OTHERS[name], torch.float32, True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert settings[0] != settings[1]  # the rate


def test_momentum_that_begins_or_ends_needs_another_recording():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.0)
    rates = RatesOnDevice(optimizer)
    before = rates.settings()
    optimizer.param_groups[0]["momentum"] = 0.5
    rates.refresh()
    assert rates.settings() != before
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [0, 0]  # a place that a recording can keep
