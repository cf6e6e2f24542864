"""Which runs a sweep needs, and which it has."""

import csv
import shutil

import pytest
from filelock import FileLock

from retable import atomic
from retable.config.compose import Composer
from retable.config.folders import config_dir
from retable.errors import ConfigError, RetableError
from retable.run import files
from retable.sweeps import results
from retable.sweeps.finish import exit_code
from retable.sweeps.plan import make_plan, write_runs
from retable.sweeps.pool import Outcome
from retable.sweeps.store import clear_failure, status_of


def mark(run, status: str = "finished") -> None:
    """Give a planned run a result, and the history that a run has which ends."""
    files.write_history(run.directory / files.HISTORY, [{"epoch": 1, "val/accuracy": 0.5}])
    atomic.write_json(run.directory / files.RESULT, {"status": status})


def test_names_are_readable_and_ordered(base, composer):
    plan = make_plan([*base, "dropout=0.2,0.3", "seeds=2"], composer)
    assert [run.name for run in plan.runs] == [
        f"data-sample__data.fraction-0.1__model.width-4__dropout-{p}__max_epochs-2__seed-{seed}"
        for p in (0.2, 0.3)
        for seed in (0, 1)
    ]


def test_duplicates_collapse_by_what_they_resolve_to(base, composer):
    arguments = [*base, "dropout=0.0,none,0", "dropout.where=conv,fc"]
    assert len(make_plan(arguments, composer).runs) == 1


def test_finished_runs_are_found_again_and_a_grid_may_grow(base, composer):
    plan = make_plan([*base, "dropout=0.2"], composer)
    write_runs(plan.runs)
    mark(plan.runs[0])
    grown = make_plan([*base, "dropout=0.1,0.2"], composer)
    assert [run.status for run in grown.runs] == ["new", "finished"]
    assert grown.runs[1].directory == plan.runs[0].directory


def test_statuses_come_from_the_directories(base, composer):
    plan = make_plan([*base, "seeds=5"], composer)
    write_runs(plan.runs)
    mark(plan.runs[0])
    mark(plan.runs[1], "failed")
    mark(plan.runs[2], "diverged")
    (plan.runs[3].directory / files.CHECKPOINT).write_bytes(b"")
    again = make_plan([*base, "seeds=5"], composer)
    assert [run.status for run in again.runs] == ["finished", "failed", "diverged", "interrupted", "new"]


def test_half_a_result_is_broken_not_finished(base, composer):
    plan = make_plan(base, composer)
    write_runs(plan.runs)
    (plan.runs[0].directory / files.RESULT).write_text('{"status": "fini')
    assert make_plan(base, composer).runs[0].status == "broken"


def test_two_tables_share_a_run(tmp_path, composer):
    plan = make_plan(["experiment=cifar/blocks,cifar/dropout", f"sweep.dir={tmp_path}"], composer)
    assert len(plan.runs) == 6 + 16 - 1
    shared = [run for run in plan.runs if len(run.tables) == 2]
    assert [(run.name, run.tables) for run in shared] == [("default__seed-0", ["cifar/blocks", "cifar/dropout"])]


def test_paths_and_workers_are_no_part_of_a_run(base, composer):
    plan = make_plan([*base, "dropout=0.2"], composer)
    write_runs(plan.runs)
    mark(plan.runs[0])
    other = [*base, "dropout=0.2", "sweep.workers=7", "logger=tensorboard", "data.root=elsewhere", "output=x"]
    assert make_plan(other, composer).runs[0].status == "finished"
    assert make_plan([*base, "dropout=0.2", "data.batch_size=16"], composer).runs[0].status == "new"


@pytest.mark.parametrize("key", ["limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches"])
def test_one_batch_and_all_of_them_are_two_runs(base, composer, key):
    plan = make_plan([*base, f"trainer.{key}=1"], composer)
    write_runs(plan.runs)
    mark(plan.runs[0])
    assert f"trainer.{key}-1__" in plan.runs[0].name
    assert make_plan([*base, f"trainer.{key}=1"], composer).runs[0].status == "finished"
    assert make_plan([*base, f"trainer.{key}=1.0"], composer).runs[0].status == "new"
    both = make_plan([*base, f"trainer.{key}=1.0,1"], composer)
    assert [type(run.config["trainer"][key]) for run in both.runs] == [float, int]
    assert len({run.directory for run in both.runs}) == 2


@pytest.mark.parametrize("name", ["ema", "swa", "early_stopping"])
def test_a_run_with_a_callback_is_not_the_finished_one_without(base, composer, name):
    plan = make_plan(base, composer)
    write_runs(plan.runs)
    mark(plan.runs[0])
    assert make_plan([*base, f"callbacks={name}"], composer).runs[0].status == "new"
    assert len(make_plan([*base, f"callbacks=none,{name}"], composer).runs) == 2
    assert make_plan([*base, "callbacks=lr_monitor"], composer).runs[0].status == "finished"  # which only shows


def test_a_tasks_own_default_of_a_neutral_key_is_no_finished_run_without(base, tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(config_dir(), folder)
    path = folder / "task/mnist.yaml"
    path.write_text(path.read_text().replace("trainer: {", "trainer: {gradient_clip_val: 1.0, "))
    clipping = Composer(folder)
    plan = make_plan([*base, "trainer.gradient_clip_val=null"], clipping)
    write_runs(plan.runs)
    mark(plan.runs[0])
    found = make_plan(base, clipping).runs[0]
    assert (found.config["trainer"]["gradient_clip_val"], found.status) == (1.0, "new")


def test_an_option_that_adds_a_key_to_another_is_not_that_one(base, tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(config_dir(), folder)
    (folder / "optimizer/maximize.yaml").write_text("defaults: [sgd, _self_]\nmaximize: true\n")  # named sgd, too

    def plan(*words):
        return make_plan([*base, *words], Composer(folder))

    run = plan().runs[0]
    write_runs([run])
    mark(run)
    assert plan("optimizer=maximize").runs[0].status == "new"
    assert len(plan("optimizer=sgd,maximize").runs) == 2
    path = folder / "optimizer/sgd.yaml"
    path.write_text(
        path.read_text() + "nesterov: false\n"
    )  # a new key at its default, with whatever chooses the option
    assert [plan(*words).runs[0].status for words in ((), ("optimizer=sgd",), ("trainer=cpu",))] == ["finished"] * 3
    assert plan("optimizer=maximize").runs[0].status == "new"


def test_weights_files_that_are_gone_are_not_mistaken_for_one_another(tmp_path, composer):
    weights = [tmp_path / folder / "net.pth" for folder in "ab"]
    for path in weights:
        path.parent.mkdir()
        path.write_text(path.parent.name)
    sweep = ["task=wildlife", "data=sample", f"sweep.dir={tmp_path / 'multirun'}"]
    plan = make_plan([*sweep, f"model.weights={weights[0]}"], composer)
    write_runs(plan.runs)
    mark(plan.runs[0])
    weights[0].unlink()
    assert make_plan([*sweep, f"model.weights={weights[0]}"], composer).runs[0].status == "finished"  # by its name
    other = make_plan([*sweep, f"model.weights={weights[1]}"], composer)
    write_runs(other.runs)
    mark(other.runs[0])
    weights[1].unlink()
    for path in weights:  # of two runs neither is certain to be the one
        assert make_plan([*sweep, f"model.weights={path}"], composer).runs[0].status == "new"


def test_two_sweeps_planned_at_once_do_not_share_a_directory(base, composer):
    one, other = (make_plan([*base, f"optimizer.lr={lr}"], composer) for lr in (0.1234567, 0.12345671))
    assert one.runs[0].directory == other.runs[0].directory  # each was planned before there was the other
    write_runs(one.runs)
    mark(one.runs[0])
    with pytest.raises(RetableError, match="another sweep has begun another run of this name; start this one again"):
        write_runs(other.runs)
    assert atomic.read_json(one.runs[0].directory / files.RUN)["config"]["optimizer"]["lr"] == 0.1234567
    write_runs(make_plan([*base, "optimizer.lr=0.12345671"], composer).runs)
    write_runs(one.runs)  # its own


def test_a_key_that_was_left_out_is_not_at_its_default(base, composer):
    plan = make_plan([*base, "~optimizer.weight_decay"], composer)  # of torch's AdamW, say, it is 0.01
    write_runs(plan.runs)
    mark(plan.runs[0])
    assert make_plan(base, composer).runs[0].status == "new"
    assert make_plan([*base, "optimizer.weight_decay=0.0"], composer).runs[0].status == "new"
    assert make_plan([*base, "~optimizer.weight_decay"], composer).runs[0].status == "finished"


def test_another_run_of_the_same_name_gets_a_hash(base, composer):
    plan = make_plan(base, composer)
    write_runs(plan.runs)
    path = plan.runs[0].directory / files.RUN
    run = atomic.read_json(path)
    run["identity"]["optimizer.lr"] = 0.123  # as if conf/ had another default when it was trained
    atomic.write_json(path, run)
    mark(plan.runs[0])
    again = make_plan(base, composer).runs[0]
    assert again.status == "new"
    assert again.name.startswith(plan.runs[0].name + "__")


def test_planning_reads_no_data(base, composer, tmp_path, monkeypatch):
    from retable.data import fingerprints
    from retable.run import assemble

    monkeypatch.setattr(assemble, "make_data", None)
    arguments = [*base, f"data.cache={tmp_path / 'cache'}"]
    plan = make_plan(arguments, composer)
    write_runs(plan.runs)
    path = plan.runs[0].directory / files.RUN
    atomic.write_json(path, atomic.read_json(path) | {"fingerprint": "f" * 64})
    mark(plan.runs[0])
    again = make_plan(arguments, composer)  # what it was trained on was never seen here
    assert (again.runs[0].status, again.unread) == ("finished", [])
    more = make_plan([*arguments, "seed=0,1"], composer)  # here a worker will read anyhow
    assert [run.status for run in more.runs] == ["finished", "new"]
    assert [config["data"]["cache"] for config in more.unread] == [str(tmp_path / "cache")]

    file = tmp_path / "images"
    file.write_text("as they were")
    data = again.runs[0].config["data"]
    fingerprints.remember(tmp_path / "cache", data, [file], "f" * 64)
    assert (make_plan(arguments, composer).runs[0].status, make_plan(arguments, composer).unread) == ("finished", [])
    file.write_text("as they are")
    changed = make_plan(arguments, composer)
    assert [config["data"] for config in changed.unread] == [data]
    fingerprints.remember(tmp_path / "cache", data, [file], "e" * 64)  # what the worker finds
    assert make_plan(arguments, composer).runs[0].status == "new"
    file.unlink()  # nothing is fetched to find out
    assert (make_plan(arguments, composer).runs[0].status, make_plan(arguments, composer).unread) == ("finished", [])


def test_configs_are_fixed_on_disk(base, composer):
    plan = make_plan([*base, "dropout=0.25"], composer)
    write_runs(plan.runs)
    run = atomic.read_json(plan.runs[0].directory / files.RUN)
    assert run["config"]["dropout"]["p"] == 0.25
    assert run["config"]["trainer"]["precision"] == "32"
    assert run["overrides"][-1] == "dropout.p=0.25"


def test_a_tables_faults_are_found_before_training(tmp_path):
    folder = tmp_path / "conf"
    shutil.copytree(config_dir(), folder)
    path = folder / "experiment/cifar/activation.yaml"
    path.write_text(path.read_text().replace("published_epochs", "published_epoch"))
    with pytest.raises(ConfigError, match="published_epoch"):
        make_plan(["experiment=cifar/activation", f"sweep.dir={tmp_path / 'multirun'}"], Composer(folder))


def test_a_failed_run_is_tried_again_with_what_is_asked_for_now(base, composer):
    plan = make_plan([*base, "data.root=first"], composer)
    write_runs(plan.runs)
    path = plan.runs[0].directory / files.RUN
    mark(plan.runs[0], "failed")
    again = make_plan([*base, "data.root=second"], composer)
    assert again.runs[0].status == "failed"
    atomic.write_json(path, atomic.read_json(path) | {"fingerprint": "f" * 64})
    write_runs(again.runs)
    stored = atomic.read_json(path)
    assert stored["config"]["data"]["root"] == "second"
    assert stored["fingerprint"] == "f" * 64


def test_a_result_that_came_meanwhile_is_not_cleared(base, composer):
    plan = make_plan(base, composer)
    write_runs(plan.runs)
    directory = plan.runs[0].directory
    mark(plan.runs[0], "failed")
    with FileLock(directory / files.LOCK):
        clear_failure(directory)  # another sweep tries it now
    assert status_of(directory) == "failed"
    mark(plan.runs[0], "finished")
    clear_failure(directory)
    assert status_of(directory) == "finished"
    mark(plan.runs[0], "failed")
    clear_failure(directory)
    assert status_of(directory) == "new"


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Outcome(), "finished", 0),
        (Outcome(), "diverged", 0),
        (Outcome(), "failed", 1),
        (Outcome(stopped_by="the launcher failed"), "finished", 1),
        (Outcome(interrupted=True), "finished", 130),
    ],
)
def test_exit_codes(base, composer, outcome, status, code):
    plan = make_plan(base, composer)
    write_runs(plan.runs)
    mark(plan.runs[0], status)
    assert exit_code(plan, outcome) == code


def test_two_sweeps_over_the_same_keys_keep_their_own_tables(base, composer):
    def sweep(*words):
        plan = make_plan([*base, *words], composer)
        results.note(plan)
        return plan.label

    first = sweep("dropout.p=0.2,0.3")
    assert sweep("dropout.p=0.2,0.3") == first
    assert sweep("dropout.p=0.2,0.3,0.5") == first  # the grid has grown
    assert sweep("dropout.p=0.2,0.3") == f"{first}-2"  # its table would lose a run
    assert sweep("dropout.p=0.2,0.3,0.5", "optimizer.lr=0.5") == f"{first}-3"
    assert sweep("dropout.p=0.2,0.3,0.5", "optimizer.lr=0.5", "sweep.workers=1") == f"{first}-3"
    assert sweep("dropout.p=0.2,0.3,0.5") == first


def test_the_results_of_two_sweeps_over_one_key_do_not_overwrite_each_other(base, composer):
    def sweep(*words):
        plan = make_plan([*base, *words], composer)
        results.note(plan)
        results.write(plan, results.rows(plan.runs))
        return plan.folder

    first = sweep("dropout.p=0.2,0.3")
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    second = sweep("dropout.p=0.4,0.5")
    third = sweep("dropout.p=0.2,0.3", "optimizer.lr=0.5")
    assert len({first, second, third}) == 3
    assert {"results.md", "results.csv"} <= before.keys()
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    for folder, values in ((first, ["0.2", "0.3"]), (second, ["0.4", "0.5"]), (third, ["0.2", "0.3"])):
        with (folder / "results.csv").open(newline="") as file:
            assert [row["dropout.p"] for row in csv.DictReader(file)] == values
    assert sweep("dropout.p=0.2,0.3") == first
