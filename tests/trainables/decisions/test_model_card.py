"""The model card of a choice, and the card as a description."""

import finished
import numpy as np
import pytest
from chosen import LOWEST_AUC, choose, confirmation, outcome_of, point

from core import data
from trainables.decisions.choice import Pick
from trainables.decisions.model_card import MAX_DESCRIPTION, card, short
from trainables.storage.networks import StoredNetwork

NOISY = {1: point(0.9, 0.2, 0.600, 0.02), 2: point(0.8, 0.4, 0.605, 0.02), 3: point(0.95, 0.1, 0.9, 0.02)}


@pytest.fixture(scope="module")
def images() -> data.Images:
    """The digits."""
    return data.load("digits")


def card_of(picked: Pick, images: data.Images) -> str:
    """The model card of a choice."""
    facts = {"command": "pick", "commit": "abc", "started": "today"}
    known = {"member_rows": np.arange(7), "rows": np.arange(5)}
    return card(picked, outcome_of(NOISY), finished.plan(), known, images, "f00", facts)


def test_the_card_has_the_numbers_of_the_choice_in_the_same_words_as_the_terminal(images):
    picked = choose(NOISY, LOWEST_AUC, "accuracy>=0.7", given=confirmation(NOISY, chance=0.55))
    text = card_of(picked, images)
    first = f"Chosen for the lowest mia_auc with accuracy>=0.7, {picked.candidates}. The network is {picked.which}."
    assert first in text and f"## Runners-up\n\n{picked.certainty}:\n\n- {picked.runners_up[0]}" in text
    value = picked.chosen.values["mia_auc"]
    low, high = value.shrunk_interval
    cells = (f"{value.shrunk:.4f}", f"{low:.4f} to {high:.4f}", f"{value.mean:.4f}", "0.5500", f"{picked.own('mia_auc'):.4f}")
    assert f"| mia_auc | {' | '.join(cells)} |" in text
    assert all(f"- {caveat}" in text for caveat in picked.caveats)
    assert "Intervals include seeds, the draw of members and the judged images, but not another data set." in text
    assert "winner's curse" in text and "Student" not in text and "The model leaks some training data" in text
    assert "| mia_auc/loss | " in text.split("## Other metrics")[1]


def test_an_unresolved_leak_is_marked_and_is_not_called_a_leak(images):
    text = card_of(choose(NOISY, given=confirmation(NOISY, chance=0.62)), images)
    assert "0.6200 (not resolved) |" in text and "- mia_auc is not resolved" in text
    assert "The model may leak training data: protect it like the training data itself." in text


def test_a_card_without_runners_up_or_intervals_does_not_have_them(images):
    apart = {1: point(0.9, 0.2, 0.6), 2: point(0.8, 0.4, 0.7), 3: point(0.95, 0.1, 0.9)}
    assert "## Runners-up" not in card_of(choose(apart), images)
    single = {n: {name: values[:1] for name, values in own.items()} for n, own in NOISY.items()}
    assert "There are no intervals, because a single network shows no variance." in card_of(choose(single), images)


def test_numbers_of_a_sweep_are_marked_as_not_confirmed(images):
    params = choose(NOISY).network.params
    networks = [
        StoredNetwork(f"trial {n}, seed {i}", f"trials/{n:05d}/seeds/{i}", params, {name: own[name][i - 1] for name in own})
        for n, own in NOISY.items() for i in (1, 2)
    ]  # fmt: skip
    text = card_of(choose(NOISY, unconfirmed=True, networks=networks), images)
    assert "Not confirmed: " in text and "## Runners-up" not in text
    assert "Intervals include seeds, but neither the draw of members nor the judged images nor another data set." in text


def test_a_long_card_is_cut_at_a_line_break_and_the_cut_is_noted():
    assert short("a\n" * 2500) == "a\n" * 2500
    cut = short("a line\n" * 1000)
    assert MAX_DESCRIPTION - 10 < len(cut) <= MAX_DESCRIPTION and "a line\n\n(shortened" in cut
