"""What a reader does to the report's charts, with a mouse and with the keyboard, and what is then seen.

A mark that Vega drew holds its row of the chart's own data, whose agreement with the files is tested elsewhere
(`test_report_sections`); here what is seen is held against that data.
"""

import json

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import browser
from colocate import figures
from colocate.report import charts

pytestmark = browser.needs_chromium
CHARTS = sorted(charts.CHARTS.keys() & figures.FIGURES.keys())
# Which column of its data the menu of a chart chooses among.
CHOSEN_BY = {
    "profiles": "profile",
    "correlation": "kind",
    "arms": "outcome",
    "training": "split",
    "changes": "metric",
    "alphas": "arm",
}
# What a tooltip must say of a mark: the title of a value, and its column.
TOLD = {
    "profiles": {"layer": "layer", "value": "value", "from": "ci_low", "to": "ci_high"},
    "correlation": {"layer": "layer", "sensitivity": "sensitivity"},
    "specification_curve": {"rank correlation": "r_s", "given depth": "partial_r_s"},
    "arms": {"difference": "difference", "from": "ci_low", "to": "ci_high"},
    "training": {"tokens": "tokens", "loss (nat per token)": "loss"},
    "changes": {"layer": "layer", "value": "value"},
    "alphas": {"layer": "layer", "KV head": "kv_head", "α": "alpha"},
}
DOTS = "[...arguments[0].querySelectorAll('.chart .role-mark.mark-symbol path')]"


@pytest.fixture(scope="module")
def opened(chromium, whole_page):
    """The browser on the page, everything opened. Tests leave charts as they found them."""
    browser.visit(chromium, whole_page)
    browser.open_everything(chromium)
    return chromium


def figure(driver, name: str):
    return driver.find_element("css selector", f"[id$='-figure-{name}']")


def rows(driver, place, shown_only: bool = False) -> list[dict]:
    """The data of a chart, or of the dots that it shows."""
    if shown_only:
        return driver.execute_script(f"return {DOTS}.map(dot => dot.__data__.datum)", place)
    spec = json.loads(place.find_element("css selector", "script").get_attribute("textContent"), parse_float=plain)
    tables = [*spec.get("datasets", {}).values()]
    tables += [part["data"]["values"] for part in (spec, *spec.get("layer", ())) if "values" in part.get("data", {})]
    return max(tables, key=len)


def plain(written: str) -> float | int:
    """A number as a browser hands it on: 2.0 is 2."""
    value = float(written)
    return int(value) if value.is_integer() else value


def settled(driver, script: str, *arguments):
    """A value after Vega's next frame, which follows an input."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))")
    return driver.execute_script(f"return {script}", *arguments)


def keys(table: list[dict]) -> list[str]:
    """Rows that can be compared whatever their order, without what the chart works out itself."""
    return sorted(str(sorted((k, v) for k, v in row.items() if k not in ("choice", "floor"))) for row in table)


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_every_chart_is_drawn_inside_its_place(chromium, whole_page, width):
    browser.visit(chromium, whole_page, browser.WIDTHS[width])
    assert not chromium.find_elements("css selector", ".chart svg"), "charts are drawn where they are opened"
    browser.open_everything(chromium)
    for name in CHARTS:
        place = figure(chromium, name)
        chart = place.find_element("css selector", ".chart")
        assert chart.get_attribute("aria-label") == figures.FIGURES[name].title
        marks = chromium.execute_script(f"return {DOTS}.filter(dot => dot.getBBox().width > 2).length", place)
        assert marks >= 6, name
        script = """const room = arguments[0].getBoundingClientRect();
            return [...arguments[0].querySelectorAll('text')].filter(t => t.textContent).map(t => [t.textContent,
                t.getBoundingClientRect()]).filter(([, b]) => b.left < room.left - 1 || b.right > room.right + 1)
                .map(([text]) => text)"""
        assert chromium.execute_script(script, chart) == [], f"{name}: cut off"
        # Every colour is one of the page's own, which follow the reader's scheme, or of the scale by depth.
        script = """return [...arguments[0].querySelectorAll('path')].flatMap(x => ['fill', 'stroke'].map(
            name => x.getAttribute(name))).filter(x => x && !/^var\\(--|none|transparent|url|^rgb/.test(x))"""
        assert chromium.execute_script(script, chart) == [], f"{name}: a colour of its own"


def test_a_chart_follows_the_width_of_the_window(chromium, whole_page):
    browser.visit(chromium, whole_page, browser.WIDTHS["wide"])
    place = figure(chromium, "profiles")
    place.find_element("css selector", "summary").click()
    drawn = "return document.querySelector('[id$=figure-profiles] .chart svg')?.getBoundingClientRect().width"
    wide = browser.wait_for(chromium, drawn)
    browser.resize(chromium, browser.WIDTHS["phone"])
    assert wide > 900
    browser.wait_for(chromium, f"{drawn} < {browser.WIDTHS['phone']}")


def test_folds_open_with_the_keyboard(chromium, whole_page):
    browser.visit(chromium, whole_page)
    summary = figure(chromium, "alphas").find_element("css selector", "summary")
    chromium.execute_script("arguments[0].focus()", summary)
    for key, shown in ((Keys.ENTER, True), (Keys.SPACE, False)):
        ActionChains(chromium).send_keys(key).perform()
        assert summary.find_element("xpath", "..").get_attribute("open") == ("true" if shown else None)


@pytest.mark.parametrize("name", TOLD)
def test_values_are_told_where_the_pointer_is(opened, name):
    place = figure(opened, name)
    dots = place.find_elements("css selector", ".chart .role-mark.mark-symbol path")
    for dot in (dots[1], dots[-2]):
        opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", dot)
        ActionChains(opened).move_to_element(dot).perform()
        browser.wait_for(opened, "return document.querySelector('#vg-tooltip-element.visible') !== null")
        script = """const box = arguments[0].getBoundingClientRect();
            const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return [at.__data__.datum, [...document.querySelectorAll('#vg-tooltip-element tr')]
                .map(row => [...row.cells].map(cell => cell.textContent))]"""
        datum, cells = opened.execute_script(script, dot)
        said = {title.rstrip(":"): value.replace(",", "").replace("−", "-") for title, value in cells}
        for title, column in TOLD[name].items():
            assert float(said[title]) == pytest.approx(datum[column], rel=2e-3), (name, title)
    ActionChains(opened).move_to_element(opened.find_element("css selector", "h1")).perform()
    browser.wait_for(opened, "return document.querySelector('#vg-tooltip-element.visible') === null")


@pytest.mark.parametrize("name", CHOSEN_BY)
def test_the_menu_of_a_chart_chooses_its_rows(opened, name):
    place, column = figure(opened, name), CHOSEN_BY[name]
    menu = Select(place.find_element("css selector", ".choice select"))
    options = [option.text for option in menu.options]
    whole = rows(opened, place)
    assert options == list(dict.fromkeys(row[column] for row in whole))
    assert len(options) > 1
    for option in [*options[1:], options[0]]:
        menu.select_by_visible_text(option)
        settled(opened, "true")
        assert keys(rows(opened, place, shown_only=True)) == keys([row for row in whole if row[column] == option])


def test_the_curve_is_coloured_by_the_choice_that_is_chosen(opened):
    place = figure(opened, "specification_curve")
    menu = Select(place.find_element("css selector", ".choice select"))
    options = [option.get_attribute("value") for option in menu.options]
    assert len(options) > 1
    for option in [*options[1:], options[0]]:
        menu.select_by_value(option)
        script = f"{DOTS}.map(dot => [dot.__data__.datum[arguments[1]], dot.getAttribute('fill')])"
        found = settled(opened, script, place, option)
        ways = {way for way, _ in found}
        assert len(ways) > 1
        assert len({colour for _, colour in found}) == len({tuple(pair) for pair in found}) == len(ways)
        legend = [entry.text for entry in place.find_elements("css selector", ".chart .role-legend-label text")]
        assert set(legend) == ways


def bright(driver, place) -> set[str]:
    """Arms whose lines and dots are not dimmed."""
    marks = "[...arguments[0].querySelectorAll('.chart .role-mark:is(.mark-symbol, .mark-line) path')]"
    datum = "(mark.__data__.datum ?? mark.__data__.items[0].datum)"
    script = f"{marks}.map(mark => [{datum}.arm, +(mark.getAttribute('opacity') ?? 1)])"
    found = settled(driver, script, place)
    seen = {arm for arm, opacity in found if opacity == 1}
    assert seen.isdisjoint(arm for arm, opacity in found if opacity < 1), "dots and lines agree"
    return seen


def press(driver, place, arm: str) -> None:
    """A click on the name of an arm in the legend."""
    names = place.find_elements("css selector", ".chart .role-legend-label text")
    entry = next(name for name in names if name.text == arm)
    ActionChains(driver).scroll_to_element(entry).move_to_element(entry).click().perform()


@pytest.mark.parametrize("name", ["training", "changes"])
def test_arms_are_chosen_in_the_legend_and_taken_back(opened, name):
    place = figure(opened, name)
    every = {row["arm"] for row in rows(opened, place)}
    assert bright(opened, place) == every
    press(opened, place, "random")
    assert bright(opened, place) == {"random"}
    press(opened, place, "mid block")
    assert bright(opened, place) == {"random", "mid block"}
    press(opened, place, "random")
    assert bright(opened, place) == {"mid block"}
    press(opened, place, "mid block")
    assert bright(opened, place) == every


def test_an_arm_is_chosen_with_the_keyboard_alone(opened):
    place = figure(opened, "changes")
    every = bright(opened, place)
    first, second = place.find_elements("css selector", ".choice select")
    opened.execute_script("arguments[0].focus()", first)
    ActionChains(opened).send_keys(Keys.TAB).perform()
    assert opened.switch_to.active_element == second
    second.send_keys("stan")
    assert bright(opened, place) == {"standard lora"}
    second.send_keys(Keys.HOME)
    assert bright(opened, place) == every


def test_nothing_that_was_done_left_a_message(opened):
    assert opened.get_log("browser") == []
    assert browser.requests(opened) == []
