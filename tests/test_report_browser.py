"""The report in a real browser, opened from disk: nothing fails, nothing is fetched, everything can be seen and
reached.
"""

import base64
import json

import pytest

import browser
import synthetic
from colocate import figures, report
from colocate.results import load_inputs

pytestmark = browser.needs_chromium
SELECT = {"arm": synthetic.ARMS, "benchmark": list(synthetic.BENCHMARKS), "profile": synthetic.PROFILES}
WIDTHS = {name: browser.WIDTHS[name] for name in ("desk", "phone")}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The synthetic report as a file."""
    study = synthetic.make_study(tmp_path_factory.mktemp("browser"))
    inputs = load_inputs(study / synthetic.MODEL, select=SELECT)
    for name in figures.FIGURES:
        figures.save(figures.draw(name, inputs), study / synthetic.MODEL / f"figures/{name}.svg")
    out = study.parents[1] / "reports/synthetic.html"
    benchmarks = {name: {"task": name, "source": "builtin"} for name in synthetic.BENCHMARKS}
    report.write_report(study, {synthetic.MODEL: SELECT}, out, config={"study": "synthetic", "benchmarks": benchmarks})
    return out


@pytest.fixture(params=WIDTHS.values(), ids=WIDTHS.keys())
def opened(request, chromium, page):
    """The browser on the page, as wide as a desk's screen and as a phone's."""
    browser.visit(chromium, page, request.param)
    return chromium


def test_no_console_message_and_no_request_but_the_file(opened, page):
    assert opened.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    requests = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in requests
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def test_the_page_is_no_wider_than_the_screen(opened):
    script = "const d = document.documentElement; return [d.scrollWidth, d.clientWidth]"
    needed, there = opened.execute_script(script)
    assert needed <= there


def test_every_figure_is_visible_and_readable(opened):
    script = """return [...document.querySelectorAll('figure svg')].map(svg => {
        const box = svg.getBoundingClientRect();
        const sizes = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect()).filter(b => b.height > 0);
        return [svg.getAttribute('aria-label'), box.width, box.height, sizes.length]})"""
    shown = opened.execute_script(script)
    assert len(shown) == len(figures.FIGURES)
    for name, width, height, words in shown:
        assert width >= 640, name  # narrower, the smallest text is under 8 pixels; a phone scrolls the figure instead
        assert (height > 100 and words > 10) or 0 < words < 4, name  # or one that says that there is nothing to show


def test_no_two_labels_of_a_figure_overlap_by_much(opened):
    """Text is set by the reader's fonts, whose widths matplotlib could not know."""
    script = """return [...document.querySelectorAll('figure svg')].flatMap(svg => {
        const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim().length > 3)
            .map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
        return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([b, y]) => {
            const w = Math.min(x.right, y.right) - Math.max(x.left, y.left);
            const h = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
            return w > 0 && h > 0 && w * h > 0.25 * Math.min(x.width * x.height, y.width * y.height);
        }).map(([b]) => [a, b]))})"""
    assert opened.execute_script(script) == []


def test_every_link_of_the_contents_leads_to_its_section(opened):
    links = opened.execute_script("return [...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))")
    assert len(links) == len(set(links)) > 18
    for link in links:
        opened.execute_script("document.querySelector(`nav a[href='${arguments[0]}']`).click()", link)
        script = "const t = document.querySelector(':target'); return [t.tagName, t.getBoundingClientRect().top]"
        tag, top = opened.execute_script(script)
        assert tag in ("H2", "H3"), link
        assert -5 <= top < 900


def test_tables_have_headers_and_scroll_on_their_own(opened):
    script = """return [...document.querySelectorAll('table')].map(t => [t.caption.textContent,
        t.querySelectorAll('thead th[scope=col]').length, t.querySelectorAll('tbody th[scope=row]').length,
        t.querySelectorAll('tbody tr').length, 
        getComputedStyle(t.closest('.scroll')).overflowX, t.closest('.scroll').tabIndex])"""
    for caption, columns, row_heads, rows, overflow, tab in opened.execute_script(script):
        assert columns > 1, caption
        assert row_heads == rows > 0, caption
        assert overflow == "auto", caption
        assert tab == 0, caption  # the keyboard can scroll it


def test_headings_descend_without_a_gap_and_details_open(opened):
    levels = opened.execute_script("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    script = """return [...document.querySelectorAll('details')].map(d => {
        d.querySelector('summary').click(); return d.open && d.lastElementChild.getBoundingClientRect().height > 10})"""
    assert all(opened.execute_script(script))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(chromium, page, scheme):
    """Contrast of WCAG 2 (AA): 4.5 for text, in both themes, figures included."""
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    chromium.get(page.as_uri())
    script = """const canvas = document.createElement('canvas').getContext('2d');
        const light = c => { canvas.fillStyle = c; const v = canvas.fillStyle;
            return [1, 3, 5].map(i => parseInt(v.slice(i, i + 2), 16) / 255)
                .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
                .reduce((s, x, i) => s + x * [0.2126, 0.7152, 0.0722][i], 0)};
        const paper = light(getComputedStyle(document.body).backgroundColor);
        const written = [...document.querySelectorAll('p, a, td, th, li, summary, .badge')];
        const inks = new Set(written.map(e => getComputedStyle(e).color));
        const root = getComputedStyle(document.documentElement);
        for (const name of ['--ink', '--muted']) inks.add(root.getPropertyValue(name).trim());
        const ratio = l => (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05);
        return [...inks].map(c => [c, ratio(light(c))])"""
    found = chromium.execute_script(script)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(found) >= 5
    assert [colour for colour, ratio in found if ratio < 4.5] == []


def test_it_prints(chromium, page):
    size = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 less its margins
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    chromium.get(page.as_uri())
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= size["width"]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    pdf = base64.b64decode(chromium.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type/Page") > 5
