"""What people are handed says what the study found, and asks nothing of the network."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from matplotlib.image import imread

from core.config import Limit, trilemma
from core.flags import FLAGS
from core.space import LogUniform, Switch, Uniform
from core.stats import Interval
from trainables import report
from trainables.outcome import Confirmed, Outcome, Trial, change

EVIL = "<script>alert('x')</script>"
OBJECTIVES = trilemma(10)
MASKED = {"flag/zero_gradients": 1.0, "flag/black_box_beats_white_box": 1.0, "flag/at_chance": 0.0}


def metrics(accuracy: float, robust: float, auc: float, **more: float) -> dict[str, float]:
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": auc} | more


def outcome(objectives=OBJECTIVES) -> Outcome:
    trials = [
        Trial(0, {"loss": "cross_entropy", "lr": 0.1}, metrics(0.9 + 1e-16, 0.1, 0.7), baseline=f"plain {EVIL}"),
        Trial(1, {"loss": "crl", "loss.lambda": 1 / 3, "lr": 0.1}, metrics(2 / 3, 0.5, 0.55, **{"flag/more_steps_help": 1.0})),
        Trial(2, {"loss": "crl", "loss.lambda": 1e-17, "lr": 0.1}, metrics(0.5, 0.4, 0.6, **{"flag/few_non_members": 1.0})),
        Trial(3, {"loss": "crl", "loss.lambda": 2.0, "lr": 0.1}, error=f"TrialError: {EVIL}"),
        Trial(4, {"loss": "crl", "loss.lambda": 2.5, "lr": 0.1}, metrics(0.8, 0.3, 0.52)),
        Trial(5, {"loss": "crl", "loss.lambda": 3.0, "lr": 0.1}, metrics(0.8, 0.9, 0.53, **MASKED)),
    ]
    means = {o.metric: trials[1].metrics[o.metric] - 0.01 for o in objectives}
    confirmed = [
        Confirmed(1, 3, means, {name: Interval(value - 0.02, value + 0.03) for name, value in means.items()}, 0.75, True),
        Confirmed(4, 1, means, {name: Interval(-math.inf, math.inf) for name in means}, 0.25, False, failed=2),
    ]
    space = {"loss.lambda": LogUniform(0.1, 3)}
    return Outcome("run-1", "crl", f"Why? {EVIL}", objectives, space, 6, {"command": EVIL}, trials, confirmed)


def empty() -> Outcome:
    return Outcome("run-1", "crl", "Why?", OBJECTIVES, {}, 6)


class Page(HTMLParser):
    """Collects tags, and the text outside scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.open.pop()

    def handle_data(self, data):
        self.text += "" if self.open else data


@pytest.fixture(scope="module")
def html() -> str:
    return report.html(outcome())


def test_no_request_leaves_the_page(html):
    tags = Page(html).tags
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    assert not [tag for tag, attrs in tags if attrs.keys() & {"srcset", "action", "data"}]
    assert all(attrs["src"].startswith("data:") for _, attrs in tags if "src" in attrs)
    assert all(tag == "a" and attrs["href"].startswith("#") for tag, attrs in tags if "href" in attrs)
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy and "connect-src" not in policy


def test_the_pictures_do_not_offer_to_send_data_away(html):
    offered = re.findall(r'"modeBarButtons":\s*(\[\[.*?\]\])', html)
    assert len(offered) == 4 and "Cloud" not in "".join(offered)


def test_plotly_is_inlined_once(html):
    assert html.count("* plotly.js v") == 1


def test_text_from_outside_is_escaped(html):
    page = Page(html)
    assert EVIL not in html
    assert page.text.count(EVIL) >= 4  # the question, a baseline, an error, a fact
    assert sum(tag == "script" for tag, _ in page.tags) == html.count("</script>")


def test_the_page_states_language_and_fits_a_phone(html):
    tags = Page(html).tags
    assert ("html", {"lang": "en"}) in tags
    assert any(attrs.get("name") == "viewport" for _, attrs in tags)
    assert all("scope" in attrs and "aria-sort" in attrs for tag, attrs in tags if tag == "th")


def test_each_front_trial_is_in_the_page(html):
    section = html[html.index('<h2 id="front">') : html.index('<h2 id="flags">')]
    front = outcome().front()
    assert [t.number for t in front] == [0, 4, 1]
    assert [int(n) for n in re.findall(r'<tr[^>]*><td class="n" data-value="(\d+)"', section)] == [0, 4, 1]


def test_the_answer_says_what_happened(html):
    text = Page(html).text
    assert "5 of 6 planned trials are done, 1 failed." in text
    assert "Best accuracy: 0.900, trial 0" in text
    assert "1 stayed on the front, 1 left it: trial 4" in text
    assert "On the front but flagged, to be read with care: trial 1: more_steps_help." in text
    assert "Kept off the front by their flags: trial 5: zero_gradients, black_box_beats_white_box." in text


def test_no_number_in_the_page_is_nan_or_infinite(html):
    data = "".join(re.findall(r"Plotly\.newPlot\(.*?</script>", html, re.DOTALL))
    assert data and not re.search(r"\b(NaN|Infinity)\b", data)
    assert not re.search(r"\b(nan|inf)\b", Page(html).text)


def test_csv_reads_back_as_the_same_floats():
    for rows in (report.front_rows(outcome()), report.confirmed_rows(outcome())):
        back = list(csv.DictReader(io.StringIO(report.csv(rows))))
        assert len(back) == len(rows)
        for read, row in zip(back, rows, strict=True):
            assert {name: type(value)(read[name]) for name, value in row.items() if not isinstance(value, bool)} == {
                name: value for name, value in row.items() if not isinstance(value, bool)
            }


def test_front_rows_hold_only_what_differs_and_what_a_trial_has():
    rows = report.front_rows(outcome())
    assert list(rows[0]) == ["trial", "baseline", "accuracy", "robust_accuracy", "mia_auc", "flags", "loss"]
    assert list(rows[1])[-2:] == ["loss", "loss.lambda"]


def test_front_rows_name_the_flags():
    assert [row["flags"] for row in report.front_rows(outcome())] == ["", "", "more_steps_help"]


def cells(row: str) -> list[str]:
    return [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", row)]


def rows_of(page: str, section: str) -> dict[str, list[str]]:
    """The rows of a section's table, by their first cell."""
    body = re.search(rf'<h2 id="{section}">.*?<tbody>(.*?)</tbody>', page, re.S)
    assert body
    found = [cells(row) for row in re.findall(r"<tr.*?</tr>", body[1], re.S)]
    return {row[0]: row for row in found}


def test_flagged_and_barred_trials_are_seen_in_the_tables(html):
    assert rows_of(html, "front")["1"][5] == "more_steps_help"
    trials = rows_of(html, "trials")
    assert {number: (row[1], row[6]) for number, row in trials.items()} == {
        "0": ("front", ""), "1": ("front", "more_steps_help"), "2": ("done", "few_non_members"), "3": ("failed", ""),
        "4": ("front", ""), "5": ("barred", "zero_gradients, black_box_beats_white_box"),
    }  # fmt: skip


def test_every_flag_that_occurs_is_explained_with_what_it_did_to_the_front(html):
    table = rows_of(html, "flags")
    assert set(table) == {"zero_gradients", "black_box_beats_white_box", "few_non_members", "more_steps_help"}
    for name, row in table.items():
        assert unescape(row[1]) == FLAGS[name].means and unescape(row[2]) == FLAGS[name].advice
    assert table["zero_gradients"][3:] == ["5", "none", "barred from the front; would be on it: 5"]
    assert table["more_steps_help"][3:] == ["1", "none", "marked"]


def test_a_flag_of_confirm_is_explained_too():
    study = outcome()
    study.confirmed[0] = replace(study.confirmed[0], on_front=False, flags=("random_forward",))
    page = report.html(study)
    assert rows_of(page, "flags")["random_forward"][3:5] == ["none", "1"]
    assert rows_of(page, "confirmed")["1"][-1] == "left: random_forward"


def test_a_flag_that_this_program_does_not_know_is_shown_all_the_same():
    study = outcome()
    study.trials[4].metrics["flag/of_old"] = 1.0
    assert rows_of(report.html(study), "flags")["of_old"][1] == "not known to this version"


def marked(study: Outcome, symbol: str) -> list[list[dict]]:
    """Of each interactive picture, the groups with that symbol in the colour of flags."""
    pictures = re.findall(r'Plotly\.newPlot\(\s*"[^"]+",\s*(\[.*?\]),\s*\{"template', report.html(study), re.S)
    return [
        [t for t in json.loads(p) if t["marker"]["symbol"] == symbol and t["marker"]["color"] == report.PURPLE] for p in pictures
    ]


def test_flagged_front_points_have_a_ring_and_barred_trials_a_cross_in_every_picture():
    for symbol, trial in (("circle-open", 1), ("x", 5)):
        pictures = marked(outcome(), symbol)
        assert len(pictures) == 4
        for (group,), pair in zip(pictures[:3], [(0, 1), (0, 2), (1, 2)], strict=True):
            x, y = (OBJECTIVES[i].metric for i in pair)
            assert (group["x"], group["y"]) == ([outcome().trials[trial].metrics[x]], [outcome().trials[trial].metrics[y]])
    honest = outcome()
    honest.trials = [t for t in honest.trials if not t.flags]
    honest.confirmed = []
    assert marked(honest, "circle-open") == marked(honest, "x") == [[], [], [], []]
    names = lambda study: {text.get_text() for text in figure(study).legends[0].get_texts()}  # noqa: E731
    flags = {"flagged, on the front", "barred by a flag"}
    assert flags <= names(outcome()) and not flags & names(honest)


def figure(study: Outcome):
    """The picture of the front before it is made a PNG."""
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "png", lambda figure: drawn.append(figure) or b"")
        report.figures(study)
    return drawn[0]


def test_the_answer_says_what_each_later_look_did():
    before = outcome()
    after = replace(before, trials=[
        replace(t, metrics={**t.metrics, "robust_accuracy": 0.05}) if t.number == 1 else t for t in before.trials
    ])  # fmt: skip
    after.changes = [change(before, after, "with the attacks of suite strong", "2026-01-01 00:00:00 +0000", {})]
    text = Page(report.html(after)).text
    assert (
        "Version 2 of the front, from the stored networks with the attacks of suite strong: robust accuracy moved by "
        "\N{MINUS SIGN}0.090 on average, at most by \N{MINUS SIGN}0.450 (trial 1). Left the front: trial 1; entered it: trial 2."
    ) in text
    assert "Front of the sweep, version 2" in text


def test_files_are_everything_that_people_read():
    study = outcome()
    made = report.files(study)
    assert list(made) == ["front.csv", "confirmed.csv", "plots/front.png", "plots/hypervolume.png", "report.html"]
    assert made["front.csv"].decode() == report.csv(report.front_rows(study))
    study.confirmed = []
    assert "confirmed.csv" not in report.files(study)


def test_the_page_lists_the_ranges_of_every_option_and_leaves_empty_what_a_trial_lacks():
    study = outcome()
    study.space = {"loss": Switch({"cross_entropy": {}, "crl": {"loss.lambda": LogUniform(0.1, 3)}}), "lr": Uniform(0, 1)}
    page = report.html(study)
    assert "loss cross_entropy | crl (loss.lambda=0.1:3.0:log); lr 0.0:1.0" in Page(page).text
    section = page[page.index('<h2 id="trials">') : page.index('<h2 id="failed">')]
    lacks, has = re.findall(r"<tr><td[^>]*>[01]</td>.*?</tr>", section)
    assert lacks.endswith("<td>cross_entropy</td><td></td></tr>")
    assert has.endswith('<td>crl</td><td class="n" data-value="0.3333333333333333">0.3333</td></tr>')


def test_confirmed_rows_hold_both_looks():
    row = report.confirmed_rows(outcome())[0]
    assert row["sweep_accuracy"] == 2 / 3 and row["accuracy"] == 2 / 3 - 0.01
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert row["probability_non_dominated"] == 0.75 and row["on_front"] is True


@pytest.mark.parametrize("case", [outcome, empty, lambda: outcome(OBJECTIVES[:2])], ids=["full", "empty", "two"])
def test_figures_are_pictures(case):
    pictures = report.figures(case())
    assert set(pictures) == {"front.png", "hypervolume.png"}
    for png in pictures.values():
        pixels = imread(io.BytesIO(png))
        assert pixels.shape[0] > 300 and pixels.shape[1] > 500
        assert pixels[..., :3].std() > 0.01


def test_a_study_with_nothing_in_it_has_a_report():
    text = Page(report.html(empty())).text
    assert "0 of 6 planned trials are done, 0 failed." in text and "Nothing is confirmed" in text
    assert report.front_rows(empty()) == report.confirmed_rows(empty()) == []
    assert report.csv([]) == ""


def test_two_objectives_have_one_flat_picture():
    page = report.html(outcome(OBJECTIVES[:2]))
    assert page.count("Plotly.newPlot(") >= 1 and 'id="pair-0"' in page
    assert 'id="pair-1"' not in page and 'id="cube"' not in page


def test_a_trial_that_lacks_an_objective_is_listed_but_not_drawn():
    study = outcome()
    study.trials.append(Trial(5, {"loss": "crl"}, {"accuracy": 0.4}))
    report.figures(study)
    assert '<td class="n" data-value="5">5</td>' in report.html(study)


def test_what_was_required_and_what_was_given_up_is_said():
    made = outcome()
    made.require = (Limit.of("accuracy>=0.7"),)
    made.trials.append(Trial(6, {"loss": "crl", "loss.lambda": 0.5, "lr": 0.1}, stopped=5))
    text = unescape(Page(report.html(made)).text)
    assert "1 failed, 1 was given up early as dominated" in text
    assert "Required of every point: accuracy>=0.7; 2 of the 5 trials miss it." in text
    assert "given up after epoch 5: dominated there" in text
    assert {row["trial"] for row in report.front_rows(made)} == {0, 4}
