"""What trainer.precision comes to by the work of a step, and the last layer in float32."""

import copy

import pytest
import torch
from torch import nn

from retable.config import precisions
from retable.run import devices, precision
from retable.run import execute as execution
from retable.run.assemble import make_data, make_task
from retable.run.execute import execute
from retable.tasks.segmentation import Segmentation
from retable.training.output import keep_in_float32, last_layer


def settled(config, wanted):
    data = make_data(config)
    task = make_task(config, data)
    trainer = config["trainer"] | {"precision": wanted}
    return precision.settle(config | {"trainer": trainer}, task, data, "cpu")


@pytest.fixture
def gland(compose):
    return compose("task=gland", "data.size=32", "data.batch_size=4", "trainer.device=cpu", "trainer.max_epochs=1")


def test_operations_of_a_step_are_counted_by_hand(compose):
    config = compose("task=mnist", "data.batch_size=10", "model=fnn", "dropout=none")
    data = make_data(config)
    task = make_task(config, data)
    sizes = [(layer.in_features, layer.out_features) for layer in task.modules() if isinstance(layer, nn.Linear)]
    operations, last = precision.look_at(config, task, data)
    assert operations == 3 * 2 * 10 * sum(inputs * outputs for inputs, outputs in sizes)
    assert isinstance(task.model.get_submodule(last), nn.Linear)
    assert task.model.get_submodule(last).out_features == 10
    assert task.model.training


def test_a1_and_b12_are_light_and_large_networks_are_not(compose):
    for words, mixed in (
        (("task=mnist",), False),
        (("task=cifar", "data.batch_size=32"), False),
        (("task=cifar", "data.batch_size=32", "model.width=256"), True),
    ):
        config = compose(*words)
        assert settled(config, "bf16-auto") == ("bf16-mixed" if mixed else "tf32")
        assert settled(config, "16-auto") == ("16-mixed" if mixed else "32")
    for asked, found in (("bf16-auto", ("tf32", "bf16-mixed")), ("16-auto", ("32", "16-mixed"))):
        assert tuple(precisions.by_work(asked, operations, False) for operations in (19.9e9, 20e9)) == found
    assert settled(config, "bf16-mixed") == "bf16-mixed"
    config["trainer"]["cuda_graph"] = True
    assert settled(config, "16-auto") == "32"  # a scaler's steps can't be recorded
    assert settled(config, "bf16-auto") == "bf16-mixed"


def test_what_is_decided_by_work_stays_as_it_was_planned(compose, tmp_path, monkeypatch):
    """The run is the same one whatever its steps come to, and says what that was."""
    monkeypatch.setattr(execution, "_draw", lambda *_: None)
    config = compose("task=mnist", "data.fraction=0.02", "trainer.device=cpu", "trainer.max_epochs=1")
    config["trainer"]["precision"] = "bf16-auto"
    result = execute(config, tmp_path / "run")
    assert result["precision"] == "tf32"
    assert execution.files.read_run(tmp_path / "run")["identity"]["trainer.precision"] == "bf16-auto"
    assert devices.precision("auto", "cuda", [9.0]) == "bf16-auto"


def test_the_last_layer_is_the_one_that_is_called_last(compose):
    for task in ("gland", "mnist"):
        config = compose(f"task={task}")
        data = make_data(config)
        model = make_task(config, data).model
        name = last_layer(model.eval(), torch.zeros(2, *data.image_shape))
        outputs = getattr(model.get_submodule(name), "out_channels", None) or model.get_submodule(name).out_features
        assert outputs == data.num_classes
    assert last_layer(nn.ReLU(), torch.zeros(1)) is None


def test_a_last_layer_in_float32_gives_what_float32_gives_of_its_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    names = list(model.state_dict())
    keep_in_float32(model, "2")
    other = copy.deepcopy(model)
    x = torch.randn(2000, 8)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        features, outputs = model[:2](x), model(x)
    assert features.dtype == torch.bfloat16
    assert torch.equal(outputs, nn.functional.linear(features.float(), model[2].weight, model[2].bias))
    assert list(model.state_dict()) == names
    with torch.no_grad():
        model[2].weight.zero_()
    assert other[2].forward.layer is other[2]  # a copy is its own
    assert not torch.equal(other(x), model(x))


def test_no_decision_between_two_classes_ties_in_mixed_precision(gland, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_draw", lambda *_: None)
    kept, reduce_output = [], Segmentation.reduce_output

    def look(self, outputs):
        kept.append(outputs.detach())
        return reduce_output(self, outputs)

    monkeypatch.setattr(Segmentation, "reduce_output", look)
    gland["trainer"]["precision"] = "bf16-mixed"
    assert execute(gland, tmp_path / "run")["precision"] == "bf16-mixed"
    assert {outputs.dtype for outputs in kept} == {torch.float32}
    ties = sum(int((outputs[:, 0] == outputs[:, 1]).sum()) for outputs in kept)
    assert ties == 0
