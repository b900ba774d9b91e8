"""The card of the method and its caveats."""

from typing import Any

from trainables.reporting.card import Card, ReportContext

TEMPLATE = """
<p>Each trial is one configuration: trained on the members, attacked and audited on non-members. The front consists of the trials
that no other trial dominates, without those that a flag excludes or that violate a constraint. Confirmation trains the front again
with new seeds and members, and evaluates it with stronger attacks and audits on images that the sweep has not seen.</p>
<ul>
<li>The numbers of the sweep are measured on <code>val</code>, and the front is selected from many noisy trials, so its numbers are
biased in its favour. Quote the confirmed ones, which have new seeds and members and are measured on <code>test</code>.</li>
<li>An audit is a lower bound on leakage: another attacker may distinguish members from non-members better, and the threshold audits
of a sweep are the weakest. An attack is an upper bound on robust accuracy: a stronger one may fool more images.</li>
<li>Intervals are Student's, over few replicates. They cover seeds and the draw of members, not another data set or threat model. A
single replicate has no interval.</li>
<li>The probability of being non-dominated compares confirmed points with each other only.</li>
<li>The knee depends on the extent of the front: it is a starting point, not a recommendation.</li>
</ul>
"""


def data(context: ReportContext) -> dict[str, Any]:
    """No values; the text is the same for every study."""
    del context
    return {}


CARD = Card("method", "Method and caveats", data, TEMPLATE, link="Method")
