"""Composing by plain containers gives what Hydra gives, for every table's grid and for values of every kind."""

import pytest

from retable.config import compose
from retable.config.compose import Composer
from retable.errors import ConfigError
from retable.experiment.grid import expand

VALUES = (
    "optimizer.lr=0.5",
    "trainer.max_epochs=7",  # which scheduler=cosine follows
    "optimizer.lr=null",
    "seed=3",
    "dropout=0.25",
    "model.width=8 +model.extra=1",
    "data.root=elsewhere",
    "data.root='a b'",
    "data.root=${output}",
    "preset.sgd.lr=0.3",
    "preset={}",
    "augment.transforms=[flip]",
    "~loss.l1",
    "++trainer.max_epochs=3",
    "dropout.p=0.2 dropout.p=0.4",
    "scheduler.T_max=5 trainer.max_epochs=9",
)


def outcome(composer: Composer, words: list[str]) -> object:
    try:
        found = composer.compose(words)
    except ConfigError as error:
        return str(error)
    return found.config, found.deviations, list(found.deviations), found.defaults


@pytest.fixture(scope="module")
def both():
    """A composer, and one that goes Hydra's way alone."""
    slow = Composer()
    slow._plainly = lambda key, values: None
    return Composer(), slow


@pytest.mark.parametrize("choice", ["task=mnist", "task=cifar scheduler=cosine", "task=gland data=sample"])
@pytest.mark.parametrize("values", VALUES)
def test_values_of_every_kind(both, choice, values):
    fast, slow = both
    words = [*choice.split(), *(values.split(" ") if "'" not in values else [values])]
    assert outcome(fast, words) == outcome(slow, words)


@pytest.mark.parametrize("every", [31, pytest.param(7, marks=pytest.mark.slow)])
def test_every_tables_grid(both, every):
    fast, slow = both
    for name in sorted(fast.options("experiment")):
        for point in expand([f"experiment={name}"], fast).points[::every]:
            assert outcome(fast, point) == outcome(slow, point), point


def test_most_runs_of_a_sweep_go_the_short_way(monkeypatch):
    composer = Composer()
    composer.compose(["task=mnist", "seed=0"])
    monkeypatch.setattr(compose.ConfigLoaderImpl, "_apply_overrides_to_config", None)
    for words in ("dropout=0.3 seed=1", "optimizer.lr=0.1 trainer.max_epochs=4"):
        composer.compose(["task=mnist", *words.split()])


def test_a_variable_that_changes_is_read_again(monkeypatch):
    composer = Composer()
    for root in ("here", "there"):
        monkeypatch.setenv("RETABLE_DATA", root)
        assert composer.compose(["task=mnist", "seed=1"]).config["data"]["root"] == root


def test_a_composition_is_the_callers_own():
    composer = Composer()
    composer.compose(["task=mnist", "seed=1"]).config["trainer"]["max_epochs"] = 99
    assert composer.compose(["task=mnist", "seed=1"]).config["trainer"]["max_epochs"] != 99
