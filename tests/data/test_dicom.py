"""DICOM slices: rescaling, windows, bit depth and photometric interpretation against values computed by hand."""

import re

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_windowing

from retable.data.formats.dicom import read_slice
from retable.errors import DataError
from tests.data.dicoms import write_dicom

STORED = np.array([[0, 100], [200, 300]], np.uint16)
RESCALED = {"RescaleSlope": 2, "RescaleIntercept": -100}  # -100, 100, 300, 500
WINDOW = {"WindowCenter": 200.5, "WindowWidth": 401}  # from 0 to 400


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, [0, 85, 170, 255]),  # no window: from the smallest to the largest value
        (RESCALED, [0, 85, 170, 255]),
        (WINDOW, [0, 64, 128, 191]),  # 255 * 100 / 400 = 63.75
        (RESCALED | WINDOW, [0, 64, 191, 255]),
        (RESCALED | WINDOW | {"PhotometricInterpretation": "MONOCHROME1"}, [255, 191, 64, 0]),
        ({"WindowCenter": [200.5, 10], "WindowWidth": [401, 5]}, [0, 64, 128, 191]),  # the first of two
        ({"WindowCenter": 200.5}, [0, 85, 170, 255]),  # half a window is none
        (WINDOW | {"VOILUTFunction": "LINEAR"}, [0, 64, 128, 191]),
        # from 0 to 401: 255 * 100 / 401 = 63.59
        ({"WindowCenter": 200.5, "WindowWidth": 401, "VOILUTFunction": "LINEAR_EXACT"}, [0, 64, 127, 191]),
        # 255 / (1 + exp(-4 * (value - 200) / 400)): by PS3.3, C.11.2.1.3.1
        ({"WindowCenter": 200, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}, [30, 69, 128, 186]),
    ],
    ids=["plain", "rescaled", "window", "both", "inverted", "two windows", "half", "linear", "exact", "sigmoid"],
)
def test_values_by_hand(tmp_path, tags, expected):
    found = read_slice(write_dicom(tmp_path / "a.dcm", STORED, **tags))
    assert found.image.dtype == np.uint8
    assert found.image.ravel().tolist() == expected


@pytest.mark.parametrize(("signed", "dtype"), [(0, np.uint16), (1, np.int16)])
def test_only_stored_bits_count(tmp_path, signed, dtype):
    # 12 bits: 0xFFF is 4095, or -1 when signed; the upper four bits hold something else.
    values = np.array([[0x000, 0x400], [0x7FF, 0xFFF]], np.uint16)
    file = write_dicom(
        tmp_path / "a.dcm",
        (values | 0x5000).astype(dtype),
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=signed,
        WindowCenter=-0.5 if signed else 2048,
        WindowWidth=4096,
    )
    # From -2048 to 2047 when signed, from 0 to 4095 when not.
    expected = [[128, 191], [255, 127]] if signed else [[0, 64], [127, 255]]
    assert np.abs(read_slice(file).image - np.array(expected)).max() <= 1


def test_same_as_pydicom(tmp_path):
    values = np.random.default_rng(0).integers(-3000, 3000, (20, 30)).astype(np.int16)
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": 10, "WindowCenter": 40, "WindowWidth": 1500}
    path = write_dicom(tmp_path / "a.dcm", values, **tags)
    file = pydicom.dcmread(path)
    shown = apply_windowing(apply_modality_lut(file.pixel_array, file), file)
    low, high = -32768 * 0.5 + 10, 32767 * 0.5 + 10  # what pydicom stretches a window to
    assert np.array_equal(read_slice(path).image, np.round((shown - low) / (high - low) * 255))


def test_spacing_is_row_then_column(tmp_path):
    assert read_slice(write_dicom(tmp_path / "a.dcm", STORED, PixelSpacing=[1.5, 0.75])).spacing == (1.5, 0.75)
    assert np.isnan(read_slice(write_dicom(tmp_path / "b.dcm", STORED)).spacing).all()


def test_one_value_is_black(tmp_path):
    assert not read_slice(write_dicom(tmp_path / "a.dcm", np.full((3, 3), 7, np.uint16))).image.any()


EMPTY = {"RescaleSlope": None, "RescaleIntercept": None, "WindowCenter": None, "WindowWidth": None}


def test_empty_tags_are_as_none(tmp_path):
    found = read_slice(write_dicom(tmp_path / "a.dcm", STORED, PixelSpacing=None, **EMPTY))
    assert found.image.ravel().tolist() == [0, 85, 170, 255]
    assert np.isnan(found.spacing).all()


FAULTS = {
    "missing": lambda path: None,
    "text": lambda path: path.write_text("no image\n" * 50),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(write_dicom(path, STORED.repeat(50, 0)).read_bytes()[:-100]),
    "header alone": lambda path: path.write_bytes(write_dicom(path, STORED).read_bytes()[:200]),
    "colour": lambda path: write_dicom(
        path, np.zeros((2, 2, 3), np.uint8), SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    ),
    "frames": lambda path: write_dicom(path, STORED, Rows=1, Columns=2, NumberOfFrames=2),
    "one spacing": lambda path: write_dicom(path, STORED, PixelSpacing=[1.5]),
}


@pytest.mark.parametrize("spoil", FAULTS.values(), ids=FAULTS.keys())
def test_fault_names_the_file(tmp_path, spoil):
    path = tmp_path / "a.dcm"
    spoil(path)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: ") as caught:
        read_slice(path)
    assert "\n" not in str(caught.value)


def test_real_slices(data_root):
    files = sorted(data_root.glob("sunnybrook/dicoms/*/*.dcm"))
    if not files:
        pytest.skip("no sunnybrook in RETABLE_DATA")
    assert len(files) == 36
    for path in files:
        found = read_slice(path)
        file = pydicom.dcmread(path)
        assert found.image.shape == (256, 256)
        assert found.spacing == (1.367188, 1.367188)
        # All have a window, and no rescaling: PS3.3, C.11.2.1.2.1.
        low, width = file.WindowCenter - 0.5 - (file.WindowWidth - 1) / 2, file.WindowWidth - 1
        assert np.array_equal(found.image, np.round(np.clip((file.pixel_array - low) / width, 0, 1) * 255))
