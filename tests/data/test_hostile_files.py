"""Files that are made to do harm: code in pickles, bombs, pipes and links, numbers that are none."""

import gzip
import io
import json
import os
import re
import socket
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from retable.data.formats.annotations import coco_classes, read_coco, read_csv, read_voc
from retable.data.formats.cifar_batch import read_batch
from retable.data.formats.contours import read_contour
from retable.data.formats.dicom import read_slice
from retable.data.formats.files import content, is_archive, plain_files, unpack
from retable.data.formats.idx import read_idx
from retable.data.formats.nifti import read_nifti
from retable.data.formats.pairs import pictures_below, pictures_in
from retable.data.formats.pictures import read_image
from retable.data.sets.lesion import LesionData
from retable.errors import DataError
from tests.data.dicoms import write_dicom
from tests.data.limits import taken

ZEROS = 300_000_000


def refused(path: Path, message: str, call, *arguments) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        call(*arguments or (path,))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


# Pickles --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"numpy\ndtype", b"_codecs\nencode", b"numpy.core.multiarray\n_reconstruct"])
def test_a_pickle_sets_nothing_of_what_it_finds(tmp_path, name):
    """BUILD with a state of (None, {name: value}) sets attributes of the function that the name before it gave."""
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02c" + name + b"\nN}X\x07\0\0\0spoilt_K\x01s\x86b0}.")
    refused(path, "cut or damaged (sets what no batch sets)", read_batch)


@pytest.mark.parametrize(
    "instruction", [b"r\xff\xff\xff\x7f", b"\x8d\xff\xff\xff\xff\0\0\0\0", b"\x8f", b"\x81", b"i__main__\nA\n", b"P1\n"]
)
def test_a_pickle_of_a_few_bytes_takes_a_few(tmp_path, instruction):
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02N" + instruction + b".")
    found = taken(read_batch, path)
    assert found.outcome.startswith(f"DataError: {path}: ")
    assert found.megabytes < 20  # the first instruction took 3.8 GB


def test_a_name_of_several_lines_is_quoted_in_one(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x04\x8c\x08numpy._c\x8c\x06o\ne\x1b[J\x93.")
    refused(path, "not a CIFAR batch: its pickle names the forbidden global numpy._c.o", read_batch)
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x03\x1b[J\x93.")
    refused(path, r"not a CIFAR batch: its pickle names the forbidden global numpy.\x1b[J", read_batch)


def test_a_name_of_several_lines_in_a_table_of_boxes_is_quoted_in_one(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_bytes(b'"a\nb\x1b[2J.png",1,2,5,4,fox\n')
    refused(path, rf"row 2: no such image: {tmp_path}/a\nb\x1b[2J.png", read_csv, path, tmp_path, ("fox",))


def test_lists_within_lists_are_not_walked(tmp_path):
    doubled = b"".join(b"(h" + bytes([n]) + b"h" + bytes([n]) + b"tq" + bytes([n + 1]) for n in range(60))
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02(K\x01tq\0" + doubled + b"0}h\x3ch\x3cs.")
    found = taken(read_batch, path)
    assert found.outcome.startswith(f"DataError: {path}: cut or damaged")
    assert found.seconds < 1


# Bombs ----------------------------------------------------------------------------------------------------------------


def idx(*shape: int) -> bytes:
    return struct.pack(f">I{len(shape)}I", 8 << 8 | len(shape), *shape)


def test_a_gzipped_idx_file_is_unpacked_as_far_as_its_header_says(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(idx(2, 28, 28) + bytes(ZEROS)))
    found = taken(read_idx, path, 3)
    assert found.outcome == f"DataError: {path}: too long: 1569 bytes of values, 1568 expected for shape (2, 28, 28)"
    assert found.megabytes < 20
    path.write_bytes(gzip.compress(idx(60000, 30000, 30000) + bytes(1000)))
    refused(path, "cut: 54000000000000 bytes of values expected", read_idx, path, 3)


def nifti(shape: tuple[int, ...], kind: int = 2, more: int = 0) -> bytes:
    """A NIfTI-1 file of zeros that claims a shape."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(kind)
    header["dim"][: len(shape) + 1] = len(shape), *shape
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4 + more)


def test_an_idx_file_of_no_values_and_a_shape_beyond_all_numbers(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx(0, 4026531840, 4039049220))
    refused(path, "shape (0, 4026531840, 4039049220), accepted: one of fewer values", read_idx, path, 3)


def test_a_nifti_file_is_held_against_its_header(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(nifti((30000, 30000, 30000), 64, more=1000))
    found = taken(read_nifti, path)
    assert "its header speaks of 216000000000352 bytes, more than there are" in found.outcome
    assert found.megabytes < 20
    path.write_bytes(nifti((10, 10, 10), more=1001))
    refused(path, "not a whole NIfTI file (it is longer than the 1352 bytes that its header speaks of)", read_nifti)
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(nifti((10, 10, 10), more=ZEROS)))
    found = taken(read_nifti, packed)
    assert "it is longer than the 1352 bytes" in found.outcome
    assert found.megabytes < 20
    path.write_bytes(nifti((10, 10, 10), more=1000))
    assert read_nifti(path).values.shape == (10, 10, 10)


def png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((13000, 13000), "13000x13000 pixels, at most 134217728 are taken in"),
        ((11000, 11000), "11000x11000 pixels in 74 bytes"),
    ],
)
def test_a_png_is_not_what_it_claims(tmp_path, size, message):
    path = tmp_path / "a.png"
    path.write_bytes(png(*size, bytes(1000)))
    found = taken(read_image, path)
    fault = f"cut or damaged ({message}), accepted: a picture that can be read in full"
    assert found.outcome == f"DataError: {path}: {fault}"
    assert found.megabytes < 20


def test_a_whole_picture_of_one_colour_is_read(tmp_path):
    Image.new("1", (5000, 5000)).save(tmp_path / "a.png", optimize=True)
    assert read_image(tmp_path / "a.png", (8, 8), "L").max() == 0


def test_a_jpeg_of_countless_scans(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(buffer, "JPEG", progressive=True)
    raw = buffer.getvalue()
    last = raw.rindex(b"\xff\xda")
    path = tmp_path / "a.jpg"
    path.write_bytes(raw[:last] + raw[last:-2] * 5 + raw[-2:])
    assert read_image(path).shape == (3, 64, 64)
    path.write_bytes(raw[:last] + raw[last:-2] * 500 + raw[-2:])
    refused(path, "scans, at most 200 are taken in", read_image)


def test_what_is_called_a_png_is_not_given_to_ghostscript(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    refused(path, "cut or damaged (no picture)", read_image)


def pictures(name: PurePosixPath) -> bool:
    return name.suffix == ".png"


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("name", ["a.png", "a.txt"])  # what is not wanted takes time, too
def test_an_archive_that_holds_far_more_than_its_length(tmp_path, suffix, name):
    path = tmp_path / f"a.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, bytes(ZEROS))
    else:
        with tarfile.open(path, f"w:{suffix[4:]}") as archive:
            member = tarfile.TarInfo(name)
            member.size = ZEROS
            archive.addfile(member, io.BytesIO(bytes(ZEROS)))
    (tmp_path / "scratch").mkdir()
    assert is_archive(path)
    message = "cannot be unpacked (it holds more than 200 times its own length)"
    refused(path, message, unpack, path, tmp_path / "scratch", pictures)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_archive_leaves_its_folder_neither_by_name_nor_by_link(tmp_path):
    zipped, packed = tmp_path / "a.zip", tmp_path / "a.tar"
    names = ["../out.png", "/out.png", "in/../../out.png", "in/a.png"]
    with zipfile.ZipFile(zipped, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(packed, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
        for kind, name in ((tarfile.SYMTYPE, "s.png"), (tarfile.LNKTYPE, "h.png"), (tarfile.FIFOTYPE, "f.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    for path in (zipped, packed):
        folder = unpack(path, tmp_path, pictures)
        assert [str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()] == ["in/a.png"]
    assert not (tmp_path / "out.png").exists()


def test_dicom_whose_elements_are_deflated(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16))
    file = pydicom.dcmread(path)
    file.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    file.save_as(path)
    refused(path, "its elements are deflated", read_slice)


def test_dicom_claims_more_pixels_than_it_has(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), Rows=65535, Columns=65535)
    found = taken(read_slice, path)
    assert f"{path}: not a whole DICOM image (4294836225 pixels of" in found.outcome
    assert found.megabytes < 60  # pydicom


def test_xml_with_entities(tmp_path):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    path = tmp_path / "Annotations" / "a.xml"
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    text = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "aaaaaaaaaa">{entities}]><a><object>&e9;</object></a>'
    arguments = tmp_path / "ImageSets" / "Main" / "train.txt", tmp_path, ["x"]
    for written in (text.encode(), text.encode("utf-16")):
        path.write_bytes(written)
        refused(path, "holds declarations", read_voc, *arguments)
    path.write_text("<a>" * 500_000)
    assert taken(read_voc, *arguments).outcome.startswith(f"DataError: {path}: no XML")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "no JSON"),
        ('{"images": [{"id": [1], "file_name": "a"}], "annotations": [], "categories": []}', "images[0]: id is a list"),
        (
            '{"images": [{"id": 1, "file_name": "' + "a" * 9000 + '"}], "annotations": [], "categories": []}',
            "images[0]: no such image",
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": {}, "name": "a"}]}', "categories[0]: id is a dict"),
    ],
    ids=["deep", "list", "name", "category"],
)
def test_json_of_another_kind(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    refused(path, message, read_coco, path, tmp_path, ["a"])


def test_a_box_beyond_all_numbers(tmp_path):
    path = tmp_path / "a.json"
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    box = {"image_id": 1, "category_id": 1, "bbox": [10**400, 0, 1, 1]}
    whole = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    path.write_text(json.dumps(whole))
    assert coco_classes(path) == ("a",)
    refused(path, "annotations[0]: x=1000", read_coco, path, tmp_path, ["a"])


def test_a_contour_of_countless_points(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("1 1\n" * 30_000)
    refused(path, "more than 20000 points", read_contour)
    path.write_text("1 1\n" * 1_000_000)
    refused(path, "4000000 bytes, accepted: at most 2097152", read_contour)
    path.write_text("x" * 10_000)
    with pytest.raises(DataError) as caught:
        read_contour(path)
    assert len(str(caught.value)) < 400


# What is no plain file of the folder ----------------------------------------------------------------------------------


def strange(folder: Path, suffix: str) -> None:
    """A pipe, a socket, a folder, and links: to nothing, to a device, and out of the folder."""
    os.mkfifo(folder / f"pipe{suffix}")
    os.chdir(folder)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"socket{suffix}")
    (folder / f"folder{suffix}").mkdir()
    (folder / f"nothing{suffix}").symlink_to("nowhere")
    (folder / f"device{suffix}").symlink_to("/dev/zero")
    (folder.parent / "outside").write_bytes(b"x")
    (folder / f"out{suffix}").symlink_to("../outside")


COUNTS = {"no plain file": 4, "link out of its folder": 1}


@pytest.fixture
def _back(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_back")
def test_only_plain_files_of_a_folder_are_pictures(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("L", (2, 2)).save(folder / "a.png")
    (folder / "b.png").symlink_to("a.png")
    strange(folder, ".png")
    left_out: Counter[str] = Counter()
    assert [file.name for file in pictures_in(folder, left_out)] == ["a.png", "b.png"]
    assert left_out == COUNTS
    left_out.clear()
    assert [str(name) for name in pictures_below(folder, left_out)] == ["a.png", "b.png"]
    assert left_out == COUNTS
    for name in ("pipe", "socket", "device", "folder"):
        refused(folder / f"{name}.png", "is no plain file", content)
        found = taken(read_image, folder / f"{name}.png", limit=10)
        assert found.outcome == f"DataError: {folder / name}.png: is no plain file, accepted: one"


@pytest.mark.usefixtures("_back")
def test_a_set_says_what_it_leaves_out(tmp_path):
    for part, number in (("Training", 1), ("Test", 2)):
        for kind, name in (("Data", "ISIC_{}.jpg"), ("GroundTruth", "ISIC_{}_Segmentation.png")):
            folder = tmp_path / "root" / "isic2016" / f"ISBI2016_ISIC_Part1_{part}_{kind}"
            folder.mkdir(parents=True)
            Image.new("L", (8, 8)).save(folder / name.format(number))
    strange(folder, ".png")
    data = LesionData(root=tmp_path / "root", cache=tmp_path / "cache", size=8)
    data.prepare()
    assert data.counts == {"read": 7, "left_out": 5, "train": 1, "val": 1, "reasons": COUNTS}


@pytest.mark.parametrize(
    "read",
    [
        *(read_batch, read_nifti, read_slice, read_contour, read_image, coco_classes, lambda path: read_idx(path, 3)),
        *(lambda path: read_csv(path, path.parent, ["a"]), lambda path: read_voc(path, path.parent, ["a"])),
    ],
)
def test_no_reader_waits_for_a_pipe(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    found = taken(read, tmp_path / "pipe", limit=10)
    assert found.outcome == f"DataError: {tmp_path / 'pipe'}: is no plain file, accepted: one"


def test_links_within_a_folder_that_is_itself_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").touch()
    (tmp_path / "real" / "b").symlink_to(tmp_path / "real" / "a")
    (tmp_path / "set").symlink_to("real")
    assert len(plain_files(sorted((tmp_path / "set").iterdir()), tmp_path / "set")) == 2


# Numbers that are none ------------------------------------------------------------------------------------------------

STORED = np.array([[0, 100], [200, 300]], np.uint16)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"WindowCenter": "NaN", "WindowWidth": 5}, "window"),
        ({"WindowCenter": 5, "WindowWidth": "inf"}, "window"),
        ({"WindowCenter": 5, "WindowWidth": "-inf"}, "as DICOM has it (a window of -inf around 5.0)"),
        ({"WindowCenter": "nan", "WindowWidth": 0}, "as DICOM has it (a window of 0.0 around nan)"),
        ({"WindowWidth": "nan"}, "as DICOM has it (a window of nan around None)"),
        ({"RescaleSlope": "nan"}, "window from"),
        ({"RescaleIntercept": "-inf"}, "window from"),
        ({"PixelSpacing": [0, 1]}, "pixel spacing 0, 1 mm; accepted: two numbers above 0"),
        ({"PixelSpacing": [1, -2]}, "pixel spacing 1, -2 mm; accepted: two numbers above 0"),
        ({"PixelSpacing": ["nan", 1]}, "pixel spacing nan, 1 mm; accepted: two numbers above 0"),
        ({"PixelSpacing": [1, "inf"]}, "pixel spacing 1, inf mm; accepted: two numbers above 0"),
        ({"BitsStored": 0}, "4 pixels of 0 of 16 bits"),
        ({"BitsStored": 40}, "4 pixels of 40 of 16 bits"),
    ],
)
@pytest.mark.filterwarnings("ignore:Value")
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_dicom_numbers(tmp_path, tags, message, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
    refused(write_dicom(tmp_path / "a.dcm", STORED, **tags), message, read_slice)


@pytest.mark.parametrize("zoom", [0.0, -1.0, np.nan, np.inf])
def test_nifti_voxels(tmp_path, zoom):
    raw = bytearray(nifti((2, 2, 2), more=8))
    raw[80:84] = struct.pack("<f", zoom)
    (tmp_path / "a.nii").write_bytes(raw)
    refused(tmp_path / "a.nii", f"not a whole NIfTI file (voxels of {zoom:g} x 1 x 1 mm)", read_nifti)


def test_gif_whose_canvas_is_larger_than_what_is_drawn_on_it(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("L", (17, 12)).save(path)
    raw = bytearray(path.read_bytes())
    raw[6:10] = struct.pack("<HH", 18193, 3072)
    path.write_bytes(raw)
    refused(path, "18193x3072 pixels in", read_image)
    Image.new("L", (2000, 1500)).save(path)  # one colour: nothing is packed tighter
    assert read_image(path).shape == (3, 1500, 2000)


def test_coco_with_ids_of_two_kinds(tmp_path):
    path = tmp_path / "a.json"
    categories = [{"id": 1, "name": "fox"}, {"id": "2", "name": "owl"}]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    refused(path, "ids that are numbers beside names", coco_classes)


def test_dicom_element_of_no_known_kind(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), PixelSpacing=[1.5, 1.2])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"\x28\x00\x30\x00DS", b"\x28\x00\x30\x00D\x00"))
    refused(path, "is not as DICOM has it", read_slice)


def test_uncompressed_tiff_that_claims_more_pixels_than_it_has_bits(tmp_path):
    path = tmp_path / "a.tif"
    Image.new("1", (17, 12)).save(path)
    assert read_image(path).shape == (3, 12, 17)
    raw = bytearray(path.read_bytes())
    (directory,) = struct.unpack("<I", raw[4:8])
    (entries,) = struct.unpack("<H", raw[directory : directory + 2])
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack("<H", raw[place : place + 2]) == (256,):  # ImageWidth
            raw[place : place + 12] = struct.pack("<HHII", 256, 4, 1, 7077900)
    path.write_bytes(raw)
    refused(path, "7077900x12 pixels in", read_image)


def test_messages_do_not_quote_all_that_a_file_says(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a" * 3000 + ".png", b"x")
    path.write_bytes(path.read_bytes().replace(b"aaa", b"bbb", 1))  # the member's own header, not the archive's list
    with pytest.raises(DataError, match="cannot be unpacked") as caught:
        unpack(path, tmp_path, lambda name: True)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))

    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), PhotometricInterpretation="A\x00\x01\x7f" * 30)
    refused(path, r"'A\x00\x01\x7fA\x00\x01\x7fA\x00\x01\x7fA\x00\x01\x7f', 1 frames of 1", read_slice)
