"""Cache and fingerprints: built once, rebuilt when damaged, safe when raced for."""

import contextlib
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from retable.atomic import staged_folder
from retable.data.arrays import blank
from retable.data.cache import cached, entry_key
from retable.data.fingerprints import fingerprint, recall, remember
from retable.errors import DataError


def build():
    return {"a": np.arange(6, dtype=np.int64).reshape(2, 3)}, {"classes": ["x", "y"]}


def fail():
    raise AssertionError("built again")


def test_second_time_is_a_memory_map(tmp_path):
    cached(tmp_path, "set", {"x": 1}, build)
    arrays, extra = cached(tmp_path, "set", {"x": 1}, fail)
    assert isinstance(arrays["a"], np.memmap)
    assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert extra == {"classes": ["x", "y"]}
    assert [path.name for path in tmp_path.iterdir()] == [f"set-{entry_key({'x': 1})}"]


def test_large_arrays_are_made_in_the_entrys_own_files(tmp_path, monkeypatch):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)

    def fill(spare=False):
        array = blank(values.shape, np.uint8)
        array[:] = values
        if spare:
            blank((100,), np.float32)  # taken and left again
            whole = blank(values.shape, np.uint8)
            whole[:] = values
            return {"a": array, "part": array[1:], "turned": array.T, "flat": whole.reshape(24)}, {}
        return {"a": array}, {}

    cached(tmp_path / "in memory", "set", {}, fill)
    monkeypatch.setattr("retable.data.arrays._IN_MEMORY", 0)
    assert type(fill()[0]["a"]) is np.ndarray  # outside of a cache there is no file to make it in
    made = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: (made.append(Path(target).name), rename(self, target))[1])
    cached(tmp_path / "in files", "set", {}, fill)
    assert made[0] == "a.npy"  # no copy
    one, other = (next((tmp_path / name).iterdir()) for name in ("in memory", "in files"))
    assert sorted(path.name for path in other.iterdir()) == ["a.npy", "meta.json"]
    assert (one / "a.npy").read_bytes() == (other / "a.npy").read_bytes()
    assert (one / "meta.json").read_bytes() == (other / "meta.json").read_bytes()
    arrays, _ = cached(tmp_path / "in files", "more", {}, lambda: fill(spare=True))
    wanted = {"a": values, "part": values[1:], "turned": values.T, "flat": values.reshape(24)}
    assert {name: array.tolist() for name, array in arrays.items()} == {k: v.tolist() for k, v in wanted.items()}
    entry = next(path for path in (tmp_path / "in files").iterdir() if path.name.startswith("more"))
    assert len(list(entry.iterdir())) == 5


def test_a_disk_without_room_for_a_large_array_is_refused_before_it_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr("retable.data.arrays._IN_MEMORY", 0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"data\.cache=.*: cannot be written \(No space left on device\)"):
        cached(tmp_path, "set", {}, lambda: ({"a": blank((8,), np.uint8)}, {}))
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_files_is_not_blamed_on_the_cache(tmp_path):
    def gone():
        raise FileNotFoundError(2, "No such file or directory", "leaf.png")

    with pytest.raises(FileNotFoundError, match=r"leaf\.png"):
        cached(tmp_path, "set", {}, gone)
    assert list(tmp_path.iterdir()) == []


def test_other_origin_is_another_entry(tmp_path):
    cached(tmp_path, "set", {"x": 1}, build)
    with pytest.raises(AssertionError, match="built again"):
        cached(tmp_path, "set", {"x": 2}, fail)
    assert len(list(tmp_path.iterdir())) == 1


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("file", ["a.npy", "meta.json"])
@pytest.mark.parametrize("damage", [Path.unlink, cut, flip, lambda path: path.write_bytes(b"")])
def test_damaged_entry_is_rebuilt(tmp_path, file, damage):
    cached(tmp_path, "set", {}, build)
    entry = next(tmp_path.iterdir())
    if file == "meta.json" and damage is flip:
        pytest.skip("one changed bit may leave meta.json valid")
    damage(entry / file)
    arrays, _ = cached(tmp_path, "set", {}, build)
    assert arrays["a"].sum() == 15
    assert list(tmp_path.iterdir()) == [entry]
    cached(tmp_path, "set", {}, fail)


def test_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(AssertionError):
        cached(tmp_path, "set", {}, fail)
    with contextlib.suppress(KeyboardInterrupt), staged_folder(tmp_path / "x") as folder:
        (folder / "part").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data\.cache=.*cannot be written"):
        cached(tmp_path / "file", "set", {}, build)


def _race(folder, barrier, results):
    def slow():
        barrier.wait(20)  # both are building before either is done
        return build()

    arrays, _ = cached(folder, "set", {}, slow)
    results.put(int(arrays["a"].sum()))


def test_two_processes_build_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_race, args=(tmp_path, barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [15, 15]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    paths = [folder / "b", folder / "sub" / "a"]
    for path in paths:
        path.write_text(path.name * 3)
    return paths


def test_fingerprint_is_sha256_of_names_sizes_and_contents(tmp_path, files):
    def sha(text):
        return hashlib.sha256(text.encode()).hexdigest()

    expected = sha(f"b\x003\x00{sha('bbb')}\nsub/a\x003\x00{sha('aaa')}\n")
    assert fingerprint(files, tmp_path / "cache", tmp_path / "set") == expected
    assert fingerprint(files[::-1], tmp_path / "cache", tmp_path / "set") == expected
    moved = (tmp_path / "set").rename(tmp_path / "elsewhere")
    assert fingerprint([moved / "b", moved / "sub" / "a"], tmp_path / "cache", moved) == expected


def test_fingerprint_is_read_once_and_again_after_a_change(tmp_path, files, monkeypatch):
    base, cache = tmp_path / "set", tmp_path / "cache"
    before = fingerprint(files, cache, base)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: fail())
        assert fingerprint(files, cache, base) == before
    state = files[0].stat()
    files[0].write_text("ccc")  # the same size
    os.utime(files[0], ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert fingerprint(files, cache, base) != before
    with pytest.raises(DataError, match="missing: cannot be read"):
        fingerprint([base / "missing"], cache, base)


def test_recall(tmp_path, files):
    cache, config = tmp_path / "cache", {"_target_": "t", "split_seed": 0, "batch_size": 32, "root": "data"}
    assert recall(cache, config) is None
    remember(cache, config, files, "f" * 64)
    same = config | {"batch_size": 8, "eval_batch_size": 9, "cache": "elsewhere", "root": str(Path("data").absolute())}
    assert recall(cache, same) == "f" * 64
    assert recall(cache, config | {"split_seed": 1}) is None
    files[1].write_text("other")
    assert recall(cache, config) is None
    remember(cache, config, files, "e" * 64)
    assert recall(cache, config) == "e" * 64
    files[0].unlink()
    assert recall(cache, config) is None


def test_recall_needs_no_torch():
    code = "import sys, retable.data.fingerprints; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_left_over_of_a_killed_process_is_swept(tmp_path):
    old, new = tmp_path / ".x.tmp-1", tmp_path / ".x.tmp-2"
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    with staged_folder(tmp_path / "x"):
        pass
    assert not old.exists()
    assert new.exists()
