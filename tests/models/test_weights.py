"""Pretrained weights: what is loaded, what is refused and how, and what a run records."""

import hashlib
import re
import zipfile
from urllib.error import URLError

import pytest
import torch
import torchvision

from retable.errors import DataError
from retable.models import weights as pretrained
from retable.models.fcn import FCN
from retable.models.mobilenet_decoder import MobileNetDecoder
from retable.models.smp import SMP

FEW = (16, 8, 8, 4, 4)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return torchvision.models.mobilenet_v2(weights=None).state_dict()


@pytest.fixture
def path(tmp_path, state):
    torch.save(state, tmp_path / "mobile.pth")
    return tmp_path / "mobile.pth"


@pytest.fixture
def real(data_root):
    folder = data_root.parent / "weights"
    if not folder.is_dir():
        pytest.skip(f"needs the folder weights beside {data_root.name}")
    return folder


def decoder(weights):
    return MobileNetDecoder((3, 32, 32), 1, FEW, weights=str(weights))


def test_file_is_loaded_and_recorded(path, state):
    model = decoder(path)
    assert torch.equal(model.encoder[0][0][0].weight, state["features.0.0.weight"])
    assert torch.equal(model.encoder[4][4][0].weight, state["features.18.0.weight"])
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert model.weights_source == {"weights": "mobile.pth", "sha256": digits}


def test_smp_takes_the_same_file(path, state):
    model = SMP((1, 32, 32), 1, encoder="mobilenet_v2", weights=str(path))
    assert torch.equal(model.model.encoder.features[18][0].weight, state["features.18.0.weight"])
    assert model.weights_source["weights"] == "mobile.pth"


def test_classifier_and_counters_may_be_missing(tmp_path, state):
    fewer = {k: v for k, v in state.items() if not k.startswith("classifier.") and not k.endswith("batches_tracked")}
    torch.save(fewer, tmp_path / "features.pt")
    model = decoder(tmp_path / "features.pt")
    assert torch.equal(model.encoder[0][0][0].weight, state["features.0.0.weight"])


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "features.3.conv.0.0.weight"), "has no features.3.conv.0.0.weight"),
        (
            lambda s: s | {"features.0.0.weight": torch.zeros(32, 1, 3, 3)},
            r"features.0.0.weight has shape \(32, 1, 3, 3\)",
        ),
        (lambda s: s | {"layer9.weight": torch.zeros(1)}, "layer9.weight is unknown to the model"),
        (lambda s: {"epoch": 3} | s, "epoch is int"),
        (lambda s: {"state_dict": dict(s)}, "state_dict is dict"),
        (lambda _: [1, 2], "holds list"),
    ],
)
def test_files_that_do_not_fit(tmp_path, state, change, message):
    torch.save(change(state), tmp_path / "bad.pth")
    with pytest.raises(DataError, match=rf"bad\.pth: {message}; accepted: a state dict [^\n]*$"):
        decoder(tmp_path / "bad.pth")


class Call:
    def __reduce__(self):
        return print, ("executed",)


def test_code_is_not_executed(tmp_path, capsys):
    torch.save({"a": Call()}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match=r"bad\.pth: refused, it holds more than tensors"):
        decoder(tmp_path / "bad.pth")
    assert "executed" not in capsys.readouterr().out


def test_truncated_file(path):
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"mobile\.pth: not a whole file of weights \([^\n]*\)$"):
        decoder(path)


def test_meta_looks_for_the_file_and_reads_nothing(tmp_path, monkeypatch):
    (tmp_path / "empty.pth").touch()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("downloads"))
    with torch.device("meta"):
        model = decoder(tmp_path / "empty.pth")
        assert next(model.parameters()).is_meta
        assert model.weights_source == {"weights": "empty.pth", "sha256": None}
        with pytest.raises(DataError, match=r"gone\.pth: no such file"):
            decoder(tmp_path / "gone.pth")
        with pytest.raises(DataError, match=r"gone\.pth: no such file"):
            SMP((3, 32, 32), 1, weights=str(tmp_path / "gone.pth"))
        source = FCN((3, 32, 32), 2, weights="imagenet").weights_source
    assert source == {"weights": "VGG16_Weights.IMAGENET1K_V1", "sha256": None}


def test_failed_download_says_how_to_give_a_file(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(DataError) as caught:
        decoder("imagenet")
    name = "mobilenet_v2-b0353104.pth"
    url = f"https://download.pytorch.org/models/{name}"
    assert str(caught.value) == (
        f"{tmp_path}/checkpoints/{name}: ImageNet weights of mobilenet_v2 could not be downloaded from {url} "
        f"(<urlopen error no network>); without a network give such a file by path: model.weights=<path of {name}>"
    )


def test_downloaded_weights_are_loaded_and_recorded(tmp_path, monkeypatch, path, state):
    """A file in torch hub's cache is taken as it is."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    path.rename(tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth")
    model = decoder("imagenet")
    assert torch.equal(model.encoder[0][0][0].weight, state["features.0.0.weight"])
    assert model.weights_source["weights"] == "MobileNet_V2_Weights.IMAGENET1K_V1"
    assert len(model.weights_source["sha256"]) == 16


@pytest.mark.parametrize("value", ["imgenet", "None", "model.onnx"])
def test_values_that_are_neither(value):
    with pytest.raises(ValueError, match=rf"^weights={value}: accepted: none, imagenet, or the path of a \.pth file"):
        decoder(value)


def test_real_mobilenet_fits(real):
    file = real / "mobilenet_v2_imagenet_dequantised.pth"
    model = decoder(file)
    with torch.no_grad():
        assert torch.isfinite(model.eval()(torch.rand(1, 3, 64, 64))).all()
    stored = pretrained.read(file)
    assert torch.equal(model.encoder[4][4][0].weight, stored["features.18.0.weight"])


def test_real_resnet_lacks_its_last_layers(real):
    file = real / "resnet18_imagenet_through_layer3.pth"
    with pytest.raises(DataError, match=r"has no layer4\.0\.conv1\.weight; accepted: a state dict of resnet18$"):
        FCN((3, 32, 32), 2, backbone="resnet18", head=None, weights=str(file))
    model = torchvision.models.resnet18(weights=None)
    source = pretrained.load(model, str(file), "resnet18", optional=("layer4.",))
    assert torch.equal(model.conv1.weight, pretrained.read(file)["conv1.weight"])
    assert source["weights"] == file.name


def test_modules_versions_are_kept(tmp_path):
    """MNASNet refuses a state dict without the version that stands in its metadata."""
    torch.manual_seed(4)
    state = torchvision.models.mnasnet0_5(weights=None).state_dict()
    torch.save(state, tmp_path / "mnasnet.pth")
    model = torchvision.models.mnasnet0_5(weights=None)
    pretrained.fit(model, pretrained.read(tmp_path / "mnasnet.pth"), tmp_path / "mnasnet.pth", "mnasnet0_5", ())
    assert torch.equal(model.layers[0].weight, state["layers.0.weight"])


def test_names_of_old_densenets(tmp_path):
    """Before torch 0.4 the names of modules could hold dots: torchvision's own files have denselayer1.norm.1.weight."""
    torch.manual_seed(5)
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(?=\d)", r"\1.", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet.pth")
    model = torchvision.models.densenet121(weights=None)
    pretrained.fit(model, pretrained.read(tmp_path / "densenet.pth"), tmp_path / "densenet.pth", "densenet121", ())
    assert torch.equal(model.features.conv0.weight, state["features.conv0.weight"])
    key = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(model.state_dict()[key], state[key])


def test_weights_that_are_not_finite(tmp_path):
    model = torch.nn.Linear(2, 2)
    torch.save({"weight": torch.tensor([[1.0, 2.0], [float("inf"), 4.0]]), "bias": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"a\.pth: weight holds values that are not finite"):
        pretrained.fit(model, pretrained.read(tmp_path / "a.pth"), tmp_path / "a.pth", "linear", ())


def test_weights_that_are_compressed_are_not_unpacked(tmp_path):
    torch.save({"weight": torch.zeros(1000, 1000)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as whole, zipfile.ZipFile(tmp_path / "b.pth", "w", 8) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(DataError, match=r"b\.pth: not a whole file of weights \(parts of it are compressed\)$"):
        pretrained.read(tmp_path / "b.pth")
