"""Which slices a folder of cine MR holds: names, patients, files of each layout; what is refused. No file is opened."""

import re
from pathlib import Path

import pytest

from retable.data.sets.ventricle import CineSlice, find_slices
from retable.errors import DataError


def touched(folder: Path, *names: str) -> Path:
    """Empty files below a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def rvsc(folder: Path) -> Path:
    return touched(
        folder,
        *(f"patient01/P01dicom/P01-{n}.dcm" for n in ("0000", "0080", "0100")),
        "patient01/P01contours-manual/P01-0080-icontour-manual.txt",
        "patient01/P01contours-manual/P01-0080-ocontour-manual.txt",
        "patient01/P01contours-manual/P01-0100-icontour-manual.txt",
        "patient01/P01list.txt",
    )


def sunnybrook(folder: Path) -> Path:
    """Two patients: SC-1's images are in a linked folder, named by number; SC-2's in one of its own name."""
    touched(
        folder,
        *(f"dicoms/SCD01/{n}.dcm" for n in (48, 59)),
        *(f"dicoms/SC-2/IM-0001-{n}.dcm" for n in ("0048", "0100")),
        "contourfiles/SC-1/i-contours/IM-0001-0048-icontour-manual.txt",
        "contourfiles/SC-1/o-contours/IM-0001-0048-ocontour-manual.txt",
        "contourfiles/SC-2/i-contours/IM-0001-0100-icontour-manual.txt",
    )
    (folder / "link.csv").write_text("patient_id,original_id\nSCD01,SC-1\n")
    return folder


def pictures(folder: Path) -> Path:
    return touched(folder, "images/P01-0080.png", "images/P02-0080.jpg", "masks/P01-0080.png", "masks/P02-0080.bmp")


def test_rvsc(tmp_path):
    base = rvsc(tmp_path) / "patient01"
    slices, left_out = find_slices(tmp_path, "i")
    assert slices == [
        CineSlice(
            f"P01-{n}",
            "P01",
            base / f"P01dicom/P01-{n}.dcm",
            base / f"P01contours-manual/P01-{n}-icontour-manual.txt",
        )
        for n in ("0080", "0100")
    ]
    assert left_out == {"image without inner contour": 1}
    slices, left_out = find_slices(tmp_path, "o")
    assert [found.name for found in slices] == ["P01-0080"]
    assert left_out == {"image without outer contour": 2}


def test_sunnybrook_by_link_and_by_name(tmp_path):
    sunnybrook(tmp_path)
    slices, left_out = find_slices(tmp_path, "i")
    assert [(found.name, found.patient, found.image) for found in slices] == [
        ("SC-1-0048", "SC-1", tmp_path / "dicoms/SCD01/48.dcm"),
        ("SC-2-0100", "SC-2", tmp_path / "dicoms/SC-2/IM-0001-0100.dcm"),
    ]
    assert left_out == {"image without inner contour": 2}
    assert [found.name for found in find_slices(tmp_path, "o")[0]] == ["SC-1-0048"]


def test_link_with_a_mark_before_its_first_column(tmp_path):
    link = sunnybrook(tmp_path) / "link.csv"
    link.write_bytes(b"\xef\xbb\xbf" + link.read_bytes())
    assert [found.patient for found in find_slices(tmp_path, "i")[0]] == ["SC-1", "SC-2"]


def test_pictures(tmp_path):
    pictures(tmp_path)
    slices, left_out = find_slices(tmp_path, "i")
    assert [(found.name, found.patient) for found in slices] == [("P01-0080", "P01"), ("P02-0080", "P02")]
    assert slices[1].drawing == tmp_path / "masks/P02-0080.bmp"
    assert left_out == {}


@pytest.mark.parametrize(
    ("maker", "spoil", "message"),
    [
        (pictures, lambda f: touched(f, "images/P01-0080.jpg"), "/images/P01-0080.png: has the name of"),
        (pictures, lambda f: touched(f, "masks/P02-0080.png"), "/masks/P02-0080.png: has the name of"),
        (
            sunnybrook,
            lambda f: touched(f, "contourfiles/SC-1/i-contours/IM-0001-x-icontour-manual.txt"),
            "/contourfiles/SC-1/i-contours/IM-0001-x-icontour-manual.txt: accepted: names like IM-0001-0048-icontour",
        ),
        (
            sunnybrook,
            lambda f: touched(f, "contourfiles/SC-1/more/IM-0001-0048-icontour-manual.txt"),
            "/contourfiles/SC-1/more/IM-0001-0048-icontour-manual.txt: is of the image of",
        ),
        (  # the images of SC-1 once more, as if they were another patient's
            sunnybrook,
            lambda f: touched(f, "contourfiles/SCD01/i-contours/IM-0001-0048-icontour-manual.txt"),
            "/contourfiles/SCD01: no folder below",
        ),
        (sunnybrook, lambda f: touched(f, "dicoms/SC-2/scout.dcm"), "/dicoms/SC-2/scout.dcm: accepted: names like"),
        (sunnybrook, lambda f: (f / "link.csv").write_bytes(b"\xff\xfe"), "/link.csv: cannot be read"),
        (sunnybrook, lambda f: (f / "link.csv").write_text("a\n1,2\n"), "/link.csv: columns a, None; accepted:"),
    ],
)
def test_fault_names_the_file(tmp_path, maker, spoil, message):
    spoil(maker(tmp_path))
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path) + message)}") as caught:
        find_slices(tmp_path, "i")
    assert "\n" not in str(caught.value)
