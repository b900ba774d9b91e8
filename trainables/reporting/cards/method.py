"""The card of the method and its caveats."""

from typing import Any

from trainables.reporting.card import Card, ReportContext

TEMPLATE = """
<p>Each trial is one configuration: trained on the members, attacked and audited on non-members. The front of the sweep consists of
the trials that no other trial dominates, without those that a flag excludes or that violate a constraint. Confirmation trains the
front and all baselines again with new seeds and members, and evaluates them with stronger attacks and audits on images that the
sweep has not seen.</p>
<ul>
<li>The numbers of the sweep are measured on <code>val</code>, and its front is selected from many noisy trials, so they are
biased in its favour. Quote the confirmed ones.</li>
<li>Intervals of confirmed means cover seeds, members and the judged images, but not another data set or threat model. Replicate r
has the same members for every point, so differences are paired. A single replicate has no interval.</li>
<li>A membership-inference AUC is that of the best audit, chosen on other images than those it is reported on. Its chance level is
the 95 % quantile that it reaches when membership is permuted; an AUC that does not exceed it is <em>not resolved</em> and counts
as the chance level.</li>
<li>A point <em>stays</em> on the front if it is non-dominated with a probability of at least 95 %, and <em>leaves</em> it with at
most 5 %; everything between is <em>undecided</em>. Probabilities compare the confirmed points with each other only.</li>
<li>The expected value of a chosen point is its mean after shrinkage towards the other points, because the best of several noisy
means is too good.</li>
<li>An audit is a lower bound on leakage: another attacker may distinguish members from non-members better. An attack is an upper
bound on robust accuracy: a stronger one may fool more images.</li>
<li>The knee depends on the extent of the front. State requirements with <code>--require</code> to choose by them instead.</li>
</ul>
"""


def data(context: ReportContext) -> dict[str, Any]:
    """No values; the text is the same for every study."""
    del context
    return {}


CARD = Card("method", "Method and caveats", data, TEMPLATE, link="Method")
