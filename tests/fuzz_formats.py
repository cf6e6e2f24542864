"""The formats that are read: of each a corpus of small files, how they are changed, and what reads them."""

import gzip
import io
import json
import pickle
import random
import re
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.mutations import bytes_of, gzip_of, json_of, png_of, text_of, zip_of


class Format(NamedTuple):
    """How a format is tried: its corpus, how one file of it is mutated, and what reads it."""

    corpus: Callable[[], list[bytes]]
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], Any]
    name: str = "file"  # of the file that is written, below the folder with `beside`


def pictures(kind: str, **options: Any) -> Callable[[], list[bytes]]:
    """Small pictures in the modes that a format has."""

    def corpus() -> list[bytes]:
        from PIL import Image

        draw, found = np.random.default_rng(0), []
        for mode in ("L", "RGB", "P", "1", "RGBA", "I;16", "LA", "CMYK"):
            values = draw.integers(0, 256, (12, 17, 3), np.uint8)
            image = Image.fromarray(values)
            image = Image.fromarray(values[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
            exif = Image.Exif()
            exif[0x0112] = 6
            buffer = io.BytesIO()
            try:
                image.save(
                    buffer, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}), **options
                )
            except (OSError, ValueError):
                continue  # a mode that this format has not
            found.append(buffer.getvalue())
        return found

    return corpus


def mask_corpus() -> list[bytes]:
    from PIL import Image

    values = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((6, 6), np.uint8))
    found = []
    for image in (Image.fromarray(values), Image.fromarray(values).convert("1"), Image.fromarray(values).convert("P")):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def idx_corpus() -> list[bytes]:
    return [struct.pack(">IIII", 2051, 3, 5, 4) + bytes(range(60)), struct.pack(">IIII", 2051, 1, 28, 28) + bytes(784)]


def cifar_corpus() -> list[bytes]:
    rows = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)
    batch = {"batch_label": "b", "labels": [3, 0], "data": rows, "filenames": ["a", "b"]}
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    state = b"(K\x01K\x02M\x00\x0c\x86" + kind + b"\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    python2 = b"\x80\x02}(U\x06labels](K\x03K\0eU\x04data" + array + state + b"u."
    return [pickle.dumps(batch, 2), pickle.dumps(batch, 4), python2]


def cifar_of(raw: bytes, draw: random.Random) -> bytes:
    """Most of a batch is pixels, which mean nothing to the reader: they are made few first."""
    return bytes_of(re.sub(rb"(?s)(.{400}).*(.{400})", rb"\1\2", raw) if draw.random() < 0.7 else raw, draw)


def nifti_corpus() -> list[bytes]:
    import nibabel

    found = []
    for kind, dtype in (
        (nibabel.Nifti1Image, np.int16),
        (nibabel.Nifti1Image, np.float32),
        (nibabel.Nifti2Image, np.uint8),
    ):
        values = np.arange(60).reshape(5, 4, 3, 1).astype(dtype)
        found.append(kind(values, np.diag([0.9, 1.5, 0.9, 1])).to_bytes())
    return found


def dicom_corpus() -> list[bytes]:
    from tests.data.dicoms import write_dicom

    values = np.arange(20, dtype=np.uint16).reshape(4, 5)
    tags = {"PixelSpacing": [1.5, 1.2], "WindowCenter": 9, "WindowWidth": 18, "RescaleSlope": 2, "RescaleIntercept": -5}
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write_dicom(Path(folder) / "a", values, **tags),
            write_dicom(Path(folder) / "b", values.astype(np.int16)),
        ]
        return [path.read_bytes() for path in paths]


def archive_corpus(kind: str) -> Callable[[], list[bytes]]:
    def corpus() -> list[bytes]:
        members = {"cat/a.png": pictures("PNG")()[0], "dog/b.png": pictures("PNG")()[1], "readme.txt": b"text" * 50}
        buffer = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
        else:
            with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
                for name, content in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        return [buffer.getvalue()]

    return corpus


def checkpoint_corpus() -> list[bytes]:
    """What a run of mnist leaves, with a network of a few weights."""
    import torch

    from retable.config.compose import Composer
    from retable.tasks.build import make_task

    class Digits:
        classes, image_shape, levels = tuple("0123456789"), (1, 28, 28), None

    config = Composer().compose(["task=mnist", "model=fnn", "model.hidden=2", "data=sample"]).config
    kept = {"name": "a", "config": config, "classes": list(Digits.classes), "levels": None, "image_shape": [1, 28, 28]}
    kept |= {"mean": [0.1], "std": [0.3], "fingerprint": "f" * 64}
    buffer = io.BytesIO()
    torch.save({"state_dict": make_task(config, Digits()).state_dict(), "retable": kept}, buffer)
    return [buffer.getvalue()]


def coco_corpus() -> list[bytes]:
    boxes = [
        {"image_id": 1, "category_id": 3, "bbox": [1, 2, 5, 4]},
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 1, 1]},
    ]
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png", "width": 17}]
    categories = [{"id": 3, "name": "fox"}, {"id": 7, "name": "owl"}]
    return [json.dumps({"images": images, "annotations": boxes, "categories": categories}).encode()]


CSV = b"a.png,1,2,5,4,fox\na.png,0,0,3,3,owl\nb.png,,,,,\n"


XML = (
    b"<annotation><filename>a.png</filename><size><width>17</width></size><object><name>fox</name><bndbox><xmin>2</xmin>"
    b"<ymin>3</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object><object><name>owl</name><bndbox><xmin>1</xmin>"
    b"<ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>"
)


CONTOUR = b"".join(b"%.2f %.2f\n" % (10 + 5 * np.cos(t), 9 + 4 * np.sin(t)) for t in np.linspace(0, 6, 20))


def read_picture(path: Path) -> Any:
    from retable.data.formats.pictures import read_image

    return read_image(path, (8, 8), "L"), read_image(path)


def read_mask(path: Path) -> Any:
    from retable.data.formats.pictures import read_labels

    return read_labels(path, {0: 0, 1: 1, 255: 1}, (4, 4))


def read_archive(path: Path) -> Any:
    from retable.data.formats.files import is_archive, unpack
    from retable.data.formats.pairs import pictures_below

    if is_archive(path):
        with tempfile.TemporaryDirectory() as scratch:
            return pictures_below(unpack(path, Path(scratch), lambda name: name.suffix == ".png"))
    return None


def read_boxes(kind: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        from retable.data.formats import boxes

        folder, classes = path.parent, ("fox", "owl")
        match kind:
            case "csv":
                found = boxes.read_csv(path, folder, classes)
            case "classes":
                return boxes.read_classes(path)
            case "coco":
                found = boxes.read_coco(path, folder, boxes.coco_classes(path))
            case _:
                folder = path.parents[1]
                found = boxes.read_voc(folder / "ImageSets" / "Main" / "train.txt", folder, classes)
        return boxes.valid_boxes(found.images, {item.image: (12, 17) for item in found.images}, True)

    return read


def _reader(module: str, name: str, *arguments: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        import importlib

        return getattr(importlib.import_module(f"retable.{module}"), name)(path, *arguments)

    return read


def read_contour(path: Path) -> Any:
    from retable.data.formats.contours import filled, inside, line, scaled
    from retable.data.formats.contours import read_contour as read

    points = read(path)
    inside(points, (24, 20), path, path)
    points = scaled(points, (24, 20), (16, 16))
    return filled(points, (16, 16)), line(points, (16, 16))


IDX, NIFTI = _reader("data.formats.idx", "read_idx", 3), _reader("data.formats.nifti", "read_nifti")


FORMATS = {
    "png": Format(pictures("PNG"), png_of, read_picture),
    "jpeg": Format(pictures("JPEG"), bytes_of, read_picture),
    "jpeg_progressive": Format(pictures("JPEG", progressive=True), bytes_of, read_picture),
    "bmp": Format(pictures("BMP"), bytes_of, read_picture),
    "tiff": Format(pictures("TIFF"), bytes_of, read_picture),
    "tiff_lzw": Format(pictures("TIFF", compression="tiff_lzw"), bytes_of, read_picture),
    "gif": Format(pictures("GIF"), bytes_of, read_picture),
    "webp": Format(pictures("WEBP"), bytes_of, read_picture),
    "ppm": Format(pictures("PPM"), bytes_of, read_picture),
    "mask": Format(mask_corpus, png_of, read_mask),
    "idx": Format(idx_corpus, bytes_of, IDX),
    "idx_gz": Format(lambda: [gzip.compress(raw) for raw in idx_corpus()], gzip_of, IDX),
    "cifar": Format(cifar_corpus, cifar_of, _reader("data.formats.cifar_batch", "read_batch")),
    "nifti": Format(nifti_corpus, bytes_of, NIFTI),
    "nifti_gz": Format(lambda: [gzip.compress(raw) for raw in nifti_corpus()], gzip_of, NIFTI),
    "dicom": Format(dicom_corpus, bytes_of, _reader("data.formats.dicom", "read_slice")),
    "contour": Format(lambda: [CONTOUR], text_of, read_contour),
    "csv": Format(lambda: [CSV], text_of, read_boxes("csv")),
    "classes": Format(lambda: [b"fox,0\nowl,1\n"], text_of, read_boxes("classes")),
    "coco": Format(coco_corpus, json_of, read_boxes("coco")),
    "voc": Format(lambda: [XML], text_of, read_boxes("voc"), "Annotations/a.xml"),
    "zip": Format(archive_corpus("zip"), zip_of, read_archive),
    "tar": Format(archive_corpus(""), bytes_of, read_archive),
    "tar_gz": Format(archive_corpus("gz"), gzip_of, read_archive),
    "checkpoint": Format(checkpoint_corpus, zip_of, _reader("run.restore", "load")),
}
