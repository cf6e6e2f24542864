"""Recorded steps on a stand-in for a GPU."""

import json

import pytest

from tests.stand_in import COUNTERS, on_stand_in

STEPS = """
import json, torch
from torch import nn
from retable.training.captured import CapturedStep, keep_on_device
from retable.training.rates import RatesOnDevice

def made(optimizer, **settings):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10)).cuda()
    optimizer = optimizer(model.parameters(), **settings)
    keep_on_device(optimizer, True)
    rates = RatesOnDevice(optimizer)
    def step(x, y):
        optimizer.zero_grad()
        outputs = model(x)
        loss = nn.functional.cross_entropy(outputs, y)
        loss.backward()
        rates.step()
        return loss.detach(), outputs.detach().argmax(1)
    return model, optimizer, CapturedStep(step, rates, list(model.parameters()))

x, y = torch.zeros(512, 1, 28, 28, device="cuda"), torch.zeros(512, dtype=torch.int64, device="cuda")
"""


def test_recording_again_takes_no_new_memory():
    code = """
_, optimizer, step = made(torch.optim.Adam)
found = []
for number in range(5):
    optimizer.param_groups[0]["eps"] = 1e-8 / (number + 1)
    for _ in range(5):
        step(x, y)
    found.append(counted()["allocations"])
print(json.dumps(found))
"""
    # Its own results and the ones before have a place each; then what the recording before leaves is taken over.
    _, _, third, *later = json.loads(on_stand_in("-c", COUNTERS + STEPS + code))
    assert later == [third] * 2


@pytest.mark.parametrize(
    "optimizer",
    [
        "torch.optim.SGD, lr=0.1",
        "torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1",
        "torch.optim.Adam, weight_decay=0.1",
        "torch.optim.AdamW",
        "torch.optim.AdamW, fused=True",
    ],
)
def test_a_scheduler_s_epochs_are_replayed_from_one_recording_without_a_wait(optimizer):
    code = f"""
from retable.training.captured import CudaRecorder
recorded, record = [], CudaRecorder.record
CudaRecorder.record = lambda *given: recorded.append(1) or record(*given)
_, optimizer, step = made({optimizer})
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
found = []
for epoch in range(6):
    before = counted()
    for _ in range(5):
        step(x, y)
    scheduler.step()
    after = counted()
    found.append({{name: after[name] - before[name] for name in after}})
print(json.dumps([len(recorded), found]))
"""
    recordings, epochs = json.loads(on_stand_in("-c", COUNTERS + STEPS + code))
    assert recordings == 1
    for epoch in epochs[2:]:
        assert epoch == epochs[1]
        assert epoch["graphs"] == 5
        assert not any(epoch[name] for name in ("streams", "devices", "events", "back", "allocations", "violations"))


def test_a_fused_optimizer_goes_on_from_its_checkpoint():
    code = """
for recorded in (True, False):
    _, optimizer, step = made(torch.optim.Adam, fused=True)
    for _ in range(6):
        step(x, y)
    model, other, _ = made(torch.optim.Adam, fused=True)
    other.load_state_dict(optimizer.state_dict())
    keep_on_device(other, recorded)
    model(x).sum().backward()
    other.step()  # refuses a count on the CPU
    print(other.state[model[0].weight]["step"].device)
"""
    assert on_stand_in("-c", STEPS + code).split() == ["cuda:0", "cuda:0"]


def test_a_chunk_is_two_launches_of_graphs_and_waits_for_nothing():
    code = """
import json, sys
sys.path.insert(0, "benchmarks")
from launches import measure
words = ("task=mnist", "data=sample", "data.batch_size=20", "model.width=4", "logger=none", "trainer.cuda_graph=true")
print(json.dumps(measure(words, 4)))
"""
    found = json.loads(on_stand_in("-c", code).splitlines()[-1])
    steps, images, batch = 2000 // 20, 500, 125
    assert found["epoch"]["graph launches"] == steps / 25 + images / batch
    assert found["chunk"]["graph launches"] == 2  # 50 steps
    assert found["validation batch"]["graph launches"] == 1
    assert found["chunk"]["waits"] == found["validation batch"]["waits"] == 0
    assert found["checkpoint and history"]["waits"] == 0  # no checkpoint until half a minute is over
    assert found["chunk"]["launches"] < 50  # what is around them: copies in and out, counts, norms of gradients


@pytest.mark.parametrize("optimizer", ["sgd optimizer.momentum=0.9", "adam"])
def test_a_chunk_of_several_runs_waits_for_nothing(optimizer):
    code = f"""
import json, sys
sys.path.insert(0, "benchmarks")
from launches import measure_fused
words = ("task=mnist", "data=sample", "data.batch_size=20", "model.width=4", "logger=none")
words += tuple("optimizer={optimizer}".split())
print(json.dumps(measure_fused(words, 3)))
"""
    found = json.loads(on_stand_in("-c", code).splitlines()[-1])
    assert [counts["waits"] for counts in found.values()] == [0.0, 0.0]  # of a step, and of what is around them
