"""The point that the report recommends, and where it is in figures."""

from collections.abc import Mapping

from trainables.study.conclusions import choice
from trainables.study.outcome import Outcome
from trainables.study.text import knee


def recommended(outcome: Outcome) -> int | None:
    """Number of the point to ship, or of the sweep's knee if nothing is confirmed; None if there is no front."""
    if outcome.confirmed:
        chosen = choice(outcome)
        return None if isinstance(chosen, str) else chosen.point.number
    balanced = knee(outcome)
    return balanced.number if balanced else None


def place(outcome: Outcome, number: int) -> Mapping[str, float]:
    """The values of a trial in figures: its confirmed means, or its metrics in the sweep if it is not confirmed."""
    confirmed = {c.number: c.means for c in outcome.confirmed}
    return confirmed.get(number) or next(t.metrics for t in outcome.trials if t.number == number)
