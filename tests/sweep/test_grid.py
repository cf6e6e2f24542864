"""Grids: products, zips, unions, includes, seeds, and the command line on top."""

import shutil
from pathlib import Path

import pytest

from retable.config.compose import Composer
from retable.config.folders import config_dir
from retable.errors import ConfigError
from retable.experiment.grid import expand

HEAD = "# @package _global_\ndefaults:\n  - override /task: cifar\n"


@pytest.fixture
def conf(tmp_path: Path):
    """A copy of conf/ to which experiments can be added; returns a function that adds one and gives a Composer."""
    folder = tmp_path / "conf"
    shutil.copytree(config_dir(), folder)

    def add(**experiments: str) -> Composer:
        for name, text in experiments.items():
            (folder / "experiment" / f"{name}.yaml").write_text(HEAD + text)
        return Composer(folder)

    return add


def points(composer: Composer, *arguments: str) -> list[list[str]]:
    return [[t for t in point if not t.startswith("experiment=")] for point in expand(arguments, composer).points]


def test_command_line_alone_is_a_product(composer):
    assert points(composer, "task=cifar", "dropout=0.2,none", "seed=0,1") == [
        ["task=cifar", "dropout.p=0.2", "seed=0"],
        ["task=cifar", "dropout.p=0.2", "seed=1"],
        ["task=cifar", "dropout.p=0.0", "seed=0"],
        ["task=cifar", "dropout.p=0.0", "seed=1"],
    ]


def test_hydras_own_sweep_syntax(composer):
    assert points(composer, "task=cifar", "model.blocks=range(1,4)") == [
        ["task=cifar", f"model.blocks={n}"] for n in (1, 2, 3)
    ]
    assert points(composer, "task=cifar", "optimizer=glob(a*)") == [
        ["task=cifar", "optimizer=adam"],
        ["task=cifar", "optimizer=adamw"],
    ]
    assert points(composer, "task=cifar", "dropout=choice(0.1,0.2)") == [
        ["task=cifar", "dropout.p=0.1"],
        ["task=cifar", "dropout.p=0.2"],
    ]


def test_blocks_are_united_and_a_list_is_a_choice(conf):
    composer = conf(
        t="table:\n  grid:\n    - {dropout: none}\n    - {dropout: [0.2, 0.3], dropout.where: [conv, fc]}\n"
    )
    assert points(composer, "experiment=t") == [
        ["dropout.p=0.0"],
        ["dropout.p=0.2", "dropout.where=conv"],
        ["dropout.p=0.2", "dropout.where=fc"],
        ["dropout.p=0.3", "dropout.where=conv"],
        ["dropout.p=0.3", "dropout.where=fc"],
    ]


def test_zip_goes_through_its_lists_together(conf):
    grid = "table:\n  grid:\n    - {zip: {optimizer.lr: [0.1, 0.2], data.batch_size: [8, 16]}, dropout: [0.3, 0.4]}\n"
    assert points(conf(t=grid), "experiment=t") == [
        ["optimizer.lr=0.1", "data.batch_size=8", "dropout.p=0.3"],
        ["optimizer.lr=0.1", "data.batch_size=8", "dropout.p=0.4"],
        ["optimizer.lr=0.2", "data.batch_size=16", "dropout.p=0.3"],
        ["optimizer.lr=0.2", "data.batch_size=16", "dropout.p=0.4"],
    ]


def test_a_list_in_a_list_is_one_value(conf):
    grid = "table:\n  grid:\n    - {augment: copies, augment.transforms: [[rotate, hflip]]}\n"
    assert points(conf(t=grid), "experiment=t") == [["augment=copies", "augment.transforms=[rotate,hflip]"]]


def test_include_brings_the_other_grid_with_its_own_settings(conf):
    composer = conf(
        a="dropout: {p: 0.3}\ntable:\n  grid:\n    - {model.blocks: [1, 2]}\n",
        b="table:\n  grid:\n    - {include: a}\n    - {init: he}\n",
    )
    grid = expand(["experiment=b"], composer)
    assert grid.points == [
        ["experiment=a", "model.blocks=1"],
        ["experiment=a", "model.blocks=2"],
        ["experiment=b", "init=he"],
    ]
    assert grid.owners == ["b", "b", "b"]
    assert composer.compose(grid.points[0]).config["dropout"]["p"] == 0.3


def test_the_command_line_replaces_the_same_key_and_multiplies(conf):
    composer = conf(t="table:\n  grid:\n    - {dropout: [0.2, 0.3], model.blocks: [1, 2]}\n")
    assert points(composer, "experiment=t", "dropout=0.5", "init=he,xavier") == [
        ["model.blocks=1", "dropout.p=0.5", "init=he"],
        ["model.blocks=1", "dropout.p=0.5", "init=xavier"],
        ["model.blocks=2", "dropout.p=0.5", "init=he"],
        ["model.blocks=2", "dropout.p=0.5", "init=xavier"],
        ["model.blocks=1", "dropout.p=0.5", "init=he"],
        ["model.blocks=1", "dropout.p=0.5", "init=xavier"],
        ["model.blocks=2", "dropout.p=0.5", "init=he"],
        ["model.blocks=2", "dropout.p=0.5", "init=xavier"],
    ]  # duplicates collapse when the plan composes them


@pytest.mark.parametrize(("seeds", "expected"), [("3", [0, 1, 2]), ("[0,7]", [0, 7]), ("1", [0])])
def test_seeds_multiply(composer, seeds, expected):
    assert points(composer, "task=cifar", f"seeds={seeds}") == [["task=cifar", f"seed={s}"] for s in expected]


def test_float_ranges_are_the_decimals_that_one_would_write(composer):
    assert points(composer, "task=cifar", "dropout=range(0.1,0.6,0.1)") == [
        ["task=cifar", f"dropout.p={p}"] for p in (0.1, 0.2, 0.3, 0.4, 0.5)
    ]


def test_an_experiments_own_seeds_and_the_command_lines_on_top(conf):
    composer = conf(t="seeds: 2\ntable:\n  grid:\n    - {init: he}\n")
    assert points(composer, "experiment=t") == [["init=he", "seed=0"], ["init=he", "seed=1"]]
    assert points(composer, "experiment=t", "seeds=[5]") == [["init=he", "seed=5"]]
    assert points(composer, "experiment=t", "seed=3") == [["init=he", "seed=3"]]


def test_glob_over_experiments(composer):
    a1 = ("activation", "augment", "best", "blocks", "dropout", "init", "optimizer")
    tables = expand(["experiment=glob(cifar/*)"], composer).tables
    assert sorted(tables) == [f"cifar/{n}" for n in a1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=cifar", "seeds=0"], "seeds=0: accepted: a number of seeds (3 is 0, 1, 2), or a list like [0,7]"),
        (["task=cifar", "seeds=0,7"], "seeds=0,7: accepted: a number of seeds (3 is 0, 1, 2), or a list like [0,7]"),
        (["task=cifar", "sweep.dir=a,b"], "sweep.dir=a,b: a sweep has one; accepted: one value"),
        (
            ["task=cifar", "sweep.workers=choice(1,2)"],
            "sweep.workers=choice(1,2): a sweep has one; accepted: one",
        ),
        (["task=cifar", "table.name=a,b"], "table.name=a,b: a sweep has one; accepted: one value"),
        (["task=mnist", "data.root=a,b"], "data.root=a,b: is no part of what a run is, so all would be one"),
        (["task=mnist", "+data.root=a,b"], "+data.root=a,b: is no part of what a run is, so all would be one run"),
        (["task=mnist", "logger=tensorboard,none"], "logger=tensorboard,none: is no part of what a run is, so all"),
        (["task=cifar", "seeds=3", "seed=1"], "seeds=3: seed= is given, too; accepted: one of them"),
        (["task=cifar", "optimizer.lr=interval(0,1)"], "optimizer.lr=interval(0,1): accepted: a discrete sweep"),
        (["experiment=glob(nope/*)"], "experiment=glob(nope/*): no such experiment; accepted: brain/"),
        (["experiment=nope"], "experiment=nope: no such option; accepted:"),
    ],
)
def test_refusals(composer, arguments, message):
    with pytest.raises(ConfigError) as error:
        expand(arguments, composer)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("    - {zip: {seed: [1, 2], data.batch_size: [8]}}\n", "zip; accepted: lists of one length"),
        ("    - {include: t}\n", "t includes t; accepted: no circle"),
        ("    - {include: t, seed: 1}\n", "accepted: include stands alone"),
        ("    - 3\n", "accepted: a mapping of overrides"),
    ],
)
def test_refused_blocks(conf, grid, message):
    with pytest.raises(ConfigError) as error:
        expand(["experiment=t"], conf(t="table:\n  grid:\n" + grid))
    assert str(error.value).endswith(message)
