"""Labels from a checkpoint: every form of input, the accuracy, and what is refused."""

import csv
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from sklearn.metrics import accuracy_score
from torch.nn import functional as F

from retable import cli
from retable.commands.predictions import predict, predict_masks
from retable.data.arrays import ImageSet
from retable.data.formats.cifar_batch import write_batch
from retable.data.formats.dicom import read_slice
from retable.data.formats.pictures import read_image, read_labels
from retable.data.sets.brain import BrainData, stitched
from retable.errors import ConfigError, DataError
from retable.run import execute as execution
from retable.run.assemble import make_data
from retable.run.restore import load


@pytest.fixture(scope="module")
def run(compose, tmp_path_factory):
    """A short run of cifar, its validation set, and its sample files."""
    return trained(compose("task=cifar", "optimizer=adam", "model.blocks=2"), tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="module")
def digits_run(compose, tmp_path_factory):
    return trained(compose("task=mnist"), tmp_path_factory.mktemp("mnist"))


def trained(config, folder):
    config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 40, "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "_draw", lambda *_: None)
        result = execution.execute(config, folder / "run")
    data = make_data(config)
    val = ImageSet(np.array(data.splits.val.images), np.array(data.splits.val.targets))
    return SimpleNamespace(folder=folder / "run", result=result, val=val, location=data.location)


def save(images, folder, names):
    """uint8 (N, 3, 32, 32) as PNG files."""
    for image, name in zip(images, names, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)


@pytest.fixture
def pictures(run, tmp_path):
    """Twelve validation images, in folders that are named like their classes."""
    model, val = load(run.folder), run.val
    labels = val.targets[:12]
    folder = tmp_path / "pictures"
    names = [f"{model.classes[label]}/{index:02d}.png" for index, label in enumerate(labels)]
    save(val.images[:12], folder, names)
    return SimpleNamespace(folder=folder, model=model, names=names, labels=[model.classes[label] for label in labels])


def by_name(found):
    return {p.name: (p.label, p.truth) for p in found}


# What is found --------------------------------------------------------------------------------------------------------


def test_accuracy_of_the_validation_images_is_the_runs_own(run, tmp_path):
    write_batch(tmp_path / "val_batch", run.val.images, run.val.targets, "validation")
    found = predict(load(run.folder), [tmp_path / "val_batch"])
    truth, labels = [p.truth for p in found], [p.label for p in found]
    assert len(found) == 500
    assert accuracy_score(truth, labels) == run.result["metrics"]["final"]["val/accuracy"] > 0.15
    with (run.folder / "history.csv").open() as file:
        assert accuracy_score(truth, labels) == float(next(csv.DictReader(file))["val/accuracy"])


def test_labels_and_probabilities_by_hand(run):
    weights = torch.load(run.folder / "last.ckpt", weights_only=True)["state_dict"]
    w = {key.removeprefix("model."): value for key, value in weights.items()}
    x = torch.from_numpy(run.val.images[:20]) / 255
    for block in (1, 2):
        name = f"features.block{block}.0"
        x = F.max_pool2d(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1).relu(), 2)
    x = F.linear(x.flatten(1), w["head.1.weight"], w["head.1.bias"]).relu()
    expected = F.linear(x, w["head.3.weight"], w["head.3.bias"]).softmax(1)
    model = load(run.folder / "last.ckpt")
    torch.testing.assert_close(model.probabilities(torch.from_numpy(run.val.images[:20])), expected)
    assert model.name == "run"
    assert model.config["model"]["blocks"] == 2


def test_a_folder_of_folders_named_like_classes(run, pictures):
    found = predict(pictures.model, [pictures.folder])
    images = torch.from_numpy(run.val.images[:12])
    expected = pictures.model.probabilities(images).max(1)
    classes = [pictures.model.classes[index] for index in expected.indices]
    assert by_name(found) == dict(zip(pictures.names, zip(classes, pictures.labels, strict=True), strict=True))
    assert [p.name for p in found] == sorted(pictures.names)
    by_file = {p.name: p.probability for p in found}
    assert [by_file[name] for name in pictures.names] == pytest.approx(expected.values.tolist(), abs=1e-6)


def test_single_files_in_the_order_given(pictures, tmp_path):
    shutil.copy(pictures.folder / pictures.names[3], tmp_path / "unknown.png")
    paths = [pictures.folder / pictures.names[5], tmp_path / "unknown.png"]
    first, second = predict(pictures.model, paths)
    assert (first.name, first.truth) == ("05.png", pictures.labels[5])
    assert (second.name, second.truth) == ("unknown.png", None)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_archives(pictures, tmp_path, suffix):
    path = tmp_path / f"archive{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in pictures.names:
                archive.write(pictures.folder / name, name)
            archive.writestr("__MACOSX/._00.png", b"not an image")
    else:
        with tarfile.open(path, "w:" + {".tgz": "gz"}.get(suffix, suffix[5:])) as archive:
            archive.add(pictures.folder, ".")
    assert by_name(predict(pictures.model, [path])) == by_name(predict(pictures.model, [pictures.folder]))


def test_pictures_of_another_size_and_mode(pictures, tmp_path):
    """One grey level everywhere is the same picture in any size and mode."""
    folder = tmp_path / "grey"
    folder.mkdir()
    Image.new("RGB", (32, 32), (90, 90, 90)).save(folder / "1.png")
    Image.new("L", (50, 71), 90).save(folder / "2.bmp")
    Image.new("RGBA", (8, 8), (90, 90, 90, 255)).save(folder / "3.png")
    Image.fromarray(np.full((9, 9), 90 * 256 + 200, np.uint16)).save(folder / "4.png")
    probabilities = [p.probability for p in predict(pictures.model, [folder])]
    assert len(probabilities) == 4
    assert probabilities == pytest.approx([probabilities[0]] * 4, abs=1e-6)


def test_a_picture_is_turned_as_its_exif_part_says(run, pictures, tmp_path):
    exif, seen = Image.Exif(), Image.fromarray(run.val.images[0].transpose(1, 2, 0))
    exif[0x0112] = 6
    seen.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    seen.save(tmp_path / "seen.png")
    first, second = predict(pictures.model, [tmp_path / "seen.png", tmp_path / "turned.png"])
    assert (first.label, first.probability) == (second.label, second.probability)


def test_of_a_picture_of_16_bits_the_upper_eight_count(run, pictures, tmp_path):
    grey = run.val.images[0][0]
    Image.fromarray(grey).save(tmp_path / "eight.png")
    Image.fromarray(grey.astype(np.uint16) * 256 + 200).save(tmp_path / "sixteen.png")
    assert Image.open(tmp_path / "sixteen.png").mode == "I;16"
    first, second = predict(pictures.model, [tmp_path / "eight.png", tmp_path / "sixteen.png"])
    assert (first.label, first.probability) == (second.label, second.probability)


def test_idx_files_with_and_without_labels(digits_run, tmp_path):
    model, raw = load(digits_run.folder), digits_run.location / "MNIST" / "raw"
    images = next(path for path in raw.iterdir() if path.name.startswith("t10k-images-idx3-ubyte"))
    found = predict(model, [images])
    expected = digits_run.result["metrics"]["final"]["val/accuracy"]
    assert accuracy_score([p.truth for p in found], [p.label for p in found]) == expected > 0.15
    alone = Path(shutil.copy(images, tmp_path))
    unlabelled = predict(model, [alone])
    assert [p.label for p in unlabelled] == [p.label for p in found]
    assert {p.truth for p in unlabelled} == {None}


# What is refused ------------------------------------------------------------------------------------------------------


def refused(do):
    with pytest.raises(DataError) as caught:
        do()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"no image", b"", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00"])
def test_unreadable_images_are_named(pictures, content):
    bad = pictures.folder / "bad.png"
    bad.write_bytes(content)
    assert refused(lambda: predict(pictures.model, [pictures.folder])).startswith(f"{bad}: cut or damaged (")


def test_a_cut_image_is_named(pictures):
    bad = pictures.folder / pictures.names[0]
    bad.write_bytes(bad.read_bytes()[:-200])
    assert refused(lambda: predict(pictures.model, [bad])).startswith(f"{bad}: cut or damaged (")


def test_an_unreadable_image_in_an_archive_is_named_by_the_archive(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/x.png", b"no image")
    message = refused(lambda: predict(pictures.model, [tmp_path / "a.zip"]))
    assert (
        message
        == f"{tmp_path}/a.zip/cat/x.png: cut or damaged (no picture), accepted: a picture that can be read in full"
    )


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_cut_archives_are_named(pictures, tmp_path, suffix):
    kind = {"zip": "zip", "tar.gz": "gztar"}[suffix]
    path = Path(shutil.make_archive(str(tmp_path / "archive"), kind, pictures.folder))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refused(lambda: predict(pictures.model, [path])).startswith(f"{path}: c")


def test_nothing_to_label(pictures, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(lambda: predict(pictures.model, [empty])).startswith(f"{empty}: no images; accepted: .png, .jpg, ")
    assert refused(lambda: predict(pictures.model, [tmp_path / "gone.png"])) == f"{tmp_path / 'gone.png'}: no such file"


def test_a_set_of_another_shape(digits_run, run):
    batch = run.location / "cifar-10-batches-py" / "data_batch_1"
    message = refused(lambda: predict(load(digits_run.folder), [batch]))
    assert message == f"{batch}: images of shape (3, 32, 32); this model takes (1, 28, 28)"


class Attack:
    """What it leaves shows that it ran."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return os.mkdir, (self.proof,)


def test_a_batch_that_would_execute_code(pictures, tmp_path):
    (tmp_path / "batch").write_bytes(pickle.dumps({b"data": Attack(tmp_path / "proof")}))
    message = refused(lambda: predict(pictures.model, [tmp_path / "batch"]))
    assert message.startswith(f"{tmp_path}/batch: not a CIFAR batch: its pickle names the forbidden global ")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_that_would_execute_code(tmp_path, write):
    with (tmp_path / "last.ckpt").open("wb") as file:
        write({"retable": Attack(tmp_path / "proof")}, file)
    message = refused(lambda: load(tmp_path))
    assert message == f"{tmp_path}/last.ckpt: refused, it is no plain checkpoint and could execute code"
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("part", ["model", "activation", "loss", "task", "init"])
def test_a_checkpoint_whose_config_names_a_function_to_call(run, tmp_path, part):
    content = torch.load(run.folder / "last.ckpt", weights_only=True)
    content["retable"]["config"][part] = {"_target_": "os.mkdir", "path": str(tmp_path / "proof")}
    torch.save(content, tmp_path / "last.ckpt")
    if part == "init":  # not needed: the weights come from the file
        assert load(tmp_path).name == "run"
    else:
        message = refused(lambda: load(tmp_path))
        assert message.startswith(f"{tmp_path}/last.ckpt: refused, {part}._target_=os.mkdir is neither this project's")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_cut_checkpoint(run, tmp_path, share):
    whole = (run.folder / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: int(len(whole) * share)])
    assert refused(lambda: load(tmp_path)).startswith(f"{tmp_path}/last.ckpt: not a whole checkpoint (")


def test_other_checkpoints(run, tmp_path):
    path = tmp_path / "last.ckpt"
    message = f"{path}: no such checkpoint; accepted: a last.ckpt or the directory of a run"
    assert refused(lambda: load(tmp_path)) == message
    torch.save({"state_dict": {}}, path)
    assert refused(lambda: load(path)) == f"{path}: not a checkpoint of a run of this project"
    content = torch.load(run.folder / "last.ckpt", weights_only=True)
    del content["retable"]["mean"]
    torch.save(content, path)
    assert refused(lambda: load(path)) == f"{path}: not a checkpoint of a run of this project (KeyError: 'mean')"
    content["retable"]["config"]["model"]["blocks"] = 3
    torch.save(content, path)
    assert refused(lambda: load(path)).startswith(f"{path}: weights do not fit the model of its config (")


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_prints_labels_and_accuracy(run, tmp_path, capsys):
    write_batch(tmp_path / "batch", run.val.images[:150], run.val.targets[:150], "some")
    labels = load(run.folder).probabilities(torch.from_numpy(run.val.images[:150])).argmax(1)
    right = int((labels.numpy() == run.val.targets[:150]).sum())
    cli.main(["predict", str(run.folder), str(tmp_path / "batch")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 151
    assert lines[-1] == f"accuracy {right / 150:.4f} ({right} of 150)"
    assert sum(line.endswith("right") for line in lines) == right
    cli.main(["predict", str(run.folder / "last.ckpt"), str(tmp_path / "batch"), "--quiet"])
    assert capsys.readouterr().out.splitlines() == lines[-1:]


def test_the_command_prints_a_line_an_image(run, pictures, capsys):
    cli.main(["predict", str(run.folder), str(pictures.folder)])
    *lines, last = capsys.readouterr().out.splitlines()
    found = predict(pictures.model, [pictures.folder])
    for line, p in zip(lines, found, strict=True):
        verdict = "right" if p.label == p.truth else f"wrong, it is {p.truth}"
        assert line.split(maxsplit=3) == [p.name, p.label, f"{p.probability:.1%}", verdict]
    right = sum(p.label == p.truth for p in found)
    assert last == f"accuracy {right / 12:.4f} ({right} of 12)"


def test_the_command_without_known_labels(run, tmp_path, capsys):
    save(np.zeros((2, 3, 32, 32), np.uint8), tmp_path, ["a.png", "b.png"])
    cli.main(["predict", str(run.folder), str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1] == "2 images; no labels known, so no accuracy"


def test_the_command_refuses_in_one_line(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(run.folder), str(tmp_path / "gone")])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"{tmp_path / 'gone'}: no such file\n")


# Folders of other names -----------------------------------------------------------------------------------------------


@pytest.fixture
def renamed(run, pictures):
    """The pictures' folders under CIFAR-10's own names, which two classes of the set do not have."""
    for old, new in (("plane", "airplane"), ("car", "automobile")):
        if (pictures.folder / old).is_dir():
            (pictures.folder / old).rename(pictures.folder / new)
    save(run.val.images[-2:], pictures.folder, ["airplane/x.png", "automobile/y.png"])
    return pictures


def test_folders_that_are_named_like_no_class_are_refused(renamed):
    message = refused(lambda: predict(renamed.model, [renamed.folder]))
    assert message.startswith(f"{renamed.folder}: folders airplane, automobile are named like no class, others are;")
    assert ", ".join(renamed.model.classes) in message
    assert "--labels airplane=CLASS,..." in message


def test_labels_say_which_class_a_folder_holds(renamed, run, capsys):
    count = sum(1 for _ in renamed.folder.rglob("*.png"))
    found = predict(renamed.model, [renamed.folder], {"airplane": "plane", "automobile": "car"})
    assert {p.truth for p in found if p.name.startswith("a")} <= {"plane", "car"}
    assert len([p for p in found if p.truth]) == count
    cli.main(["predict", str(run.folder), str(renamed.folder), "--quiet", "--labels", "airplane=plane,automobile="])
    printed = capsys.readouterr().out
    without = len(list((renamed.folder / "automobile").iterdir()))
    assert printed.endswith(f" of {count - without}); {without} images without a label\n")
    for given in ("airplane=jet", "airplane", "=plane"):
        with pytest.raises(SystemExit):
            cli.main(["predict", str(run.folder), str(renamed.folder), "--labels", given])
        assert capsys.readouterr().err.startswith(f"--labels {given}: accepted: ")


def test_what_is_no_plain_file_is_left_out_with_a_word(run, pictures, capsys):
    os.mkfifo(pictures.folder / "pipe.png")
    (pictures.folder / "link.png").symlink_to("/etc/passwd")
    cli.main(["predict", str(run.folder), str(pictures.folder), "--quiet"])
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == ["left out: 1, link out of its folder", "left out: 1, no plain file"]


# Masks ----------------------------------------------------------------------------------------------------------------


def masks_of(compose, folder, *overrides):
    """A run of two batches of segmentation; its directory and the folder of its sample."""
    config = compose(*overrides, "debug=fast", "trainer.device=cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "_draw", lambda *_: None)
        execution.execute(config, folder / "run")
    return folder / "run", make_data(config).location


@pytest.fixture(scope="module")
def glands(compose, tmp_path_factory):
    return masks_of(compose, tmp_path_factory.mktemp("gland"), "task=gland", "data.size=32")


def test_a_picture_gets_a_mask_of_its_own_size(glands, tmp_path, capsys):
    directory, location = glands
    model, out = load(directory), tmp_path / "out"
    sources = sorted((location / "Test").glob("image_*.png"))[:2]
    (tmp_path / "in").mkdir()
    for place, source in enumerate(sources):
        with Image.open(source) as picture:
            picture.resize((70, 50)).save(tmp_path / "in" / f"{place}.png")
    arguments = [str(tmp_path / "in"), "--output", str(out), "--rle", str(tmp_path / "masks.json")]
    cli.main(["predict", str(directory), *arguments])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"2 masks in {out}"
    names = {"0.png.mask.png", "0.png.overlay.png", "1.png.mask.png", "1.png.overlay.png"}
    assert {path.name for path in out.iterdir()} == names
    small = read_image(tmp_path / "in" / "0.png", (32, 32))[None]
    labels = model.task.predict(model.normalise(torch.from_numpy(np.array(small))))[0].numpy()
    expected = np.asarray(Image.fromarray(labels).resize((70, 50), Image.Resampling.NEAREST))
    with Image.open(out / "0.png.mask.png") as mask, Image.open(out / "0.png.overlay.png") as overlay:
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), expected)
        assert overlay.size == mask.size == (70, 50)
    assert printed[0] == f"0.png  gland {(expected == 1).mean():.1%}"
    assert read_labels(out / "0.png.mask.png", {0: 0, 1: 1}).tolist() == expected.tolist()
    for row in json.loads((tmp_path / "masks.json").read_text()):
        if row["image"] == "0.png":
            region = coco.decode({"size": row["size"], "counts": row["counts"]})
            assert np.array_equal(region, expected == model.classes.index(row["class"]))


def test_a_volume_gets_a_mask_in_its_own_space(compose, tmp_path, capsys):
    small = ("model.widths=[4,8,8,8,8]", "data.batch_size=4")
    directory, location = masks_of(compose, tmp_path, "task=brain", *small)
    file = nibabel.load(location / "IBSR_13" / "IBSR_13.nii.gz")
    affine = np.array([[0, 0, 2.0, 5], [1, 0, 0, -7], [0, 3, 0, 9], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(file.dataobj), affine), tmp_path / "head.nii.gz")
    cli.main(["predict", str(directory), str(tmp_path / "head.nii.gz"), "--output", str(tmp_path / "out")])
    assert capsys.readouterr().out.splitlines()[-1] == f"1 masks in {tmp_path / 'out'}"
    written = nibabel.load(tmp_path / "out" / "head_mask.nii.gz")
    mask, image = np.asanyarray(written.dataobj), np.asanyarray(file.dataobj)[..., 0]
    np.testing.assert_array_equal(written.affine, affine)
    assert mask.dtype == np.uint8
    assert mask.shape == image.shape
    assert np.array_equal(mask == 0, image == 0)
    assert set(np.unique(mask)) <= {0, 1, 2, 3}
    # Patch by patch what evaluation sees: the same voxels, the same labels.
    model = load(directory)
    data = BrainData(source="sample", cache=os.environ["RETABLE_CACHE"])
    data.prepare()
    part = data.splits.val
    labels = model.task.predict(torch.from_numpy(np.array(part.images))).numpy()
    corners = np.stack([part.about[key] for key in ("slice", "row", "column")], 1)
    tissue = data.volume(13).labels_XYZ > 0
    whole = stitched(labels, corners, image.shape, 0) + 1
    assert np.array_equal(mask[tissue], whole[tissue])
    assert (tmp_path / "out" / "head.nii.gz.overlay.png").is_file()


def test_slices_from_dicom_files_and_pictures(compose, tmp_path):
    directory, location = masks_of(compose, tmp_path, "task=ventricle", "data.size=32", "model.width=4")
    model = load(directory)
    folder = next(location.glob("patient01/P01dicom"))
    found = list(predict_masks(model, [folder]))
    assert len(found) == 7
    assert {mask.mask.shape for mask in found} == {(96, 80)}
    Image.fromarray(read_slice(min(folder.iterdir())).image).save(tmp_path / "slice.png")
    (picture,) = predict_masks(model, [tmp_path / "slice.png"])
    assert np.array_equal(picture.mask, found[0].mask)


def test_what_fits_another_kind_of_run_is_refused(glands, tmp_path, capsys):
    model = load(glands[0])
    with pytest.raises(ConfigError, match=r"a run of Segmentation; accepted: of a classifier$"):
        predict(model, [tmp_path])
    with pytest.raises(SystemExit):
        cli.main(["predict", str(glands[0]), str(tmp_path), "--score", "0.5"])
    assert capsys.readouterr().err == "--score: not accepted for run, a run of Segmentation\n"
    (tmp_path / "a.nii").write_bytes(b"")
    message = refused(lambda: list(predict_masks(model, [tmp_path / "a.nii"])))
    assert message.startswith(f"{tmp_path / 'a.nii'}: accepted: files .png, .jpg, ")
