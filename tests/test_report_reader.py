"""The report as a reader meets it, item level and pairs included: each interaction works, an accessibility checker
finds nothing, and hostile output of a model does no harm.
"""

import shutil

import pytest

import browser
import item_level
import synthetic
from axe import violations
from colocate import figures
from colocate.report import charts

pytestmark = browser.needs_chromium
CHARTS = len(charts.CHARTS.keys() & figures.FIGURES.keys())
SIZE_LIMIT = 6_000_000  # bytes of the page of a study such as the default one


@pytest.fixture(scope="module")
def page(whole_page):
    return whole_page


@pytest.fixture(scope="module")
def hostile(whole_study, tmp_path_factory):
    """The same study, whose model and data set wrote the worst that is known."""
    study = shutil.copytree(whole_study, tmp_path_factory.mktemp("hostile") / "results" / whole_study.name)
    item_level.write_items(study / synthetic.MODEL, item_level.HOSTILE)
    return item_level.write_page(study, "hostile")


def quiet(driver) -> None:
    assert driver.get_log("browser") == []
    assert browser.requests(driver) == []
    needed, there = driver.execute_script("const d = document.documentElement; return [d.scrollWidth, d.clientWidth]")
    assert needed <= there, "the page is wider than the screen"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", browser.WIDTHS)
def test_everything_opened_fits_and_is_accessible(chromium, page, axe, width, scheme, tmp_path):
    browser.visit(chromium, page, browser.WIDTHS[width], scheme=scheme)
    browser.open_everything(chromium)
    assert len(chromium.find_elements("css selector", ".chart svg")) == CHARTS
    quiet(chromium)
    browser.screenshot(chromium, tmp_path / f"{width}-{scheme}.png")
    assert violations(chromium, axe) == []


def test_the_checker_finds_what_is_wrong(chromium, axe, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<html><body><img src='data:,'><p style='color:#bbb;background:#fff'>faint</p></body></html>")
    browser.visit(chromium, bad)
    found = " ".join(violations(chromium, axe))
    for rule in ("image-alt", "color-contrast", "html-has-lang", "document-title"):
        assert rule in found


def test_pairs_are_searched_by_all_words(chromium, page):
    browser.visit(chromium, page)
    browser.open_everything(chromium)
    shown = "return [...document.querySelectorAll('details.pairs tbody tr')].map(row => row.textContent)"
    everything = chromium.execute_script(shown)
    assert len(everything) > 100
    box = chromium.find_element("css selector", "details.pairs input[type=search]")
    box.send_keys("chemical GOLD")
    assert 1 <= len(chromium.execute_script(shown)) < 10
    assert all("gold" in row.lower() and "chemical" in row.lower() for row in chromium.execute_script(shown))
    box.clear()
    box.send_keys("nopairhasthisword")
    assert chromium.execute_script(shown) == ["No row fits."]


def choose(driver, **values) -> tuple[int, list]:
    """Number of items that the form says there are, and the rows shown."""
    from selenium.webdriver.support.ui import Select

    form = driver.find_element("css selector", "form.chooser")
    for name, value in values.items():
        Select(form.find_element("name", name)).select_by_value(value)
    said = form.find_element("css selector", ".hits").text
    number = int(said.split()[0]) if said[0].isdigit() else 0
    return number, form.find_elements("css selector", "tbody tr")


def test_any_two_arms_and_a_benchmark_are_chosen(chromium, page):
    browser.visit(chromium, page)
    gap = "".join
    number, rows = choose(chromium, a="mid_block", b="random", benchmark="mini_math")
    assert number >= len(rows) > 0
    heads = chromium.execute_script(
        "return [...document.querySelectorAll('form.chooser thead th')].map(x => x.textContent)"
    )
    assert heads == ["item", "asked", "wanted", "mid block", "random"]
    texts = [gap(row.text.split("\n")) for row in rows]
    assert all("mini math" in text and "of mid_block, seed0" in text and "of random, seed1" in text for text in texts)
    better, _ = choose(chromium, better="a")
    worse, _ = choose(chromium, better="b")
    assert better + worse == number
    same, rows = choose(chromium, b="mid_block")
    assert (same, rows) == (0, [])


def test_more_items_are_shown_on_demand(chromium, page):
    browser.visit(chromium, page)
    number, rows = choose(chromium, a="mid_block", b="random", benchmark="")
    assert number > len(rows) == 20
    more = chromium.find_element("css selector", "form.chooser .more")
    while more.is_displayed():
        chromium.execute_script("arguments[0].click()", more)
    assert len(chromium.find_elements("css selector", "form.chooser tbody tr")) == number
    quiet(chromium)


def test_without_scripts_every_table_is_there_and_no_dead_control_is(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.visit(chromium, page)
        assert len(chromium.find_elements("css selector", "details.pairs tbody tr")) > 100
        assert len(chromium.find_elements("css selector", "details table.items tbody tr")) > 20
        assert not any(box.is_displayed() for box in chromium.find_elements("css selector", ".controls, input"))
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_page_is_bounded_whatever_the_model_wrote(page, hostile):
    assert page.stat().st_size < SIZE_LIMIT
    assert hostile.stat().st_size < SIZE_LIMIT


@pytest.mark.parametrize("width", ["desk", "phone"])
def test_hostile_output_is_harmless(chromium, hostile, axe, width):
    browser.visit(chromium, hostile, browser.WIDTHS[width])
    browser.open_everything(chromium)
    for arm in ("random", "mid_block"):
        choose(chromium, a="base", b=arm)
    quiet(chromium)
    assert chromium.execute_script("return window.harmed") is None
    assert chromium.find_elements("css selector", "iframe") == []
    assert chromium.execute_script("return document.querySelectorAll('script:not([type])').length") == 0
    text = chromium.execute_script("return document.body.textContent")
    assert "<script>window.harmed = 1</script>" in text, "shown as what it is: text"
    assert "\u202e" not in text
    assert "characters left out" in text
    tallest = (
        "return Math.max(...[...document.querySelectorAll('.outside')].map(x => x.getBoundingClientRect().height))"
    )
    assert chromium.execute_script(tallest) < 1600
    wider = (
        """return [...document.querySelectorAll('.outside')].filter(x => x.scrollWidth > x.clientWidth + 1).length"""
    )
    assert chromium.execute_script(wider) == 0
    assert violations(chromium, axe) == []
