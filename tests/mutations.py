"""Mutations of files: of their bytes, or of what they hold, with checksums and compression made good again."""

import copy
import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from typing import Any

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
