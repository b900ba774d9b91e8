"""The system's headless Chromium (Debian's packages chromium and chromium-driver); none is downloaded."""

import os
import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser that records its console and its network requests."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium is not installed; Debian has it in the packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    switches = ["--headless=new", "--hide-scrollbars", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
    for switch in [*switches, "--no-sandbox"] if os.geteuid() == 0 else switches:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_page_load_timeout(120)
    yield opened
    opened.quit()
