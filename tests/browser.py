"""Chromium as a reader's browser: opened from disk, with a record of what it logs and what it asks the network for."""

import json
import shutil
import time
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs the programs chromium and chromedriver, which are not installed"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WIDTHS = {"wide": 1600, "desk": 1280, "phone": 390}
A4 = 718  # CSS pixels of an A4 page less its margins


def start(profile: Path):
    """A headless Chromium with its profile in a folder of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    driver = start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def resize(driver, width: int, height: int = 900) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def visit(driver, page: Path, width: int = WIDTHS["desk"], *, scheme: str = "light", media: str = "") -> None:
    """Open a file afresh, in a window of that width, colour scheme and medium ("print")."""
    resize(driver, width)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    driver.get("about:blank")  # else a page that differs in its fragment alone would not be loaded again
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # what an earlier page left
    driver.get(page.as_uri())


def requests(driver) -> list[str]:
    """Addresses asked for since the page was opened, those of files and of data within the page left out."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]


def wait_for(driver, script: str, seconds: float = 20.0):
    """The first true value of a script, or an assertion error that names it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := driver.execute_script(script):
            return value
        time.sleep(0.1)
    raise AssertionError(f"never true within {seconds:.0f} s: {script}")


def open_everything(driver) -> None:
    """Open all that is folded, and wait until the charts in it are drawn."""
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    wait_for(driver, "return [...document.querySelectorAll('.chart')].every(x => x.dataset.drawn === 'yes')", 60)


def screenshot(driver, path: Path) -> None:
    """The whole page as a PNG image."""
    import base64

    height = driver.execute_script("return document.documentElement.scrollHeight")
    width = driver.execute_script("return innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16000), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))
