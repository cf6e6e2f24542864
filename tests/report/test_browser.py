"""The pages in a real browser: they render, sort, keep within a phone's width, and say nothing on the console."""

import html
import re
import shutil
import subprocess

import pytest

from retable.report.evaluated import evaluate
from retable.report.index import write_site
from retable.report.runs import assign, read_runs

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium found: apt-get install chromium")
LONG = "a_cell_with_a_name_that_is_far_longer_than_a_phone_is_wide_and_has_no_space_in_it"


@pytest.fixture
def index(make_table, make_run, write_run, data, tmp_path, monkeypatch):
    """The index over one table of three cells, one of them long-named, with a failed run."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/dev/null")
    for cell, levels in (("a", [0.4, 0.5, 0.52]), ("b", [0.5, 0.6, 0.7]), ("c", [0.1, 0.3, 0.095])):
        for seed in (0, 1):
            write_run(make_run(cell, levels, seed=seed, device={"kind": "cpu", "name": LONG}), f"runs/{cell}-{seed}")
    write_run(make_run("c", [0.2], seed=2, status="failed", reason=f"{LONG} " * 4), "runs/c-2")
    claims = [{"text": f"{LONG} is best", "kind": "best", "metric": "val", "cell": "b"}]
    table = make_table(*claims, notes=[LONG])
    return write_site([evaluate(table, assign(table, read_runs([tmp_path / "runs"])))], tmp_path / "tables")


def browse(address, tmp_path, *options):
    """(The page as it stands after its scripts, what was said on the console)."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
        *("--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"),
        *("--window-size=1280,900", *options, "--dump-dom", address),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def test_a_page_renders_and_sorts_without_a_word_on_the_console(index, tmp_path):
    page = index.parent / "toy/table/index.html"
    dom, console = browse(f"{page.as_uri()}#sort=figures:2:descending", tmp_path)
    assert console == []
    body = dom[dom.index('id="figures"') : dom.index('id="claims"')]
    assert re.findall(r'<th data-column="(\d+)"[^>]*aria-sort="(\w+)"', body) == [("2", "descending")]
    assert re.findall(r'<th scope="row">(\w+)</th>', body) == ["b", "a", "c"]
    assert "can-sort" in dom


@pytest.mark.parametrize(("cells", "more"), [(15, []), (18, ["and 3 more"])])
def test_the_values_of_every_curve_are_shown_or_counted(make_table, make_run, write_run, tmp_path, cells, more):
    names = [f"m{number:02d}" for number in range(cells)]
    for place, name in enumerate(names):
        write_run(make_run(name, [0.1, (10 + place) / 100]), f"runs/{name}")
    spec = {name: {"match": {"model.name": name}} for name in names}
    metrics = {"val": {"column": "val/accuracy", "scale": 100}}
    table = make_table(cells=spec, baseline="m00", metrics=metrics)
    write_site([evaluate(table, assign(table, read_runs([tmp_path / "runs"])))], tmp_path / "tables")
    page = tmp_path / "tables/toy/table/index.html"
    key = 'for (const svg of document.querySelectorAll("svg[data-frame]"))'
    key += ' svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));'
    page.write_text(page.read_text().replace("</body>", f"<script>{key}</script></body>"))
    dom, console = browse(page.as_uri(), tmp_path)
    assert console == []
    tips = re.findall(r'<div class="tip".*?</strong>(.*?)</div></div>', dom)
    values = [f"{10 + place}  {name}" for place, name in enumerate(names)][::-1]
    assert [*values[:15], *more] in [re.findall(r"<div>(.*?)(?:</div>|$)", tip) for tip in tips]


def test_the_browser_says_errors_on_the_console_where_there_are_some(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><title>bad</title><script>missing()</script>")
    assert any("missing is not defined" in line for line in browse(page.as_uri(), tmp_path)[1])


def test_pages_keep_within_a_phones_width(index, tmp_path):
    pages = [index, index.parent / "toy/table/index.html"]
    frames = "".join(
        f'<iframe style="width: 390px; height: 800px; border: 0" srcdoc="{html.escape(page.read_text())}"></iframe>'
        for page in pages
    )
    measure = """addEventListener("load", () => {
      const widths = [...document.querySelectorAll("iframe")].map((frame) => {
        const root = frame.contentDocument.documentElement;
        return `${root.clientWidth}:${root.scrollWidth}:${frame.contentDocument.querySelectorAll("tr").length}`;
      });
      document.title = widths.join(" ");
    });"""
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(f"<!doctype html><title>-</title><script>{measure}</script>{frames}")
    dom, console = browse(wrapper.as_uri(), tmp_path)
    assert console == []
    title = re.search(r"<title>([^<]*)</title>", dom)[1]
    found = [tuple(map(int, one.split(":"))) for one in title.split()]
    assert len(found) == 2
    for client, scroll, lines in found:
        assert 370 <= client <= 390
        assert scroll <= client
        assert lines > 2
