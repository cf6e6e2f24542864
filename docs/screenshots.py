"""The pictures in the README and the documentation, made anew:   python docs/screenshots.py [NAME ...]

Needs Chromium, and playwright and pillow (`pip install playwright pillow`). The runs of the pictures are trained on
sample data in a folder of the moment, by the command that the variable RETABLE holds, else by `retable`. Pictures have
64 colours, so that they are small enough to be committed.

    table   the gallery's table B2.1 - B2.3, from results/
    sweep   the page of a sweep without an experiment
    view    `retable view` while that sweep trains
"""

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
GALLERY = ROOT / "results" / "amd-epyc" / "tables" / "gland" / "models" / "index.html"
RETABLE = shlex.split(os.environ.get("RETABLE", "retable"))
SWEEP = "task=mnist data=sample dropout=0.0,0.3 optimizer.lr=0.03,0.1 seeds=2 trainer.max_epochs=6 data.fraction=0.5"
COLOURS = 64


def shoot(page: Page, address: str, path: Path, height: int, width: int = 1000) -> None:
    """A picture of the top of a page."""
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot()))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


@contextlib.contextmanager
def viewed(folder: Path) -> Iterator[str]:
    """The address at which `retable view` shows a folder."""
    command = [*RETABLE, "view", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout or ():
                if found := re.search(r"http://\S+", line):
                    yield found[0]
                    return
            sys.exit("retable view gave no address")
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="table, sweep, view; by default all")
    parser.add_argument("--output", type=Path, default=PICTURES, help="folder of the pictures (default: docs/pictures)")
    options = parser.parse_args()
    names, pictures = options.names or ["table", "sweep", "view"], options.output
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        if "table" in names:
            shoot(page, GALLERY.as_uri(), pictures / "table.png", 1040)
        if {"sweep", "view"} & set(names):
            runs = Path(folder) / "multirun"
            sweep = subprocess.Popen([*RETABLE, "sweep", *SWEEP.split(), f"sweep.dir={runs}"], cwd=folder)
            if "view" in names:
                while sweep.poll() is None and len(list(runs.glob("mnist/*/result.json"))) < 3:
                    time.sleep(1)
                with viewed(runs) as address:
                    shoot(page, address, pictures / "view.png", 420)
            if sweep.wait():
                sys.exit("the sweep failed")
            (swept,) = (runs / "tables").glob("mnist/*/index.html")
            if "sweep" in names:
                shoot(page, swept.as_uri(), pictures / "sweep.png", 1000, 1160)
        browser.close()


if __name__ == "__main__":
    main()
