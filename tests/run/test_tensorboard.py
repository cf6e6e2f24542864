"""The HParams tab, asked through the backend of TensorBoard's own plugin."""

import json
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from retable.run.tensorboard import EVENTS, FIXED, describe_sweep, write_hparams
from retable.sweeps import curves
from retable.sweeps.plan import make_plan
from retable.sweeps.session import prepare

RUNS = {
    "cifar/dropout-0.3__seed-0": ({"seed": 0, "dropout.p": 0.3, "optimizer.lr": 0.1, "model.name": "cnn"}, 0.50),
    "cifar/seed-0": ({"seed": 0, "dropout.p": 0.0, "optimizer.lr": 0.1, "model.name": "cnn"}, 0.40),
    "cifar/adam__seed-1": (
        {"seed": 1, "dropout.p": 0.0, "optimizer.lr": 0.1, "optimizer.betas": [0.9, 0.99], "model.name": "cnn"},
        0.45,
    ),
    "mnist/seed-0": ({"seed": 0, "optimizer.lr": 0.1, "model.name": "fnn", "model.hidden": None}, 0.98),
    "mnist/hidden-8__seed-0": ({"seed": 0, "optimizer.lr": 0.1, "model.name": "fnn", "model.hidden": 8}, 0.95),
}
VARIED = {"dropout.p", "model.hidden", "model.name", "optimizer.betas", "seed"}


@pytest.fixture
def sweep(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for name, (identity, accuracy) in RUNS.items():
        folder = tmp_path / name
        for part in ("train", "val"):
            with SummaryWriter(str(folder / part)) as writer:
                writer.add_scalar("accuracy", accuracy / 2, 1)
                writer.add_scalar("accuracy", accuracy, 2)
                writer.add_scalar("loss", 1 - accuracy, 2)
        final = {"epoch": 2, **{f"{part}/{tag}": 0 for part in ("train", "val") for tag in ("loss", "accuracy")}}
        (folder / "run.json").write_text(json.dumps({"identity": identity}))
        (folder / "result.json").write_text(json.dumps({"metrics": {"final": final}}))
        write_hparams(folder, identity)
    return tmp_path


def tab(folder):
    """(the experiment, session groups by name) as the tab gets them."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    backend = backend_context.Context(TBContext(data_provider=provider))
    context = RequestContext()
    metadata = backend.hparams_metadata(context, "")
    found = backend.hparams_from_data_provider(context, "", None)
    experiment = get_experiment.Handler(context, backend, "", api_pb2.GetExperimentRequest()).run()
    assert experiment == backend.experiment_from_metadata(context, "", True, metadata, found)
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN]
    )
    groups = list_session_groups.Handler(context, backend, "", request).run().session_groups
    return experiment, {group.name: group for group in groups}


def values(group):
    kinds = {key: value.WhichOneof("kind") for key, value in group.hparams.items()}
    return {key: getattr(group.hparams[key], kind) for key, kind in kinds.items()}


def accuracy(group):
    return {f"{m.name.group}/{m.name.tag}": m.value for m in group.metric_values}


def test_every_run_with_every_varied_hyperparameter_and_final_metrics(sweep):
    assert describe_sweep(sweep) == sweep / EVENTS
    experiment, groups = tab(sweep)
    assert {info.name for info in experiment.hparam_infos} == VARIED
    assert all(info.differs for info in experiment.hparam_infos)
    assert [f"{m.name.group}/{m.name.tag}" for m in experiment.metric_infos] == [
        "val/accuracy",
        "train/accuracy",
        "val/loss",
        "train/loss",
    ]
    assert set(groups) == set(RUNS)
    for name, (identity, final) in RUNS.items():
        assert accuracy(groups[name])["val/accuracy"] == pytest.approx(final)
        assert accuracy(groups[name])["train/loss"] == pytest.approx(1 - final)
        shown = {key: str(value) if isinstance(value, list | type(None)) else value for key, value in identity.items()}
        assert values(groups[name]) == shown


def test_types_and_domains_serve_the_tabs_filters(sweep):
    describe_sweep(sweep)
    infos = {info.name: info for info in tab(sweep)[0].hparam_infos}
    assert (infos["dropout.p"].domain_interval.min_value, infos["dropout.p"].domain_interval.max_value) == (0.0, 0.3)
    assert list(infos["model.name"].domain_discrete) == ["cnn", "fnn"]
    assert infos["model.hidden"].type == api_pb2.DATA_TYPE_STRING  # a number here, None there


@pytest.mark.parametrize("folder", [".", "cifar"])
def test_without_a_description_every_key_is_shown(sweep, folder):
    experiment, groups = tab(sweep / folder)
    inside = [identity for name, (identity, _) in RUNS.items() if folder == "." or name.startswith(folder)]
    assert {info.name for info in experiment.hparam_infos} == {key for identity in inside for key in identity}
    assert len(groups) == len(inside)
    assert all("val/accuracy" in accuracy(group) for group in groups.values())


def test_a_single_run_by_itself(sweep):
    experiment, groups = tab(sweep / "cifar/seed-0")
    assert {info.name for info in experiment.hparam_infos} == set(RUNS["cifar/seed-0"][0])
    assert len(groups) == 1


def test_an_unchanged_description_is_left_and_a_new_run_is_added(sweep):
    path = describe_sweep(sweep)
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert (describe_sweep(sweep).stat().st_mtime_ns, path.read_bytes()) == before
    new = sweep / "cifar" / "lr-1__seed-0"
    new.mkdir()
    identity = {**RUNS["cifar/seed-0"][0], "optimizer.lr": 1.0}
    (new / "run.json").write_text(json.dumps({"identity": identity}))
    write_hparams(new, identity)
    describe_sweep(sweep)
    assert {info.name for info in tab(sweep)[0].hparam_infos} == {*VARIED, "optimizer.lr"}


def test_no_session_no_description(tmp_path):
    assert describe_sweep(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_description_needs_no_torch(sweep):
    code = "import sys; from pathlib import Path; from retable.run.tensorboard import describe_sweep;"
    code += "describe_sweep(Path(sys.argv[1])); assert not {'torch', 'tensorflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(sweep)], check=True)


def test_what_all_runs_share_is_shown_once(sweep):
    describe_sweep(sweep)
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(sweep))
    multiplexer.Reload()
    (text,) = multiplexer.Tensors(".", f"{FIXED}/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert shown == "| setting | value |\n|---|---|\n| optimizer.lr | 0.1 |"
    assert multiplexer.SummaryMetadata(".", f"{FIXED}/text_summary").plugin_data.plugin_name == "text"


WORDS = ("task=mnist", "data=sample", "data.fraction=0.1", "model.width=4", "trainer.device=cpu", "optimizer.lr=0.0123")


def test_a_sweeps_curves_have_short_names(tmp_path):
    """Through TensorBoard's own reader: below the folder that a sweep names at its end, and below all sweeps'."""
    from torch.utils.tensorboard import SummaryWriter

    words = [*WORDS, "dropout=0.2,0.3", "seed=0,1", "trainer.max_epochs=2", f"sweep.dir={tmp_path}"]
    plan = make_plan(words)
    prepare(plan, plan.runs)
    for run in plan.runs:
        with SummaryWriter(str(run.directory / "val")) as writer:
            writer.add_scalar("accuracy", 0.5, 1)
        write_hparams(run.directory, json.loads((run.directory / "run.json").read_text())["identity"])
    curves.describe(plan)
    describe_sweep(tmp_path)
    folder = plan.folder / "curves"
    short = {f"dropout-{p}__seed-{seed}" for p in (0.2, 0.3) for seed in (0, 1)}
    assert curves.command(plan) == f"tensorboard --logdir {folder}"
    experiment, groups = tab(folder)
    assert set(groups) == short
    assert {info.name for info in experiment.hparam_infos} == {"dropout.p", "seed"}
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    assert {name for name in multiplexer.Runs() if name.endswith("/val")} == {f"{name}/val" for name in short}
    assert (
        "| optimizer.lr | 0.0123 |"
        in multiplexer.Tensors(".", f"{FIXED}/text_summary")[0].tensor_proto.string_val[0].decode()
    )
    _, groups = tab(tmp_path / "tables")
    assert set(groups) == {f"mnist/dropout-p_sample/curves/{name}" for name in short}
    plan.runs = plan.runs[:2]  # a sweep whose grid has lost a line; all that differs is the seed
    curves.link(plan)
    assert {path.name for path in folder.iterdir() if path.is_symlink()} == {"seed-0", "seed-1"}


def test_without_curves_or_links_the_runs_own_folder_is_named(tmp_path, monkeypatch):
    plan = make_plan([*WORDS, "logger=none", "seed=0,1", f"sweep.dir={tmp_path / 'none'}"])
    assert curves.link(plan) is None
    assert curves.command(plan) == f"tensorboard --logdir {tmp_path / 'none'}"
    assert not plan.folder.exists()

    def refuse(*args, **more):
        raise OSError(1, "no links here")

    monkeypatch.setattr("os.symlink", refuse)
    plan = make_plan([*WORDS, "seed=0,1", f"sweep.dir={tmp_path / 'some'}"])
    assert curves.link(plan) is None
    assert curves.command(plan) == f"tensorboard --logdir {tmp_path / 'some'}"
