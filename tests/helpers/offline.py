"""A machine without the internet, wherever the test runs."""

import urllib.request

import pytest


def nothing_can_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of the test, every request through urllib goes to a proxy that is not there."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen keeps the proxies of its first call, past this test too
