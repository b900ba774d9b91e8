"""A headless Chromium of the system's (Debian: chromium, chromium-driver), and nothing that reaches for the network to get one."""

import os
import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium here; Debian has it in the packages chromium and chromium-driver")
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
