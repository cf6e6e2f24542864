"""The pages used as a reader does, by Playwright in a real browser: filter, hover, keys, copy, dark mode, print, phone.

Skipped without the packages (`pip install playwright axe-playwright-python`) or a Chromium (apt-get install chromium).
"""

import itertools
import shutil

import pytest

from retable.report.copies import write_table
from retable.report.evaluated import evaluate
from retable.report.index import write_site
from retable.report.runs import assign, read_runs
from retable.report.sweep_page import note_sweep, write_sweep_page

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def pages(make_table, make_run, write_run, tmp_path):
    """A table's page of three cells and four seeds, a sweep's page, and the index over both."""
    for (cell, level), seed in itertools.product({"a": 0.5, "b": 0.6, "c": 0.4}.items(), range(4)):
        write_run(make_run(cell, [level - 0.1, level, level + seed / 100], seed=seed), f"runs/{cell}-{seed}")
    table = make_table({"text": "b is best", "kind": "best", "metric": "val", "cell": "b"})
    found = evaluate(table, assign(table, read_runs([tmp_path / "runs"])))
    swept = []
    for point in itertools.product((1, 2), (1, 2, 3), "xy"):
        settings = dict(zip(("depth", "width", "kind"), point, strict=True))
        value = 0.1 * settings["depth"] + 0.05 * settings["width"]
        path = write_run(make_run("a", [0.1, value, 2 * value]), "swept/" + "-".join(map(str, point)))
        swept.append((path, settings))
    folder = tmp_path / "tables"
    note_sweep(folder / "toy/sweep", "toy/sweep", "retable sweep depth=1,2", swept)
    write_sweep_page(folder / "toy/sweep", "../../index.html")
    write_table(found, folder / found.table.name)
    index = write_site([found], folder)
    return {"table": folder / "toy/table/index.html", "sweep": folder / "toy/sweep/index.html", "index": index}


@pytest.fixture
def visit(browser, pages):
    """Opens a page; at the end nothing may have been said on its console."""
    messages, opened = [], []

    def go(name, width=1400, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(pages[name].as_uri())
        opened.append(page)
        return page

    yield go
    for page in opened:
        page.close()
    assert messages == []


def test_rows_are_filtered_and_columns_hidden(visit):
    page = visit("table")
    runs = page.locator("#runs tbody tr")
    page.get_by_label("filter the rows of runs").fill("model-b seed-3")
    assert [row.is_visible() for row in runs.all()].count(True) == 1
    assert page.locator("#all-runs .count").text_content() == "1 of 12"
    page.get_by_label("filter the rows of runs").fill("")
    assert [row.is_visible() for row in runs.all()].count(True) == 12
    page.locator("#all-runs .columns summary").click()
    page.locator("#all-runs .columns").get_by_label("seed", exact=True).uncheck()
    assert not page.locator("#runs thead th", has_text="seed").is_visible()
    assert not runs.first.locator("td").nth(1).is_visible()
    assert runs.first.locator("td").nth(0).is_visible()


def test_values_are_shown_under_the_pointer_and_by_the_arrow_keys(visit):
    page = visit("table")
    chart = page.locator("figure.chart").first.locator("svg[data-frame]").nth(1)  # validation accuracy
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator(".tip:visible")
    assert tip.locator("div").all_text_contents() == ["60  b", "50  a", "40  c"]
    assert tip.locator("strong").text_content() == "epoch 2"
    page.mouse.move(1, 1)
    assert page.locator(".tip:visible").count() == 0
    chart.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".tip:visible strong").text_content() == "epoch 3"
    assert page.locator(".tip:visible div").first.text_content() == "61.5  b"
    page.keyboard.press("ArrowLeft")
    assert page.locator(".tip:visible strong").text_content() == "epoch 2"
    page.keyboard.press("Escape")
    assert page.locator(".tip:visible").count() == 0


def test_a_sweeps_own_drawings_have_values_too(visit):
    page = visit("sweep")
    chart = page.locator("figure.chart svg[data-frame]").first
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip:visible strong").text_content() == "epoch 1"
    assert page.locator(".plot-parallel").count() == 12


def test_legends_pick_lines_out_by_keyboard(visit):
    page = visit("table")
    key = page.locator("figure.chart").first.locator(".key").nth(1)
    key.focus()
    page.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "true"
    assert page.locator("figure.chart").first.locator(".line.picked").count() >= 2
    page.keyboard.press("Enter")
    assert page.locator("figure.chart").first.locator(".line.picked").count() == 0


def test_columns_sort_by_keyboard(visit):
    page = visit("table")
    page.locator("#figures th[data-column='2']").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("#figures tbody th").all_text_contents() == ["b", "a", "c"]


def test_the_table_is_copied_as_latex_and_linked_in_other_formats(visit, pages):
    page = visit("table")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="copy as LaTeX").click()
    page.get_by_role("button", name="copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == (pages["table"].parent / "report.tex").read_text().strip()
    hrefs = [link.get_attribute("href") for link in page.locator(".copies a").all()]
    assert hrefs == ["report.md", "report.csv", "report.tex"]
    assert all((pages["table"].parent / href).exists() for href in hrefs)


def test_the_index_is_searched(visit):
    page = visit("index")
    page.locator("#search").fill("toy/sweep depth")
    assert page.locator("#found").text_content() == "1 found"
    assert page.locator("#sweeps").is_visible()
    assert not page.locator("#claims").is_visible()
    page.locator("#search").fill("b is best")
    assert page.locator("#claims").is_visible()
    assert not page.locator("#sweeps").is_visible()


@pytest.mark.parametrize("name", ["table", "sweep", "index"])
def test_nothing_is_cut_at_any_width_nor_in_print(visit, name):
    for width in (390, 1400):
        page = visit(name, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # No table has to be scrolled; on a phone parallel coordinates do, so that their words can be read.
        too_wide = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
        wide = page.evaluate(f"{too_wide}.map((e) => e.firstElementChild.id || e.firstElementChild.className)")
        drawing = ["wide"] if (name, width) == ("sweep", 390) else []
        assert wide == drawing
        # What is wider than the page can be scrolled to, also by keyboard.
        assert (
            page.evaluate(
                "[...document.querySelectorAll('main *')].filter((e) => e.scrollWidth > e.clientWidth + 1 &&"
                " getComputedStyle(e).overflowX === 'auto' && e.tabIndex < 0).length"
            )
            == 0
        )
    page.emulate_media(media="print")
    assert page.locator(".tools:visible, .copies:visible, nav:visible").count() == 0


def test_on_a_phone_each_run_is_a_list_of_its_values(visit):
    page = visit("table", 390)
    run = page.locator("#runs tbody tr").nth(5)  # cell b, seed 1
    heads = run.locator("td").evaluate_all("cells => cells.map((cell) => [cell.dataset.head, cell.innerText.trim()])")
    assert heads[:3] == [["cell", "b"], ["seed", "1"], ["status", "finished"]]
    assert ["val", "61.00"] in heads
    lefts = run.locator("td").evaluate_all("cells => cells.map((cell) => cell.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1  # below each other
    # It is still sorted, filtered and relieved of columns.
    page.locator("#runs thead").get_by_text("seed", exact=True).click()
    assert page.locator("#runs tbody td:nth-child(3)").all_text_contents() == [*"000111222333"]
    page.locator("#all-runs .columns summary").click()
    page.locator("#all-runs .columns").get_by_label("seed", exact=True).uncheck()
    assert not page.locator("#runs tbody td:nth-child(3)").first.is_visible()
    page.set_viewport_size({"width": 1400, "height": 900})
    assert page.locator("#runs.listed").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["table", "sweep", "index"])
def test_axe_finds_nothing_serious(visit, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    found = axe.Axe().run(visit(name, color_scheme=scheme)).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_dark_mode_has_light_text_on_dark(visit):
    colour = "getComputedStyle(document.body).backgroundColor"
    assert visit("table", color_scheme="light").evaluate(colour) == "rgb(255, 255, 255)"
    assert visit("table", color_scheme="dark").evaluate(colour) == "rgb(22, 24, 28)"
