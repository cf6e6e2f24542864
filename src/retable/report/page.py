"""What all HTML pages share: templates with style and script, and the signs of verdicts."""

import functools
from pathlib import Path

import jinja2
from markupsafe import Markup

from retable.report.verdicts import FAILS, HOLDS, NOT_COMPARABLE, NOT_EVALUATED, UNDECIDED
from retable.run.files import UNFINISHED

# Sign and style of a verdict: distinct without colour, too.
SIGNS = {
    HOLDS: ("✓", "holds"),
    FAILS: ("✗", "fails"),
    UNDECIDED: ("?", "open"),
    NOT_EVALUATED: ("–", "none"),
    NOT_COMPARABLE: ("≠", "none"),
}


@functools.cache
def environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("retable.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {"signs": SIGNS, "style": asset("style.css"), "script": asset("page.js")}
    return found


def asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def status_text(status: str) -> str:
    return "running or interrupted" if status == UNFINISHED else status
