"""The pages of a real MLflow server to which the report and the terminal link."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_targets import TrackingServer
from tracked import outcome, plan, trial

from trainables.study.mlflow_pages import run_page, trials_page
from trainables.study.outcome import MLflowRefs
from trainables.tracking.tracker import Tracker

pytestmark = [pytest.mark.browser, pytest.mark.thorough, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def refs(browser, tmp_path_factory) -> Iterator[MLflowRefs]:
    """Two studies of two trials on a server; it requests the browser first, so that no server is started if there is none."""
    folder: Path = tmp_path_factory.mktemp("server")
    server = TrackingServer(folder)
    try:
        for name in ("s-2", "s-1"):
            tracker = Tracker(server.uri, plan(name=name), outcome(trial(0), trial(1, accuracy=0.8)))
            assert tracker.close() == 0, tracker.last_error
        yield tracker.refs
    finally:
        server.kill()


def opened(browser, address: str, *expected: str) -> str:
    """The text of a page after it has loaded everything that is expected; the window is high, as only visible charts are drawn."""
    from selenium.webdriver.support.wait import WebDriverWait

    text = "return document.body.innerText"
    browser.get("about:blank")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1920, "height": 2400, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(address)
    WebDriverWait(browser, 120).until(lambda _: all(part in browser.execute_script(text) for part in expected))
    return browser.execute_script(text)


def test_the_page_of_the_trials_has_the_objectives_as_columns_and_only_trials_of_the_study(browser, refs):
    text = opened(browser, trials_page(refs, "s-1"), "000 cross_entropy", "2 matching runs", "optimizer.lr")
    assert "shared view" in text and "Overview" not in text  # the first page of those for GenAI
    places = "[...document.querySelectorAll('.ag-header-cell')].map(cell => [cell.getBoundingClientRect().x, cell.innerText])"
    names = [name for _, name in sorted(browser.execute_script(f"return {places}")) if name.strip()]
    assert names[2:] == ["accuracy", "robust_accuracy", "mia_auc", "pareto", "optimizer.lr", "Duration"]
    runs = browser.execute_script("return [...document.querySelectorAll('a[href*=\"/runs/\"]')].map(a => a.textContent)")
    assert runs == ["000 cross_entropy, optimizer.lr=0.05", "001 cross_entropy, optimizer.lr=0.05"]  # the front first


def test_the_charts_of_the_trials_are_those_of_the_objectives(browser, refs):
    pairs = ["accuracy vs. robust_accuracy", "accuracy vs. mia_auc", "robust_accuracy vs. mia_auc"]
    text = opened(browser, trials_page(refs, "s-1", charts=True), *pairs, "Parallel Coordinates")
    assert sorted(map(text.index, pairs)) == [text.index(pair) for pair in pairs]
    assert text.index(pairs[0]) < text.index("epoch/loss")


def test_the_page_of_a_run_is_one_of_those_for_training(browser, refs):
    text = opened(browser, run_page(refs, refs.runs[1]), "Trial 1 of s-1", "001 cross_entropy, optimizer.lr=0.05", "mia_auc")
    assert "Model registry" in text and "Playground" not in text
