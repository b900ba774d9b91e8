"""The card of the front as a table."""

import re

from reported import outcome, page_of, rows_of, section_of


def test_the_table_contains_the_trials_of_the_front_in_their_order_with_their_flags():
    page = page_of(outcome())
    front = outcome().front()
    assert [t.number for t in front] == [0, 4, 1]
    assert [int(n) for n in re.findall(r'<tr[^>]*><td class="n" data-value="(\d+)"', section_of(page, "front"))] == [0, 4, 1]
    assert rows_of(page, "front")["1"][5] == "more_steps_help"
