"""Images that are read from the cache's files as they are needed give the figures of those in memory."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from retable.data.loader import DeviceLoader, enlarged
from retable.errors import ConfigError, DataError
from retable.run.assemble import make_data
from retable.run.execute import execute
from tests.checking import check
from tests.runs import history

SMALL = (
    "task=mnist",
    "data.fraction=1.0",
    "model.width=4",
    "dropout=none",
    "trainer.device=cpu",
    "trainer.max_epochs=2",
)


def test_the_history_is_the_same(compose, tmp_path):
    for value in ("true", "false"):
        execute(compose(*SMALL, "augment=fly", f"data.resident={value}"), tmp_path / value)
    assert history(tmp_path / "true") == history(tmp_path / "false")


def test_mapped_images_take_no_memory_of_their_own(compose):
    data = make_data(compose(*SMALL, "data.resident=false"))
    data.setup()
    assert data.train_images.data_ptr() == data.splits.train.images.ctypes.data  # the cache's map itself
    kept = make_data(compose(*SMALL, "data.resident=true"))
    kept.setup()
    assert kept.train_images.data_ptr() != kept.splits.train.images.ctypes.data
    assert torch.equal(kept.train_images, data.train_images)


def test_on_a_cpu_the_processes_of_a_machine_share_images_unless_each_is_to_have_its_own(compose):
    data = make_data(compose(*SMALL))
    assert data.is_resident(torch.device("cpu"))
    data.setup()
    assert data.train_images.data_ptr() == data.splits.train.images.ctypes.data  # the cache's map itself
    assert data.resident_on(torch.device("cpu"))["val"][0].data_ptr() == data.splits.val.images.ctypes.data
    assert data.is_shared(torch.device("cpu"))
    before = data.splits.train.images.copy()
    for _ in data.train_dataloader():
        pass
    assert (data.splits.train.images == before).all()


@pytest.mark.parametrize(
    "overrides", [("task=mnist",), ("task=brain",), ("task=wildlife",), ("task=mnist", "data.resident=true")]
)
def test_a_batch_may_be_written_to_and_the_set_stays_as_it_is(compose, overrides):
    """As a module or a callback of one's own may: in a map it would be a segmentation fault."""
    data = make_data(compose(*overrides))
    data.setup()
    loader = data.val_dataloader()
    kept = [loader.images.untyped_storage().data_ptr(), loader.targets.untyped_storage().data_ptr()]
    for images, targets in loader:
        assert images.untyped_storage().data_ptr() not in kept
        assert targets.untyped_storage().data_ptr() not in kept
        images.zero_()
        targets.zero_()


def test_augmentation_of_ones_own_may_write_to_what_it_is_given():
    images, masks = np.full((3, 1, 2, 2), 0.5, np.float32), np.ones((3, 2, 2), np.uint8)
    images.flags.writeable = masks.flags.writeable = False
    with warnings.catch_warnings(action="ignore"):
        held = torch.from_numpy(images), torch.from_numpy(masks)

    def fly(images, generator, masks):
        return images.add_(1), masks.zero_()

    def copies(images, seed, masks):
        return [(images.add_(1), masks.zero_())]

    (found,) = DeviceLoader(*held, 3, lambda images: images, shuffle=False, augment=fly)
    assert (found[0] == 1.5).all()
    assert (found[1] == 0).all()
    more, more_masks = enlarged(*held, copies, 0)
    assert more[:, 0, 0, 0].tolist() == [0.5, 0.5, 0.5, 1.5, 1.5, 1.5]
    assert more_masks[:, 0, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert (images == 0.5).all()
    assert (masks == 1).all()


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.resident=true",),
        ("data.resident=false",),
        ("augment=copies", "augment.transforms=[hflip]"),
        ("data.fraction=0.5",),
    ],
)
def test_what_each_process_has_for_itself(compose, overrides):
    data = make_data(compose("task=cifar", *overrides))
    assert not data.is_shared(torch.device("cpu"))


def test_arrays_that_run_backwards_are_taken(compose):
    """As a class typed into a notebook may give them, which the cache does not hold."""
    data = make_data(compose("task=mnist"))
    splits, kept = data.splits, data._resident.on(torch.device("cpu"))["val"]
    backwards = replace(splits.val, images=splits.val.images[:, :, ::-1], targets=splits.val.targets[::-1])
    images, targets = replace(data._resident, splits=replace(splits, val=backwards)).mapped()["val"]
    assert torch.equal(images, kept[0].flip(2))
    assert torch.equal(targets, kept[1].flip(0))


def test_copies_are_made_beside_them(compose):
    data = make_data(compose("task=cifar", "augment=copies", "augment.transforms=[hflip]"))
    data.setup()
    images = torch.from_numpy(data.splits.train.images.copy())
    assert torch.equal(data.train_images, torch.cat([images, images.flip(3)]))


def test_auto_goes_by_what_is_free(compose, monkeypatch):
    for free, wanted in ((10**12, True), (10**3, False)):
        data = make_data(compose(*SMALL))
        data._resident.tensors.clear()
        monkeypatch.setattr("retable.data.module.free_memory", lambda device, free=free: free)
        assert data.is_resident(torch.device("cpu")) is wanted


def test_refusals(compose, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.resident=maybe: accepted: "):
        check(compose(*SMALL, "data.resident=maybe"))
    config = compose("task=cifar", "augment=copies", "data.resident=false", "trainer.device=cpu", "debug=fast")
    with pytest.raises(
        DataError, match=r"augment=copies: keeps them all in memory; accepted with data\.resident=false"
    ):
        execute(config, tmp_path)


LARGE = """
import resource, sys
import numpy as np, pytorch_lightning as pl, torch
from torch import nn
from retable.data import ImageData, ImageSet, Splits
from retable.tasks import Classification

torch.set_num_threads(1)

class Large(ImageData):
    folder = "large"

    def files(self):
        return []

    def read(self, files):
        images = np.zeros((120, 1, 1024, 1024), np.float32)  # 480 MiB
        part = ImageSet(images, np.arange(120) % 2)
        return Splits(part, part, ("a", "b"))

data = Large(cache=sys.argv[1], resident=sys.argv[2] == "true", batch_size=4, eval_batch_size=4)
if sys.argv[2] == "build":
    data.prepare()
    sys.exit()
model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 2))
task = Classification(model, nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.1), ("a", "b"))
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 250 * 2**20,) * 2)
pl.Trainer(max_epochs=1, accelerator="cpu", num_sanity_val_steps=0, **quiet).fit(task, datamodule=data)
print("trained on", int(task.matrices["train"].sum()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA")
def test_a_set_larger_than_the_memory_limit_is_trained_on(tmp_path):
    (tmp_path / "large.py").write_text(LARGE)

    def run(how):
        command = [sys.executable, "large.py", str(tmp_path / "cache"), how]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)

    built = run("build")
    assert built.returncode == 0, built.stderr
    streamed = run("false")
    assert "trained on 120" in streamed.stdout, streamed.stderr
    kept = run("true")
    assert kept.returncode == 1
    assert "Unable to allocate 480. MiB" in kept.stderr


FIRST = """
import resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from retable.data import GlandData, LesionData, VentricleData

def draw(path, number, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((8, 8, 3) if mode == "RGB" else (8, 8), np.uint8)
    values[:, : number % 8] = 255
    Image.fromarray(values).save(path)

def lesion(**more):
    for part, count in (("Training", 60), ("Test", 20)):
        start = f"root/isic2016/ISBI2016_ISIC_Part1_{part}"
        for number in range(count):
            name = f"ISIC_{number + (1000 if part == 'Test' else 0):07}"
            draw(Path(f"{start}_Data/{name}.jpg"), number, "RGB")
            draw(Path(f"{start}_GroundTruth/{name}_Segmentation.png"), number)
    return LesionData(size=1024, scale="standard", **more, **common)

def gland():
    for part, count in (("Train", 20), ("Test", 20)):
        for number in range(count):
            draw(Path(f"root/warwick/{part}/image_{number:02}.png"), number, "RGB")
            draw(Path(f"root/warwick/{part}/label_{number:02}.png"), number)
    return GlandData(size=1024, flips=True, holdout=20, **common)

def ventricle():
    for number in range(80):
        for part in ("images", "masks"):
            draw(Path(f"root/rvsc/{part}/P{number % 10:02}-{number:04}.png"), number)
    return VentricleData(size=1024, channels="rgb", **common)

common = dict(root="root", cache="cache", resident=False, batch_size=4)
data = eval(sys.argv[1])
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 200 * 2**20,) * 2)
data.setup()
images, masks = next(iter(data.train_dataloader()))
print(sum(part.images.nbytes + part.targets.nbytes for part in data.splits.by_name.values()) >> 20, *images.shape)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA")
@pytest.mark.parametrize(
    ("made", "megabytes"),  # 4 MiB an image with its mask
    [
        ("lesion()", 320),
        ("lesion(fraction=0.9)", 296),  # 54 of 60, and the test set's 20
        ("gland()", 320),  # 20 with two copies each, 20 of these held out, and 20
        ("ventricle()", 320),
    ],
)
def test_a_set_larger_than_the_memory_limit_is_read_for_the_first_time(tmp_path, made, megabytes):
    (tmp_path / "first.py").write_text(FIRST)
    command = [sys.executable, "first.py", made]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout == f"{megabytes} 4 3 1024 1024\n", done.stderr
