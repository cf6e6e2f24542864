"""What MkDocs calls while it builds the site."""

import shutil
from pathlib import Path


def on_post_build(config: dict) -> None:
    """The gallery as it stands, below the page that lists it: pages of HTML with the runs' files that they link to."""
    shutil.copytree(Path(__file__).parents[1] / "results", Path(config["site_dir"]) / "gallery", dirs_exist_ok=True)
