"""The base class with a set that can be told by hand, and the two tasks on their real sets."""

import importlib.util
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from retable.config.keys import canonical
from retable.data import loader
from retable.data.fingerprints import recall
from retable.data.loader import channel_statistics
from retable.data.sets.cifar import CifarData
from retable.data.sets.mnist import MnistData
from retable.errors import DataError
from retable.training.augment import Augment


class Flips:
    """A stand-in for retable.training.augment: `count` transforms, the k-th adds k / 100; or 0.5 on the fly."""

    def __init__(self, mode, count=2):
        self.mode, self.count, self.seeds = mode, count, []

    def copies(self, images, seed):
        assert images.dtype == torch.float32
        self.seeds.append(seed)
        return [images + (k + 1) / 100 for k in range(self.count)]

    def batch(self, images, generator):
        return images + 0.5


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("source", "reel", "real, sample"),
        ("root", "", "a folder"),
        ("cache", None, "a folder"),
        ("fraction", 0, r"a number in \(0, 1\]"),
        ("fraction", 1.5, r"a number in \(0, 1\]"),
        ("fraction", True, r"a number in \(0, 1\]"),
        ("split_seed", -1, "a whole number from 0 to 4294967295"),
        ("batch_size", 0, "a whole number of at least 1"),
        ("batch_size", 2.5, "a whole number of at least 1"),
        ("eval_batch_size", "x", "a whole number of at least 1"),
        ("scale", "half", "unit, standard"),
        ("seed", None, "a whole number from 0 to 4294967295"),
        ("val_share", 1, r"a number in \(0, 1\)"),
        ("files", ["data_batch_6"], "full, or a list of different ones of data_batch_1"),
        ("files", ["data_batch_1"] * 2, "full, or a list"),
        ("files", [], "full, or a list"),
        ("files", 1, "full, or a list"),
    ],
)
def test_bad_value_is_refused(key, value, accepted):
    with pytest.raises(ValueError, match=rf"^{key}=.*: accepted: {accepted}") as caught:
        CifarData(**{key: value})
    assert "\n" not in str(caught.value)
    assert str(value) in str(caught.value)


def test_unknown_key_and_mode():
    with pytest.raises(TypeError, match="colour"):
        CifarData(colour=1)
    with pytest.raises(ValueError, match=r"^mode=twice: accepted: none, copies, fly$"):
        Augment("twice", [])


def test_prepare_and_setup(tiny):
    data = tiny(batch_size=7)
    data.setup("fit")
    assert data.counts == {"read": 80, "left_out": 0, "train": 60, "val": 20}
    assert (data.image_shape, data.num_classes, data.classes) == ((1, 2, 2), 2, ("even", "odd"))
    assert (data.mean, data.std) == ((0.0,), (1.0,))
    assert data.train_images.dtype == torch.uint8
    assert data.val_targets.tolist() == [0, 1] * 10
    images = torch.cat([images for images, _ in data.val_dataloader()])
    assert torch.equal(images[:, 0, 0, 0], torch.arange(60, 80) / 255)
    assert len(data.fingerprint) == 64


def test_standard_scale(tiny):
    data = tiny(scale="standard")
    data.setup()
    # Of 0..59: mean 29.5, variance (60^2 - 1) / 12.
    assert data.mean == pytest.approx((29.5 / 255,))
    assert data.std == pytest.approx((np.sqrt(3599 / 12) / 255,))
    train = torch.cat([images for images, _ in data.train_dataloader()])
    assert float(train.mean()) == pytest.approx(0, abs=1e-6)
    assert float(train.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(data.normalise(data.train_images), data.normalise(data.train_images / 255), atol=1e-6)


def test_statistics_are_kept_with_the_arrays_and_taken_anew_for_a_share(tiny, monkeypatch):
    first = tiny(scale="standard")
    first.prepare()
    taken = []
    monkeypatch.setattr(loader, "_last", [])
    monkeypatch.setattr(
        loader, "channel_statistics", lambda images: taken.append(len(images)) or channel_statistics(images)
    )
    again = tiny(scale="standard")
    again.prepare()
    assert (again.mean, again.std, taken) == (first.mean, first.std, [])
    share = tiny(scale="standard", fraction=0.5)
    share.prepare()
    assert taken == [len(share.splits.train)]
    assert share.mean != first.mean


def test_statistics_of_a_constant_channel():
    images = np.zeros((5, 2, 3, 3), np.uint8)
    images[:, 1] = 255
    assert channel_statistics(images) == ((0.0, 1.0), (1.0, 1.0))


def test_read_once_kept_in_memory_and_in_the_cache(tiny, monkeypatch):
    first = tiny()
    first.setup()
    again = tiny(batch_size=9, seed=4)
    again.setup()
    assert again.train_images.data_ptr() == first.train_images.data_ptr()
    monkeypatch.setattr(loader, "_last", [])  # as in another process
    tiny().setup()
    assert type(first).reads == 1


def test_changed_file_is_read_again(tiny, tmp_path):
    first = tiny()
    first.prepare()
    (tmp_path / "root" / "tiny" / "values.bin").write_bytes(bytes(range(10, 95)))
    second = tiny()
    second.prepare()
    assert second.fingerprint != first.fingerprint
    assert second.counts["read"] == 85


def test_fingerprint_is_recalled_for_the_configuration(tiny, tmp_path):
    data = tiny(fraction=0.5)
    data.prepare()
    target = f"{type(data).__module__}.{type(data).__qualname__}"
    config = {"_target_": target, "root": str(tmp_path / "root"), "cache": "~", "fraction": 0.5, "batch_size": 99}
    assert recall(tmp_path / "cache", config) == data.fingerprint
    assert recall(tmp_path / "cache", config | {"fraction": 1.0}) is None


def test_missing_files(tiny, tmp_path):
    (tmp_path / "root" / "tiny" / "values.bin").unlink()
    with pytest.raises(DataError, match=r"root/tiny: expected here, but missing: values\.bin") as caught:
        tiny().prepare()
    assert "\n" not in str(caught.value)


def test_sample_is_made_once_and_read_by_the_same_reader(tiny, tmp_path, monkeypatch):
    data = tiny(source="sample")
    data.prepare()
    assert data.splits.train.images[0, 0, 0, 0] == 100
    assert data.location.parent == tmp_path / "cache" / "sample"
    assert data.location.name.startswith("tiny-1-")  # two projects may have a set of one name
    assert (data.location / "values.bin").is_file()
    monkeypatch.setattr(type(data), "make_sample", lambda *_: pytest.fail("made again"))
    assert tiny(source="sample").location == data.location
    tiny(source="sample").prepare()


def test_fraction(tiny):
    data = tiny(fraction=0.25)
    data.prepare()
    assert data.counts == {"read": 80, "left_out": 45, "train": 15, "val": 20, "reasons": {"data.fraction": 45}}
    assert sorted(np.bincount(data.splits.train.targets).tolist()) == [7, 8]
    other = tiny(fraction=0.25, split_seed=1)
    other.prepare()
    assert not np.array_equal(data.splits.train.images, other.splits.train.images)


def test_fly(tiny):
    data = tiny(augment=Flips("fly"), batch_size=60)
    data.setup()
    ((images, targets),) = data.train_dataloader()
    assert float(images.min()) == 0.5
    assert len(targets) == 60
    assert float(next(iter(data.val_dataloader()))[0].max()) < 0.5


def test_copies(tiny, monkeypatch):
    monkeypatch.setattr(loader, "COPY_SLICE", 25)
    augment = Flips("copies", 3)
    data = tiny(augment=augment)
    data.setup()
    assert data.train_images.shape == (240, 1, 2, 2)
    assert data.train_images.dtype == torch.uint8
    # + 0.01, 0.02, 0.03 of 255 are 2.55, 5.1, 7.65: rounded, 3, 5 and 8.
    values = data.train_images[:, 0, 1, 1].view(4, 60).long()
    assert (values - torch.arange(60)).unique(dim=1).flatten().tolist() == [0, 3, 5, 8]
    assert torch.equal(data.train_targets.view(4, 60), torch.arange(60).remainder(2).expand(4, 60))
    assert len(set(augment.seeds)) == 3  # each slice draws its own
    plain = tiny()
    plain.setup()
    assert len(plain.train_images) == 60
    data.setup()
    assert len(data.train_images) == 240


def test_copies_are_clipped(tiny, tmp_path):
    (tmp_path / "root" / "tiny" / "values.bin").write_bytes(bytes([255] * 80))
    data = tiny(augment=Flips("copies", 1))
    data.setup()
    assert data.train_images.unique().tolist() == [255]


@pytest.mark.parametrize(
    ("changed", "chunk"),
    [
        ({}, 64),
        ({"limit_train_batches": 1}, 1),
        ({"limit_train_batches": 0.5}, 1),
        ({"overfit_batches": 2}, 1),
        ({"fast_dev_run": True, "limit_train_batches": 1}, 1),
        ({"max_steps": 100}, 1),
        ({"val_check_interval": 0.5}, 1),
    ],
)
def test_one_batch_a_step_where_lightning_counts_steps(tiny, trainer, changed, chunk):
    data = tiny()
    data.trainer = trainer(**changed)
    data.setup()
    assert data.train_dataloader().chunk == chunk
    assert data.val_dataloader().chunk == 1


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = {}, 0

    def training_step(self, batch, index):
        images, targets = batch
        self.seen.setdefault(self.current_epoch, []).append(targets.tolist())
        return self.weight * images.sum()

    def validation_step(self, batch, index):
        self.validated += len(batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data, **arguments):
    module, quiet = Recorder(), {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    trainer = pl.Trainer(**(quiet | arguments))
    trainer.fit(module, datamodule=data)
    return module


@pytest.mark.filterwarnings("ignore")
def test_under_lightning(tiny):
    module = fit(tiny(batch_size=8, seed=3), max_epochs=2)
    assert module.validated == 40
    reference = tiny(batch_size=8, seed=3)
    reference.setup()
    loader = reference.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        assert module.seen[epoch] == [targets.tolist() for _, targets in loader]
    assert module.seen[0] != module.seen[1]
    limited = fit(tiny(batch_size=8, seed=3), max_epochs=1, limit_train_batches=3)
    assert limited.seen[0] == module.seen[0][:3]
    same = fit(tiny(batch_size=8), max_epochs=2, overfit_batches=2)
    assert same.seen[0] == same.seen[1]


@pytest.fixture
def real(data_root, tmp_path_factory):
    def make(task, **arguments):
        return task(root=data_root, cache=tmp_path_factory.getbasetemp() / "real-cache", **arguments)

    return make


def test_real_cifar(real):
    data = real(CifarData)
    data.prepare()
    assert data.counts == {"read": 10000, "left_out": 0, "train": 8000, "val": 2000}
    assert np.bincount(data.splits.val.targets).tolist() == [200] * 10
    assert np.bincount(data.splits.train.targets).tolist() == [805, 774, 832, 816, 799, 737, 830, 801, 825, 781]
    assert data.classes == ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    train = {image.tobytes() for image in data.splits.train.images}
    held_out = {image.tobytes() for image in data.splits.val.images}
    assert (len(train), len(held_out), len(train & held_out)) == (8000, 2000, 0)
    other = real(CifarData, split_seed=1)
    other.prepare()
    assert held_out != {image.tobytes() for image in other.splits.val.images}


def test_real_cifar_copies(real):
    data = real(CifarData, augment=Flips("copies", 4))
    data.setup()
    assert data.train_images.shape == (40000, 3, 32, 32)
    assert torch.bincount(data.train_targets).sum() == 40000


def test_real_mnist(real):
    data = real(MnistData, scale="standard")
    data.prepare()
    assert data.counts == {"read": 70000, "left_out": 0, "train": 60000, "val": 10000}
    assert data.mean == pytest.approx((0.1307,), abs=5e-5)
    assert data.std == pytest.approx((0.3081,), abs=5e-5)
    assert data.image_shape == (1, 28, 28)
    other = real(MnistData, split_seed=8)
    assert other.reading() == data.reading()  # so that seeds share one cache entry


def test_reading_is_what_a_set_says_it_depends_on():
    assert CifarData().reading() == {"files": ("data_batch_1",), "val_share": 0.2, "split_seed": 0}
    assert CifarData(files="full", split_seed=3).reading() == {"files": "full"}


READER = """
import numpy as np
from retable.data.arrays import ImageSet, Splits
from retable.data.module import ImageData

class Reader(ImageData):
    folder = "own"

    def __init__(self, fill={fill}, **base):
        super().__init__(**base)
        self.fill = fill

    def files(self):
        return self.expect([self.location / "any"])

    def read(self, files):
        images = np.full((2, 1, 2, 2), self.fill + {added}, np.uint8)
        return Splits(ImageSet(images, np.array([0, 1])), ImageSet(images, np.array([0, 1])), ("a", "b"))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """First pixel of the images as a module outside the package reads them, each time imported anew."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "any").touch()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def read(fill=1, added=0, **arguments):
        (tmp_path / "own_reader.py").write_text(READER.format(fill=fill, added=added))
        monkeypatch.setattr(loader, "_last", [])
        specification = importlib.util.spec_from_file_location("own_reader", tmp_path / "own_reader.py")
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, "own_reader", module)
        specification.loader.exec_module(module)
        data = module.Reader(root=tmp_path, cache=tmp_path / "cache", **arguments)
        data.prepare()
        return int(data.splits.train.images[0, 0, 0, 0])

    return read


def test_a_reader_that_was_edited_reads_anew(own, tmp_path):
    assert own() == 1
    assert own(added=6) == 7
    assert own(fill=3) == 3  # a default is a part of the source
    assert own() == 1
    assert len(list((tmp_path / "cache").glob("own-*"))) == 3


def test_keys_that_change_nothing_that_is_read_find_the_same_arrays(own, tmp_path):
    assert [own(), own(seed=9, batch_size=1, fraction=0.5, scale="standard")] == [1, 1]
    assert len(list((tmp_path / "cache").glob("own-*"))) == 1


def test_keys_beyond_those_of_a_set_that_is_built_upon():
    class More(CifarData):
        def __init__(self, extra=5, **rest):
            super().__init__(**rest)

    def key(**given):
        return canonical(More(**given).made_from())

    assert key(extra=1) != key(extra=2)
    assert key(extra=1) == key(extra=1, seed=3, batch_size=7, fraction=0.5, scale="standard", root="x", cache="y")
    assert key() != canonical(CifarData().made_from())


def test_a_class_without_a_file_is_read_each_time(tiny, monkeypatch, tmp_path):
    kind = type(tiny())
    typed = type("Typed", (kind,), {"__module__": "of_a_notebook"})
    for reads in (1, 2):
        monkeypatch.setattr(loader, "_last", [])
        typed(root=tmp_path / "root", cache=tmp_path / "cache").prepare()
        assert typed.reads == reads
    assert not list((tmp_path / "cache").glob("tiny-*"))
