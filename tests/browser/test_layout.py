"""The report's layout in a browser: its first screen, tables, names in charts, dark mode and paper."""

from pathlib import Path

import pytest
from browsing import PAPER, PHONE, WIDE, emulate, opened, texts
from selenium.webdriver.support.ui import WebDriverWait

from trainables.reporting.front_charts import DARK

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(params=["large", "decided"])
def page(request) -> Path:
    """The report of a study."""
    return request.getfixturevalue(request.param)


def boxes(browser, selector: str) -> list[dict]:
    """The rectangles of the visible elements that match a selector, with their texts."""
    script = """return [...document.querySelectorAll(arguments[0])].map(e => {
      const {left, top, right, bottom, width} = e.getBoundingClientRect();
      return {left, top, right, bottom, width, text: e.textContent.slice(0, 60)};
    }).filter(box => box.width)"""
    return browser.execute_script(script, selector)


# ---------------------------------------------------------------- the first screen and tables


def test_the_first_screen_of_a_desk_has_the_point_its_cost_its_certainty_and_the_contrasts(browser, decided):
    opened(browser, decided, WIDE)
    shown = boxes(browser, ".answer .lead, .answer tr, .answer > div > p, .answer .command, .contrasts li")
    assert len(shown) == 1 + 4 + 4 + 2 + 3 and all(box["bottom"] <= 900 for box in shown), shown
    (lead,) = texts(browser, ".answer .lead")
    assert "Ship trial 3" in lead and "Compared with no defence (trial 0), it costs" in lead
    assert "(probability of being on the front 0." in lead


def test_no_deciding_column_needs_scrolling_at_1440_pixels(browser, page):
    opened(browser, page, WIDE)
    hidden = """return [...document.querySelectorAll(".scroll table")].flatMap(table => {
      const edge = table.closest(".scroll").getBoundingClientRect().right;
      return [...table.tHead.rows[0].cells].filter(head => !head.classList.contains("knob"))
        .filter(head => head.getBoundingClientRect().right > edge + 1).map(head => head.textContent);
    })"""
    assert browser.execute_script(hidden) == []
    scrolled = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
    assert not [label for label in browser.execute_script(scrolled) if not label.startswith(("Every trial", "Front of", "AUC"))]


def test_a_phone_shows_the_comparison_without_scrolling(browser, decided):
    opened(browser, decided, PHONE)
    assert browser.execute_script(
        "const e = document.querySelector('.comparison').parentElement; return e.scrollWidth <= e.clientWidth"
    )
    assert all(box["right"] <= 390 for box in boxes(browser, ".comparison td, .comparison .n, .contrasts li, .contrasts .n"))


# ---------------------------------------------------------------- charts


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desk", "phone"])
def test_the_names_in_charts_cover_no_point_and_no_other_name(browser, page, size):
    from selenium.webdriver.support.wait import WebDriverWait

    opened(browser, page, size)
    covered = """return [...document.querySelectorAll(".plotly-graph-div:not(#cube)")].flatMap(chart => {
      const names = [...chart.querySelectorAll(".annotation-text")], points = [...chart.querySelectorAll(".scatterlayer .point")];
      const box = e => e.getBoundingClientRect();
      const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
      const frame = box(chart);
      return names.flatMap((name, i) => [...points, ...names.slice(i + 1)].filter(other => meet(box(name), box(other)))
        .map(other => `${chart.id}: ${name.textContent} covers ${other.textContent || other.getAttribute("class")}`)
        .concat(box(name).left < frame.left || box(name).right > frame.right ? [`${name.textContent} is cut off`] : []));
    })"""
    moved = "return document.querySelector('#pair-0').layout.annotations.some(note => note.ax !== 0)"
    WebDriverWait(browser, 30).until(lambda _: browser.execute_script(moved))
    WebDriverWait(browser, 30).until(lambda _: browser.execute_script(covered) == [], browser.execute_script(covered))
    assert "undefended" in texts(browser, "#pair-0 .annotation-text")


# ---------------------------------------------------------------- dark mode


def test_a_dark_page_has_readable_text_and_charts_in_dark_colours(browser, page):
    opened(browser, page, WIDE, scheme="dark")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 20)"
    unreadable = """
      const light = color => {
        const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
        const channels = color.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
        return .2126 * channels[0] + .7152 * channels[1] + .0722 * channels[2];
      };
      const ground = light("rgb(28, 31, 34)");  // the lighter one of the two backgrounds
      return [...document.querySelectorAll("p, li, td, th, a, b, dt, dd, h1, h2, h3, caption span, button, .word, .key span")]
        .filter(e => e.textContent.trim() && e.getClientRects().length && !e.closest(".plotly-graph-div, [aria-hidden]"))
        .map(e => [(light(getComputedStyle(e).color) + .05) / (ground + .05), e.outerHTML.slice(0, 90)])
        .filter(([ratio]) => ratio < 4.4);
    """
    assert browser.execute_script(unreadable) == []
    script = """return [...document.querySelectorAll(".plotly-graph-div")].flatMap(chart => [
      chart.layout.font.color, ...chart.data.flatMap(t => [t.marker?.color, t.line?.color, t.error_x?.color])]).filter(Boolean)"""
    assert set(browser.execute_script(script)) <= set(DARK.values())
    emulate(browser, "screen", "light")
    WebDriverWait(browser, 10).until(lambda page: set(page.execute_script(script)) <= set(DARK))  # the charts are drawn again
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_dark_page_inverts_drawn_figures_and_no_photographs(browser, large):
    opened(browser, large, WIDE, scheme="dark")
    filters = "return [...document.querySelectorAll('figure img')].map(i => [i.alt, getComputedStyle(i).filter])"
    found = dict(browser.execute_script(filters))
    photos = {alt for alt in found if "reconstructions" in alt or "attribution" in alt}
    assert {found[alt] for alt in photos} == {"none"} and photos
    assert {found[alt] for alt in found.keys() - photos} == {"invert(0.9216) hue-rotate(180deg)"}


# ---------------------------------------------------------------- paper


def test_paper_is_light_in_dark_mode_and_breaks_no_number(browser, page):
    opened(browser, page, PAPER, media="print", scheme="dark")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    broken = """return [...document.querySelectorAll("td.n, .n, td.settings span, td[data-value]")]
      .filter(e => !e.querySelector("button")).filter(e => {
      const range = document.createRange();
      range.selectNodeContents(e);
      const lines = new Set([...range.getClientRects()].map(box => Math.round(box.bottom / 4)));
      return lines.size > 1 && !/resolved/.test(e.textContent);
    }).map(e => e.textContent)"""
    assert browser.execute_script(broken) == []


def test_paper_has_the_comparison_beside_nothing_that_it_covers(browser, page):
    opened(browser, page, PAPER, media="print")
    cells, (column, *_) = boxes(browser, ".comparison :is(td, th)"), boxes(browser, ".answer > div")
    assert cells and all(cell["right"] <= column["right"] + 1 for cell in cells)


def test_paper_has_settings_instead_of_columns_of_knobs(browser, large):
    opened(browser, large, PAPER, media="print")
    assert boxes(browser, "section[aria-labelledby=trials] .knob") == []
    settings = [box["text"] for box in boxes(browser, "section[aria-labelledby=trials] td.settings")]
    assert len(settings) == 40 and settings[0].startswith("loss=cross_entropy") and "perturbation.epsilon=0.0" in settings[1]
    opened(browser, large, WIDE)
    assert boxes(browser, ".settings") == [] and boxes(browser, "section[aria-labelledby=trials] .knob")


def test_paper_shows_the_folded_figures_of_audits(browser, large):
    opened(browser, large, PAPER, media="print")
    figures = boxes(browser, "section[aria-labelledby=audits] img")
    assert len(figures) == len(texts(browser, "section[aria-labelledby=confirmed] tbody tr")) > 5
