"""The report on paper: everything that is told on screen, nothing that only a screen can do, within the margins."""

import base64
import re

import pytest

import browser
from colocate import figures

pytestmark = browser.needs_chromium
FOLDED = "details:not([open], .explore, .pairs, .differing) :is(table, pre, dl)"
SEEN = "x.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true})"
CONTROLS = "nav, .skip, input, select, button, form, .explore, .chart, .choice, .files, .dt-search, .dt-column-order"
PAPER = {"paperWidth": 8.27, "paperHeight": 11.69}  # A4, in inches


def all_seen(driver, selector: str) -> list[bool]:
    return driver.execute_script(f"return [...document.querySelectorAll(arguments[0])].map(x => {SEEN})", selector)


def test_the_pdf_has_every_section_and_topic(chromium, whole_page):
    """By the outline that Chromium writes into the file: headings of what it printed."""
    browser.visit(chromium, whole_page)
    on_screen = chromium.execute_script("return [...document.querySelectorAll('h2, h3')].map(x => x.textContent)")
    settings = PAPER | {"printBackground": False, "generateDocumentOutline": True}
    pdf = base64.b64decode(chromium.execute_cdp_cmd("Page.printToPDF", settings)["data"])
    assert pdf.startswith(b"%PDF")
    titles = re.findall(rb"/Title \(((?:\\.|[^\\)])*)\)", pdf)
    titles = [re.sub(rb"\\(.)", rb"\1", title).decode("latin-1") for title in titles]
    # The form for any two arms is of the screen alone.
    assert set(on_screen) - {"Any two arms"} <= set(titles)
    assert "Any two arms" not in titles
    assert 5 < len(re.findall(rb"/Type /Page\b", pdf)) < 60


def test_tables_folded_on_screen_stand_open_on_paper(chromium, whole_page):
    browser.visit(chromium, whole_page, browser.A4)
    on_screen = all_seen(chromium, FOLDED)
    browser.visit(chromium, whole_page, browser.A4, media="print")
    on_paper = all_seen(chromium, FOLDED)
    assert len(on_screen) == len(on_paper) > 8
    assert not any(on_screen)
    assert all(on_paper)


def test_items_and_pairs_print_in_full_where_they_were_opened(chromium, whole_page):
    browser.visit(chromium, whole_page, browser.A4, media="print")
    chromium.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= browser.A4
    clipped = "return [...document.querySelectorAll('.tall')].filter(x => x.scrollHeight > x.clientHeight + 1).length"
    assert chromium.execute_script(clipped) == 0


@pytest.fixture(scope="module")
def printed(chromium, whole_page):
    """The page on paper's medium, as wide as A4, after a reader in the dark scheme has drawn every chart."""
    browser.visit(chromium, whole_page, scheme="dark")
    browser.open_everything(chromium)
    chromium.execute_script("document.querySelectorAll('details:not(.explore)').forEach(d => d.open = false)")
    browser.resize(chromium, browser.A4)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    return chromium


def test_nothing_is_printed_that_only_a_screen_can_do(printed):
    assert len(all_seen(printed, CONTROLS)) > 100
    assert not any(all_seen(printed, CONTROLS))


def test_figures_are_printed_and_charts_are_not(printed):
    assert all_seen(printed, "figure > .scroll > svg") == [True] * len(figures.FIGURES)
    assert all_seen(printed, ".chart svg") == [False] * 7
    assert all(all_seen(printed, "figcaption"))


def test_nothing_is_cut_off_at_the_margin(printed):
    """Neither a thing beyond the paper, nor one that its own box hides a part of."""
    script = f"""const seen = [...document.querySelectorAll('main *')].filter(x => !x.closest('svg > *') && {SEEN});
        const name = x => `${{x.tagName}}.${{x.className}}: ${{x.textContent.trim().slice(0, 60)}}`;
        const out = seen.filter(x => x.getBoundingClientRect().right > innerWidth + 1);
        const hides = x => getComputedStyle(x).overflowX !== "visible" && x.scrollWidth > x.clientWidth + 1;
        const wide = seen.filter(x => x.matches('td, th') && x.scrollWidth > x.clientWidth + 1);
        return [seen.length, [...out, ...seen.filter(hides), ...wide].map(name)]"""
    number, found = printed.execute_script(script)
    assert number > 1000
    assert found == []
    assert printed.execute_script("return document.documentElement.scrollWidth") <= browser.A4


def test_it_is_dark_on_white_whatever_the_screen_was(printed):
    script = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    assert printed.execute_script(script) == ["rgb(255, 255, 255)", "rgb(31, 35, 40)"]
    script = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    red, green, blue = map(int, re.findall(r"\d+", printed.execute_script(script))[:3])
    assert max(red, green, blue) < 130


def test_what_stays_folded_says_so(printed):
    """Pairs and items are too long for paper: their place is there, with how many there are and where."""
    assert not any(all_seen(printed, "details:is(.pairs, .differing) table"))
    summaries = printed.find_elements("css selector", "details:is(.pairs, .differing) summary")
    assert len(summaries) > 1
    assert all(summary.is_displayed() for summary in summaries)
    text = printed.find_element("css selector", "main").text
    assert re.search(r"\d+ of \d+ items", text)
    assert "evaluations/*/*/*.items.parquet" in text
