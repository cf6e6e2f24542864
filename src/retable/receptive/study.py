"""A unit's receptive fields, from images to a folder with figures and numbers: the work of `retable receptive`.

theoretical.json   the field of every layer
receptive.json     the unit's fields on the images, and everything that they depend on
*.png              the figures
index.html         a page with all of it
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from retable import atomic
from retable.data.formats.pairs import pictures_below
from retable.data.formats.pictures import EXTENSIONS, read_image
from retable.errors import ConfigError, DataError, first_line
from retable.receptive import empirical, figures, segments
from retable.receptive.network import Network, activations, of_run, of_torchvision
from retable.receptive.probe import probed
from retable.receptive.progress import Progress
from retable.receptive.theoretical import LayerField, layer_fields
from retable.report.receptive_page import SUMMARY, write_receptive_page
from retable.run import facts

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is to be studied; each field is the option of `retable receptive` of the same name."""

    network: str | None
    checkpoint: Path | None
    weights: Path | None
    layer: str
    unit: int | None
    images: list[Path]
    top: int
    occluder: int
    stride: int
    size: int | None
    uncut: bool
    batch: int
    seed: int
    segments: str | None
    output: Path | None
    trust: bool = False

    def command(self) -> str:
        """The shell command that repeats the study, with its defaults spelled out; of many images, the first ones."""
        words = ["retable", "receptive"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("images", "batch", "output") and value is not None and value is not False:
                words += [f"--{field.name}"] if value is True else [f"--{field.name}={value}"]
        more = " ..." if len(self.images) > 3 else ""
        return shlex.join([*words, *map(str, self.images[:3])]) + more


class Study:
    """The fields of one layer, and of one of its units.

    Args:
        request: what is to be studied.
        say: is called with a line of text for each thing that a user should know while the study runs.

    Attributes:
        name: the network's name.
        shape: (channels, height, width) of the images.
        layers: the theoretical fields of all layers.
        field: that of the requested layer.
        folder: where the results are written.

    Raises:
        ConfigError: for a layer, a size or a folder that is not accepted.
        DataError: for weights that can't be read or do not fit.
    """

    def __init__(self, request: Request, say: Say) -> None:
        self.request, self._say = request, say
        self._network = _network(request, say)
        self.name = self._network.name
        channels, height, width = self._network.in_shape
        self.shape = (channels, request.size or height, request.size or width)
        if request.images and request.occluder > min(self.shape[1:]):
            side = min(self.shape[1:])
            raise ConfigError(f"--occluder {request.occluder}: accepted: at most the images' side, {side}")
        self.layers, self.field = self._fields()
        unit = "" if request.unit is None else f"-{request.unit}"
        self.folder = request.output or Path("multirun", "receptive", f"{self.name}-{request.layer}{unit}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--output {self.folder}: cannot be made ({error.strerror}); accepted: a folder"
            ) from error

    def write_theoretical(self) -> None:
        """Write theoretical.json."""
        layers = [field.as_json() for field in self.layers]
        _write(self.folder / "theoretical.json", {"network": self.name, "image": list(self.shape), "layers": layers})

    def look(self) -> dict[str, Any]:
        """Measure the unit's fields on the images; write receptive.json, the figures and the page.

        Returns:
            The content of receptive.json.

        Raises:
            ConfigError: for a unit that the layer does not have, or an image size at which no field is uncut.
            DataError: if no image can be read, or the unit answers the same everywhere.
        """
        request, network, size = self.request, self._network, self.shape[1:]
        found, images = self._search()
        drops = self._occlude(found)
        maps = [drop.per_pixel(*size) for drop in drops]
        slopes = [empirical.gradient(network, request.layer, request.unit, top) for top in found]
        centres = [self.field.middle(top.position, size) for top in found]
        spans = [self.field.spans(top.position, size) for top in found]
        drop, slope = empirical.average(maps, centres), empirical.average(slopes, centres)

        rows = []
        for top, values, one, span in zip(found, maps, drops, spans, strict=True):
            change, outside = one.outside(span)
            rows.append(
                {
                    "image": top.name,
                    "activation": top.activation,
                    "position": list(top.position),
                    "theoretical": {"rows": list(span[0]), "columns": list(span[1])},
                    "empirical": _reach(values, empirical.LEVEL),
                    "largest_drop": float(np.nanmax(values)),
                    "places": one.values.size,
                    "places_outside": outside,
                    "largest_change_outside": change,
                    # Not tested, and so null, where the field is all of the image.
                    "inside": change <= empirical.ROUNDING * abs(top.activation) if outside else None,
                }
            )
        tested = [row["inside"] for row in rows if row["inside"] is not None]
        result: dict[str, Any] = {
            "network": network.name,
            "weights": network.weights,
            "sha256": network.sha256,
            "layer": request.layer,
            "unit": request.unit,
            "command": request.command(),
            "images": images,
            "occluder": {"side": request.occluder, "stride": request.stride, "seed": request.seed},
            "theoretical": self.field.as_json(),
            "empirical": _reach(drop.values, empirical.LEVEL, drop.origin)
            | {"inside": all(tested) if tested else None},
            "effective": _reach(slope.values, empirical.EFFECTIVE_LEVEL, slope.origin),
            "top": rows,
        }
        what = f"{network.name} {request.layer}, unit {request.unit}"
        figures.top_images(self.folder / "top.png", f"{what}: the images that activate it most", found, maps, spans)
        figures.discrepancy_maps(self.folder / "discrepancy.png", f"{what}: drop where the occluder is", found, maps)
        title = f"{what}: mean of {len(found)} images"
        figures.averages(self.folder / "average.png", title, drop, slope, self.field.size)
        if request.segments is not None:
            result["segments"] = self._remove_segments(found)
        result |= {"device": facts.device(network.device.type), "git": facts.git(), "versions": facts.versions()}
        _write(self.folder / SUMMARY, result)
        write_receptive_page(self.folder)
        return result

    def _fields(self) -> tuple[list[LayerField], LayerField]:
        """The fields of all layers, and of the requested one, which is probed if the layers do not tell it."""
        network, layer = self._network, self.request.layer
        try:
            with torch.inference_mode():
                activations(network.model, layer, torch.zeros(1, *self.shape, device=network.device))
        except (RuntimeError, ValueError, AssertionError) as error:  # too small, or of a size that the network refuses
            reason = first_line(error)
            raise ConfigError(f"--size: {self.name} does not take images of shape {self.shape} ({reason})") from error
        found = layer_fields(network.model, self.shape)
        known = {field.name: field for field in found}
        asked = known.get(layer)
        if asked is not None and not asked.unknown:
            return found, asked
        reason = f" ({asked.unknown})" if asked else ""
        self._say(f"{layer}: its field is probed, since the layers do not tell it{reason}")
        device = network.device
        known[layer] = probed(network.model.cpu(), layer, self.shape)
        network.model.to(device)
        return list(known.values()), known[layer]

    def _search(self) -> tuple[list[empirical.Top], dict[str, Any]]:
        """The images that activate the unit most, and what receptive.json says of all images."""
        request, size = self.request, self.shape[1:]
        window = self.field.uncut(size) if request.uncut else (slice(None), slice(None))
        if window is None:
            raise ConfigError(
                f"--uncut: no field of {request.layer} lies within images of {size[0]} x {size[1]} pixels; accepted: a"
                " layer and a --size at which one does"
            )
        unreadable: list[str] = []

        def refuse(path: Path, error: DataError) -> None:
            unreadable.append(str(path))
            self._say(f"left out: {error}")

        pictures = _pictures(request.images)
        with Progress("searching", len(pictures)) as progress:
            images = _read(pictures, self.shape, refuse)
            try:
                found, flat = empirical.search(
                    self._network, request.layer, request.unit, images, request.top, request.batch, progress, window
                )
            except IndexError as error:
                count = error.args[0]
                raise ConfigError(f"--unit {request.unit}: accepted: a whole number from 0 to {count - 1}") from error
        given = ", ".join(map(str, request.images))
        if unreadable:
            self._say(f"{len(unreadable)} of {len(pictures)} images left out")
        if len(unreadable) == len(pictures):
            raise DataError(f"{given}: no readable image; accepted: pictures, and folders of {', '.join(EXTENSIONS)}")
        if not found:
            raise DataError(
                f"{given}: unit {request.unit} of {request.layer} answers the same everywhere on all {flat} images; "
                "accepted: images that it tells apart, or another unit"
            )
        return found, {
            "shape": list(self.shape),
            "read": len(pictures) - len(unreadable),
            "unreadable": unreadable,
            "flat": flat,
            "top": request.top,
            "uncut": request.uncut,
        }

    def _occlude(self, found: list[empirical.Top]) -> list[empirical.Drops]:
        request = self.request
        patch = empirical.noise(self.shape[0], request.occluder, request.seed)
        rows, columns = (empirical.positions(extent, request.occluder, request.stride) for extent in self.shape[1:])
        with Progress("occluding", len(found) * len(rows) * len(columns)) as progress:
            return [
                empirical.occlude(
                    self._network, request.layer, request.unit, top, patch, request.stride, request.batch, progress
                )
                for top in found
            ]

    def _remove_segments(self, found: list[empirical.Top]) -> list[dict[str, Any]]:
        way, left = self.request.segments, []
        with Progress("removing segments", None) as progress:
            for top in found:
                numbers = segments.segment(top.pixels, way)
                left.append(segments.remove(self._network, top.pixels, numbers, self.request.batch, progress))
        highest = max(max(rest.label, rest.flipped or 0) for rest in left)
        names = self._network.classes or ()
        if highest >= len(names):
            names = [str(label) for label in range(highest + 1)]
        title = f"{self.name}: segments removed ({way}) until the class would flip"
        figures.remaining(self.folder / "segments.png", title, found, left, names)
        return [
            {
                "image": top.name,
                "way": way,
                "class": names[rest.label],
                "flips_to": None if rest.flipped is None else names[rest.flipped],
                "segments": int(rest.segments.max()) + 1,
                "removed": len(rest.order),
                "pixels_left": float(rest.kept.mean()),
                "scores": list(rest.scores),
            }
            for top, rest in zip(found, left, strict=True)
        ]


def _network(request: Request, say: Say) -> Network:
    if request.checkpoint is not None:
        network = of_run(request.checkpoint, request.layer, request.trust)
    else:
        trained, whole = bool(request.images), request.segments is not None
        network = of_torchvision(request.network, request.layer, request.weights, trained, whole, say)
    network.model.requires_grad_(False).to(memory_format=torch.channels_last)
    if torch.cuda.is_available():
        network.model.to("cuda")
    return network


def _pictures(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """(name, file) of every image: named files whatever their suffix, those of a folder by suffix and in order."""
    found = []
    for path in paths:
        if not path.is_dir():
            found.append((path.name, path))
            continue
        found += [(str(name), path / name) for name in pictures_below(path)]
    return found


def _read(
    pictures: Sequence[tuple[str, Path]], shape: tuple[int, int, int], refuse: Callable[[Path, DataError], None]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 pixels (C, H, W)) of every image, scaled until it covers H x W and cropped at its centre."""
    channels, height, width = shape
    for name, path in pictures:
        try:
            pixels = read_image(path, mode="L" if channels == 1 else "RGB")
        except DataError as error:
            refuse(path, error)
            continue
        picture = Image.fromarray(pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        fitted = np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR))
        yield name, fitted[None] if channels == 1 else fitted.transpose(2, 0, 1).copy()


def _reach(values: np.ndarray, level: float, origin: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """How far a map reaches above a fraction of its maximum; rows and columns are counted from the origin."""
    found = empirical.reach(values, level)
    if found is None:
        return {"level": round(level, 4), "rows": None, "columns": None, "size": None, "side": None}
    rows, columns, count = found
    return {
        "level": round(level, 4),
        "rows": [row - origin[0] for row in rows],
        "columns": [column - origin[1] for column in columns],
        "size": [rows[1] - rows[0] + 1, columns[1] - columns[0] + 1],
        "side": round(count**0.5, 1),
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with lists of numbers on one line each."""
    text = json.dumps(content, indent=1)
    atomic.write_text(path, re.sub(r'\[\n[^][{}"]*\]', lambda found: " ".join(found[0].split()), text) + "\n")
