"""What a study's files say, and how later looks at its networks add up."""

from dataclasses import replace

import finished
import numpy as np
import pytest

from core.errors import InputError
from trainables.outcome import Move
from trainables.results import Version, evidence, looked, merged, outcomes, versions, write_version
from trainables.store import Store
from trainables.trial import npz, of_npz, trial_folder

FACTS = {"command": "python x.py", "commit": "abc", "started": "2026-01-02 03:04:05 +0000"}
SECOND = Version(2, {"suite": "standard"}, "with more attacks", FACTS, finished="2026-01-02 03:05:05 +0000")
THIRD = replace(SECOND, number=3)


def found(store: Store, version: Version, folder: str, stands: int | None = None, **metrics: float) -> None:
    """What a look finds: images that still stand, and metrics; with neither, an error."""
    if stands is not None:
        store.write(f"{version.folder}/{folder}/predictions.npz", npz({"stands/square": np.arange(finished.IMAGES) < stands}))
        metrics = {"robust_accuracy": stands / finished.IMAGES, "robust_accuracy/square": stands / finished.IMAGES} | metrics
    store.write_json(f"{version.folder}/{folder}/result.json", {"metrics": metrics, "error": "" if metrics else "it broke"})


# ---------------------------------------------------------------- flags and metrics


def test_what_was_measured_anew_replaces_what_was_known_and_the_rest_stays():
    assert merged({"accuracy": 0.9, "robust_accuracy": 0.5}, {"robust_accuracy": 0.4, "robust_accuracy/square": 0.4}) == {
        "accuracy": 0.9, "robust_accuracy": 0.4, "robust_accuracy/square": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize("known, new, after", [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_a_sign_of_masked_gradients_once_seen_stays(known, new, after):
    flags = {"flag/zero_gradients": known}
    assert merged(flags, {"flag/zero_gradients": new})["flag/zero_gradients"] == after
    assert merged(flags, {})["flag/zero_gradients"] == known
    assert merged({}, {"flag/zero_gradients": new})["flag/zero_gradients"] == new


@pytest.mark.parametrize("known, new", [(1.0, 0.0), (0.0, 1.0)])
def test_that_an_attack_was_cut_short_is_said_by_the_newest_attack_that_was_asked(known, new):
    flags = {"flag/more_steps_help": known}
    assert merged(flags, {"flag/more_steps_help": new})["flag/more_steps_help"] == new
    assert merged(flags, {"robust_accuracy": 0.1})["flag/more_steps_help"] == known


def test_a_look_at_what_failed_changes_nothing_and_a_failed_look_takes_the_numbers_away(tmp_path):
    store, good = Store.at(str(tmp_path)), {"metrics": {"robust_accuracy": 0.5}, "error": ""}
    found(store, SECOND, "trials/00000", 4)
    assert looked(store, "trials/00000", SECOND, {"metrics": {}, "error": "it diverged"})["error"] == "it diverged"
    assert looked(store, "trials/00000", SECOND, good)["metrics"]["robust_accuracy"] == 0.4
    assert looked(store, "trials/00000", SECOND, good)["measured"] == ("robust_accuracy", "robust_accuracy/square")
    found(store, SECOND, "trials/00001")
    for folder, reason in (("trials/00001", "it broke"), ("trials/00002", "not looked at")):
        assert looked(store, folder, SECOND, good) == {"metrics": {}, "error": f"in version 2: {reason}", "measured": ()}


# ---------------------------------------------------------------- files


def test_arrays_come_back_under_their_names():
    arrays = {"rows": np.arange(3), "stands/apgd_ce": np.array([True, False])}
    back = of_npz(npz(arrays))
    assert back.keys() == arrays.keys() and all((back[name] == array).all() for name, array in arrays.items())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text", npz({"rows": np.arange(100)})[:-40]])
def test_a_file_of_something_else_is_a_value_error(content):
    with pytest.raises(ValueError):
        of_npz(content)


def test_an_array_that_is_a_program_is_not_run():
    with pytest.raises(ValueError):
        of_npz(npz({"rows": np.array([print])}))


def test_versions_are_read_by_number_and_what_is_none_is_left_out(tmp_path):
    store = Store.at(str(tmp_path))
    for number in (10, 2, 9):
        write_version(store, replace(SECOND, number=number))
    for name in ("versions/1/front.csv", "versions/notes.txt", "versions/3/trials/00000/result.json"):
        store.write(name, b"{}")
    assert versions(store) == [replace(SECOND, number=number) for number in (2, 9, 10)]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"number": 2}', b'{"name": 2}', b"\x00"])
def test_a_version_that_cannot_be_read_is_named(tmp_path, content):
    store = Store.at(str(tmp_path))
    store.write("versions/2/version.json", content)
    with pytest.raises(InputError, match=r"versions/2/version\.json is not of this program"):
        versions(store)


def test_evidence_is_who_stands_under_everything_by_the_name_of_the_attack(tmp_path):
    store = finished.study(tmp_path)
    known = {**finished.predictions(2), "stands/square": np.arange(10) != 0}
    store.write("trials/00002/predictions.npz", npz(known))
    found(store, SECOND, "trials/00002", 5)
    store.write("versions/3/trials/00002/predictions.npz", npz({"stands/square": np.arange(10) != 1}))
    assert evidence(store, "trials/00002", [])["stands/square"].sum() == 9
    assert evidence(store, "trials/00002", [SECOND])["stands/square"].tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    everything = evidence(store, "trials/00002", [SECOND, THIRD])
    assert everything["stands/square"].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]  # met again, it stays fallen
    assert everything["stands/pgd"].tolist() == known["stands/pgd"].tolist() and (everything["rows"] == known["rows"]).all()


@pytest.mark.parametrize("content, reason", [(None, "missing"), (b"PK\x03\x04 no", "not a zip")])
def test_evidence_that_cannot_be_read_is_named(tmp_path, content, reason):
    store = finished.study(tmp_path)
    store.discard("trials/00001/predictions.npz")
    if content:
        store.write("trials/00001/predictions.npz", content)
    with pytest.raises(InputError, match=f"cannot read .*trials/00001/predictions.npz: .*{reason}"):
        evidence(store, "trials/00001", [])


# ---------------------------------------------------------------- the study at each version


def test_a_study_at_each_version_of_its_front(tmp_path):
    """Robust accuracy 0.4, 0.5, 0.6 becomes 0.4, 0.4, 0.6 and then 0.1, 0.4, 0.6; the replicate of trial 0 goes along."""
    store = finished.study(tmp_path)
    for version, stands in ((SECOND, (4, 4, 6)), (THIRD, (1, 4, 6))):
        for number in range(3):
            found(store, version, trial_folder(number), stands[number])
        found(store, version, "confirm/00000/1", stands[0] - 1)
    first, second, third = outcomes(finished.plan(), store, {"commit": "of the study"}, [SECOND, THIRD])
    robust = [[t.metrics["robust_accuracy"] for t in outcome.trials] for outcome in (first, second, third)]
    assert robust == [[0.4, 0.5, 0.6], [0.4, 0.4, 0.6], [0.1, 0.4, 0.6]]
    assert [sorted(t.number for t in outcome.front()) for outcome in (first, second, third)] == [[0, 1, 2], [0, 2], [0, 1, 2]]
    assert [outcome.confirmed[0].means["robust_accuracy"] for outcome in (first, second, third)] == pytest.approx([0.4, 0.3, 0.0])
    assert [outcome.version for outcome in (first, second, third)] == [1, 2, 3]
    assert (second.changes[0].left, second.changes[0].entered) == ((1,), ())
    assert (third.changes[1].left, third.changes[1].entered) == ((), (1,))
    assert second.changes[0].moves == {"robust_accuracy": Move(pytest.approx(-0.1 / 3), pytest.approx(-0.1), 1)}
    assert third.changes[1].moves["robust_accuracy"] == Move(pytest.approx(-0.1), pytest.approx(-0.3), 0)
    assert third.changes[:1] == second.changes and not first.changes
    assert "with more attacks" in third.facts["version 3"] and first.facts == {"commit": "of the study"}
    assert all(t.metrics["accuracy"] == 0.9 - 0.1 * t.number and t.curve for t in third.trials)  # what was known stays


def test_a_trial_that_could_not_be_looked_at_is_on_no_front_until_it_is(tmp_path):
    store = finished.study(tmp_path)
    for number in (0, 2):
        found(store, SECOND, trial_folder(number), 4)
    found(store, SECOND, trial_folder(1))
    found(store, SECOND, "confirm/00000/1", 4)
    outcome = outcomes(finished.plan(), store, {}, [SECOND])[-1]
    assert [(t.number, t.error) for t in outcome.failed] == [(1, "in version 2: it broke")]
    assert [t.number for t in outcome.front()] == [0] and outcome.changes[0].left == (1, 2)
    found(store, THIRD, trial_folder(1), 3)  # a later version does not bring it back: it lacks what the others have met
    for folder in (trial_folder(0), trial_folder(2), "confirm/00000/1"):
        found(store, THIRD, folder, 4)
    assert [t.number for t in outcomes(finished.plan(), store, {}, [SECOND, THIRD])[-1].failed] == [1]
    found(store, SECOND, trial_folder(1), 5)
    assert not outcomes(finished.plan(), store, {}, [SECOND])[-1].failed


def test_confirmed_points_of_a_trial_that_could_not_be_looked_at_are_left_out(tmp_path):
    store = finished.study(tmp_path)
    for folder in (trial_folder(1), trial_folder(2), "confirm/00000/1"):
        found(store, SECOND, folder, 4)
    found(store, SECOND, trial_folder(0))
    assert outcomes(finished.plan(), store, {}, [SECOND])[-1].confirmed == []


def test_new_flags_are_told_and_bar(tmp_path):
    store = finished.study(tmp_path)
    for number in range(3):
        flags = {"flag/black_box_beats_white_box": float(number == 2), "flag/more_steps_help": float(number == 1)}
        found(store, SECOND, trial_folder(number), 4 + number, **flags)
    found(store, SECOND, "confirm/00000/1", 4)
    outcome = outcomes(finished.plan(), store, {}, [SECOND])[-1]
    assert outcome.changes[0].raised == {1: ("more_steps_help",), 2: ("black_box_beats_white_box",)}
    assert outcome.changes[0].left == (2,) and [t.number for t in outcome.kept_off()] == [2]
    assert not outcome.changes[0].moves
    assert list(outcome.flags()) == ["black_box_beats_white_box", "few_non_members", "more_steps_help"]  # those that bar first
    assert [t.number for t in outcome.flags()["few_non_members"]] == [0, 1, 2]


def test_a_replicate_that_was_lost_counts_as_failed(tmp_path):
    made = finished.plan(replicates=3)
    store = finished.study(tmp_path, made)
    store.discard("confirm/00000/2/result.json")
    (point,) = outcomes(made, store, {}, [])[0].confirmed
    assert (point.replicates, point.failed) == (2, 1)
