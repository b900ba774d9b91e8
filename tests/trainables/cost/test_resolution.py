"""What numbers of images can resolve."""

import itertools
import math

import numpy as np
import pytest
from command_lines import plan
from splits import digits_with_a_test_file

from core import data
from core.audits.roc import Roc, unresolved
from core.stats import wilson
from trainables.cost import resolution


@pytest.mark.parametrize(("members", "non_members"), [(2, 2), (3, 4), (5, 2)])
def test_the_error_of_an_auc_without_a_leak_is_that_of_all_orders_of_the_scores(members, non_members):
    total = members + non_members
    aucs = [
        Roc.of(list(rows), [r for r in range(total) if r not in rows]).auc for rows in itertools.combinations(range(total), members)
    ]
    assert resolution.null_error(members, non_members) == pytest.approx(np.std(aucs))


def test_an_auc_differs_from_one_half_beyond_1_96_errors():
    assert resolution.smallest_auc(449, 224) == pytest.approx(0.5 + 1.959964 * math.sqrt(674 / (12 * 449 * 224)))


def test_the_difference_of_two_correlated_aucs_has_the_stated_error():
    """Two normal scores with correlation 0.5 on the same images: the spread of the difference of their AUCs."""
    stream = np.random.Generator(np.random.PCG64(1))
    m, n, differences, aucs = 60, 40, [], []
    for _ in range(2000):
        shared, one, two = stream.normal(size=(3, m + n))
        pair = [Roc.of((shared + own)[:m], (shared + own)[m:]).auc for own in (one, two)]
        differences.append(pair[0] - pair[1])
        aucs.append(pair)
    correlation = float(np.corrcoef(np.array(aucs).T)[0, 1])
    assert 1.96 * np.std(differences) == pytest.approx(resolution.smallest_difference(m, n, correlation), rel=0.05)
    assert resolution.smallest_difference(m, n, 0.5) == pytest.approx(1.959964 * resolution.null_error(m, n))
    assert correlation == pytest.approx(0.5, abs=0.05)


def test_no_share_has_a_wider_interval_than_one_half():
    widths = [(high - low) / 2 for low, high in (wilson(hits, 100) for hits in range(101))]
    assert resolution.largest_half_width(100) == max(widths)


def test_a_rate_is_reported_from_ten_false_positives_on():
    rate = resolution.lowest_rate(225)
    assert rate == 10 / 225 and not unresolved(rate, 225) and unresolved(0.99 * rate, 225)
    assert resolution.lowest_rate(5) == 1


def test_the_resolution_of_audits_is_that_of_the_images_that_members_are_compared_with():
    images, settings = digits_with_a_test_file(), ("--set", "split=official", "split.val=150")
    lines = resolution.sentences(plan(*settings), images)
    confirmation = lines[lines.index(next(line for line in lines if line.startswith("confirmation"))) :]
    assert confirmation[0].startswith("confirmation, per network: 450 members and 400 non-members, 300 of them attacked")
    assert confirmation[2] == "  audits compare the members with the 150 images of val, which are drawn like them"
    assert f"above {resolution.smallest_auc(450, 150):.3f}" in confirmation[3]
    none = resolution.sentences(plan("--no-confirm", "--set", "split=official", "split.val=0", "judge.part=test"), images)
    assert none[2:] == ["  no audit: the split has no non-members that are drawn like the members"]


def test_the_sentences_have_the_numbers_of_the_sweep_and_of_the_confirmation_step():
    lines = resolution.sentences(plan("--set", "judge.images=100"), data.load("hard_digits"))
    assert lines[0] == "sweep: 503 members and 1,006 non-members, 100 of them attacked"
    assert lines[1] == "  accuracy is known to ±0.031 or better, robust accuracy to ±0.096 or better (95 %)"
    assert lines[2] == "  the AUC of one audit differs from 0.5 if it is above 0.531 (95 %)"
    assert "their AUCs differ by 0.031 or more (95 %, for a correlation of 0.5" in lines[3]
    assert lines[4] == "  true-positive rates are reported at false-positive rates of 0.99 % and above, so none at 0.1 %"
    assert lines[5] == "confirmation, per network: 503 members and 1,007 non-members, 300 of them attacked"
    assert len(lines) == 10 and len(resolution.sentences(plan("--no-confirm"), data.load("hard_digits"))) == 5


def test_a_reference_set_makes_fewer_members():
    lines = resolution.sentences(plan("--no-confirm", "--set", "regularizer=advreg"), data.load("hard_digits"))
    members = int(lines[0].split()[1])
    assert members < 503


def test_the_sentence_of_a_step_leaves_out_the_images_that_choose_the_epoch():
    lines = resolution.sentences(plan("--set", "selection=accuracy", "selection.images=60"), data.load("hard_digits"))
    assert lines[0] == "sweep: 503 members and 946 non-members, 300 of them attacked; 60 others choose the epoch"
