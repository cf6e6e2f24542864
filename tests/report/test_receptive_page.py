"""The page of a receptive field study, from a receptive.json made by hand."""

import html
import json
import re

import pytest

from retable.report.evaluated import evaluate
from retable.report.index import write_site
from retable.report.receptive_page import write_receptive_page
from retable.report.runs import assign, read_runs

STUDY = {
    "network": "resnet18",
    "weights": "ResNet18_Weights.IMAGENET1K_V1",
    "sha256": "0123456789abcdef",
    "layer": "layer4",
    "unit": 10,
    "command": "retable receptive --network=resnet18 --layer=layer4 --unit=10 photos",
    "images": {"shape": [3, 224, 224], "read": 40, "unreadable": [], "flat": 0, "top": 10, "uncut": False},
    "occluder": {"side": 11, "stride": 8, "seed": 0},
    "theoretical": {"name": "layer4", "size": [435, 435], "stride": [32, 32], "centre": [0, 0]},
    "empirical": {"level": 0.2, "size": [91, 75], "side": 70.5, "inside": None},
    "effective": {"level": 0.0455, "size": [120, 110], "side": 88.0},
    "top": [
        {
            "image": f"{index}<b>.jpg",
            "activation": 5.0 - index / 10,
            "position": [3, 4],
            "theoretical": {"rows": [0, 223], "columns": [0, 223]},
            "empirical": {"size": [60, 60], "side": 50.0},
            "largest_drop": 2.5,
            "places_outside": 0,
            "largest_change_outside": 0.0,
        }
        for index in range(10)
    ],
    "device": {"kind": "cpu", "name": "A processor", "threads": 1},
    "git": {"commit": None, "dirty": None},
    "versions": {"python": "3.11.7"},
}


def text_of(folder, **changes):
    """The words of the page of a study with some changes, and what it links to."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "receptive.json").write_text(json.dumps(STUDY | changes))
    page = write_receptive_page(folder).read_text()
    links = set(re.findall(r'href="([^#"]+)"', page))
    page = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split()), links


def test_a_field_larger_than_the_image(tmp_path):
    text, links = text_of(tmp_path / "receptive" / "resnet18-layer4-10")
    assert "All tables › receptive/resnet18-layer4-10 D2 What a unit looks at: resnet18 layer4, unit 10" in text
    assert "../../tables/index.html" in links
    assert "The theoretical field covers every image, so that nothing outside of it could be tested." in text
    assert "theoretical 435 x 435 pixels 435 32 0, 0" in text
    assert "empirical 91 x 75 pixels 70.5 – –" in text
    assert "effective 120 x 110 pixels 88 – –" in text
    assert "– not judged 0 places tested" in text
    assert "0<b>.jpg 5 3, 4 0–223 0–223 60 x 60 pixels 2.5 –" in text
    assert "weights ResNet18_Weights.IMAGENET1K_V1 (sha256 0123456789abcdef)" in text
    assert "images studied 10 of 40 The 10 that activate the unit most." in text


def test_elsewhere_there_is_no_index(tmp_path):
    assert "../../tables/index.html" not in text_of(tmp_path / "elsewhere")[1]


CUT = [row | {"theoretical": {"rows": [13, 223], "columns": [100, 223]}} for row in STUDY["top"][:1]]
OUTSIDE = [CUT[0] | {"places_outside": 7, "largest_change_outside": 0.25}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"empirical": {"level": 0.2, "size": None, "side": None, "inside": None}}, "there is no empirical field"),
        ({"images": STUDY["images"] | {"top": 12}}, "Only 10 images to study, in place of 12."),
        ({"images": STUDY["images"] | {"flat": 3}}, "The unit answers the same everywhere on 3 images"),
        ({"images": STUDY["images"] | {"unreadable": ["a.jpg"]}}, "1 file could not be read: a.jpg."),
        (
            {
                "theoretical": STUDY["theoretical"] | {"size": [211, 211]},
                "empirical": STUDY["empirical"] | {"inside": False},
                "top": OUTSIDE,
            },
            "An occluder outside of the theoretical field changes the activation, by up to 0.25."
            " In 1 of 1 images the border cuts the field",
        ),
        (
            {"theoretical": {"name": "fc", "size": [None, None], "stride": [None, None], "centre": [None, None]}},
            "theoretical the whole image – – –",
        ),
    ],
)
def test_what_to_know_first(tmp_path, changes, words):
    assert words in text_of(tmp_path, **changes)[0]
    if "top" in changes:
        assert "✗ does not hold 7 places tested" in text_of(tmp_path, **changes)[0]


def test_the_index_of_all_tables_lists_the_studies(make_table, tmp_path):
    studies = tmp_path / "multirun" / "receptive"
    text_of(studies / "resnet18-layer4-10")
    text_of(studies / "vgg 16", network="vgg16", layer="features.28", empirical=STUDY["empirical"] | {"inside": True})
    (studies / "half").mkdir()
    (studies / "half" / "receptive.json").write_text('{"network": "resnet')
    (studies / "other").mkdir()
    (studies / "other" / "receptive.json").write_text('{"network": "resnet18"}')
    table = make_table()
    entries = [evaluate(table, assign(table, read_runs([])))]

    index = write_site(entries, tmp_path / "multirun" / "tables").read_text()
    section = index[index.index('<section id="receptive">') :].split("</section>")[0]
    links = re.findall(r'href="([^"]+)"', section)
    assert links == ["../receptive/resnet18-layer4-10/index.html", "../receptive/vgg%2016/index.html"]
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", section)).split())
    weights = "ResNet18_Weights.IMAGENET1K_V1 10 435 x 435 pixels 91 x 75 pixels 120 x 110 pixels"
    assert f"resnet18 layer4, unit 10 {weights} – not judged" in words
    assert f"vgg16 features.28, unit 10 {weights} ✓ holds" in words
    assert "<code>../receptive/half/receptive.json</code>: ValueError: no whole JSON file" in index
    assert "<code>../receptive/other/receptive.json</code>: KeyError: &#39;layer&#39;" in index

    elsewhere = write_site(entries, tmp_path / "pages", studies).read_text()
    assert 'href="../multirun/receptive/vgg%2016/index.html"' in elsewhere
    assert 'id="receptive"' not in write_site(entries, tmp_path / "pages").read_text()
