"""Labels from a checkpoint: every form of input, the accuracy, and what is refused."""

import csv
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score
from torch.nn import functional as F

from retable import cli
from retable.commands.predict import predict
from retable.data.arrays import ImageSet
from retable.data.formats.cifar_batch import write_batch
from retable.errors import DataError
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
