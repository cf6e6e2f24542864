"""Recorded steps on a stand-in for a GPU."""

import json

from tests.stand_in import COUNTERS, on_stand_in

STEPS = """
import json, torch
from torch import nn
from retable.training.captured import CapturedStep, keep_on_device

def made(optimizer, **settings):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10)).cuda()
    optimizer = optimizer(model.parameters(), **settings)
    keep_on_device(optimizer, True)
    def step(x, y):
        optimizer.zero_grad()
        outputs = model(x)
        loss = nn.functional.cross_entropy(outputs, y)
        loss.backward()
        optimizer.step()
        return loss.detach(), outputs.detach().argmax(1)
    return model, optimizer, CapturedStep(step, optimizer, list(model.parameters()))

x, y = torch.zeros(512, 1, 28, 28, device="cuda"), torch.zeros(512, dtype=torch.int64, device="cuda")
"""


def test_recording_again_takes_no_new_memory():
    code = """
_, optimizer, step = made(torch.optim.SGD, lr=0.1, momentum=0.9)
found = []
for number in range(5):
    optimizer.param_groups[0]["weight_decay"] = 0.1 / (number + 1)
    for _ in range(5):
        step(x, y)
    found.append(counted()["allocations"])
print(json.dumps(found))
"""
    _, second, *later = json.loads(on_stand_in("-c", COUNTERS + STEPS + code))
    assert later == [second] * 3  # what is left of the recording before is taken over


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
