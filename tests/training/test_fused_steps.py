"""Steps of several runs as one batched model equal those of each run alone."""

import contextlib
import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retable.models import CNN, FNN
from retable.models.parts import Dropout
from retable.run.devices import has_bf16_instructions
from retable.training.fused import Member, program, refusal, train_together
from retable.training.output import keep_in_float32, last_layer

STEPS, N, CLASSES = 30, 4, 5
SHAPE = (3, 8, 8)
DROPOUTS = [Dropout(), Dropout(0.3, "all"), Dropout(0.5, "fc"), Dropout(0.2, "all")]
MODELS = {
    "cnn": lambda d: CNN(SHAPE, CLASSES, blocks=2, width=4, hidden=6, dropout=d),
    "cnn, batch norm": lambda d: CNN(SHAPE, CLASSES, blocks=2, width=4, hidden=6, batch_norm=True, dropout=d),
    "cnn, pool first": lambda d: CNN(SHAPE, CLASSES, 2, 4, 6, order="pool_activation", activation=nn.Tanh, dropout=d),
    "cnn_digits": lambda d: CNN(
        SHAPE, CLASSES, blocks=3, width=4, hidden=6, pool="between", pool_strides=(2, 1), dropout=d
    ),
    "fnn": lambda d: FNN(SHAPE, CLASSES, hidden=7, activation=nn.Sigmoid, dropout=Dropout(d.p, "fc")),
}
OPTIMIZERS = {
    "sgd": lambda p, k: torch.optim.SGD(p, lr=0.05 / (1 + k), weight_decay=0.01 * (k % 2)),
    "sgd, momentum": lambda p, k: torch.optim.SGD(p, lr=0.05 / (1 + k), momentum=0.3 * k, weight_decay=0.01 * k),
    "adam": lambda p, k: torch.optim.Adam(p, lr=1e-3 * (1 + k), weight_decay=0.01 * (k % 2)),
    "adamw": lambda p, k: torch.optim.AdamW(p, lr=1e-3 * (1 + k), weight_decay=0.1 * k),
}
L1 = [0.0, 0.001, 0.0, 0.01]


class OneRun:
    """A run's model, optimizer, mini-batches and random state."""

    def __init__(self, model: str, optimizer: str, number: int, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(number)
        self.model = MODELS[model](DROPOUTS[number]).to(dtype).train()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters(), number)
        self.images = torch.rand(STEPS, N, *SHAPE, dtype=dtype).unbind()
        self.targets = torch.randint(CLASSES, (STEPS, N)).unbind()
        self.l1 = L1[number]
        self.random = torch.get_rng_state()
        self.norms: list[torch.Tensor] = []

    def take_norms(self) -> None:
        self.norms.append(torch.stack([p.grad.norm() for p in self.model.parameters()]))

    def alone(self, steps: range, autocast: Any = contextlib.nullcontext) -> tuple[list[float], list[int]]:
        """The plain loop, with torch's own layers and optimizers."""
        losses, predicted = [], []
        torch.set_rng_state(self.random)
        for step in steps:
            self.optimizer.zero_grad()
            with autocast():
                outputs = self.model(self.images[step])
                loss = F.cross_entropy(outputs, self.targets[step])
            (loss + self.l1 * sum(p.abs().sum() for p in self.model.parameters())).backward()
            if step == 4:
                self.take_norms()
            self.optimizer.step()
            losses.append(loss.item())
            predicted += outputs.argmax(1).tolist()
        self.random = torch.get_rng_state()
        return losses, predicted

    def part(self, steps: range) -> Member:
        images, targets = self.images[steps.start : steps.stop], self.targets[steps.start : steps.stop]
        norms_at = [4 - steps.start]
        return Member(self.model, self.optimizer, images, targets, self.l1, norms_at, self.take_norms, self.random)


def together(runs: list[OneRun], steps: range) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [run.part(steps) for run in runs]
    found = train_together(parts, nn.CrossEntropyLoss(), lambda wanted: contextlib.nullcontext())
    for run, part in zip(runs, parts, strict=True):
        run.random = part.random
    return found


def state_of(run: OneRun) -> dict[str, torch.Tensor]:
    found = dict(run.model.state_dict()) | {f"norms {number}": norms for number, norms in enumerate(run.norms)}
    for number, state in enumerate(run.optimizer.state.values()):
        found |= {f"{key} of {number}": value for key, value in state.items() if value is not None}
    return found


def tolerance(model: str, name: str) -> float:
    """1e-10, but for a bias in front of a batch norm, whose running mean follows it and which has no other effect.

    Its gradient is 0 but for rounding, of which Adam makes steps.
    """
    return 1e-8 if "batch norm" in model and name.endswith((".0.bias", ".1.running_mean")) else 1e-10


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_thirty_steps_together_equal_those_alone(model: str, optimizer: str) -> None:
    alone = [OneRun(model, optimizer, number) for number in range(4)]
    fused = [OneRun(model, optimizer, number) for number in range(4)]
    assert len({program(run.model, nn.CrossEntropyLoss(), run.optimizer) for run in fused}) == 1
    expected = [run.alone(range(STEPS)) for run in alone]
    first, second = together(fused, range(12)), together(fused, range(12, STEPS))  # the state goes through the runs
    losses, predicted = torch.cat([first[0], second[0]], 1), torch.cat([first[1], second[1]], 1)
    for number, (own_losses, own_predicted) in enumerate(expected):
        torch.testing.assert_close(losses[number].tolist(), own_losses, rtol=1e-10, atol=1e-10)
        assert predicted[number].tolist() == own_predicted
        assert torch.equal(fused[number].random, alone[number].random)
        ours, theirs = state_of(fused[number]), state_of(alone[number])
        assert list(ours) == list(theirs)
        assert "norms 0" in ours
        for (name, one), other in zip(ours.items(), theirs.values(), strict=True):
            within = tolerance(model, name)
            torch.testing.assert_close(one, other, rtol=within, atol=within)


def test_in_float32_losses_differ_by_no_more_than_between_memory_layouts() -> None:
    """Of all models with maps together: of some of them a layout changes no bit."""

    def laid_out(model: str, optimizer: str, layout: torch.memory_format) -> torch.Tensor:
        run = OneRun(model, optimizer, 0, torch.float32)  # without dropout, whose masks a layout changes
        run.model.to(memory_format=layout)
        run.images = tuple(images.contiguous(memory_format=layout) for images in run.images)
        return torch.tensor(run.alone(range(STEPS))[0])

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(((one - other).abs() / other.abs()).max())

    spread, ours = [], []
    for model in ("cnn", "cnn, batch norm", "cnn, pool first", "cnn_digits"):
        for optimizer in ("sgd, momentum", "adam"):
            both = [laid_out(model, optimizer, of) for of in (torch.channels_last, torch.contiguous_format)]
            fused = together([OneRun(model, optimizer, number, torch.float32) for number in (0, 1)], range(STEPS))[0][0]
            spread.append(apart(*both))
            ours.append(min(apart(fused, alone) for alone in both))
    assert 0 < max(spread) < 1e-6
    assert max(ours) <= 2 * max(spread)


@pytest.mark.parametrize("model", ["cnn", "fnn"])
def test_in_mixed_precision_losses_are_those_of_each_run_alone(model: str) -> None:
    """Also of a last layer that is kept in float32, as runs have it."""

    def autocast(wanted: bool = True) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=wanted, cache_enabled=False)

    def both() -> list[OneRun]:
        made = [OneRun(model, "adam", number, torch.float32) for number in (0, 1)]
        for run in made:
            keep_in_float32(run.model, last_layer(run.model, run.images[0]))
            assert refusal(run.model, nn.CrossEntropyLoss(), run.optimizer) is None
        return made

    # A CPU without bfloat16 sums a convolution and a product in other orders before it rounds them (to 8 bits).
    within = 1e-6 if has_bf16_instructions() else 1e-3
    runs = both()
    found, _ = train_together([run.part(range(STEPS)) for run in runs], nn.CrossEntropyLoss(), autocast)
    for losses, run in zip(found, both(), strict=True):
        torch.testing.assert_close(losses.tolist(), run.alone(range(STEPS), autocast)[0], rtol=within, atol=within)


def test_a_runs_bits_are_the_same_whatever_its_company() -> None:
    def losses(numbers: list[int]) -> torch.Tensor:
        return together([OneRun("cnn", "adam", number, torch.float32) for number in numbers], range(STEPS))[0]

    assert torch.equal(losses([0, 1, 2, 3])[1], losses([1])[0])
    assert torch.equal(losses([0, 1, 2, 3])[1], losses([3, 1])[1])


def test_a_run_that_diverges_touches_no_other() -> None:
    runs = [OneRun("cnn, batch norm", "sgd, momentum", number) for number in range(4)]
    others = [OneRun("cnn, batch norm", "sgd, momentum", number) for number in (0, 1, 3)]
    runs[2].images[3][0, 0, 0, 0] = float("nan")
    losses, _ = together(runs, range(STEPS))
    expected, _ = together(others, range(STEPS))
    assert torch.equal(losses[[0, 1, 3]], expected)
    assert losses[2].isfinite().tolist() == [True] * 3 + [False] * (STEPS - 3)
    for run, other in zip([runs[0], runs[1], runs[3]], others, strict=True):
        expected_state = state_of(other)
        assert all(torch.equal(value, expected_state[name]) for name, value in state_of(run).items())


def test_the_reason_why_a_run_has_to_train_alone() -> None:
    model, loss = MODELS["cnn"](Dropout()), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    assert refusal(model, loss, sgd) is None
    assert refusal(nn.Sequential(model), loss, sgd) == "model Sequential"
    odd = copy.deepcopy(model)
    odd.features[0][0] = nn.Conv2d(3, 4, 5, padding=2)
    assert refusal(odd, loss, sgd) == "layer Conv2d"
    assert refusal(model, nn.CrossEntropyLoss(weight=torch.ones(5)), sgd) == "loss CrossEntropyLoss"
    assert refusal(model, nn.NLLLoss(), sgd) == "loss NLLLoss"
    nesterov = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    assert refusal(model, loss, nesterov) == "optimizer's nesterov=True"
    assert refusal(model, loss, torch.optim.RMSprop(model.parameters())) == "optimizer RMSprop"


def test_what_can_not_be_a_number_a_run_tells_programs_apart() -> None:
    loss = nn.CrossEntropyLoss()

    def of(model: nn.Module, **optimizer: object) -> object:
        return program(model, loss, torch.optim.Adam(model.parameters(), **optimizer))

    cnn = of(MODELS["cnn"](Dropout()))
    assert of(MODELS["cnn"](Dropout(0.4, "conv")), lr=0.5, weight_decay=0.1) == cnn
    assert of(MODELS["cnn"](Dropout()), betas=(0.5, 0.9)) != cnn
    assert of(MODELS["cnn, batch norm"](Dropout())) != cnn
    assert of(CNN(SHAPE, CLASSES, blocks=2, width=5, hidden=6)) != cnn
