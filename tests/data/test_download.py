"""Downloads, with torchvision's classes replaced: whole, cut, failed, raced for."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from retable.data.formats.cifar_batch import write_batch, write_names
from retable.data.formats.idx import write_idx
from retable.data.sets.cifar import BATCHES, OFFICIAL, CifarData
from retable.data.sets.mnist import NAMES, MnistData
from retable.errors import DataError


def fake_cifar(root, download):
    folder = Path(root) / "cifar-10-batches-py"
    targets = np.arange(20) % 10
    images = np.broadcast_to(targets[:, None, None, None], (20, 3, 32, 32)).astype(np.uint8)
    for name in (*BATCHES, "test_batch"):
        write_batch(folder / name, images, targets, name)
    write_names(folder / "batches.meta", OFFICIAL, 20)
    (Path(root) / "cifar-10-python.tar.gz").write_bytes(b"archive")


def fake_mnist(root, download):
    for name in NAMES:
        shape = (20,) if "labels" in name else (20, 28, 28)
        write_idx(Path(root) / "MNIST" / "raw" / name, np.full(shape, 3, np.uint8))


def cut_off(root, download):
    (Path(root) / "cifar-10-batches-py").mkdir()
    (Path(root) / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")
    raise RuntimeError("File not found\nor corrupted.")


def visible(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_whole_set(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", fake_cifar)
    data = CifarData(root=tmp_path / "root", cache=tmp_path / "cache", files="full", split_seed=4)
    data.prepare()
    assert data.counts == {"read": 120, "left_out": 0, "train": 100, "val": 20}
    names = sorted([*BATCHES, "batches.meta", "test_batch"])
    assert visible(tmp_path / "root") == sorted(f"cifar10/cifar-10-batches-py/{name}" for name in names)


def test_files_that_are_there_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", fake_cifar)
    mine = tmp_path / "root" / "cifar10" / "cifar-10-batches-py" / "data_batch_1"
    write_batch(mine, np.zeros((30, 3, 32, 32), np.uint8), np.arange(30) % 10, "mine")
    data = CifarData(root=tmp_path / "root", cache=tmp_path / "cache", files="full")
    data.prepare()
    assert data.counts["train"] == 110


def test_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST", fake_mnist)
    data = MnistData(root=tmp_path / "root", cache=tmp_path / "cache")
    data.prepare()
    assert data.splits.train.targets.tolist() == [3] * 20


def test_cut_download_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", cut_off)
    with pytest.raises(DataError) as caught:
        CifarData(root=tmp_path / "root", cache=tmp_path / "cache").prepare()
    message = str(caught.value)
    assert message.startswith("CIFAR-10: the download failed (File not found or corrupted.)")
    for part in (
        "cifar10/cifar-10-batches-py: data_batch_1",
        "batches.meta",
        "data.root=",
        "RETABLE_DATA",
        "data=sample",
    ):
        assert part in message
    assert "\n" not in message
    assert visible(tmp_path / "root") == []


def test_incomplete_download_leaves_nothing(tmp_path, monkeypatch):
    def incomplete(root, download):
        fake_cifar(root, download)
        (Path(root) / "cifar-10-batches-py" / "test_batch").unlink()

    monkeypatch.setattr(datasets, "CIFAR10", incomplete)
    with pytest.raises(DataError, match="it brought no test_batch"):
        CifarData(root=tmp_path / "root", cache=tmp_path / "cache").prepare()
    assert visible(tmp_path / "root") == []


def test_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(root, download):
        (Path(root) / "x").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "MNIST", interrupted)
    with pytest.raises(KeyboardInterrupt):
        MnistData(root=tmp_path / "root", cache=tmp_path / "cache").prepare()
    assert visible(tmp_path / "root") == []


def test_root_that_cannot_be_written(tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DataError, match="MNIST: the download failed"):
        MnistData(root=tmp_path / "root", cache=tmp_path / "cache").prepare()


def _prepare(root, calls):
    def counted(folder, download):
        calls.put(1)
        fake_mnist(folder, download)

    datasets.MNIST = counted  # in the child only
    MnistData(root=root, cache=root / "cache").prepare()


def test_two_processes_download_once(tmp_path):
    context = multiprocessing.get_context("fork")
    calls = context.SimpleQueue()
    processes = [context.Process(target=_prepare, args=(tmp_path, calls)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    calls.get()
    assert calls.empty()


def test_gzipped_mnist_is_found(tmp_path):
    import gzip

    fake_mnist(tmp_path / "mnist", True)
    for file in (tmp_path / "mnist" / "MNIST" / "raw").iterdir():
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    data = MnistData(root=tmp_path, cache=tmp_path / "cache")
    data.prepare()
    assert data.counts["train"] == 20
