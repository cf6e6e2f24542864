"""A directory that a user has chosen by hydra.run.dir may hold other things: a refusal takes away only what it made."""

import pytest

from retable.errors import ConfigError, DataError
from retable.run import single

OVERRIDES = ["task=mnist", "data=sample", "debug=fast", "logger=none", "model.width=2"]


@pytest.fixture
def refused_late(monkeypatch):
    """A refusal after the run's directory has been written, as when the data vanish meanwhile."""

    def execute(config, directory):
        raise DataError("train.npz: gone")

    monkeypatch.setattr(single, "_execute", execute)


def test_what_lay_in_a_chosen_directory_stays(compose, refused_late, tmp_path):
    chosen = tmp_path / "mine"
    chosen.mkdir()
    (chosen / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="gone"):
        single.run_single(compose(*OVERRIDES), OVERRIDES, chosen)
    assert [path.name for path in chosen.iterdir()] == ["thesis.txt"]
    assert (chosen / "thesis.txt").read_text() == "precious"


def test_an_empty_chosen_directory_goes_and_its_parents_stay(compose, refused_late, tmp_path):
    chosen = tmp_path / "a" / "b"
    chosen.mkdir(parents=True)
    with pytest.raises(DataError, match="gone"):
        single.run_single(compose(*OVERRIDES), OVERRIDES, chosen)
    assert not chosen.exists()
    assert (tmp_path / "a").is_dir()


def test_a_new_directory_goes_with_the_empty_ones_above_it(compose, refused_late, tmp_path):
    overrides = [*OVERRIDES, f"output={tmp_path / 'outputs'}"]
    with pytest.raises(DataError, match="gone"):
        single.run_single(compose(*overrides), overrides)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_a_file_that_a_run_would_write_is_refused(compose, tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds config\.yaml, which a run would write"):
        single.run_single(compose(*OVERRIDES), OVERRIDES, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "mine"
