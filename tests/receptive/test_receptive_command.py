"""`retable receptive` from images to files, on a small random network, on a run of this project, and on photographs."""

import hashlib
import html
import json
import re
import shlex
import subprocess
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from retable import cli
from retable.commands import receptive
from retable.run import execute as execution

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random ResNet-18's weights, up to layer2."""
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "part.pth"
    torch.save({key: value for key, value in state.items() if not key.startswith(("layer3", "layer4"))}, path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four images of several kinds, and two files that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index, suffix in enumerate(("png", "jpg", "bmp")):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(folder / f"{index}.{suffix}")
    (folder / "below").mkdir()
    Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / "below" / "grey.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:400])
    (folder / "notes.txt").write_text("no image, and not named like one")
    return folder


def command(arguments):
    cli.main(["receptive", *arguments.split()])


def refused(capsys, arguments):
    """What is said of a refused command: its last line on stderr."""
    with pytest.raises(SystemExit) as stopped:
        command(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def text_of(folder):
    """The words that a reader of the page sees."""
    page = re.sub(r"<(style|script)\b.*?</\1>", " ", (folder / "index.html").read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def read(path):
    return json.loads(path.read_text())


def test_whole_command(weights, pictures, tmp_path, capsys):
    arguments = f"--network resnet18 --weights {weights} --layer layer1 --unit 3 --size 64 --top 2 --stride 16"
    arguments += f" --output {tmp_path} {pictures}"
    command(arguments)
    shown = capsys.readouterr()
    assert f"left out: {pictures / 'broken.jpg'}" in shown.err
    assert f"left out: {pictures / 'cut.jpg'}: cut or damaged (" in shown.err
    assert "2 of 6 images left out" in shown.err
    assert "part.pth: 50 of 102 entries missing, none of which --layer layer1 needs: layer3.0.conv1.weight" in shown.err
    assert "theoretical field 43 x 43 pixels, stride 4" in shown.out

    layers = {layer["name"]: layer for layer in read(tmp_path / "theoretical.json")["layers"]}
    assert layers["layer4"]["size"] == [435, 435]
    assert layers["layer1"] == {
        "name": "layer1", "size": [43, 43], "stride": [4, 4], "start": [-21, -21], "centre": [0, 0], "units": [16, 16]
    }  # fmt: skip
    found = read(tmp_path / "receptive.json")
    assert found["images"]["read"] == 4
    assert [path.rsplit("/")[-1] for path in found["images"]["unreadable"]] == ["broken.jpg", "cut.jpg"]
    first, second = found["top"]
    assert first["activation"] > second["activation"]
    row = first["position"][0]
    assert first["theoretical"]["rows"] == [max(4 * row - 21, 0), min(4 * row + 21, 63)]
    assert first["places"] == 5 * 5  # 0, 16, 32, 48 and 53
    assert first["places_outside"] > 0
    assert found["empirical"]["inside"] is True
    for name in ("top", "average", "discrepancy"):
        with Image.open(tmp_path / f"{name}.png") as figure:
            assert min(figure.size) > 300
    text = text_of(tmp_path)
    for words in (
        "D2 What a unit looks at: resnet18 layer1, unit 3",
        "theoretical 43 x 43 pixels 43 4 0, 0 computed from the layers",
        f"empirical {' x '.join(map(str, found['empirical']['size']))} pixels {found['empirical']['side']:g} – – where",
        f"change nothing: ✓ holds {first['places_outside'] + second['places_outside']} places tested",
        f"2 files could not be read: {pictures / 'broken.jpg'}, {pictures / 'cut.jpg'}.",
        "images studied 2 of 4 The 2 that activate the unit most. Assumed: the number",
        "unit 3 Report D2 asks for unit 10. Assumed: units are counted from 0.",
        "Assumed: torchvision's layer4",
        f"retable receptive --network=resnet18 --weights={weights} --layer=layer1 --unit=3 --top=2 --occluder=11"
        f" --stride=16 --size=64 --seed=0 {pictures}",
    ):
        assert words in text, words
    page = (tmp_path / "index.html").read_text()
    linked = set(re.findall(r'(?:href|src)="([^#"]+)"', page)) - {"data:,"}
    assert linked == {"top.png", "average.png", "discrepancy.png", "receptive.json", "theoretical.json"}
    assert all((tmp_path / name).is_file() for name in linked)
    kept = (tmp_path / "receptive.json").read_bytes()
    command(f"{arguments} --batch 3")
    again = read(tmp_path / "receptive.json")
    assert [top["image"] for top in again["top"]] == [top["image"] for top in found["top"]]
    command(arguments)
    assert (tmp_path / "receptive.json").read_bytes() == kept


def test_without_images_the_theoretical_field_alone(tmp_path, capsys):
    command(f"--network squeezenet1_0 --layer features --output {tmp_path}")
    # 7x7/2, pool 3/2, three fire modules, pool, four, pool, one; a fire module's branches are 1x1 and 3x3.
    size = 7 + 4 + 2 * (4 * 3) + 8 + 2 * (8 * 4) + 16 + 2 * 16
    assert f"theoretical field {size} x {size} pixels, stride 16" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["theoretical.json"]


def test_refusals(weights, pictures, tmp_path, capsys):
    network = f"--network resnet18 --weights {weights} --output {tmp_path / 'out'}"
    layer1 = f"{network} --layer layer1 --size 64"
    expected = {
        f"{network} --layer layer3 --unit 0 {pictures}": "layer3.0.conv1.weight, which --layer layer3 needs (50 of 102",
        f"{network} --layer layer9 --unit 0 {pictures}": "layer9: resnet18 has no such layer; accepted: conv1, bn1, ",
        f"{network} --layer layer2 --unit 0 --size 64 --uncut {pictures}": "no field of layer2 lies within images",
        f"{layer1} --unit 0 {pictures} --segments": "layer3.0.conv1.weight, which the class score needs",
        f"{layer1} {pictures}": "--unit: missing",
        f"{layer1} --unit 64 {pictures}": "--unit 64: accepted: a whole number from 0 to 63",
        f"{layer1} --unit 0 --top 0 {pictures}": "--top=0: accepted: a whole number of at least 1",
        f"{layer1} --unit 0 --occluder 65 {pictures}": "--occluder 65: accepted: at most the images' side, 64",
        f"{layer1} --unit 0 {pictures / 'broken.jpg'}": "no readable image; accepted: pictures, and folders of .png",
        f"{layer1} --unit 0 {tmp_path / 'missing.png'}": "no readable image; accepted: pictures, and folders of .png",
        "--network squeezenet1_0 --layer features --size 9": "--size: squeezenet1_0 does not take images",
        "--network resnet81 --layer layer1": "--network resnet81: accepted: a classifier",
        f"--network resnet18 --weights {tmp_path / 'no.pth'} --layer layer1": "no.pth: no such file (--weights)",
        f"--checkpoint {tmp_path / 'no'} --layer layer1": "no such checkpoint",
        f"--checkpoint {tmp_path / 'no'} --weights {weights} --layer layer1": "--weights: accepted with --network",
    }
    for arguments, message in expected.items():
        assert message in refused(capsys, arguments), arguments


def test_failed_download_says_how_to_give_a_file(pictures, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    message = refused(capsys, f"--network resnet18 --layer layer4 --unit 10 --output {tmp_path / 'out'} {pictures}")
    assert "weights of resnet18 could not be downloaded from https://download.pytorch.org/models/resnet18-" in message
    assert message.endswith("without a network give such a file by path: --weights <path of resnet18-f37072fd.pth>")


def test_output_that_is_no_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    message = refused(capsys, f"--network squeezenet1_0 --layer features --output {tmp_path / 'file'}")
    assert message == f"--output {tmp_path / 'file'}: cannot be made (File exists); accepted: a folder"


def test_a_run_of_this_project(compose, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_draw", lambda *_: None)
    config = compose("task=cifar", "model.blocks=2")
    config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2, "device": "cpu"}
    execution.execute(config, tmp_path / "run")
    arguments = f"--checkpoint {tmp_path / 'run'} --layer features.block2 --unit 5 --top 3 --occluder 3"
    arguments += f" --segments=felzenszwalb --output {tmp_path / 'out'} {pictures}"
    command(arguments)
    found = read(tmp_path / "out" / "receptive.json")
    assert found["theoretical"]["size"] == [10, 10]  # 3x3, pool 2/2, 3x3, pool 2/2
    assert found["empirical"]["inside"] is True
    assert all(
        0 < entry["pixels_left"] <= 1 and len(entry["scores"]) == entry["removed"] + 1 for entry in found["segments"]
    )
    assert (tmp_path / "out" / "segments.png").is_file()
    row, text = found["segments"][0], text_of(tmp_path / "out")
    assert f"{row['image']} {row['class']} {row['flips_to'] or 'no other'} {row['segments']} {row['removed']} " in text
    assert "segments felzenszwalb Assumed" in text
    assert found["sha256"] == hashlib.sha256((tmp_path / "run" / "last.ckpt").read_bytes()).hexdigest()[:16]
    (tmp_path / "run" / "last.ckpt").rename(tmp_path / "run" / "best.ckpt")  # as checkpoint=best leaves it
    command(arguments)
    assert read(tmp_path / "out" / "receptive.json") == found


def test_photographs_with_imagenet_weights(data_root, tmp_path):
    """The empirical field of a trained unit lies inside its theoretical one, and does not fill it."""
    weights = data_root.parent / "weights" / "resnet18_imagenet_through_layer3.pth"
    folder = data_root / "isic2016" / "ISBI2016_ISIC_Part1_Test_Data"
    images = sorted(folder.glob("*.jpg"))[:6]
    if not weights.is_file() or not images:
        pytest.skip(f"needs {weights.name} in weights/ beside the data, and isic2016")
    arguments = (
        f"--network resnet18 --weights {weights} --layer layer2 --unit 10 --size 160 --top 2 --stride 24 --uncut"
    )
    command(f"{arguments} --output {tmp_path} {' '.join(map(str, images))}")
    found = read(tmp_path / "receptive.json")
    assert found["theoretical"]["size"] == [99, 99]
    assert sum(top["places_outside"] for top in found["top"]) > 20
    assert found["empirical"]["inside"] is True
    assert all(0 < side < 99 + 2 * 10 for side in found["empirical"]["size"])
    assert all(side <= 99 for side in found["effective"]["size"])


@pytest.mark.parametrize(("scale", "top", "stride"), [("full", 10, 8), ("quick", 3, 32)])
def test_make_studies_the_reports_unit(monkeypatch, scale, top, stride):
    make = ["make", "--no-print-directory", "-n", "-o", "install", "sweep-receptive", f"SCALE={scale}", "IMAGES=photos"]
    printed = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in printed.splitlines() if "retable receptive" in line]
    program, *arguments = shlex.split(line)
    assert program == ".venv/bin/retable"
    asked = []
    monkeypatch.setattr(receptive, "run", asked.append)
    cli.main(arguments)
    (options,) = asked
    assert (options.network, options.layer, options.unit, options.weights) == ("resnet18", "layer4", 10, None)
    assert (options.top, options.stride, options.images) == (top, stride, [Path("photos")])
    everything = subprocess.run([*make, "sweep-all"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert everything.count("retable receptive") == 1
