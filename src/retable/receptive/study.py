"""A unit's receptive fields, from images to figures: what `retable receptive` does."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retable.commands.receptive import Request
from retable.errors import ConfigError, DataError, first_line
from retable.receptive import align, effective, empirical, figures, photographs, segments
from retable.receptive.network import Network, activations, of_run, of_torchvision
from retable.receptive.probe import probed
from retable.receptive.progress import Progress
from retable.receptive.theoretical import LayerField, layer_fields


def study(request: Request) -> None:
    """Write theoretical.json, and, where there are images, receptive.json and the figures.

    Raises:
        ConfigError: for a layer, unit or size that the network does not have or take.
        DataError: for weights that do not do, or if no image can be read.
    """
    network = _network(request)
    channels, height, width = network.in_shape
    shape = (channels, request.size or height, request.size or width)
    if request.images and request.occluder > min(shape[1:]):
        raise ConfigError(f"--occluder {request.occluder}: accepted: at most the images' side, {min(shape[1:])}")
    fields, asked = _fields(network, request.layer, shape)
    name = f"{network.name}-{request.layer}" + ("" if request.unit is None else f"-{request.unit}")
    folder = request.output or Path("receptive") / name
    folder.mkdir(parents=True, exist_ok=True)
    described = {"network": network.name, "image": list(shape), "layers": [field.as_json() for field in fields]}
    _write(folder / "theoretical.json", described)
    print(f"{network.name} {request.layer}: theoretical field {_by(asked.size)}, {_stride(asked)}")
    if request.images:
        _look(network, request, asked, shape, folder)
    print(f"written: {folder}")


def _network(request: Request) -> Network:
    def say(line: str) -> None:
        print(line, file=sys.stderr)

    if request.checkpoint is not None:
        network = of_run(request.checkpoint, request.layer, request.trust)
    else:
        trained, whole = bool(request.images), request.segments is not None
        network = of_torchvision(request.network, request.layer, request.weights, trained, whole, say)
    network.model.requires_grad_(False).to(memory_format=torch.channels_last)
    if torch.cuda.is_available():
        network.model.to("cuda")
    return network


def _fields(network: Network, layer: str, shape: tuple[int, int, int]) -> tuple[list[LayerField], LayerField]:
    """All layers' fields, and that of the asked one, which is probed where it can't be told from the layers."""
    try:
        with torch.inference_mode():
            activations(network.model, layer, torch.zeros(1, *shape, device=network.device))
    except (RuntimeError, ValueError, AssertionError) as error:  # too small, or of a size that the network refuses
        reason = first_line(error)
        raise ConfigError(f"--size: {network.name} does not take images of shape {shape} ({reason})") from error
    fields = layer_fields(network.model, shape)
    known = {field.name: field for field in fields}
    asked = known.get(layer)
    if asked is not None and not asked.unknown:
        return fields, asked
    reason = f" ({asked.unknown})" if asked else ""
    print(f"{layer}: its field is probed, since the layers do not tell it{reason}", file=sys.stderr)
    device = network.device
    asked = probed(network.model.cpu(), layer, shape)
    network.model.to(device)
    known[layer] = asked
    return list(known.values()), asked


def _look(network: Network, request: Request, asked: LayerField, shape: tuple[int, int, int], folder: Path) -> None:
    window = asked.uncut(shape[1:]) if request.uncut else (slice(None), slice(None))
    if window is None:
        raise ConfigError(
            f"--uncut: no field of {request.layer} lies within images of {shape[1]} x {shape[2]} pixels; accepted with"
            f" a larger --size than the field's {_by(asked.size)}"
        )
    unreadable: list[str] = []

    def refused(path: Path, reason: str) -> None:
        unreadable.append(str(path))
        print(f"left out: {path}: {reason}", file=sys.stderr)

    files = photographs.files_below(request.images)
    with Progress("searching", len(files)) as progress:
        images = photographs.read(files, shape, refused)
        try:
            found, flat = empirical.search(
                network, request.layer, request.unit, images, request.top, request.batch, progress, window
            )
        except IndexError as error:
            count = error.args[0]
            raise ConfigError(f"--unit {request.unit}: accepted: a whole number from 0 to {count - 1}") from error
    shown = ", ".join(map(str, request.images))
    if unreadable:
        print(f"{len(unreadable)} of {len(files)} images left out", file=sys.stderr)
    if len(unreadable) == len(files):
        raise DataError(f"{shown}: no readable image; accepted: {photographs.ACCEPTED}")
    if not found:
        raise DataError(
            f"{shown}: unit {request.unit} of {request.layer} answers the same everywhere on all {flat} images; "
            "accepted: images that it tells apart, or another unit"
        )
    drops = _occlude(network, request, found)
    maps = [drop.per_pixel(*shape[1:]) for drop in drops]
    slopes = [effective.gradient(network, request.layer, request.unit, top) for top in found]
    middles = [asked.middle(top.position, shape[1:]) for top in found]
    spans = [asked.spans(top.position, shape[1:]) for top in found]
    drop, slope = align.average(maps, middles), align.average(slopes, middles)

    rows = []
    for top, values, one, span in zip(found, maps, drops, spans, strict=True):
        change, outside = one.outside(span)
        rows.append(
            {
                "image": top.name,
                "activation": top.activation,
                "position": list(top.position),
                "theoretical": {"rows": list(span[0]), "columns": list(span[1])},
                "empirical": _reach(values, align.LEVEL),
                "largest_drop": float(np.nanmax(values)),
                "places": one.values.size,
                "places_outside": outside,
                "largest_change_outside": change,
                # Not tested, and so null, where the field is all of the image.
                "inside": change <= empirical.ROUNDING * abs(top.activation) if outside else None,
            }
        )
    tested = [row["inside"] for row in rows if row["inside"] is not None]
    inside = all(tested) if tested else None
    result: dict[str, Any] = {
        "network": network.name,
        "weights": network.weights,
        "layer": request.layer,
        "unit": request.unit,
        "images": {"shape": list(shape), "read": len(files) - len(unreadable), "unreadable": unreadable, "flat": flat},
        "occluder": {"side": request.occluder, "stride": request.stride, "seed": request.seed},
        "theoretical": asked.as_json(),
        "empirical": _reach(drop.values, align.LEVEL, drop.origin) | {"inside": inside},
        "effective": _reach(slope.values, effective.LEVEL, slope.origin),
        "top": rows,
    }
    what = f"{network.name} {request.layer}, unit {request.unit}"
    figures.top_images(folder / "top.png", f"{what}: the images that activate it most", found, maps, spans)
    figures.discrepancy_maps(folder / "discrepancy.png", f"{what}: drop where the occluder is", found, maps)
    title = f"{what}: mean of {len(found)} images (dashed: theoretical field, {_by(asked.size)})"
    figures.averages(folder / "average.png", title, drop, slope, asked.size)
    if request.segments is not None:
        result["segments"] = _segments(network, request, found, folder)
    _write(folder / "receptive.json", result)
    _tell(result, rows)


def _occlude(network: Network, request: Request, found: list[empirical.Top]) -> list[empirical.Drops]:
    patch = empirical.noise(found[0].pixels.shape[0], request.occluder, request.seed)
    sizes = [empirical.places(extent, request.occluder, request.stride) for extent in found[0].pixels.shape[1:]]
    with Progress("occluding", len(found) * len(sizes[0]) * len(sizes[1])) as progress:
        return [
            empirical.occlude(network, request.layer, request.unit, top, patch, request.stride, request.batch, progress)
            for top in found
        ]


def _segments(network: Network, request: Request, found: list[empirical.Top], folder: Path) -> list[dict[str, Any]]:
    left = []
    with Progress("removing segments", None) as progress:
        for top in found:
            parts = segments.segment(top.pixels, request.segments)
            left.append(segments.remove(network, top.pixels, parts, request.batch, progress))
    highest = max(max(rest.label, rest.flipped or 0) for rest in left)
    names = network.classes or ()
    if highest >= len(names):
        names = [str(label) for label in range(highest + 1)]
    title = f"{network.name}: segments removed ({request.segments}) until the class would flip"
    figures.remaining(folder / "segments.png", title, found, left, names)
    return [
        {
            "image": top.name,
            "way": request.segments,
            "class": names[rest.label],
            "flips_to": None if rest.flipped is None else names[rest.flipped],
            "segments": int(rest.segments.max()) + 1,
            "removed": len(rest.order),
            "pixels_left": float(rest.kept.mean()),
            "scores": list(rest.scores),
        }
        for top, rest in zip(found, left, strict=True)
    ]


def _reach(values: np.ndarray, level: float, origin: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """How far a map reaches above a part of its maximum; rows and columns are counted from the origin."""
    found = align.reach(values, level)
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


def _tell(result: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    found, slope = result["empirical"], result["effective"]
    outside = sum(row["places_outside"] for row in rows)
    change = max(row["largest_change_outside"] for row in rows)
    if outside:
        verdict = f"{'' if found['inside'] else 'NOT '}inside the theoretical one: the largest change by an occluder"
        verdict += f" in {outside} places outside of it is {change:.2g}"
    else:
        verdict = "the theoretical one is all of the image, so that nothing lies outside"
    print(
        f"empirical field of unit {result['unit']}: {_by(found['size'])}, side {found['side']}"
        f" (mean drop above {found['level']:.0%} of the largest); {verdict}"
    )
    print(f"effective field: {_by(slope['size'])}, side {slope['side']} (gradient above {slope['level']:.2%})")


def _by(size: Any) -> str:
    if size is None:
        return "none"
    if None in size:
        return "the whole image" if size[0] is size[1] else f"{size[0] or 'all'} x {size[1] or 'all'} pixels"
    return f"{size[0]} x {size[1]} pixels"


def _stride(field: LayerField) -> str:
    rows, columns = field.stride
    return f"stride {rows}" if rows == columns else f"stride {rows} x {columns}"


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1)
    path.write_text(re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n")  # lists on a line
