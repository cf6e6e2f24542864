"""Which states a loss of power may leave (tests/sweep/power.py), of few operations and by hand; and what is written
before a result says that it is there. The replay of a whole sweep is in test_faults.py."""

import os
import random
from pathlib import Path

import pytest

from retable import atomic
from retable.run import execute as execution
from retable.run import files
from retable.run.execute import execute
from tests.sweep.power import ALL, JOURNAL, LOST, NAMES, ZEROS, Operation, content_after, parse, states, tree_after


def named(kind: str, path: str, other: str = "") -> Operation:
    return Operation(kind, 0, 0, b"", path, other)


def of_file(kind: str, file: int, path: str, data: bytes = b"", offset: int = 0) -> Operation:
    return Operation(kind, file, offset, data, path)


def found(recorded: list[Operation], rule: str, first: int = 1) -> set[tuple[tuple[str, bytes | None], ...]]:
    """The states by a rule, each as its names with their contents."""
    return {
        tuple((name, None if file is None else state.contents[file]) for name, file in sorted(state.tree.items()))
        for seed in range(40)
        for state in states(recorded, seed, first, [rule]).values()
    }


WRITTEN = [of_file("create", 1, "new"), of_file("write", 1, "new", b"ab")]


def test_a_file_that_was_not_synchronised_may_be_empty_or_cut_under_its_last_name():
    unsafe = [*WRITTEN, named("rename", "file", "new")]
    assert found(unsafe, JOURNAL) == {
        (),
        (("new", b""),),
        (("new", b"a"),),
        (("new", b"ab"),),
        (("file", b""),),
        (("file", b"a"),),
        (("file", b"ab"),),
    }


def test_a_file_that_was_synchronised_is_whole_under_its_last_name():
    safe = [*WRITTEN, of_file("sync", 1, "new"), named("rename", "file", "new")]
    assert found(safe, JOURNAL, first=4) == {(("new", b"ab"),), (("file", b"ab"),)}
    assert found(safe, NAMES, first=4) == {(), (("new", b"ab"),), (("file", b"ab"),)}
    safe.append(of_file("sync", 9, ""))
    assert found(safe, JOURNAL, first=5) == found(safe, NAMES, first=5) == {(("file", b"ab"),)}


def test_names_are_lost_in_order_or_each_by_itself():
    recorded = [named("mkdir", "a"), named("mkdir", "b"), named("mkdir", "a/c")]
    a, b, c = ("a", None), ("b", None), ("a/c", None)
    assert found(recorded, JOURNAL) == {(), (a,), (a, b), (a, c, b)}
    assert found(recorded, NAMES) == {(), (a,), (b,), (a, b), (a, c), (a, c, b)}


def test_contents():
    done = [*WRITTEN, of_file("sync", 1, "new"), of_file("write", 1, "new", b"xyz", 1)]
    draw = random.Random(0)
    assert [content_after(done, 1, how, draw) for how in (LOST, ALL, ZEROS)] == [b"ab", b"axyz", b"a\0\0\0"]
    done += [of_file("sync", 1, "new"), of_file("truncate", 1, "new", offset=2)]
    assert [content_after(done, 1, how, draw) for how in (LOST, ALL)] == [b"axyz", b"ax"]


def test_two_names_of_a_file_and_a_folder_that_moves():
    done = [named("mkdir", "d"), of_file("create", 1, "d/a"), named("link", "b", "d/a"), named("rename", "e", "d")]
    assert tree_after(done) == {"e": None, "e/a": 1, "b": 1}


def test_an_inode_that_is_used_again_is_another_file():
    lines = [b"create 7 0 0\t/a\t", b"write 7 0 2\t/a\t", b"unlink 0 0 0\t/a\t", b"create 7 0 0\t/b\t"]
    first, written, gone, second = parse(lines[0] + b"\n" + lines[1] + b"\n\n\t" + b"\n".join(lines[2:]) + b"\n")
    assert (written.data, written.path, gone.kind) == (b"\n\t", "a", "unlink")
    assert first.file == written.file != second.file


def test_all_is_on_the_disk_before_a_result_says_so(compose, tmp_path, monkeypatch):
    synced: set[int] = set()
    plain, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), plain(handle)))
    monkeypatch.setattr(execution, "_draw", lambda directory, *_: atomic.write_text(directory / "figures" / "a", "a"))
    seen: list[dict[str, bool]] = []

    def note(source: object, target: object) -> None:
        if Path(str(target)).name == files.RESULT:
            seen.append({path.name: path.stat().st_ino in synced for path in (tmp_path / "run").rglob("*")})
            seen[-1]["run"] = (tmp_path / "run").stat().st_ino in synced
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    config = compose("task=mnist", "data.fraction=0.1", "model.width=4", "trainer.max_epochs=2")
    execute(config, tmp_path / "run")
    assert len(seen) == 1
    assert seen[0].keys() >= {"run", "figures", "a", "last.ckpt", "previous.ckpt", "history.csv", "run.json", ".lock"}
    assert all(seen[0].values())


@pytest.mark.parametrize("name", ["pipe", "nowhere"])
def test_what_cannot_be_synchronised_is_left(tmp_path, name):
    os.mkfifo(tmp_path / "pipe") if name == "pipe" else (tmp_path / name).symlink_to("gone")
    atomic.sync(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
