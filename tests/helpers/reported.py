"""A small outcome for reports with text that must be escaped, and readers of the page."""

import math
import re
from html import unescape
from html.parser import HTMLParser

from confirming import confirmation, point

from core.space import LogUniform
from core.stats import Interval
from core.study import trilemma
from trainables.reporting.page import render_page
from trainables.study.outcome import Outcome
from trainables.study.trial import Trial

EVIL = "<script>alert('x')</script>"
"""Text that would run if it were not escaped."""
OBJECTIVES = trilemma(10)
MASKED = {"flag/zero_gradients": 1.0, "flag/black_box_beats_white_box": 1.0, "flag/at_chance": 0.0}


def metrics(accuracy: float, robust: float, auc: float, **more: float) -> dict[str, float]:
    """Metrics of a trial."""
    return {"accuracy": accuracy, "robust_accuracy": robust, "mia_auc": auc} | more


def outcome(objectives=OBJECTIVES) -> Outcome:
    """An outcome with a flagged, an excluded and a failed trial, and two confirmed points, of which one left the front."""
    trials = [
        Trial(0, {"loss": "cross_entropy", "lr": 0.1}, metrics(0.9 + 1e-16, 0.1, 0.7), baseline=f"plain {EVIL}"),
        Trial(1, {"loss": "crl", "loss.lambda": 1 / 3, "lr": 0.1}, metrics(2 / 3, 0.5, 0.55, **{"flag/more_steps_help": 1.0})),
        Trial(2, {"loss": "crl", "loss.lambda": 1e-17, "lr": 0.1}, metrics(0.5, 0.4, 0.6, **{"flag/few_non_members": 1.0})),
        Trial(3, {"loss": "crl", "loss.lambda": 2.0, "lr": 0.1}, error=f"TrialError: {EVIL}"),
        Trial(4, {"loss": "crl", "loss.lambda": 2.5, "lr": 0.1}, metrics(0.8, 0.3, 0.52)),
        Trial(5, {"loss": "crl", "loss.lambda": 3.0, "lr": 0.1}, metrics(0.8, 0.9, 0.53, **MASKED)),
    ]
    means = {o.metric: trials[1].metrics[o.metric] - 0.01 for o in objectives}
    intervals = {name: Interval(value - 0.02, value + 0.03) for name, value in means.items()}
    confirmed = [
        point(1, means, intervals=intervals, probability=0.75),
        point(4, means, math.inf, replicates=1, probability=0.25, on_front=False, failed=2),
    ]
    space = {"loss.lambda": LogUniform(0.1, 3)}
    return Outcome("run-1", "crl", f"Why? {EVIL}", objectives, space, 6, {"command": EVIL}, trials, confirmation(confirmed))


def empty() -> Outcome:
    """The outcome of a study in which no trial has ended."""
    return Outcome("run-1", "crl", "Why?", OBJECTIVES, {}, 6)


def page_of(study: Outcome) -> str:
    """The page of a report, without still figures, which take seconds."""
    return render_page(study, {})


class Page(HTMLParser):
    """The tags of a page, and its text outside scripts and styles."""

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


def text_of(study: Outcome) -> str:
    """The text of a report."""
    return Page(page_of(study)).text


def plain(html: str) -> str:
    """HTML without tags."""
    return unescape(re.sub("<[^>]*>", "", html))


def cells(row: str) -> list[str]:
    """Texts of the cells of a row."""
    return [plain(cell) for cell in re.findall(r"<td.*?</td>", row)]


def section_of(page: str, anchor: str) -> str:
    """HTML of a section."""
    section = re.search(rf'<h2 id="{anchor}">.*?</section>', page, re.S)
    assert section
    return section[0]


def rows_of(page: str, anchor: str) -> dict[str, list[str]]:
    """Rows of a section's table, by their first cell."""
    body = re.search(r"<tbody>(.*?)</tbody>", section_of(page, anchor), re.S)
    assert body
    rows = [cells(row) for row in re.findall(r"<tr.*?</tr>", body[1], re.S)]
    return {row[0]: row for row in rows}
