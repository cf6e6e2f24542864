"""Assumptions as data: read from the file, trained as a sweep, and what the page says of the table under each."""

import re
from dataclasses import replace

import pytest

from retable.config.compose import Composer
from retable.config.keys import lookup
from retable.errors import ConfigError
from retable.experiment.grid import expand
from retable.experiment.table import load_table
from retable.report.alternatives import Alternative, Variation, under
from retable.report.evaluated import evaluate
from retable.report.html import table_page
from retable.report.markdown import report
from retable.report.match import tables_of
from retable.report.runs import Assigned, read_runs
from retable.report.verdicts import FAILS, HOLDS, UNDECIDED, Verdict
from tests.report.tables import FOLDER, composed, points_of, table
from tests.report.test_report_command import run_sweep  # noqa: F401

NAMES = [f"{path.parent.name}/{path.stem}" for path in sorted(FOLDER.glob("*/*.yaml"))]
WITH = [name for name in NAMES if table(name).assumptions]


@pytest.fixture(scope="module")
def composer():
    return Composer()


def test_entries_are_texts_or_settings(make_table):
    found = make_table(assumed=["SGD", {"data.batch_size": 32, "or": [64, 128]}, {"x": 1, "or": [2], "note": "why"}])
    assert found.assumed == ("SGD", "data.batch_size=32 (or 64, 128)", "x=1 (or 2), why")
    assert [(one.key, one.value, one.alternatives) for one in found.assumptions] == [
        ("data.batch_size", 32, (64, 128)),
        ("x", 1, (2,)),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"data.batch_size": 32}, "accepted is a setting like"),
        ({"data.batch_size": 32, "or": []}, "accepted is a setting like"),
        ({"a": 1, "b": 2, "or": [3]}, "accepted is a setting like"),
        ({"a": 1, "or": [1, 2]}, "is the assumed value itself"),
        ({"model": "a", "or": ["b"]}, "model is varied by the grid"),
        (7, "a list of texts, and of settings"),
    ],
)
def test_what_is_refused(make_table, entry, message):
    with pytest.raises(ConfigError, match="assumed") as caught:
        make_table(assumed=[entry])
    assert message in str(caught.value)


# What reports.md marks as assumed and a run's config has a key for, by report.
RVSC = ("data.subfolder", "data.shares", "data.split_seed", "data.contour", "data.jpeg")
SETTINGS = {
    "cifar": ("data.files", "data.split_seed", "data.batch_size", "model.width"),
    "mnist": ("data.scale",),
    "gland": (),
    "lesion": ("optimizer", "optimizer.lr", "data.batch_size", "dropout.p", "data.scale", "task.average"),
    "brain": ("data.stride", "data.min_pixels", "model.widths", "model.convolutions"),
    "fcn": ("data.set", "dropout.p", "optimizer", "optimizer.lr", "optimizer.momentum", "data.batch_size", "data.size"),
    "ventricle": RVSC,
    "wildlife": (
        *("model.backbone", "optimizer", "data.shorter", "data.longer", "augment.hflip.p"),
        *("trainer.gradient_clip_val", "model.box_loss", "task.confidence", "task.overlap"),
    ),
}
MORE = {
    **{f"cifar/{name}": ("optimizer",) for name in ("blocks", "dropout", "init", "activation", "augment")},
    "cifar/augment": ("optimizer", "augment.noise.sigma"),
    "mnist/activation": ("optimizer",),
    **{f"gland/{name}": ("data.split_seed",) for name in ("batch", "lr", "best")},
    **{
        f"ventricle/{name}": ("data.scale", "data.style", "data.channels") for name in ("schedule", "loss", "optimizer")
    },
    "brain/models": ("task.average",),
    "fcn/models": ("loss",),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_assumed_setting_is_data(name):
    keys = {one.key for one in table(name).assumptions}
    whole = name in ("cifar/best", "mnist/best")  # of the other tables' runs, with their assumptions
    assert keys >= set(() if whole else (*SETTINGS[name.split("/")[0]], *MORE.get(name, ())))


def some_points(name):
    """The first grid point of each block: of the keys that are no part of the grid all points of a block are alike."""
    for block in table(name).grid:
        alone = replace(table(name), grid=(block,))
        yield next(points_of(name, alone))


@pytest.mark.parametrize(
    ("assumed", "message"),
    [
        ("{data.batch_size: 48, or: [64]}", "assumed: data.batch_size=48: its runs have data.batch_size=32"),
        ("{optimizer: adam, or: [rmsprop]}", "assumed: optimizer=adam: its runs have optimizer=sgd"),
        ("{dropout.p: 0.0, or: [0.1]}", "assumed: dropout.p is varied by the grid"),
    ],
)
def test_what_is_assumed_is_what_the_runs_have(tmp_path, monkeypatch, assumed, message):
    """A page would call a value assumed that no run has, or give one run for every value of the grid."""
    folder = tmp_path / "conf/experiment/mnist"
    folder.mkdir(parents=True)
    head = "# @package _global_\ndefaults:\n  - override /task: mnist\ndata: {batch_size: 32}\n"
    table = "table:\n  source: a\n  title: b\n  published_epochs: 1\n  metrics: {val: {column: val/accuracy}}\n"
    cells = "  cells: {one: {match: {dropout.p: 0.0}}, two: {match: {dropout.p: 0.3}}}\n"
    (folder / "own.yaml").write_text(f"{head}{table}  grid: [{{dropout.p: [0.0, 0.3]}}]\n{cells}")
    included = f"{head}{table}  assumed: [{assumed}]\n  grid: [{{include: mnist/own}}]\n{cells}"
    (folder / "other.yaml").write_text(included)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(message)):
        expand(("experiment=mnist/other", "sweep.assumptions=true"), Composer())


@pytest.mark.parametrize("name", WITH)
def test_the_assumed_value_is_the_one_that_every_run_has_and_the_others_compose(name, composer):
    found = table(name).assumptions
    for point in some_points(name):
        config = composed(point)[0]
        assert {one.key: value_of(config, one.key) for one in found} == {one.key: one.value for one in found}, point
    for number in range(max(len(one.alternatives) for one in found)):
        chosen = [(one, one.alternatives[min(number, len(one.alternatives) - 1)]) for one in found]
        alone = [[pair] for pair in chosen if "." not in pair[0].key]  # another optimizer has other keys
        for own in filter(None, [[pair for pair in chosen if [pair] not in alone], *alone]):
            config = composer.compose([f"experiment={name}", *(one.override(value) for one, value in own)]).config
            assert {one.key: value_of(config, one.key) for one, _ in own} == {one.key: value for one, value in own}


def value_of(config, key):
    found = lookup(config, key)
    return found["name"] if isinstance(found, dict) else found


def test_the_sweep_has_each_alternative_by_itself_and_the_tables_own_runs(composer):
    plain = expand(("experiment=cifar/activation",), composer).points
    found = expand(("experiment=cifar/activation", "sweep.assumptions=true"), composer).points
    own = [[text for text in point if text != "sweep.assumptions=true"] for point in found]
    assert own[: len(plain)] == plain
    rest = own[len(plain) :]
    alternatives = [
        "data.files=[data_batch_2]",
        *("data.split_seed=1", "data.split_seed=2"),
        "optimizer=adam",
        *(f"data.batch_size={n}" for n in (32, 100, 128)),
        *("model.width=32", "model.width=64"),
    ]
    assert [[text for text in point if text in alternatives] for point in rest] == [
        [text] for text in alternatives for _ in plain
    ]
    # What the command line sets is not varied.
    asked = expand(("experiment=cifar/activation", "sweep.assumptions=true", "data.batch_size=8"), composer).points
    assert len(asked) == len(plain) * (1 + 6)
    with pytest.raises(ConfigError, match="nothing to vary"):
        expand(("experiment=cifar/best", "sweep.assumptions=true"), composer)


def test_the_page_says_under_which_assumptions_a_claim_holds(run_sweep, composer, tmp_path):  # noqa: F811
    """All augmentation with dropout has 53 %, the others 40 %, but with batch 128 it has 30 %."""

    def accuracy(config):
        if config["dropout"]["p"] == 0.3 and len(config["augment"]["transforms"]) == 4:
            return 0.3 if config["data"]["batch_size"] == 128 else 0.53
        return 0.4

    run_sweep(
        "experiment=cifar/augment",
        "sweep.assumptions=true",
        accuracy=accuracy,
        only=lambda config: (
            config["optimizer"]["name"] == "sgd"
            and config["model"]["width"] == 16
            and config["data"]["files"] == ["data_batch_1"]
            and config["data"]["split_seed"] == 0
            and config["augment"]["noise"]["sigma"] == 0.1
        ),
    )
    (pair,) = tables_of(read_runs([tmp_path]), ["cifar/augment"], composer=composer)
    assert sorted(pair[1].alternatives) == ["data.batch_size=100", "data.batch_size=128", "data.batch_size=32"]
    assert pair[1].notes == ()  # they are no runs of another setting that somebody should wonder about
    found = evaluate(*pair)
    assert found.verdicts[0].under == "holds under 3 of 4 assumptions; fails with data.batch_size=128"
    assert found.verdicts[0].line.endswith("; fails with data.batch_size=128")
    (variation,) = found.variations
    assert [(one.setting, one.cells) for one in variation.values] == [
        (f"data.batch_size={size}", 3) for size in (64, 32, 100, 128)
    ]
    values = variation.values[3].distance["val"], variation.values[0].distance["val"]
    assert variation.nearest["val"].setting != "data.batch_size=128"
    assert values[0] - values[1] > 5  # a cell of three is 23 points off
    text = report(found)
    section = text[text.index("## Under other assumptions") :]
    assert "| data.batch_size | cells | " in section
    assert "| 64 (assumed) | 3 | holds |" in section
    assert "| 128 | 3 | does not hold |" in section
    assert "Nearest to the published figures: " in section
    page = table_page(found, tmp_path, "").text
    assert page.count('<td class="text">all augmentation, dropout 0.3') == 4  # one of each batch size, with its run
    assert '<td class="text">all augmentation, dropout 0.3, data.batch_size=128</td>' in page
    left = "data.files=[data_batch_2]; data.split_seed=1 and 2; optimizer=adam; model.width=32 and 64"
    assert f"Not trained: {left}; augment.noise.sigma=0.05 and 0.2." in section


def test_runs_by_hand_are_of_the_alternative_that_they_have(run_sweep, composer, tmp_path):  # noqa: F811
    """They name no experiment; a run with settings that no assumption has stays beside the table."""
    run_sweep("experiment=cifar/activation")
    run_sweep("task=cifar", "dropout=0.3", "activation=relu,none", "data.batch_size=128")
    run_sweep("task=cifar", "dropout=0.3", "activation=relu", "optimizer=adam")
    run_sweep("task=cifar", "dropout=0.3", "activation=relu", "data.batch_size=48")
    (pair,) = tables_of(read_runs([tmp_path]), ["cifar/activation"], composer=composer)
    under = {text: [bool(runs) for runs in found.cells.values()] for text, found in pair[1].alternatives.items()}
    assert under == {"optimizer=adam": [True, False], "data.batch_size=128": [True, True]}


@pytest.mark.parametrize(
    ("own", "others", "message"),
    [
        (HOLDS, (HOLDS, HOLDS), "holds under all of 3 assumptions"),
        (FAILS, (FAILS, FAILS), "holds under none of 3 assumptions"),
        (HOLDS, (FAILS, HOLDS), "holds under 2 of 3 assumptions; fails with a=0"),
        (FAILS, (HOLDS, FAILS), "holds under 1 of 3 assumptions; fails as assumed, a=1"),
        (FAILS, (HOLDS, UNDECIDED), "holds under 1 of 2 assumptions; fails as assumed"),
        (UNDECIDED, (HOLDS, HOLDS), ""),
    ],
)
def test_under_says_most_with_few_words(own, others, message):
    found = [Alternative(f"a={n}", False, 1, (verdict,), {}, {}) for n, verdict in enumerate(others)]
    assert under(Verdict("T (1)", "a text", own), 0, found) == message


def test_a_table_under_its_own_assumptions_alone_says_nothing_of_others(run_sweep, composer, tmp_path):  # noqa: F811
    run_sweep("experiment=cifar/activation")
    (pair,) = tables_of(read_runs([tmp_path]), ["cifar/activation"], composer=composer)
    found = evaluate(*pair)
    assert (found.variations, found.verdicts[0].under) == ((), "")


def test_what_is_nearest_is_said_of_values_with_the_same_cells(composer):
    """Of two cells of five the mean distance is another thing than of all."""

    def value(size, cells, distance):
        return Alternative(f"data.batch_size={size}", size == 32, cells, ("holds",), {}, {"val": distance})

    assumption = load_table(composer.path("experiment", "cifar/blocks")).assumptions[3]
    assert assumption.key == "data.batch_size"
    whole, part, other = value(32, 5, 3.0), value(64, 2, 1.0), value(100, 5, 4.0)
    assert Variation(assumption, (whole, part, other)).nearest == {"val": whole}
    assert Variation(assumption, (whole, part)).nearest == {}  # nothing to compare


def test_distances_over_other_cells_are_not_held_against_each_other(make_table, make_run):
    """As many cells, and others: of a (60, published 50) and b (61 of 60) the mean is 5.5, of b alone (63) it is 3."""
    named = make_table(assumed=[{"size": 32, "or": [64]}])
    own = Assigned({"a": [make_run("a", [0.1, 0.6])], "b": [make_run("b", [0.1, 0.61])], "c": []})
    for last, nearest in ("c", {}), ("a", {"val": "size=64"}):
        other = {"a": [], "b": [make_run("b", [0.1, 0.63])], "c": []} | {last: [make_run(last, [0.1, 0.51])]}
        (found,) = evaluate(named, replace(own, alternatives={"size=64": Assigned(other)})).variations
        shown = {name: one.setting for name, one in found.nearest.items()}
        assert {name: setting for name, setting in shown.items() if name == "val"} == nearest
