"""Tests of code that must not depend on the internet."""

import urllib.request

import pytest


def nothing_can_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every request through urllib to a proxy that does not exist, until the end of the test."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen keeps the proxies of its first call, also after this test
