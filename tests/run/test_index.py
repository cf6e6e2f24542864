"""The index of a folder of runs: it spares reading, and is never believed over the directories."""

import json
import os
import time

import pytest

from retable.run import files, index
from retable.sweeps import store
from retable.sweeps.store import Store, runs_below, status_of

MANY = 120
LONG_AGO = time.time() - 1000


def run(folder, number, status="finished", seconds=1.0):
    """A run of ten epochs that ended long ago."""
    directory = folder / f"seed-{number:03}"
    directory.mkdir(parents=True, exist_ok=True)
    identity = {"seed": number, "optimizer.lr": 0.1}
    config = {"seed": number, "trainer": {"max_epochs": 10}}
    stated = {"name": directory.name, "task": "mnist", "config": config, "identity": identity, "overrides": []}
    result = {"status": status, "epochs": 10, "metrics": {"final": {"val/loss": number / 8}}}
    (directory / files.RUN).write_text(json.dumps(stated))
    (directory / files.RESULT).write_text(json.dumps(result | {"seconds": {"total": seconds}}))
    (directory / files.HISTORY).write_text("epoch,val/loss\n1,0.5\n10,0.25\n")
    for name in (files.RUN, files.RESULT, files.HISTORY):
        os.utime(directory / name, (LONG_AGO, LONG_AGO))
    return directory


@pytest.fixture
def many(tmp_path):
    return [run(tmp_path / "mnist", number) for number in range(MANY)]


@pytest.fixture
def read(monkeypatch):
    """The files that are opened as JSON or as a history from now on, by another process as it were."""
    opened = []
    for module, name in ((files, "read_json"), (files, "read_history")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path, real=real: (opened.append(path), real(path))[1])

    def forget():
        index._of.cache_clear()
        files._odd.cache_clear()
        opened.clear()
        return opened

    return forget


def test_what_is_done_is_listed_without_reading_it_again(many, read, tmp_path):
    first = runs_below(tmp_path)
    opened = read()
    assert runs_below(tmp_path) == first
    assert [one.status for one in first] == ["finished"] * MANY
    assert {one.epoch for one in first} == {10}
    found = Store(tmp_path / "mnist").find({"seed": 7, "optimizer.lr": 0.1}, {}, None)
    assert found == many[7]
    assert store.summary(many[8])["final"] == {"val/loss": 1.0}
    assert opened == []


def test_a_run_that_changed_is_read_again_and_no_other(many, read, tmp_path):
    runs_below(tmp_path)
    opened = read()
    run(tmp_path / "mnist", 3, status="diverged", seconds=12.0)
    assert status_of(many[3]) == "diverged"
    assert store.summary(many[3])["seconds"] == 12.0
    (many[4] / files.HISTORY).write_text("epoch\n2\n1\n")
    assert status_of(many[4]) == "broken"
    (many[5] / files.RESULT).unlink()
    assert status_of(many[5]) == "new"
    assert {path.parent for path in opened} <= set(many[3:6])


@pytest.mark.parametrize("fault", ["cut", "bit", "empty", "list", "version"])
def test_a_damaged_index_is_as_good_as_none(many, read, tmp_path, fault):
    wanted = runs_below(tmp_path)
    path = tmp_path / "mnist" / index.FILE
    whole = path.read_bytes()
    wrong = {
        "cut": whole[:-200],
        "bit": whole.replace(b'"status":"finished"', b'"status":"diverged"', 1),
        "empty": b"",
        "list": b"[1]\n",
        "version": whole.replace(b"retable 0", b"retable 9", 1),
    }
    path.write_bytes(wrong[fault])
    assert path.read_bytes() != whole
    opened = read()
    assert runs_below(tmp_path) == wanted
    assert len({one.parent for one in opened}) == MANY
    assert path.read_bytes() == whole  # it is there again


def test_nothing_is_written_down_of_files_that_have_just_changed(many, read, tmp_path):
    for directory in many:
        os.utime(directory / files.RESULT)
    runs_below(tmp_path)
    held = (tmp_path / "mnist" / index.FILE).read_text()
    assert '"run":' in held
    assert '"end":' not in held


def test_few_runs_have_no_index_and_a_folder_that_is_read_only_needs_none(tmp_path, read, monkeypatch):
    for number in range(20):
        run(tmp_path / "few" / "mnist", number)
    assert len(runs_below(tmp_path / "few")) == 20
    assert not list(tmp_path.rglob(index.FILE))

    def refuse(path, text):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(index.atomic, "write_text", refuse)
    for number in range(MANY):
        run(tmp_path / "many" / "mnist", number)
    assert len(runs_below(tmp_path / "many")) == MANY
    assert not list(tmp_path.rglob(index.FILE))


def test_a_directory_that_is_gone_leaves_the_index(many, read, tmp_path):
    runs_below(tmp_path)
    read()
    for directory in many[:2]:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    for number in range(MANY, 2 * MANY):
        run(tmp_path / "mnist", number)
    assert len(runs_below(tmp_path)) == 2 * MANY - 2
    held = json.loads((tmp_path / "mnist" / index.FILE).read_text().partition("\n")[2])
    assert sorted(held) == [f"seed-{number:03}" for number in range(2, 2 * MANY)]
