"""What a reader does to the report's tables, with a mouse and with the keyboard, and what is then seen."""

import re
import unicodedata

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import browser

pytestmark = browser.needs_chromium
UNITS = {"s": 1, "min": 60, "h": 3600, "kJ": 1e3, "MJ": 1e6, "GFLOP": 1e9, "TFLOP": 1e12, "PFLOP": 1e15, "M": 1e6}


@pytest.fixture(scope="module")
def opened(chromium, whole_page):
    """The browser on the page, everything opened. Tests leave tables as they found them."""
    browser.visit(chromium, whole_page)
    browser.open_everything(chromium)
    return chromium


def number(cell: str) -> float:
    """The first number of a cell as a reader takes it, in seconds, joules and so on; nothing is less than anything."""
    found = re.search(r"([−-]?)([\d,]*\.?\d+)(?:\s×\s10\^?([−-]?\d+))?\s*([A-Za-z]*)", cell.replace("\u2060", ""))
    if not found:
        return float("-inf")
    sign, digits, power, unit = found.groups()
    power = int((power or "0").replace("−", "-"))
    return (-1 if sign else 1) * float(digits.replace(",", "")) * 10.0**power * UNITS.get(unit, 1)


SORT = """const done = arguments[arguments.length - 1], tables = document.querySelectorAll('table.dataTable');
    const read = (table, at) => [...table.tBodies[0].rows].map(row => row.cells[at].textContent.trim());
    const sort = async (table, head, at) => {
        const before = read(table, at), states = [];
        for (let press = 0; press < 3; press++) {
            head.querySelector('.dt-column-order').click();
            await new Promise(then => setTimeout(then));
            states.push([head.getAttribute('aria-sort'), read(table, at)]);
        }
        return [head.textContent, head.classList.contains('num'), before, ...states];
    };
    (async () => {
        const found = [];
        for (const table of tables) {
            const heads = [...table.tHead.rows[0].cells], columns = [];
            for (const [at, head] of heads.entries()) columns.push(await sort(table, head, at));
            found.push([table.caption.textContent, columns]);
        }
        done(found);
    })()"""


def test_every_table_is_sorted_by_every_column(opened):
    """A first press sorts upwards, a second downwards, a third puts the rows back."""
    tables = opened.execute_async_script(SORT)
    assert len(tables) > 20
    assert sum(numeric for _, columns in tables for _, numeric, *_ in columns) > 40
    for caption, columns in tables:
        for head, numeric, before, (up, rising), (down, falling), (none, after) in columns:
            place = f"{caption}: {head}"
            assert (up, down, none) == ("ascending", "descending", None), place
            assert after == before, place
            assert sorted(rising) == sorted(falling) == sorted(before), place
            if numeric:
                values = [number(cell) for cell in rising]
                assert values == sorted(values), place
                values = [number(cell) for cell in falling]
                assert values == sorted(values, reverse=True), place
            elif all(re.fullmatch("[a-z ]+", cell) for cell in before):
                assert (rising, falling) == (sorted(before), sorted(before, reverse=True)), place


def table_of(driver, caption: str):
    """A table that can be sorted, by the beginning of its caption."""
    tables = driver.find_elements("css selector", "table.dataTable")
    return next(table for table in tables if table.find_element("css selector", "caption").text.startswith(caption))


def column(table, at: int) -> list[str]:
    return [
        row.find_elements("css selector", "th, td")[at].text for row in table.find_elements("css selector", "tbody tr")
    ]


def test_a_header_is_pressed_with_the_mouse(opened):
    table = table_of(opened, "What each arm trains")
    head = table.find_elements("css selector", "thead th")[0]
    before = column(table, 0)
    for state, expected in (
        ("ascending", sorted(before)),
        ("descending", sorted(before, reverse=True)),
        (None, before),
    ):
        ActionChains(opened).scroll_to_element(head).move_to_element(head).click().perform()
        assert head.get_attribute("aria-sort") == state
        assert column(table, 0) == expected


def test_a_table_is_sorted_with_the_keyboard_alone(opened):
    table = table_of(opened, "What each arm trains")
    region = opened.execute_script("return arguments[0].closest('.scroll')", table)
    before = column(table, 0)
    opened.execute_script("arguments[0].focus()", region)
    ActionChains(opened).send_keys(Keys.TAB).perform()
    button = opened.switch_to.active_element
    assert button.get_attribute("role") == "button"
    assert button.get_attribute("aria-label").startswith("arm")
    assert opened.execute_script("return getComputedStyle(arguments[0]).outlineStyle", button) == "solid", (
        "focus is seen"
    )
    states = []
    for key in (Keys.ENTER, Keys.SPACE, Keys.ENTER):
        ActionChains(opened).send_keys(key).perform()
        states.append(column(table, 0))
        assert opened.switch_to.active_element == button
    assert states == [sorted(before), sorted(before, reverse=True), before]


def unaccented(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def test_long_tables_are_filtered(opened):
    tables = opened.find_elements("css selector", "table.dataTable")
    long = [table for table in tables if len(table.find_elements("css selector", "tbody tr")) > 11]
    assert len(long) > 4
    for table in long:
        holder = opened.execute_script("return arguments[0].closest('.dt-container')", table)
        box = holder.find_element("css selector", "input[type=search]")
        read = "return [...arguments[0].tBodies[0].rows].map(row => row.textContent)"
        before = opened.execute_script(read, table)
        words = re.findall(r"[a-z]{4,}", table.find_element("css selector", "tbody tr:last-child th").text)
        if not words:
            continue
        box.send_keys(words[0])
        hits = [row for row in before if words[0] in unaccented(row)]
        assert opened.execute_script(read, table) == hits
        box.clear()
        box.send_keys("no such word")
        assert opened.execute_script(read, table) == ["No row fits."]
        box.clear()
        box.send_keys(Keys.BACKSPACE)
        assert opened.execute_script(read, table) == before


def test_nothing_that_was_done_left_a_message(opened):
    assert opened.get_log("browser") == []
    assert browser.requests(opened) == []
