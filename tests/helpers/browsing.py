"""Pages in a browser at the size of a desk, a phone or a sheet of paper, in light or dark mode."""

from pathlib import Path

DESK, WIDE, PHONE, PAPER = (1280, 900), (1440, 900), (390, 844), (703, 1000)
"""Sizes of windows in pixels; the last is A4 without its margins of 12 mm."""


def opened(browser, page: Path, size: tuple[int, int] = DESK, media: str = "screen", scheme: str = "light"):
    """The browser after it has loaded the page, with logs of this load only."""
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    emulate(browser, media, scheme)
    browser.get(page.as_uri())
    return browser


def emulate(browser, media: str, scheme: str) -> None:
    """Change the medium and the colour scheme that the page sees."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def texts(browser, selector: str) -> list[str]:
    """The texts of the elements that match a selector."""
    return browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)
