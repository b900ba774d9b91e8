"""The versions of a front, and the outcome of a study at each of them."""

from dataclasses import replace

import finished
import numpy as np
import pytest
from revised import SECOND, THIRD, write_reevaluation

from core.errors import InputError
from trainables.storage.arrays import to_npz
from trainables.storage.jobs import trial_folder
from trainables.storage.store import Store
from trainables.storage.versions import outcomes, reevaluated, versions, write_version
from trainables.study.outcome import MetricShift
from trainables.study.results import NetworkResult


def test_versions_are_read_in_the_order_of_their_numbers_and_other_files_are_skipped(tmp_path):
    store = Store.at(str(tmp_path))
    for number in (10, 2, 9):
        write_version(store, replace(SECOND, number=number))
    for name in ("versions/1/front.csv", "versions/notes.txt", "versions/3/trials/00000/result.json"):
        store.write(name, b"{}")
    assert versions(store) == [replace(SECOND, number=number) for number in (2, 9, 10)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"number": 2}', b'{"name": 2}', b"\x00", b"\xff", b"[" * 10_000])
def test_the_error_for_an_unreadable_version_names_its_file(tmp_path, content):
    store = Store.at(str(tmp_path))
    store.write("versions/2/version.json", content)
    with pytest.raises(InputError, match=r"versions/2/version\.json is damaged"):
        versions(store)


def test_a_failed_network_stays_failed_and_a_failed_reevaluation_removes_the_metrics(tmp_path):
    store, good = Store.at(str(tmp_path)), NetworkResult(metrics={"robust_accuracy": 0.5})
    write_reevaluation(store, SECOND, "trials/00000", 4)
    assert reevaluated(store, "trials/00000", SECOND, NetworkResult(error="it diverged")) == NetworkResult(error="it diverged")
    assert reevaluated(store, "trials/00000", SECOND, good).metrics["robust_accuracy"] == 0.4
    assert reevaluated(store, "trials/00000", SECOND, good).measured == ("robust_accuracy", "robust_accuracy/square")
    write_reevaluation(store, SECOND, "trials/00001")
    for folder, reason in (("trials/00001", "it broke"), ("trials/00002", "not re-evaluated")):
        assert reevaluated(store, folder, SECOND, good) == NetworkResult(metrics={}, error=f"in version 2: {reason}", measured=())


def test_a_study_at_each_version_of_its_front(tmp_path):
    """Robust accuracy 0.4, 0.5, 0.6 becomes 0.4, 0.4, 0.6 and then 0.1, 0.4, 0.6; the replicate of trial 0 changes, too."""
    store = finished.study(tmp_path)
    for version, robust_images in ((SECOND, (4, 4, 6)), (THIRD, (1, 4, 6))):
        for number in range(3):
            write_reevaluation(store, version, trial_folder(number), robust_images[number])
        write_reevaluation(store, version, "confirm/00000/1", robust_images[0] - 1)
    first, second, third = outcomes(finished.plan(), store, {"commit": "of the study"}, [SECOND, THIRD])
    robust = [[t.metrics["robust_accuracy"] for t in outcome.trials] for outcome in (first, second, third)]
    assert robust == [[0.4, 0.5, 0.6], [0.4, 0.4, 0.6], [0.1, 0.4, 0.6]]
    assert [sorted(t.number for t in outcome.front()) for outcome in (first, second, third)] == [[0, 1, 2], [0, 2], [0, 1, 2]]
    assert [outcome.confirmed[0].means["robust_accuracy"] for outcome in (first, second, third)] == pytest.approx([0.4, 0.3, 0.0])
    assert [outcome.version for outcome in (first, second, third)] == [1, 2, 3]
    assert (second.revisions[0].left, second.revisions[0].entered) == ((1,), ())
    assert (third.revisions[1].left, third.revisions[1].entered) == ((), (1,))
    assert second.revisions[0].shifts == {"robust_accuracy": MetricShift(pytest.approx(-0.1 / 3), pytest.approx(-0.1), 1)}
    assert third.revisions[1].shifts["robust_accuracy"] == MetricShift(pytest.approx(-0.1), pytest.approx(-0.3), 0)
    assert third.revisions[:1] == second.revisions and not first.revisions
    assert "with more attacks" in third.facts["version 3"] and first.facts == {"commit": "of the study"}
    assert all(t.metrics["accuracy"] == 0.9 - 0.1 * t.number and t.curve for t in third.trials)  # what was not measured again stays


def test_a_trial_whose_reevaluation_failed_is_on_no_front_until_it_succeeds(tmp_path):
    store = finished.study(tmp_path)
    for number in (0, 2):
        write_reevaluation(store, SECOND, trial_folder(number), 4)
    write_reevaluation(store, SECOND, trial_folder(1))
    write_reevaluation(store, SECOND, "confirm/00000/1", 4)
    outcome = outcomes(finished.plan(), store, {}, [SECOND])[-1]
    assert [(t.number, t.error) for t in outcome.failed] == [(1, "in version 2: it broke")]
    assert [t.number for t in outcome.front()] == [0] and outcome.revisions[0].left == (1, 2)
    # A later version does not bring the trial back, because it was not attacked like the others.
    write_reevaluation(store, THIRD, trial_folder(1), 3)
    for folder in (trial_folder(0), trial_folder(2), "confirm/00000/1"):
        write_reevaluation(store, THIRD, folder, 4)
    assert [t.number for t in outcomes(finished.plan(), store, {}, [SECOND, THIRD])[-1].failed] == [1]
    write_reevaluation(store, SECOND, trial_folder(1), 5)
    assert not outcomes(finished.plan(), store, {}, [SECOND])[-1].failed


def test_the_confirmed_point_of_a_trial_whose_reevaluation_failed_is_omitted(tmp_path):
    store = finished.study(tmp_path)
    for folder in (trial_folder(1), trial_folder(2), "confirm/00000/1"):
        write_reevaluation(store, SECOND, folder, 4)
    write_reevaluation(store, SECOND, trial_folder(0))
    assert outcomes(finished.plan(), store, {}, [SECOND])[-1].confirmed == []


def test_new_flags_are_reported_and_exclude_trials(tmp_path):
    store = finished.study(tmp_path)
    for number in range(3):
        flags = {"flag/black_box_beats_white_box": float(number == 2), "flag/more_steps_help": float(number == 1)}
        write_reevaluation(store, SECOND, trial_folder(number), 4 + number, **flags)
    write_reevaluation(store, SECOND, "confirm/00000/1", 4)
    outcome = outcomes(finished.plan(), store, {}, [SECOND])[-1]
    assert outcome.revisions[0].raised == {1: ("more_steps_help",), 2: ("black_box_beats_white_box",)}
    assert outcome.revisions[0].left == (2,) and [t.number for t in outcome.excluded()] == [2]
    assert not outcome.revisions[0].shifts
    assert list(outcome.flags()) == ["black_box_beats_white_box", "few_non_members", "more_steps_help"]  # excluding flags first
    assert [t.number for t in outcome.flags()["few_non_members"]] == [0, 1, 2]


def test_a_lost_replicate_counts_as_failed(tmp_path):
    plan = finished.plan(replicates=3)
    store = finished.study(tmp_path, plan)
    store.discard("confirm/00000/2/result.json")
    (point,) = outcomes(plan, store, {}, [])[0].confirmed
    assert (point.replicates, point.failed) == (2, 1)


def test_audits_of_a_version_count_for_its_confirmed_points_and_not_for_those_before(tmp_path):
    """At version 2, an audit separates all members from all others, with scores of fewer images than before."""
    store = finished.study(tmp_path)
    for number in range(3):
        write_reevaluation(store, SECOND, trial_folder(number), 4)
    write_reevaluation(store, SECOND, "confirm/00000/1", **{"mia_auc/lira_offline": 1.0, "flag/audit_lacks_models": 0.0})
    rows, member = np.arange(8) * 20, np.arange(8) < 4
    scores = {"attacker/rows": rows, "attacker/member": member, "attacker/lira_offline": np.where(member, 1.0, 0.0)}
    store.write(f"{SECOND.folder}/confirm/00000/1/predictions.npz", to_npz(scores))
    first, second = (outcome.confirmed[0] for outcome in outcomes(finished.plan(), store, {}, [SECOND]))
    assert list(first.tiers) == ["threshold"] and list(second.tiers) == ["threshold", "shadows"]
    assert first.means["mia_auc"] == pytest.approx(0.6) and second.leaks["lira_offline"].auc == 1.0
    assert second.tiers["threshold"] == first.tiers["threshold"]
    assert second.means["mia_auc"] == second.tiers["shadows"][0] > first.means["mia_auc"]
