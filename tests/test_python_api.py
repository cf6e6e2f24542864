"""The Python functions do what the commands do, and are quiet when asked."""

import numpy as np
import pytest
from PIL import Image

import retable
from retable.errors import ConfigError

SMALL = ("task=mnist", "data=sample", "debug=fast", "logger=none", "model.width=2")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return retable.train(*SMALL, f"output={tmp_path_factory.mktemp('api')}", quiet=True)


def test_a_run_is_trained_without_a_word(result, tmp_path, capsys):
    retable.train(*SMALL, f"output={tmp_path}", quiet=True)
    assert capsys.readouterr().out == ""
    assert result["status"] == "finished"
    assert (result["directory"] / "result.json").exists()


def test_it_is_loaded_and_labels_images(result, tmp_path):
    trained = retable.load(result["directory"])
    assert trained.classes == tuple("0123456789")
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / name)
    found = retable.predict(trained, tmp_path)
    assert [item.name for item in found] == ["a.png", "b.png"]
    assert found[0].label == found[1].label


def test_a_sweep_is_a_data_frame(tmp_path):
    table = retable.sweep(*SMALL, "dropout=0.1,0.2", "sweep.workers=1", f"sweep.dir={tmp_path}", quiet=True)
    assert table["dropout.p"].tolist() == [0.1, 0.2]
    assert table["status"].tolist() == ["finished", "finished"]


def test_what_is_refused_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"several values are a sweep") as error:
        retable.train("task=mnist", "dropout=0.1,0.2", f"output={tmp_path}")
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
