"""Tests of the report in a browser: that of a real study, and a hand-written one with everything that a report can contain."""

import base64
import io
import json
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browsing import DESK, PAPER, PHONE, WIDE, opened, texts
from files import rows as csv_rows
from large import outcome
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from trainables.storage.arrays import of_npz

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def real(browser, request) -> Path:
    """The report of a real study; it requests the browser first, so that no study is run if there is none."""
    return request.getfixturevalue("crl_study").folder / "report.html"


@pytest.fixture(params=["real", "large"])
def page(request) -> Path:
    return request.getfixturevalue(request.param)


def shown(browser) -> list[int]:
    """Numbers of the trials that the table of all trials shows."""
    rows = "return [...document.querySelectorAll('section[aria-labelledby=trials] table tbody tr:not([hidden])')]"
    return browser.execute_script(f"{rows}.map(row => +row.cells[0].dataset.value)")


def test_the_console_is_empty_and_the_page_makes_no_network_request(browser, page):
    opened(browser, page)
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
    assert requested[0] == page.as_uri()
    assert all(url.startswith(("data:", "blob:")) for url in requested[1:]), [url[:80] for url in requested[1:]]
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_every_figure_is_drawn(browser, page):
    opened(browser, page)
    charts = browser.execute_script(
        "return [...document.querySelectorAll('.plotly-graph-div')].map(d => [d.id, !!d.querySelector('svg')])"
    )
    assert charts == [["pair-0", True], ["pair-1", True], ["pair-2", True], ["cube", True]]
    assert all(browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 100)"))


def test_a_click_on_a_header_sorts_the_table_and_announces_it(browser, page):
    opened(browser, page)
    accuracy = "section[aria-labelledby=trials] th:nth-child(4)"
    button = browser.find_element("css selector", f"{accuracy} button")
    values = "section[aria-labelledby=trials] tbody tr td:nth-child(4)"
    for state, sign in (("ascending", 1), ("descending", -1)):
        browser.execute_script("arguments[0].click()", button)
        assert browser.find_element("css selector", accuracy).get_attribute("aria-sort") == state
        numbers = [float(text) for text in texts(browser, values) if text]
        assert numbers == sorted(numbers, key=lambda v: sign * v) and len(set(numbers)) > 1


def test_a_click_on_a_point_shows_its_configuration_and_its_run(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.wait import WebDriverWait

    opened(browser, page)
    centre = """
      const chart = document.getElementById("pair-0");
      chart.scrollIntoView({block: "center"});
      const frame = chart.querySelector(".nsewdrag").getBoundingClientRect();
      for (const point of chart.querySelectorAll(".scatterlayer .trace .point")) {
        const box = point.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
        if (x > frame.left && x < frame.right && y > frame.top && y < frame.bottom) return [x, y];
      }"""

    def clicked(_) -> bool:
        """Whether the click opened the details; the chart may still be moving at the first attempt."""
        x, y = map(round, browser.execute_script(centre))
        mouse = ActionChains(browser, duration=50)
        mouse.w3c_actions.pointer_action.move_to_location(x - 1, y)
        mouse.w3c_actions.pointer_action.move_to_location(x, y)
        mouse.pause(0.5).click().pause(0.5).perform()
        return browser.find_element("id", "one").is_displayed()

    WebDriverWait(browser, 60).until(clicked)
    number = texts(browser, "#one h2")[0].removeprefix("Trial ")
    report = browser.execute_script("return report")
    details = dict(zip(texts(browser, "#one > dl dt"), texts(browser, "#one > dl dd"), strict=True))
    for name, value in report["trials"][number]["params"].items():
        if isinstance(value, str | bool):
            assert details[name] == (value if isinstance(value, str) else json.dumps(value))
        else:
            assert float(details[name]) == pytest.approx(value, rel=1e-3)
    assert details.keys() & {"loss", "perturbation.epsilon"}
    link = browser.find_element("css selector", "#one a")
    assert link.text == report["trials"][number]["name"] and link.text.startswith(f"{int(number):03d} ")
    assert link.get_attribute("href") == report["trials"][number]["link"] and "secret" not in report["trials"][number]["link"]


def test_the_keyboard_opens_and_closes_the_details_of_a_trial(browser, page):
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)
    button = browser.find_element("css selector", "section[aria-labelledby=front] button.trial")
    button.send_keys(Keys.ENTER)
    assert texts(browser, "#one h2") == [f"Trial {button.text}"]
    assert browser.switch_to.active_element.get_attribute("id") == "one-name"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_element("id", "one").is_displayed() and browser.switch_to.active_element == button


def test_dragging_along_an_axis_filters_the_table_and_a_click_on_it_shows_all_trials_again(browser, page):
    from selenium.webdriver import ActionChains

    opened(browser, page)
    every = shown(browser)
    index = browser.execute_script("return filters.findIndex(f => f.dataset.name === 'accuracy')")
    axis = browser.find_elements("css selector", "#lines .hit")[index]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", axis)
    height = axis.rect["height"]
    ActionChains(browser).move_to_element_with_offset(axis, 0, int(-height / 2 + 2)).click_and_hold().move_by_offset(
        0, int(height / 2)
    ).release().perform()
    ends = browser.execute_script("return [...filters[arguments[0]].querySelectorAll('input')].map(i => i.value)", index)
    low, high = float(ends[0] or "-inf"), float(ends[1] or "inf")
    accuracy = {int(n): t["metrics"].get("accuracy", -1) for n, t in browser.execute_script("return report")["trials"].items()}
    assert shown(browser) == [n for n in every if low <= accuracy[n] <= high] and 0 < len(shown(browser)) < len(every)
    assert texts(browser, "#kept")[0].startswith(f"{len(shown(browser))} of {len(every)} trials are kept")
    assert len(browser.find_elements("css selector", "#lines path.off")) > 0
    ActionChains(browser).move_to_element(axis).click().perform()
    assert shown(browser) == every


def test_bounds_in_fields_filter_the_table_without_a_mouse(browser, large):
    opened(browser, large)
    browser.execute_script("document.querySelector('.filters').open = true")
    for name, value in (("perturbation.epsilon", "0.05"), ("mia_auc", "0.68")):
        browser.find_element("css selector", f"fieldset[data-name='{name}'] label:last-child input").send_keys(value + "\t")
    study = outcome()
    kept = [t.number for t in study.completed if t.params.get("perturbation.epsilon", 1) <= 0.05 and t.metrics["mia_auc"] <= 0.68]
    assert shown(browser) == kept and kept
    browser.find_element("css selector", "#kept button").click()
    assert len(shown(browser)) == len(study.trials)


@pytest.mark.parametrize(("size", "media"), [(DESK, "screen"), (WIDE, "screen"), (PHONE, "screen"), (PAPER, "print")])
def test_the_page_is_no_wider_than_its_window(browser, page, size, media):
    opened(browser, page, size, media)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    out = """return [...document.querySelectorAll('h1, h2, p, li, dd, img, svg, table')].filter(e => {
      const box = e.getBoundingClientRect();
      return box.width && box.right > innerWidth + 1 && !(arguments[0] && e.closest('.scroll, .wide, .chart'));
    }).map(e => e.outerHTML.slice(0, 120))"""
    assert browser.execute_script(out, media == "screen") == []


def test_printed_pages_have_every_section_and_every_trial(browser, page):
    from pypdf import PdfReader

    opened(browser, page, media="")
    headings, rows = texts(browser, "h2"), texts(browser, "section[aria-labelledby=trials] tbody tr td:nth-child(4)")
    trials = browser.execute_script("return report")["trials"]
    settings = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
    paper = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", settings)["data"])
    pages = PdfReader(io.BytesIO(paper)).pages
    text = squeezed("".join(page.extract_text() for page in pages))
    assert all(squeezed(heading) in text for heading in headings) and len(headings) > 10
    assert all(row in text for row in rows) and len(rows) == len(trials)
    assert sum(len(page.images) for page in pages) >= len(browser.find_elements("css selector", "img"))


def squeezed(text: str) -> str:
    """The text without white space and ligatures, which printing changes."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_a_screen_reader_finds_headings_captions_and_alternative_texts(browser, page):
    opened(browser, page)
    levels = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and all(below - above <= 1 for above, below in pairwise(levels))
    without_caption = """return [...document.querySelectorAll('main table')].filter(t => !t.caption || !t.caption.textContent
      || [...t.querySelectorAll('th')].some(h => !h.scope)).length"""
    assert browser.execute_script(without_caption) == 0
    assert browser.execute_script("return [...document.images].filter(i => !i.alt).length") == 0
    inputs = "[...document.querySelectorAll('input, select')]"
    assert browser.execute_script(f"return {inputs}.filter(i => !i.labels.length).length") == 0
    assert browser.execute_script("return document.getElementById('lines').getAttribute('aria-label').length") > 50


def test_the_numbers_are_those_of_mlflow_of_the_csv_and_of_the_stored_predictions(browser, real, crl_study):
    opened(browser, real)
    report = browser.execute_script("return report")
    client, study = MlflowClient(crl_study.tracking_uri), crl_study.folder
    cells = "return [...document.querySelectorAll('section[aria-labelledby=trials] tbody tr')]"
    table = {int(row[0]): row for row in browser.execute_script(f"{cells}.map(r => [...r.cells].map(c => c.textContent))")}
    assert len(report["trials"]) == len(table) == 7
    for number, trial in report["trials"].items():
        run = client.get_run(trial["run"])
        assert run.data.tags["trilemma.trial"] == number
        assert run.data.metrics | trial["metrics"] == run.data.metrics
        again = recomputed(study / f"trials/{int(number):05d}/predictions.npz")
        for column, (name, value) in enumerate(again.items(), 3):
            assert trial["metrics"][name] == pytest.approx(value, abs=1e-6)
            unresolved = name == "mia_auc" and value <= trial["metrics"]["mia_auc_chance"]
            text = f"{trial['metrics'][name]:.4f}" + " (not resolved)" * unresolved
            assert table[int(number)][column].replace("\N{NO-BREAK SPACE}", " ") == text
        confirmed = trial["confirmed"]
        for name in again if confirmed else ():
            assert confirmed["means"][name] == pytest.approx(run.data.metrics[f"confirmed/{name}"], abs=1e-12)
        if confirmed:
            seen = [recomputed(file) for file in study.glob(f"confirm/{int(number):05d}/*/predictions.npz")]
            assert len(seen) == confirmed["replicates"]
            for name in ("accuracy", "robust_accuracy"):
                assert confirmed["means"][name] == pytest.approx(np.mean([s[name] for s in seen]), abs=1e-6)
    front = {row["trial"] for row in csv_rows(study / "front.csv")}
    assert {n for n, t in report["trials"].items() if t["status"] == "front"} == front


def recomputed(file: Path) -> dict[str, float]:
    """Accuracy, robust accuracy and the largest AUC of a threshold audit, from stored logits and verdicts alone."""
    stored = of_npz(file.read_bytes())
    robust = np.all([stored[name] for name in stored if name.startswith("robust/")], axis=0)
    member = np.r_[np.ones(len(stored["member_labels"])), np.zeros(len(stored["labels"]))]
    logits, labels = np.concatenate([stored["member_logits"], stored["logits"]]), np.r_[stored["member_labels"], stored["labels"]]
    logits = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    p, own = np.exp(log_p), np.arange(len(labels))
    true = log_p[own, labels]
    others = p.copy()
    others[own, labels] = 0
    rest = np.array([np.sum(np.delete(row, y)) for row, y in zip(p, labels, strict=True)])
    modified = rest * true + (others * np.log1p(-np.minimum(others, 1 - 1e-15))).sum(1)
    scores = (true, (p * log_p).sum(1), modified)
    aucs = [roc_auc_score(member, score) for score in scores]
    return {
        "accuracy": float((stored["logits"].argmax(1) == stored["labels"]).mean()),
        "robust_accuracy": float(robust.mean()),
        "mia_auc": float(max(max(auc, 1 - auc) for auc in aucs)),
    }
