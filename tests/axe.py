"""axe-core, the accessibility checker, out of a wheel that carries it: fetched once into pytest's cache."""

import re
import subprocess
import sys
import zipfile

import pytest

WHEEL = "axe-playwright-python==0.1.8"  # holds axe-core 4.12.1
FILE = "axe_playwright_python/axe.min.js"
# What WCAG 2.0 to 2.2 ask at levels A and AA, and what axe's authors hold to be good practice.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def axe(request) -> str:
    """The source of axe.min.js; skips, saying why, where it cannot be had."""
    folder = request.config.cache.mkdir("axe")
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"axe-core: {WHEEL} cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return wheel.read(FILE).decode("utf-8")


def violations(driver, source: str) -> list[str]:
    """What axe finds wrong on the page that the browser shows: rule, how many times, and the first place."""
    driver.execute_script(source)
    script = """const done = arguments[arguments.length - 1];
        axe.run(document, {runOnly: arguments[0], resultTypes: ["violations"]}).then(
            found => done(found.violations.map(({id, help, nodes}) =>
                `${id} (${nodes.length}): ${help}; ${nodes[0].target.join(" ")}: ${nodes[0].html}`)),
            error => done([String(error)]))"""
    driver.set_script_timeout(120)
    found = driver.execute_async_script(script, TAGS)
    return [re.sub(r"\s+", " ", one)[:400] for one in found]
