"""A recorded training step: when it is eager, recorded and replayed, and that it trains as the plain loop does."""

import pytest
import torch
from torch import nn

from retable.config.compose import Composer
from retable.errors import RetableError
from retable.run import steps
from retable.run.execute import execute
from retable.training.captured import BLOCK, WARM_UP, CapturedStep, keep_on_device
from retable.training.rates import RatesOnDevice


class Replaying:
    """Records like the GPU does, without doing the work, and does the recorded work when it is replayed."""

    def __init__(self):
        self.calls = []

    def eager(self, work):
        self.calls.append("eager")
        return work()

    def record(self, work, parameters):
        self.calls.append("record")

        def replay():
            self.calls.append("replay")
            work()

        return replay


class Eager(Replaying):
    """Records nothing: each step is taken as it comes."""

    def record(self, work, parameters):
        return work


class Refusing(Replaying):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def record(self, work, parameters):
        raise self.error


def recording(error):
    """A step whose recording fails, called until it is tried."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rates = RatesOnDevice(optimizer)
    step = CapturedStep(stepping(model, rates), rates, list(model.parameters()), Refusing(error))
    for images, targets in batches()[:4]:
        step(images, targets)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))


def stepping(model, optimizer):
    def step(images, targets):
        model.zero_grad()
        outputs = model(images)
        loss = nn.functional.cross_entropy(outputs, targets)
        loss.backward()
        optimizer.step()
        return loss.detach(), outputs.detach().argmax(1)

    return step


def batches():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(38, 1, 8, 8, generator=generator)
    targets = torch.randint(4, (38,), generator=generator)
    return list(zip(images.split(8), targets.split(8), strict=True))  # four of 8 and one of 6


def test_epochs_are_those_of_the_plain_loop_and_a_new_rate_needs_no_new_record():
    taken, results = Replaying(), []
    for recorder in (None, taken):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        rates = RatesOnDevice(optimizer)
        step = CapturedStep(stepping(model, rates), rates, list(model.parameters()), recorder or Eager())
        returned = []
        for rate in (0.1, 0.1, 0.01):
            optimizer.param_groups[0]["lr"] = rate
            returned += [step(images, targets) for images, targets in batches()]
        results.append((model.state_dict(), [loss for loss, _ in returned], torch.cat([kept for _, kept in returned])))
    (weights, losses, kept), (found_weights, found_losses, found_kept) = results
    assert all(torch.equal(weights[name], found_weights[name]) for name in weights)
    assert losses == found_losses  # each is its own tensor, not the place that the next replay writes to
    assert torch.equal(kept, found_kept)
    assert WARM_UP == 3
    first = ["eager"] * 3 + ["record", "replay", "eager"]  # the last of each epoch is the smaller one
    assert taken.calls == [*first, *["replay"] * 4, "eager", *["replay"] * 4, "eager"]


def test_a_number_that_is_no_rate_is_recorded_anew():
    taken, model = Replaying(), network()
    optimizer = torch.optim.Adam(model.parameters())
    rates = RatesOnDevice(optimizer)
    step = CapturedStep(stepping(model, rates), rates, list(model.parameters()), taken)
    for beta in (0.9, 0.9, 0.8):
        optimizer.param_groups[0]["betas"] = (beta, 0.999)
        for images, targets in batches()[:4]:
            step(images, targets)
    assert taken.calls == ["eager"] * 3 + ["record"] + ["replay"] * 5 + ["record"] + ["replay"] * 4


def test_a_step_that_cannot_be_recorded_is_refused_in_one_line():
    with pytest.raises(
        RetableError,
        match=r"^trainer\.cuda_graph=true: .*can't be captured \(operation not permitted when stream is capturing\);"
        r" accepted: false$",
    ):
        recording(RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors ..."))


def test_out_of_memory_while_a_step_is_recorded_is_reported_as_such():
    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
    ended = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    ended.__context__ = short  # as the recording's end finds it
    for error in (short, ended, RuntimeError("CUDA error: out of memory\nCUDA kernel errors ...")):
        with pytest.raises(RuntimeError) as raised:
            recording(error)
        assert raised.value is error


def test_the_count_of_steps_goes_to_the_device_and_back():
    weight = nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.Adam([weight])
    optimizer.state[weight]["step"] = torch.tensor(3.0)  # on the CPU, as torch has it by itself
    keep_on_device(optimizer, False)
    assert optimizer.param_groups[0]["capturable"] is False
    assert optimizer.state[weight]["step"].item() == 3
    keep_on_device(optimizer, True)
    assert optimizer.param_groups[0]["capturable"] is True
    assert optimizer.state[weight]["step"].device.type == "meta"
    keep_on_device(torch.optim.SGD([weight], lr=0.1), True)  # has nothing to count


def test_a_fused_optimizer_counts_its_steps_where_its_weights_are():
    weight = nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.Adam([weight])
    optimizer.param_groups[0]["fused"] = True
    optimizer.state[weight]["step"] = torch.zeros((), device="meta")
    keep_on_device(optimizer, False)  # as when a run goes on from its checkpoint
    assert optimizer.state[weight]["step"].device.type == "meta"


def test_a_recorded_run_s_checkpoint_goes_on_by_single_steps_on_a_cpu(compose, tmp_path, monkeypatch):
    """As one does that was begun on a GPU, when something now asks for single steps."""
    words = ("task=mnist", "data.fraction=0.02", "model.width=2", "trainer.max_epochs=2", "trainer.device=cpu")
    config = compose(*words, "optimizer=adam")
    rows = []
    stop = {"on_epoch": rows.append, "should_interrupt": lambda: bool(rows)}
    execute(config, tmp_path / "run", **stop)
    path = tmp_path / "run" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        group["capturable"] = True
    torch.save(content, path)
    monkeypatch.setattr(steps, "_reasons", lambda *_: iter(["a test"]))
    assert execute(config, tmp_path / "run")["status"] == "finished"


def test_on_cpu_it_is_the_same_run(compose, tmp_path):
    words = ("task=mnist", "data.fraction=0.1", "model.width=2", "trainer.max_epochs=1", "trainer.device=cpu")
    for name, extra in (("plain", ()), ("graph", ("trainer.cuda_graph=true",))):
        execute(compose(*words, *extra), tmp_path / name)
    plain, graph = ((tmp_path / name / "history.csv").read_text().splitlines() for name in ("plain", "graph"))
    columns = plain[0].split(",")
    place = [index for index, column in enumerate(columns) if column.startswith(("train/", "val/", "grad_norm/"))]
    rows = [[row.split(",")[index] for index in place] for row in (plain[1], graph[1])]
    assert rows[0] == rows[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("extra", [("optimizer.momentum=0.9",), ("optimizer=adam", "scheduler=cosine")])
def test_on_a_gpu_it_trains_as_eager_steps_do(tmp_path, extra):
    words = ["task=mnist", "data=sample", "model.width=4", "trainer.max_epochs=3", "trainer.precision=32"]
    losses = []
    for graph in ("false", "true"):
        config = Composer().compose([*words, *extra, f"trainer.cuda_graph={graph}", "trainer.device=cuda"]).config
        result = execute(config, tmp_path / graph)
        losses.append([result["metrics"]["final"][key] for key in ("train/loss", "val/loss")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_block_is_as_many_single_steps():
    """Of 25 steps, with the optimizer's state carried on, and no new record when the rate has changed."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8 * (WARM_UP + 2 * BLOCK), 1, 8, 8, generator=generator)
    targets = torch.randint(4, (len(images),), generator=generator)
    start, results, calls = 8 * WARM_UP, [], []
    for whole in (False, True):
        taken, model = Replaying(), network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        rates = RatesOnDevice(optimizer)
        step = CapturedStep(stepping(model, rates), rates, list(model.parameters()), taken)
        assert not step.takes(images[:8])
        returned = [step(*pair) for pair in zip(images[:start].split(8), targets[:start].split(8), strict=True)]
        assert step.takes(images[:8])
        assert not step.takes(images[:6])
        for number, rate in enumerate((0.1, 0.01)):
            optimizer.param_groups[0]["lr"] = rate
            span = slice(start + number * 8 * BLOCK, start + (number + 1) * 8 * BLOCK)
            if whole:
                returned.append(step.block(images[span], targets[span]))
            else:
                returned += [step(*pair) for pair in zip(images[span].split(8), targets[span].split(8), strict=True)]
        losses = torch.cat([loss.view(-1) for loss, _ in returned])
        results.append((model.state_dict(), losses, torch.cat([kept for _, kept in returned])))
        calls.append(taken.calls)
    assert calls[1] == ["eager"] * WARM_UP + ["record", "replay", "replay"]
    (weights, losses, kept), (found_weights, found_losses, found_kept) = results
    assert all(torch.equal(weights[name], found_weights[name]) for name in weights)
    assert torch.equal(losses, found_losses)
    assert torch.equal(kept, found_kept)
    assert len(losses) == WARM_UP + 2 * BLOCK
