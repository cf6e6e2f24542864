"""Volumes as NIfTI: what is kept, how files are paired, what is refused."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from retable.data.formats.nifti import find_pair, normalised, read_volume
from retable.errors import DataError

SHAPE = (6, 5, 4)
TURNED = np.array([[0, 0, -2, 7], [0.5, 0, 0, -3], [0, 3, 0, 1], [0, 0, 0, 1.0]])  # 0.5 x 3 x 2 mm, axes swapped
IMAGE = np.arange(120, dtype=np.int16).reshape(SHAPE) * 5
LABELS = (np.arange(120) % 4).astype(np.int16).reshape(SHAPE)


def save(path: Path, values: np.ndarray, affine: np.ndarray = TURNED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.fixture
def pair(tmp_path):
    return save(tmp_path / "a.nii.gz", IMAGE), save(tmp_path / "a_seg.nii.gz", LABELS)


def refused(image: Path, labels: Path, *parts: str) -> None:
    """One line that names what is at fault."""
    with pytest.raises(DataError) as caught:
        read_volume("a", image, labels)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("more", [(), (1,)])
def test_values_orientation_and_voxel_size_are_kept(tmp_path, suffix, more):
    image = save(tmp_path / f"a.{suffix}", IMAGE.reshape(SHAPE + more))
    volume = read_volume("a", image, save(tmp_path / f"a_seg.{suffix}", LABELS))
    assert volume.image_XYZ.dtype == np.float32
    assert volume.labels_XYZ.dtype == np.uint8
    np.testing.assert_array_equal(volume.image_XYZ, IMAGE)
    np.testing.assert_array_equal(volume.labels_XYZ, LABELS)
    np.testing.assert_array_equal(volume.affine, TURNED)
    assert volume.zooms == (0.5, 3.0, 2.0)
    assert nibabel.aff2axcodes(volume.affine) == ("A", "S", "L")


def test_stored_numbers_are_scaled_as_the_header_says(tmp_path, pair):
    scaled = save(tmp_path / "scaled.nii", IMAGE)
    content = bytearray(scaled.read_bytes())
    content[112:120] = np.array([0.5, 10], "<f4").tobytes()  # scl_slope and scl_inter of the NIfTI-1 header
    scaled.write_bytes(content)
    np.testing.assert_array_equal(read_volume("a", scaled, pair[1]).image_XYZ, IMAGE * 0.5 + 10)


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("IBSR_07/IBSR_07_ana_strip.nii.gz", "IBSR_07/IBSR_07_segTRI_ana.nii.gz"),
        ("IBSR_07_ana_strip.nii", "IBSR_07_segTRI_ana.nii"),
        ("IBSR_07/IBSR_07.nii.gz", "labels/IBSR_07_seg.nii.gz"),
    ],
)
def test_pairs_by_name(tmp_path, image, labels):
    others = [  # as they lie beside them in the original release
        *("IBSR_07_ana.nii.gz", "IBSR_07_ana_brainmask.nii.gz", "IBSR_07_seg_ana.nii.gz", "IBSR_07_seg_ana.img"),
        *("IBSR_07_segTRI_fill_ana.nii.gz", "IBSR_17.nii.gz", "IBSR_17_seg.nii.gz", "IBSR_07.nii.gz.bak"),
    ]
    for name in (image, labels, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_pair(tmp_path, "IBSR_07") == (tmp_path / image, tmp_path / labels)


def test_more_than_one_match_is_refused(tmp_path):
    for name in ("IBSR_07.nii.gz", "IBSR_07_seg.nii.gz", "IBSR_07_seg.nii"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"2 labels of IBSR_07: IBSR_07_seg\.nii, IBSR_07_seg\.nii\.gz; accepted: one"):
        find_pair(tmp_path, "IBSR_07")
    (tmp_path / "IBSR_07_seg.nii").unlink()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "IBSR_07.nii.gz").touch()
    with pytest.raises(DataError, match=r"2 images of IBSR_07"):
        find_pair(tmp_path, "IBSR_07")


@pytest.mark.parametrize(("present", "kind"), [("IBSR_07_seg.nii.gz", "image"), ("IBSR_07.nii.gz", "label")])
def test_a_missing_half_is_named(tmp_path, present, kind):
    (tmp_path / present).touch()
    missing = {"IBSR_07_seg.nii.gz", "IBSR_07.nii.gz"} - {present}
    with pytest.raises(DataError, match=f"no {kind} of IBSR_07.*{re.escape(missing.pop())}"):
        find_pair(tmp_path, "IBSR_07")


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.98])
@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_file_is_named(tmp_path, suffix, share, which):
    files = save(tmp_path / f"a.{suffix}", IMAGE), save(tmp_path / f"a_seg.{suffix}", LABELS)
    whole = files[which].read_bytes()
    files[which].write_bytes(whole[: int(share * len(whole))])
    refused(*files, str(files[which]))


def test_no_flipped_bit_of_a_compressed_file_changes_values_unnoticed(pair):
    whole = pair[0].read_bytes()
    offsets = range(10, len(whole))  # behind gzip's own header
    noticed = 0
    for offset in offsets:
        pair[0].write_bytes(whole[:offset] + bytes([whole[offset] ^ 4]) + whole[offset + 1 :])
        try:
            np.testing.assert_array_equal(read_volume("a", *pair).image_XYZ, IMAGE)
        except DataError:
            noticed += 1
    assert noticed >= len(offsets) - 1  # the bits that fill up the last byte mean nothing


def test_what_is_no_nifti_file_is_named(pair):
    pair[1].write_bytes(b"no volume")
    refused(*pair, str(pair[1]))


@pytest.mark.parametrize(
    ("labels", "affine", "parts"),
    [
        (LABELS[:5], TURNED, ["(5, 5, 4)", "(6, 5, 4)"]),
        (LABELS, TURNED + np.eye(4)[[2, 1, 0, 3]] * [[1], [0], [0], [0]], ["affine"]),
        (np.where(LABELS == 3, 7, LABELS).astype(np.int16), TURNED, ["unknown label 7", "0, 1, 2, 3"]),
        (LABELS - 1, TURNED, ["unknown label -1", "0, 1, 2, 3"]),
        (LABELS / np.float32(2), TURNED, ["unknown label 0.5", "0, 1, 2, 3"]),
        (np.stack([LABELS, LABELS], 3), TURNED, ["(6, 5, 4, 2)", "(X, Y, Z, 1)"]),
        (LABELS[..., 0], TURNED, ["(6, 5)", "(X, Y, Z)"]),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, pair, labels, affine, parts):
    bad = save(tmp_path / "bad.nii.gz", labels, affine)
    refused(pair[0], bad, str(bad), *parts)


def test_an_intensity_that_is_no_number_is_refused(tmp_path, pair):
    image = IMAGE.astype(np.float32)
    image[2, 3, 1] = np.nan
    bad = save(tmp_path / "bad.nii", image)
    refused(bad, pair[1], str(bad))


def test_normalised_by_the_voxels_that_are_not_zero():
    image = np.array([0, 1, 3, 0], np.float32).reshape(2, 2, 1)  # of 1 and 3: mean 2, deviation 1
    assert normalised(image).ravel().tolist() == [-2, -1, 1, -2]
    assert normalised(image).dtype == np.float32
    assert normalised(np.zeros((2, 2, 1), np.float32)).ravel().tolist() == [0, 0, 0, 0]
    assert normalised(np.full((1, 2, 1), 5, np.float32)).ravel().tolist() == [0, 0]


def test_a_volume_of_ibsr_18(data_root):
    folder = data_root / "ibsr18" / "IBSR_13"
    if not folder.is_dir():
        pytest.skip("no ibsr18/IBSR_13 in RETABLE_DATA")
    volume = read_volume("IBSR_13", *find_pair(folder, "IBSR_13"))
    assert volume.image_XYZ.shape == volume.labels_XYZ.shape == (256, 128, 256)
    assert volume.zooms == (0.9375, 1.5, 0.9375)
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(volume.affine[:3, :3], np.diag(volume.zooms))
    z = normalised(volume.image_XYZ)[volume.image_XYZ != 0]
    assert (z.mean(dtype=np.float64), z.std(dtype=np.float64)) == pytest.approx((0, 1), abs=1e-4)
