"""The files of a report, and its page as a whole: one file that makes no request and escapes all text."""

import io
import re

import pytest
import reported
from matplotlib.image import imread
from reported import EVIL, OBJECTIVES, Page, empty, outcome

from trainables.reporting.report import render, render_figures
from trainables.study.outcome import Outcome
from trainables.study.tables import csv, front_rows
from trainables.study.trial import Trial


@pytest.fixture(scope="module")
def html() -> str:
    """The page of a report with all its figures."""
    return render(outcome())["report.html"].decode()


def test_the_files_are_tables_figures_and_last_the_page():
    study = outcome()
    files = render(study)
    assert list(files) == ["front.csv", "confirmed.csv", "plots/front.png", "plots/hypervolume.png", "report.html"]
    assert files["front.csv"].decode() == csv(front_rows(study))
    study.confirmation = None
    assert "confirmed.csv" not in render(study)


def test_the_page_shows_the_same_figures_as_the_files():
    files, figures = render(outcome()), render_figures(outcome())
    assert {f"plots/{name}": figure.png for name, figure in figures.items()} == {
        path: data for path, data in files.items() if path.startswith("plots/")
    }
    images = [attrs for tag, attrs in Page(files["report.html"].decode()).tags if tag == "img"]
    assert [attrs["alt"] for attrs in images] == [figure.description for figure in figures.values()]


def test_no_request_leaves_the_page(html):
    tags = Page(html).tags
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    assert not [tag for tag, attrs in tags if attrs.keys() & {"srcset", "action", "data"}]
    assert all(attrs["src"].startswith("data:") for _, attrs in tags if "src" in attrs)
    assert all(tag == "a" and attrs["href"].startswith("#") for tag, attrs in tags if "href" in attrs)
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy and "connect-src" not in policy


def test_every_link_of_the_contents_leads_to_a_section(html):
    tags = Page(html).tags
    anchors = {attrs["id"] for tag, attrs in tags if tag == "h2"}
    links = [attrs["href"].removeprefix("#") for tag, attrs in tags if tag == "a"]
    assert len(links) == len(set(links)) > 5 and set(links) <= anchors


def test_text_from_outside_is_escaped(html):
    page = Page(html)
    assert EVIL not in html
    assert page.text.count(EVIL) >= 4  # the question, a baseline, an error, a fact
    assert sum(tag == "script" for tag, _ in page.tags) == html.count("</script>")


def test_no_markup_of_the_report_itself_is_escaped(html):
    assert not re.search(r"</?(code|b|p|td|li|span|br|svg)\b[^>]*>", Page(html).text)


def test_the_page_states_its_language_and_fits_a_phone(html):
    tags = Page(html).tags
    assert ("html", {"lang": "en"}) in tags
    assert any(attrs.get("name") == "viewport" for _, attrs in tags)
    assert all("scope" in attrs and "aria-sort" in attrs for tag, attrs in tags if tag == "th")


def test_no_number_in_the_page_is_nan_or_infinite(html):
    data = "".join(re.findall(r"Plotly\.newPlot\(.*?</script>", html, re.DOTALL))
    assert data and not re.search(r"\b(NaN|Infinity)\b", data)
    assert not re.search(r"\b(nan|inf)\b", Page(html).text)


@pytest.mark.parametrize("case", [outcome, empty, lambda: outcome(OBJECTIVES[:2])], ids=["full", "empty", "two"])
def test_figures_are_pictures(case):
    figures = render_figures(case())
    assert set(figures) == {"front.png", "hypervolume.png"}
    for figure in figures.values():
        pixels = imread(io.BytesIO(figure.png))
        assert pixels.shape[0] > 300 and pixels.shape[1] > 500
        assert pixels[..., :3].std() > 0.01


def test_a_study_without_ended_trials_has_a_report():
    text = Page(render(empty())["report.html"].decode()).text
    assert "0 of 6 planned trials are completed, 0 failed." in text and "Nothing is confirmed" in text


def test_a_trial_without_an_objective_is_in_the_table_but_not_in_the_figures():
    study: Outcome = outcome()
    study.trials.append(Trial(6, {"loss": "crl"}, {"accuracy": 0.4}))
    page = render(study)["report.html"].decode()
    assert '<td class="n" data-value="6">6</td>' in reported.section_of(page, "trials")
    assert '<path data-trial="6"' not in page
