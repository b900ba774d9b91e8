"""The model card as a description."""

from trainables.decisions.model_card import MAX_DESCRIPTION, short


def test_a_long_card_is_cut_at_a_line_break_and_the_cut_is_noted():
    assert short("a\n" * 2500) == "a\n" * 2500
    cut = short("a line\n" * 1000)
    assert MAX_DESCRIPTION - 10 < len(cut) <= MAX_DESCRIPTION and "a line\n\n(shortened" in cut
