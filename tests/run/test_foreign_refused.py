"""What is refused of a LightningModule of somebody's own, in a line, before it is trained."""
# ruff: noqa: F811

import json

import pytest

from retable.config.compose import Composer
from retable.errors import ConfigError, DataError
from retable.run import files
from retable.run.execute import execute
from retable.run.single import run_single
from tests.checking import check
from tests.run.test_foreign import composed, project  # noqa: F401, fixtures


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+module.depth=3"], "module.depth: no such key; accepted: lr, width, dropout, activation, diverge"),
        (["+module.name=x"], "module.name: no such key; accepted: lr, width, dropout, activation, diverge"),
        (["+data.name=x"], "data.name: no such key; accepted: batch_size, workers"),
        (["+data.shuffle=true"], "data.shuffle: no such key; accepted: batch_size, workers"),
        (["task.metric=val_accuracy"], "task.metric=val_accuracy: is not logged; accepted: "),
        (["task.metric=val_loss"], "task.mode: val_loss does not say which of its values is the better; accepted: max"),
        (["task.mode=highest"], "task.mode=highest: accepted: "),
        (
            ["model=unet"],
            "model=unet: task=leaves is a LightningModule of its own, which takes none; accepted: ",
        ),
        (["+task.classes=3"], "task.classes: no such key; accepted: name, metric, mode"),
        (["loss=dice"], "loss=dice: nothing reads it with task=leaves"),
        (
            [
                "callbacks=early_stopping",
                "callbacks.early_stopping.mode=max",
                "callbacks.early_stopping.monitor=val_ac",
            ],
            "callbacks.early_stopping.monitor=val_ac: is not logged; accepted: train_loss, ",
        ),
        (["scheduler=cosine"], "scheduler=cosine: LitNet has its own (configure_optimizers); accepted: none"),
        (
            ["module._target_=stranger.Stopping"],
            "module._target_=stranger.Stopping: its EarlyStopping monitors val_los, which is not logged; accepted: tra",
        ),
        (["trainer.cuda_graph=true"], "trainer.cuda_graph=true: accepted with a module of somebody's own: false"),
        (["trainer.compile=true"], "trainer.compile=true: task=leaves is a LightningModule of its own; accepted: "),
        (
            ["module._target_=stranger.LeavesData"],
            "module._target_=stranger.LeavesData: is no pytorch_lightning.",
        ),
        (["data._target_=stranger.LitNet"], "data._target_=stranger.LitNet: is no pytorch_lightning.LightningDataMod"),
        (
            ["~data._target_"],
            "data: task=leaves names none; accepted: a LightningDataModule, as data: {_target_: file.Class} (a mo",
        ),
        (
            ["~module._target_"],
            "module: task=leaves names none; accepted: a LightningModule, as module: {_target_: file.",
        ),
        (["module._target_=stranger.Nothing"], "module._target_=stranger.Nothing: cannot be imported"),
    ],
)
def test_refusals(project, overrides, message):
    with pytest.raises(ConfigError) as refused:
        check(composed(*overrides))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


PARTIAL = "{_target_: torch.optim.SGD, _partial_: true, lr: 0.1}"
SGDS = "params, lr, momentum, dampening, weight_decay, nesterov, "


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["+module.optimizer.epss=1"], f"module.optimizer.epss: no such key; accepted: {SGDS}"),
        (
            ["+module.more=[{_target_: torch.nn.ELU, _partial_: true, slope: 1}]"],
            "module.more.0.slope: no such key; accepted: alpha, inplace",
        ),
        (
            ["+module.more={act: {_target_: torch.nn.Softplus, slope: 1}}"],
            "module.more.act.slope: no such key; accepted: beta, threshold",
        ),
        (["module.optimizer._target_=torch.optim.SGDD"], "module.optimizer._target_=torch.optim.SGDD: cannot be impor"),
    ],
)
def test_an_argument_that_an_object_or_a_partial_of_the_module_does_not_take_is_refused(project, more, message):
    config = composed("module._target_=stranger.Template", f"+module.optimizer={PARTIAL}", *more)
    with pytest.raises(ConfigError) as refused:
        check(config)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_partial_of_a_module_of_ones_own_trains(project):
    config = composed("module._target_=stranger.Template", f"+module.optimizer={PARTIAL}", "trainer.max_epochs=1")
    check(config)
    assert execute(config, project / "run")["status"] == "finished"


def test_a_named_metric_that_is_not_logged_lists_what_is(project):
    with pytest.raises(ConfigError, match=r"accepted: train_loss, val_loss, val_acc, train_acc$"):
        check(composed("task.metric=accuracy"))


def test_a_run_directory_of_somebody_elses_module_is_refused(project):
    execute(composed("trainer.max_epochs=1"), project / "run")
    described = json.loads((project / "run" / files.RUN).read_text())
    described["config"]["module"]["_target_"] = "subprocess.Popen"
    (project / "run" / files.RUN).write_text(json.dumps({"overrides": [], "task": "leaves"} | described))
    (project / "run" / files.RESULT).unlink()
    with pytest.raises(DataError, match=r"refused, module\._target_=subprocess\.Popen is neither this project's nor"):
        run_single(Composer().compose(["task=leaves", f"resume={project / 'run'}"]).config, [f"resume={project}/run"])
