"""The system's headless Chromium (Debian's packages chromium and chromium-driver); none is downloaded."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import answered
import large as made
import pytest

from trainables.reporting.report import render


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


@pytest.fixture(scope="session")
def large(tmp_path_factory) -> Path:
    """The report of a hand-written outcome with everything that a report can contain."""
    return _written(made.outcome(), tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="session")
def decided(tmp_path_factory) -> Path:
    """The report of a study with known true values, contrasts and chance levels."""
    return _written(answered.outcome(), tmp_path_factory.mktemp("decided"))


def _written(outcome, folder: Path) -> Path:
    page = folder / "report.html"
    page.write_bytes(render(outcome)["report.html"])
    return page
