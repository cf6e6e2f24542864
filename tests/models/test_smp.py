"""segmentation-models-pytorch by name."""

import pytest
import segmentation_models_pytorch as library
import torch

from retable.models.smp import ARCHITECTURES, SMP


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_at_odd_sizes(architecture):
    encoder = "tu-resnet18" if architecture == "dpt" else "resnet18"
    model = SMP((1, 33, 47), 2, architecture, encoder).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 33, 47)).shape == (1, 2, 33, 47)


def test_is_the_librarys_model():
    torch.manual_seed(0)
    model = SMP((3, 64, 64), 2, "fpn", "resnet18", options={"decoder_pyramid_channels": 32}).eval()
    torch.manual_seed(0)
    theirs = library.FPN("resnet18", encoder_weights=None, classes=2, decoder_pyramid_channels=32).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs(images))


def test_any_number_of_channels():
    assert SMP((4, 32, 32), 2, encoder="resnet18").eval()(torch.rand(1, 4, 32, 32)).shape == (1, 2, 32, 32)


def test_meta_for_an_encoder_that_reads_tensors():
    with torch.device("meta"):
        model = SMP((3, 32, 32), 2, encoder="mit_b0")
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "segnet"}, f"architecture=segnet: accepted: {', '.join(ARCHITECTURES)}"),
        ({"encoder": "resnet19"}, "encoder=resnet19: accepted: resnet18, resnet34, .*"),
        ({"encoder": "tu-resnet19"}, r"encoder=tu-resnet19: accepted: tu-<a name that timm.list_models\(\) gives>"),
        ({"weights": "ssl"}, "weights=ssl: accepted: none, imagenet, or the path of a .pth file .*"),
        ({"encoder": "resnet18", "weights": "sss"}, "weights=sss: accepted: none, imagenet, ssl, swsl, or the path .*"),
        ({"options": {"activation": "sigmoid"}}, "options=activation: accepted: encoder_depth, .*"),
        ({"options": {"decoder_depth": 3}}, "options=decoder_depth: accepted: encoder_depth, .*"),
        ({"options": [1]}, r"options=\[1\]: accepted: names and values of arguments of the architecture"),
    ],
)
def test_refused_values(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SMP((3, 32, 32), 2, **options)
