"""The HTML page of a receptive field study (report D2), from the receptive.json and the figures in its folder."""

from pathlib import Path
from typing import Any

from retable import atomic
from retable.errors import first_line
from retable.report.page import environment
from retable.report.pictures import SUFFIXES, link, relative
from retable.report.verdicts import FAILS, HOLDS, NOT_EVALUATED

SUMMARY = "receptive.json"
_METHODS = (
    ("theoretical", "computed from the layers: the pixels that can change the unit at all"),
    ("empirical", "where a small random occluder lowers the unit's activation, averaged over the images"),
    ("effective", "where the unit's gradient by the pixels is large, averaged over the images"),
)
_FIGURES = (
    ("top", "The images that activate the unit most, with the field outlined", "top"),
    ("average", "The averaged maps", "average"),
    ("maps", "Discrepancy map of each image", "discrepancy"),
    ("segments", "Segments removed until the class flips", "segments"),
)


def write_receptive_page(folder: Path) -> Path:
    """Write index.html beside the receptive.json in a folder.

    The page links to the index of all tables if the folder lies in the sweeps' folder, below `receptive`.
    """
    study = atomic.read_json(folder / SUMMARY)
    assert study is not None, folder
    home = folder.absolute().parent
    page = (
        environment()
        .get_template("receptive.html")
        .render(
            study=study,
            name=f"receptive/{folder.absolute().name}",
            index="../../tables/index.html" if home.name == "receptive" else "",
            title=title(study),
            lines=[_line(name, study[name], method) for name, method in _METHODS],
            inside=inside(study),
            remarks=_remarks(study),
            figures=[
                (name, text, _picture(folder, stem))
                for name, text, stem in _FIGURES
                if name != "segments" or "segments" in study
            ],
            settings=_settings(study),
            size_text=size_text,
        )
    )
    atomic.write_text(folder / "index.html", page)
    return folder / "index.html"


def _picture(folder: Path, stem: str) -> str:
    """The name of a figure's file: a study draws PNG, an exported one has WebP."""
    return next((name for suffix in SUFFIXES if (folder / (name := f"{stem}{suffix}")).exists()), f"{stem}.png")


def index_lines(studies: Path, folder: Path) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """What the index of all tables says of the studies in the folders of a folder.

    Args:
        studies: the folder.
        folder: where the index will stand.

    Returns:
        A line a study, and (path, reason) of those that can't be read.
    """
    found, broken = [], []
    for path in sorted(studies.glob(f"*/{SUMMARY}")):
        study = atomic.read_json(path)
        try:
            if study is None:
                raise ValueError("no whole JSON file")
            line = {
                "href": link(path.with_name("index.html"), folder),
                "title": title(study),
                "weights": study["weights"],
                "images": len(study["top"]),
                "sizes": [size_text(study[name]["size"]) for name, _ in _METHODS],
                "inside": inside(study),
            }
        except (KeyError, TypeError, ValueError) as error:
            broken.append((relative(path, folder), f"{type(error).__name__}: {first_line(error)}"))
        else:
            found.append(line)
    return found, broken


def title(study: dict[str, Any]) -> str:
    """E.g. `resnet18 layer4, unit 10`."""
    return f"{study['network']} {study['layer']}, unit {study['unit']}"


def size_text(size: list[int | None] | tuple[int | None, int | None] | None) -> str:
    """Rows and columns of a field for people.

    >>> size_text([435, 435]), size_text([None, 7]), size_text([None, None]), size_text(None)
    ('435 x 435 pixels', 'all x 7 pixels', 'the whole image', 'none')
    """
    if size is None:
        return "none"
    if size[0] is None and size[1] is None:
        return "the whole image"
    return f"{size[0] or 'all'} x {size[1] or 'all'} pixels"


def inside(study: dict[str, Any]) -> str:
    """The verdict on whether occluders outside of the theoretical field change nothing."""
    return {True: HOLDS, False: FAILS, None: NOT_EVALUATED}[study["empirical"]["inside"]]


def _remarks(study: dict[str, Any]) -> list[str]:
    images, rows = study["images"], study["top"]
    remarks = []
    if study["empirical"]["inside"] is None:
        remarks.append("The theoretical field covers every image, so that nothing outside of it could be tested.")
    elif not study["empirical"]["inside"]:
        change = max(row["largest_change_outside"] for row in rows)
        remarks.append(f"An occluder outside of the theoretical field changes the activation, by up to {change:.2g}.")
    height, width = images["shape"][1:]
    cut = sum(_is_cut(row, study["theoretical"]["size"], height, width) for row in rows)
    if cut and study["empirical"]["inside"] is not None:
        remarks.append(
            f"In {cut} of {len(rows)} images the border cuts the field at the place of the largest activation, so that"
            " the measured fields are cut, too; --uncut with a larger --size leaves such places out."
        )
    if study["empirical"]["size"] is None:
        remarks.append("On average no occluder lowers the activation, so that there is no empirical field.")
    if len(rows) < images["top"]:
        remarks.append(f"Only {len(rows)} images to study, in place of {images['top']}.")
    if images["flat"]:
        which = "1 image, which is" if images["flat"] == 1 else f"{images['flat']} images, which are"
        remarks.append(f"The unit answers the same everywhere on {which} left out.")
    if images["unreadable"]:
        count = len(images["unreadable"])
        remarks.append(
            f"{count} {'file' if count == 1 else 'files'} could not be read: {', '.join(images['unreadable'])}."
        )
    return remarks


def _line(name: str, field: dict[str, Any], method: str) -> dict[str, str]:
    """A field's line in the table of fields."""
    size, side = field["size"], field.get("side")
    if name == "theoretical" and None not in size:
        side = round((size[0] * size[1]) ** 0.5, 1)
    stride, centre = field.get("stride", [None]), field.get("centre", [None])
    return {
        "name": name,
        "size": size_text(size),
        "side": "–" if side is None else f"{side:g}",
        "stride": "–" if None in stride else " x ".join(map(str, dict.fromkeys(stride))),
        "centre": "–" if None in centre else ", ".join(map(str, centre)),
        "method": method,
    }


def _is_cut(row: dict[str, Any], size: list[int | None], height: int, width: int) -> bool:
    spans = row["theoretical"]
    seen = (spans["rows"][1] - spans["rows"][0] + 1, spans["columns"][1] - spans["columns"][0] + 1)
    return any(part < whole for part, whole in zip(seen, (size[0] or height, size[1] or width), strict=True))


def _settings(study: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(setting, value, where it comes from)."""
    images, occluder, device = study["images"], study["occluder"], study["device"]
    channels, height, width = images["shape"]
    digest = f" (sha256 {study['sha256']})" if study["sha256"] else ""
    found = [
        ("network", study["network"], ""),
        ("weights", f"{study['weights']}{digest}", ""),
        (
            "layer",
            study["layer"],
            "Report D2 asks for “conv layer 4” of ResNet-18. Assumed: torchvision's layer4; conv4_x of the ResNet paper"
            " is layer3.",
        ),
        ("unit", str(study["unit"]), "Report D2 asks for unit 10. Assumed: units are counted from 0."),
        (
            "images studied",
            f"{len(study['top'])} of {images['read']}",
            f"The {images['top']} that activate the unit most"
            + (", at a place whose theoretical field lies within the image" if images["uncut"] else "")
            + ". Assumed: the number, and the set of images.",
        ),
        (
            "image",
            f"{height} x {width}, {'grey' if channels == 1 else 'RGB'}",
            "Scaled until it covers this size, and cropped at its centre.",
        ),
        (
            "occluder",
            f"{occluder['side']} x {occluder['side']} random pixels, seed {occluder['seed']}",
            "Zhou et al. 2015 (arXiv 1412.6856) use 11 x 11.",
        ),
        ("stride of the occluder", f"{occluder['stride']} pixels", "Assumed; Zhou et al. use 3."),
        (
            "empirical field",
            f"mean drop above {study['empirical']['level']:.0%} of its largest",
            "Assumed; the papers give no number.",
        ),
        (
            "effective field",
            f"mean gradient above {study['effective']['level']:.2%} of its largest",
            "Luo et al. 2016 (arXiv 1701.04128), section 3.",
        ),
    ]
    if "segments" in study:
        ways = ", ".join(sorted({row["way"] for row in study["segments"]}))
        found.append(("segments", ways, "Assumed, as is the paint of a removed segment: the image's mean colour."))
    git = study["git"]
    commit = f"commit {str(git['commit'])[:10]}{' with changes' if git['dirty'] else ''}; " if git["commit"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in study["versions"].items())
    return [*found, ("computed on", f"{device['name']} ({device['kind']})", f"{commit}{versions}.")]
