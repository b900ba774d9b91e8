"""The report as a reader's browser shows it: of a real study, run here, and of a made one with all that a report can hold."""

import base64
import csv
import io
import json
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from large import outcome
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

from trainables import report
from trainables.trial import of_npz

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--set", "epochs=12", "net.width=8", "judge.steps=3", "--trials", "7"]
DESK, PHONE, PAPER = (1280, 900), (390, 844), (703, 1000)  # the last: A4 between margins of 12 mm


@pytest.fixture(scope="module")
def study(browser, tmp_path_factory) -> Path:
    """The folder of a real study; asks for the browser so that none is run in vain."""
    cwd = tmp_path_factory.mktemp("study")
    command = [sys.executable, str(ROOT / "studies/crl_tradeoff.py"), *QUICK]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (cwd / "runs").glob("*-*")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    page = tmp_path_factory.mktemp("made") / "report.html"
    page.write_text(report.html(outcome()), encoding="utf-8")
    return page


@pytest.fixture(params=["real", "made"])
def page(request) -> Path:
    return request.getfixturevalue("study") / "report.html" if request.param == "real" else request.getfixturevalue("made")


def opened(browser, page: Path, size: tuple[int, int] = DESK, media: str = "screen"):
    """The browser on a fresh load of the page, its logs empty before."""
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    browser.get(page.as_uri())
    return browser


def texts(browser, selector: str) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)


def shown(browser) -> list[int]:
    """Numbers of the trials in the table of all, as it is now."""
    rows = "return [...document.querySelectorAll('section[aria-labelledby=trials] table tbody tr:not([hidden])')]"
    return browser.execute_script(f"{rows}.map(row => +row.cells[0].dataset.value)")


def test_the_console_is_silent_and_nothing_is_asked_of_the_network(browser, page):
    opened(browser, page)
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
    assert asked[0] == page.as_uri()
    assert all(url.startswith(("data:", "blob:")) for url in asked[1:]), [url[:80] for url in asked[1:]]
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_every_picture_is_drawn(browser, page):
    opened(browser, page)
    charts = browser.execute_script(
        "return [...document.querySelectorAll('.plotly-graph-div')].map(d => [d.id, !!d.querySelector('svg')])"
    )
    assert charts == [["pair-0", True], ["pair-1", True], ["pair-2", True], ["cube", True]]
    assert all(browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 100)"))


def test_a_click_on_a_header_sorts_the_table_and_says_so(browser, page):
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
        """The picture may still be settling when the mouse first comes."""
        x, y = map(round, browser.execute_script(centre))
        mouse = ActionChains(browser, duration=50)
        mouse.w3c_actions.pointer_action.move_to_location(x - 1, y)
        mouse.w3c_actions.pointer_action.move_to_location(x, y)
        mouse.pause(0.5).click().pause(0.5).perform()
        return browser.find_element("id", "one").is_displayed()

    WebDriverWait(browser, 60).until(clicked)
    number = texts(browser, "#one h2")[0].removeprefix("Trial ")
    known = browser.execute_script("return known")
    told = dict(zip(texts(browser, "#one > dl dt"), texts(browser, "#one > dl dd"), strict=True))
    for name, value in known["trials"][number]["params"].items():
        if isinstance(value, str | bool):
            assert told[name] == (value if isinstance(value, str) else json.dumps(value))
        else:
            assert float(told[name]) == pytest.approx(value, rel=1e-3)
    assert told.keys() & {"loss", "perturbation.epsilon"}
    link = browser.find_element("css selector", "#one a").get_attribute("href")
    assert link.endswith(f"/runs/{known['trials'][number]['run']}") and "/#/experiments/" in link and "secret" not in link


def test_the_keyboard_opens_and_closes_the_details_of_a_trial(browser, page):
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)
    button = browser.find_element("css selector", "section[aria-labelledby=front] button.trial")
    button.send_keys(Keys.ENTER)
    assert texts(browser, "#one h2") == [f"Trial {button.text}"]
    assert browser.switch_to.active_element.get_attribute("id") == "one-name"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_element("id", "one").is_displayed() and browser.switch_to.active_element == button


def test_dragging_along_an_axis_filters_the_table_and_letting_go_brings_all_back(browser, page):
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
    accuracy = {int(n): t["metrics"].get("accuracy", -1) for n, t in browser.execute_script("return known")["trials"].items()}
    assert shown(browser) == [n for n in every if low <= accuracy[n] <= high] and 0 < len(shown(browser)) < len(every)
    assert texts(browser, "#kept")[0].startswith(f"{len(shown(browser))} of {len(every)} trials are kept")
    assert len(browser.find_elements("css selector", "#lines path.off")) > 0
    ActionChains(browser).move_to_element(axis).click().perform()
    assert shown(browser) == every


def test_numbers_filter_the_table_without_a_mouse(browser, made):
    opened(browser, made)
    browser.execute_script("document.querySelector('.filters').open = true")
    for name, value in (("perturbation.epsilon", "0.05"), ("mia_auc", "0.68")):
        browser.find_element("css selector", f"fieldset[data-name='{name}'] label:last-child input").send_keys(value + "\t")
    study = outcome()
    kept = [t.number for t in study.done if t.params.get("perturbation.epsilon", 1) <= 0.05 and t.metrics["mia_auc"] <= 0.68]
    assert shown(browser) == kept and kept
    browser.find_element("css selector", "#kept button").click()
    assert len(shown(browser)) == len(study.trials)


@pytest.mark.parametrize(("size", "media"), [(DESK, "screen"), (PHONE, "screen"), (PAPER, "print")])
def test_the_page_is_as_wide_as_its_window_and_nothing_sticks_out(browser, page, size, media):
    opened(browser, page, size, media)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    out = """return [...document.querySelectorAll('h1, h2, p, li, dd, img, svg, table')].filter(e => {
      const box = e.getBoundingClientRect();
      return box.width && box.right > innerWidth + 1 && !(arguments[0] && e.closest('.scroll, .wide, .chart'));
    }).map(e => e.outerHTML.slice(0, 120))"""
    assert browser.execute_script(out, media == "screen") == []


def test_paper_has_every_section_and_every_trial(browser, page):
    from pypdf import PdfReader

    opened(browser, page, media="")
    headings, rows = texts(browser, "h2"), texts(browser, "section[aria-labelledby=trials] tbody tr td:nth-child(4)")
    known = browser.execute_script("return known")
    settings = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
    paper = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", settings)["data"])
    pages = PdfReader(io.BytesIO(paper)).pages
    text = squeezed("".join(page.extract_text() for page in pages))
    assert all(squeezed(heading) in text for heading in headings) and len(headings) > 10
    assert all(row in text for row in rows) and len(rows) == len(known["trials"])
    assert sum(len(page.images) for page in pages) >= len(browser.find_elements("css selector", "img"))


def squeezed(text: str) -> str:
    """Without white space and ligatures, which paper has its own of."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_a_screen_reader_finds_headings_captions_and_words_for_pictures(browser, page):
    opened(browser, page)
    levels = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and all(below - above <= 1 for above, below in pairwise(levels))
    lacking = """return [...document.querySelectorAll('main table')].filter(t => !t.caption || !t.caption.textContent
      || [...t.querySelectorAll('th')].some(h => !h.scope)).length"""
    assert browser.execute_script(lacking) == 0
    assert browser.execute_script("return [...document.images].filter(i => !i.alt).length") == 0
    assert (
        browser.execute_script("return [...document.querySelectorAll('input, select')].filter(i => !i.labels.length).length") == 0
    )
    assert browser.execute_script("return document.getElementById('lines').getAttribute('aria-label').length") > 50


def test_the_numbers_are_those_of_mlflow_of_the_csv_and_of_the_stored_predictions(browser, study):
    opened(browser, study / "report.html")
    known = browser.execute_script("return known")
    client = MlflowClient(f"sqlite:///{study.parents[1]}/mlflow.db")
    cells = "return [...document.querySelectorAll('section[aria-labelledby=trials] tbody tr')]"
    table = {int(row[0]): row for row in browser.execute_script(f"{cells}.map(r => [...r.cells].map(c => c.textContent))")}
    assert len(known["trials"]) == len(table) == 7
    for number, trial in known["trials"].items():
        run = client.get_run(trial["run"])
        assert run.data.tags["trilemma.trial"] == number
        assert run.data.metrics | trial["metrics"] == run.data.metrics
        again = recomputed(study / f"trials/{int(number):05d}/predictions.npz")
        for column, (name, value) in enumerate(again.items(), 3):
            assert trial["metrics"][name] == pytest.approx(value, abs=1e-6)
            assert table[int(number)][column] == f"{trial['metrics'][name]:.4f}"
        confirmed = trial["confirmed"]
        for name in again if confirmed else ():
            assert confirmed["means"][name] == pytest.approx(run.data.metrics[f"confirmed/{name}"], abs=1e-12)
        if confirmed:
            seen = [recomputed(study / f"confirm/{int(number):05d}/{r}/predictions.npz") for r in (1, 2, 3)]
            for name in ("accuracy", "robust_accuracy"):
                assert confirmed["means"][name] == pytest.approx(np.mean([s[name] for s in seen]), abs=1e-6)
    front = {row["trial"] for row in csv.DictReader((study / "front.csv").read_text().splitlines())}
    assert {n for n, t in known["trials"].items() if t["status"] == "front"} == front


def recomputed(file: Path) -> dict[str, float]:
    """Accuracy, robust accuracy and the worst threshold audit, from logits and verdicts alone."""
    kept = of_npz(file.read_bytes())
    survivors = np.all([kept[name] for name in kept if name.startswith("stands/")], axis=0)
    member = np.r_[np.ones(len(kept["member_labels"])), np.zeros(len(kept["labels"]))]
    logits, labels = np.concatenate([kept["member_logits"], kept["logits"]]), np.r_[kept["member_labels"], kept["labels"]]
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
        "accuracy": float((kept["logits"].argmax(1) == kept["labels"]).mean()),
        "robust_accuracy": float(survivors.mean()),
        "mia_auc": float(max(max(auc, 1 - auc) for auc in aucs)),
    }
