"""Every file in conf/ composed and run for two batches on sample data; every point of every table checked."""

import math
from pathlib import Path

import pytest

from retable.config.compose import Composer
from retable.config.identity import digest, identity
from retable.run import execute as execution
from retable.run import files
from retable.run.assemble import check
from retable.sweeps.plan import make_plan

CONF = Path(__file__).parents[1] / "conf"
# data=real needs files, debug=fast is in every run here; hydra/ is not of a run.
GROUPS = sorted({path.parent.name for path in CONF.glob("*/*.yaml")} - {"task", "debug"})
OPTIONS = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
CHOICES = ["dropout=0.37 dropout.where=all", *(option for option in OPTIONS if option != "data=real")]
TASKS = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
TABLES = sorted(str(path.relative_to(CONF / "experiment").with_suffix("")) for path in CONF.glob("experiment/*/*.yaml"))
A1 = [name for name in TABLES if name.startswith("cifar/")]
FAST = ["data=sample", "debug=fast", "trainer.device=cpu"]
# A task and what makes it small; options are tried on one task of each kind.
SMALL = {
    "cifar": ["data.eval_batch_size=40"],
    "mnist": ["data.eval_batch_size=40"],
    "brain": ["data.batch_size=4", "data.eval_batch_size=4", "model.widths=[4,8,8,8,8]"],
    "gland": ["data.size=32", "data.batch_size=2", "data.eval_batch_size=2"],
    "lesion": ["data.size=32", "data.batch_size=2", "data.eval_batch_size=2", "model.weights=none"],
    "fcn": ["data.size=32", "data.batch_size=2", "data.eval_batch_size=2", "model.weights=none", "model.head=8"],
    "ventricle": ["data.size=32", "data.batch_size=2", "data.eval_batch_size=2", "model.width=4"],
    "wildlife": ["data.shorter=64", "data.longer=96", "model.backbone=resnet18", "model.width=8", "model.weights=none"],
}
CLASSIFICATION = {"model=cnn", "model=cnn_digits", "model=fnn", "model=numpy_fnn", "loss=cross_entropy"}
DETECTION = {"model=retinanet", "loss=boxes"}
SEGMENTATION = {option for option in OPTIONS if option.startswith(("model=", "loss="))} - CLASSIFICATION - DETECTION
SHRINK = (
    {f"fcn{stride}s": ["model.head=8"] for stride in (32, 16, 8)}
    | {"unet": ["model.width=4"]}
    | {f"segnet{kind}": ["model.widths=[4,8,8,8,8]"] for kind in ("", "_transposed", "_strided", "_skip")}
)
PAIRS = [(task, choice) for task in ("cifar", "mnist") for choice in CHOICES if choice not in SEGMENTATION | DETECTION]
PAIRS += [
    ("gland", choice) for choice in CHOICES if choice not in CLASSIFICATION | DETECTION and "dropout" not in choice
]
PAIRS += [(task, "seed=1") for task in ("brain", "lesion", "fcn", "ventricle", "wildlife")]
PARAMETERS = {
    ("cifar", "model=cnn_digits"): 80 + 16 * 9 + 1168 + 4640 + 32 * 8 * 8 * 10 + 10,
    ("cifar", "model=fnn"): 3072 * 800 + 800 + 8010,
    ("cifar", None): 448 + 4640 + 18_496 + 64 * 4 * 4 * 100 + 100 + 1010,
    ("mnist", "model=cnn"): 160 + 4640 + 18_496 + 64 * 3 * 3 * 100 + 100 + 1010,
    ("mnist", "model=fnn"): 636_010,
    ("cifar", "model=numpy_fnn"): 3072 * 800 + 800 + 8010,
    ("mnist", "model=numpy_fnn"): 636_010,
    ("mnist", None): 21_578,
    ("gland", None): 11_698,
    ("gland", "model=fcn_small"): 8_634,
}


@pytest.fixture(scope="module")
def composer():
    return Composer(CONF)


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    """Drawing takes longer than two batches; tests/run looks at figures."""
    monkeypatch.setattr(execution, "_draw", lambda *_: None)


def run_two_batches(config, folder):
    """Run it, and look at what every such run must leave."""
    result = execution.execute(config, folder)
    assert (result["status"], result["epochs"], result["step"]) == ("finished", 1, 2)
    row = files.read_history(folder / files.HISTORY)[-1]
    assert row["epoch"] == 1
    undefined = ("/dice", "/iou", "/ap50")  # of a class that two batches may not show
    assert all(math.isfinite(value) for key, value in row.items() if not any(name in key for name in undefined))
    assert result["data"]["source"] == "sample"
    if config["task"]["name"] == "wildlife":
        objects = sum(row["boxes"] for row in result["per_class"]["val"])
        assert sum(sum(row) for row in result["confusion"]["val"][:-1]) == objects > 0
        return result
    batch, seen = config["data"]["batch_size"], 2 * config["data"]["eval_batch_size"]
    images = {"train": min(2 * batch, result["data"]["counts"]["train"]), "val": seen}
    for part, count in images.items():
        matrix = result["confusion"][part]
        total, right = sum(map(sum, matrix)), sum(row[c] for c, row in enumerate(matrix))
        assert right / total == row[f"{part}/accuracy"]
        if config["task"]["name"] in ("cifar", "mnist"):
            assert total == count
        elif config["task"]["name"] == "gland" and (part == "val" or config["augment"]["mode"] == "none"):
            assert total == count * config["data"]["size"] ** 2  # a rotation brings in pixels that are ignored
    return result


def marked(pair: tuple[str, str]) -> object:
    """ddp takes as long as fifty other options: with one task here, with the others among the slow tests."""
    slow = pair[1].startswith("trainer=ddp") and pair != ("mnist", "trainer=ddp")
    return pytest.param(*pair, marks=pytest.mark.slow) if slow else pair


@pytest.mark.parametrize(("task", "choice"), [marked(pair) for pair in PAIRS])
def test_every_option_runs(composer, tmp_path, task, choice):
    if choice in ("logger=wandb", "logger=mlflow"):
        pytest.importorskip(choice.removeprefix("logger="))
    quiet = (
        [] if choice.startswith("logger=") else ["logger=csv" if choice == "callbacks=lr_monitor" else "logger=none"]
    )
    if choice == "logger=mlflow":  # keeps a relative place for the whole process
        quiet = [f"logger.mlflow.tracking_uri=sqlite:///{tmp_path}/mlflow.db"]
    small = SMALL[task] + SHRINK.get(choice.removeprefix("model="), [])
    if choice in ("early_stop=change", "early_stop=gap") and task != "gland":
        small = [*small, "early_stop.metric=accuracy"]  # they watch the dice, which a classifier has not
    config = composer.compose([f"task={task}", *FAST, *small, *choice.split(), *quiet]).config
    result = run_two_batches(config, tmp_path)
    model = choice if choice.startswith("model=") else None
    if (task, model) in PARAMETERS:
        assert result["parameters"] == PARAMETERS[task, model]
    first = result["metrics"]["final"]["train/loss"]
    if choice == "init=zero":  # equal logits: ln classes at first; the second batch sees a first small step of a bias
        assert first == pytest.approx(math.log(len(result["data"]["classes"])), abs=0.05)
    assert (tmp_path / "train").exists() == (choice == "logger=tensorboard")
    assert (tmp_path / "mlflow.db").exists() == (choice == "logger=mlflow")


@pytest.mark.parametrize("table", TABLES)
def test_every_point_of_a_table_is_accepted_and_the_first_runs(composer, tmp_path, table):
    arguments = [f"experiment={table}", "data=sample", "logger=none", f"sweep.dir={tmp_path}"]
    plan = make_plan(arguments, composer)
    assert list(plan.tables) == [table]
    assert {run.status for run in plan.runs} == {"new"}
    assert len({run.directory for run in plan.runs}) == len(plan.runs)
    for run in plan.runs:
        assert check(run.config)["parameters"] > 0
    first = plan.runs[0]
    run_two_batches(composer.compose([*first.overrides, *FAST, *SMALL[table.split("/")[0]]]).config, first.directory)


def test_tables_of_a1_are_41_distinct_runs_for_44_cells(composer, tmp_path):
    plan = make_plan([f"experiment={','.join(A1)}", f"sweep.dir={tmp_path}"], composer)
    assert {name: len(table["cells"]) for name, table in plan.tables.items()} == {
        "cifar/activation": 2,
        "cifar/augment": 3,
        "cifar/best": 41,
        "cifar/blocks": 6,
        "cifar/dropout": 16,
        "cifar/init": 9,
        "cifar/optimizer": 9,
    }
    assert len(plan.runs) == len({digest(identity(run.config)) for run in plan.runs}) == 41
