"""Mutated files for every reader: nothing but a DataError may come out, quickly, and without much memory.

    python -m tests.fuzz png --count 10000           ten thousand PNG files; make fuzz FORMAT=png COUNT=10000
    python -m tests.fuzz png --only 1234             one of them again, with its traceback

    python -m tests.fuzz cifar --guided              inputs that reach new lines are mutated further, with atheris

An input is a file of the corpus, which is made on the spot in the sample sets' formats, with one to eight mutations. It
depends on the format, the seed and its number alone. Checksums and compression are made good again, so that no mutation
is caught at the door. Inputs are read in a process of its own, which is replaced where it dies or hangs.
"""

import argparse
import contextlib
import copy
import gzip
import io
import json
import multiprocessing
import pickle
import random
import re
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retable.errors import DataError

SECONDS = 1.0  # of processor time that one input may take
HANGS = 20.0  # seconds after which the process is ended
MEGABYTES = 256  # by which a process may grow over one input of some kB: a picture of 2**27 pixels is allowed
LONGEST = 2000  # letters of a message
NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
# fmt: off
WORDS = (
    "", " ", "0", "-1", "1", "255", "1e999", "-inf", "nan", "NaN", "1" * 400, "0x10", "1,5", "\0", "é", "\ufeff",
    "\u202e", "true", "null", "../..", "/dev/zero", "a" * 5000, '"', "'", "\n", "\r", "<a>", "</a>", "&amp;", "<!--",
    "[]", "{}",
)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**70, 1e999, float("nan"), "", "a", "\0", [], {}, [[]], {"id": 1}, [1, 2, 3, 4],
)
# fmt: on


class Format(NamedTuple):
    """How a format is tried: its corpus, how one file of it is mutated, and what reads it."""

    corpus: Callable[[], list[bytes]]
    mutate: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], Any]
    name: str = "file"  # of the file that is written, below the folder with `beside`


# Mutations ------------------------------------------------------------------------------------------------------------


def bytes_of(raw: bytes, draw: random.Random) -> bytes:
    """One to eight changes of single bytes, numbers and ranges, more often near the beginning."""
    data = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        if not data:
            return bytes(draw.randbytes(draw.randrange(64)))
        place = int(len(data) * draw.random() ** draw.choice((1, 1, 3, 6)))
        place = min(place, len(data) - 1)
        match draw.randrange(7):
            case 0:
                data[place] ^= 1 << draw.randrange(8)
            case 1:
                data[place] = draw.randrange(256)
            case 2:
                kind = draw.choice(("<B", "<H", ">H", "<I", ">I", "<q", ">q", "<f", "<d"))
                value = draw.choice(NUMBERS) % 2 ** (8 * struct.calcsize(kind) - (kind[1] == "q"))
                packed = struct.pack(kind, draw.choice((value, float("nan"), -1.0)) if kind[1] in "fd" else value)
                data[place : place + len(packed)] = packed
            case 3:
                del data[place : place + draw.choice((1, 2, 4, 16, 256))]
            case 4:
                data[place:place] = draw.randbytes(draw.choice((1, 2, 4, 64)))
            case 5:
                del data[place:]
            case 6:
                other = draw.randrange(len(data))
                data[place:place] = data[other : other + draw.choice((1, 4, 32, 512))]
    return bytes(data)


def text_of(raw: bytes, draw: random.Random) -> bytes:
    """One to eight changes of words, numbers and lines; now and then of bytes."""
    if draw.random() < 0.15:
        return bytes_of(raw, draw)
    text = raw.decode("utf-8", "replace")
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        tokens = re.findall(r"[\w.+-]+|\s+|[^\w\s]", text) or [""]
        place = draw.randrange(len(tokens))
        match draw.randrange(5):
            case 0 | 1:
                tokens[place] = draw.choice(WORDS)
            case 2:
                del tokens[place : place + draw.choice((1, 2, 9))]
            case 3:
                tokens[place:place] = tokens[draw.randrange(len(tokens)) :][: draw.choice((1, 3, 40))]
            case 4:
                lines = text.splitlines(keepends=True) or [""]
                other = draw.randrange(len(lines))
                lines[other : other + 1] = draw.choice(([], [lines[other], draw.choice(lines)]))
                tokens = ["".join(lines)]
        text = "".join(tokens)[: 2**17]
    return text.encode("utf-8", "replace")


def json_of(raw: bytes, draw: random.Random) -> bytes:
    """Values replaced by others, anywhere in the tree; now and then the text is changed."""
    if draw.random() < 0.3:
        return text_of(raw, draw)
    tree = json.loads(raw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        node, path = tree, []
        while isinstance(node, dict | list) and node and (not path or draw.random() < 0.8):
            key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
            path.append((node, key))
            node = node[key]
        if path:
            parent, key = path[-1]
            if isinstance(parent, dict) and draw.random() < 0.3:
                del parent[key]
            else:
                parent[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(tree).encode()


def png_of(raw: bytes, draw: random.Random) -> bytes:
    """A chunk changed, its checksum made good; of pixels before they are compressed, half of the time."""
    if draw.random() < 0.2:
        return bytes_of(raw, draw)
    chunks, place = [], 8
    while place + 8 <= len(raw):
        (length,) = struct.unpack(">I", raw[place : place + 4])
        chunks.append([raw[place + 4 : place + 8], raw[place + 8 : place + 8 + length]])
        place += 12 + length
    for _ in range(draw.choice((1, 1, 2))):
        chunk = draw.choice(chunks)
        if chunk[0] == b"IDAT" and draw.random() < 0.5:
            try:
                chunk[1] = zlib.compress(bytes_of(zlib.decompress(chunk[1]), draw))
            except zlib.error:
                chunk[1] = bytes_of(chunk[1], draw)
        elif draw.random() < 0.1:
            chunk[0] = draw.choice((b"tRNS", b"eXIf", b"acTL", b"fcTL", b"iCCP", b"zTXt", b"PLTE", b"IDAT"))
        else:
            chunk[1] = bytes_of(chunk[1], draw)
    kept = [part for kind, data in chunks for part in (struct.pack(">I", len(data)), kind, data, _crc(kind + data))]
    return raw[:8] + b"".join(kept)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def gzip_of(raw: bytes, draw: random.Random) -> bytes:
    """What is compressed changed and compressed again; now and then the compressed bytes."""
    if draw.random() < 0.2:
        return bytes_of(raw, draw)
    return gzip.compress(bytes_of(gzip.decompress(raw), draw), 1)


def zip_of(raw: bytes, draw: random.Random) -> bytes:
    """A member changed and packed again, or the archive's own bytes."""
    if draw.random() < 0.5:
        return bytes_of(raw, draw)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as whole, zipfile.ZipFile(packed, "w") as archive:
        members = whole.infolist()
        chosen = draw.choice(members)
        for member in members:
            content = whole.read(member)
            if member is chosen:
                content = bytes_of(content, draw)
            archive.writestr(member.filename, content)
    return packed.getvalue()


# Corpora --------------------------------------------------------------------------------------------------------------


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


# Readers --------------------------------------------------------------------------------------------------------------


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


# The runs -------------------------------------------------------------------------------------------------------------


def made(kind: str, corpus: list[bytes], seed: int, number: int) -> bytes:
    """The input of that number."""
    draw = random.Random(f"{kind}/{seed}/{number}")
    return FORMATS[kind].mutate(draw.choice(corpus), draw)


def tried(kind: str, raw: bytes, folder: Path) -> tuple[str, str]:
    """What became of an input: (read or refused or FAULT, what else there is to say)."""
    path = folder / FORMATS[kind].name
    path.write_bytes(raw)
    before, start = _peak(reset=True), time.process_time()
    try:
        FORMATS[kind].read(path)
        outcome, message = "read", ""
    except DataError as error:
        outcome, message = "refused", str(error)
        if "\n" in message or len(message) > LONGEST or str(folder) not in message:
            return "FAULT", f"a message of {len(message)} letters: {message[:300]!r}"
    except BaseException:
        return "FAULT", traceback.format_exc()
    seconds, grown = time.process_time() - start, _peak() - before
    if seconds > SECONDS:
        return "FAULT", f"{seconds:.1f} s"
    if grown > MEGABYTES:
        return "FAULT", f"{grown:.0f} MB"
    return outcome, message


def _peak(reset: bool = False) -> float:
    """Megabytes that this process had at its most, since this was last reset."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def beside(folder: Path) -> None:
    """What annotations name: two pictures, and a list of one name."""
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("L", (17, 12)).save(folder / name)
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")


def _work(kind: str, corpus: list[bytes], seed: int, numbers: range, folder: Path, results: Any) -> None:
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    tried(kind, corpus[0], folder)  # what is imported takes time and memory once
    results.send((-1, "ready", ""))
    for number in numbers:
        results.send((number, *tried(kind, made(kind, corpus, seed, number), folder)))
    results.send((-1, "done", ""))


def fuzz(kind: str, count: int, seed: int = 0) -> tuple[Counter[str], dict[int, str]]:
    """Try inputs of a format: how many were read, refused and at fault, and what was wrong by number."""
    corpus = FORMATS[kind].corpus()
    outcomes: Counter[str] = Counter()
    faults: dict[int, str] = {}
    context, first = multiprocessing.get_context("fork"), 0
    while first < count:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            beside(folder)
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(kind, corpus, seed, range(first, count), folder, theirs))
            process.start()
            theirs.close()
            fault = ""
            try:
                ready = False
                while ours.poll(HANGS if ready else 120):
                    number, outcome, message = ours.recv()
                    if number < 0:
                        ready = True
                        if outcome == "done":
                            break
                        continue
                    outcomes[outcome] += 1
                    first = number + 1
                    if outcome == "FAULT":
                        faults[number] = message
                else:
                    fault = f"still at it after {HANGS:g} s"
            except EOFError:
                process.join()
                fault = f"the process ended by {process.exitcode}"
            process.kill()
            process.join()
        if fault:
            outcomes["FAULT"] += 1
            faults[first] = fault
            first += 1
    return outcomes, faults


def guided(kind: str, count: int, seed: int = 0) -> None:
    """Try inputs as `fuzz` does, those that reached new lines of this project's code mutated further; ends the process.

    The first fault ends it with a traceback; its input lies in the working directory then, as crash-<hash>.
    """
    import atheris

    outcomes: Counter[str] = Counter()
    folder, corpus = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    beside(folder)
    for number, raw in enumerate(FORMATS[kind].corpus()):
        (corpus / str(number)).write_bytes(raw)
    with atheris.instrument_imports(include=["retable.data", "retable.run.restore", "retable.tasks.build"]):
        tried(kind, (corpus / "0").read_bytes(), folder)  # which imports the reader

    def one(raw: bytes) -> None:
        outcome, message = tried(kind, raw, folder)
        outcomes[outcome] += 1
        if outcome == "FAULT":
            raise AssertionError(message)
        if outcomes.total() % 1000 == 0 or outcomes.total() == count:  # libFuzzer ends the process without a word
            read, refused = outcomes["read"], outcomes["refused"]
            print(
                f"{kind}, guided: {read + refused:,} inputs: {read:,} read, {refused:,} refused, 0 faults", flush=True
            )

    def mutate(raw: bytes, longest: int, number: int) -> bytes:
        draw = random.Random(number)
        if draw.random() < 0.7:
            with contextlib.suppress(Exception):  # it may be no file of this format any more
                return FORMATS[kind].mutate(raw, draw)[:longest]
        return atheris.Mutate(raw, longest)

    arguments = [f"-runs={count}", f"-seed={seed + 1}", "-max_len=65536", "-verbosity=0", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Try one format, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", choices=[*FORMATS, []], metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris; one format")
    parser.add_argument("--only", type=int, help="the number of one input")
    options = parser.parse_args()
    wrong = False
    if options.guided:
        guided(*options.formats, count=options.count, seed=options.seed)
    for kind in options.formats or FORMATS:
        if options.only is not None:
            with tempfile.TemporaryDirectory() as folder:
                beside(Path(folder))
                raw = made(kind, FORMATS[kind].corpus(), options.seed, options.only)
                print(f"{len(raw)} bytes: {raw[:80]!r}", *tried(kind, raw, Path(folder)), sep="\n")
            continue
        start = time.perf_counter()
        outcomes, faults = fuzz(kind, options.count, options.seed)
        seconds = time.perf_counter() - start
        counts = f"{outcomes['read']:,} read, {outcomes['refused']:,} refused, {outcomes['FAULT']:,} faults"
        print(f"{kind:<17} {sum(outcomes.values()):>7,} inputs: {counts}; {seconds:.0f} s", flush=True)
        for number, message in list(faults.items())[:20]:
            wrong = True
            print(f"  --only {number} --seed {options.seed}: {message.strip().splitlines()[-1][:300]}", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
