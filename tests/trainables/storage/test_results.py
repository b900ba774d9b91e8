"""Results that are read from a study's files."""

import finished
import numpy as np
import pytest
from confirming import evidence as synthetic
from revised import SECOND, THIRD, write_reevaluation

from core.errors import InputError
from trainables.storage.arrays import to_npz
from trainables.storage.contents import Damaged
from trainables.storage.results import audit_result, evidence, stored_replicate, training_result
from trainables.storage.store import Store
from trainables.study.results import AuditResult, NetworkResult, TrainingResult


def test_an_image_is_robust_against_an_attack_only_if_every_version_says_so(tmp_path):
    store = finished.study(tmp_path)
    known = {**finished.predictions(2), "robust/square": np.arange(10) != 0}
    store.write("trials/00002/predictions.npz", to_npz(known))
    write_reevaluation(store, SECOND, "trials/00002", 5)
    store.write("versions/3/trials/00002/predictions.npz", to_npz({"robust/square": np.arange(10) != 1}))
    assert evidence(store, "trials/00002", [])["robust/square"].sum() == 9
    assert evidence(store, "trials/00002", [SECOND.folder])["robust/square"].tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    updated = evidence(store, "trials/00002", [SECOND.folder, THIRD.folder])
    assert updated["robust/square"].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]  # a later success of the network changes nothing
    assert updated["robust/pgd"].tolist() == known["robust/pgd"].tolist() and (updated["rows"] == known["rows"]).all()


@pytest.mark.parametrize("content, reason", [(None, "missing"), (b"PK\x03\x04 no", "truncated"), (b"", "empty")])
def test_the_error_for_unreadable_evidence_names_its_file(tmp_path, content, reason):
    store = finished.study(tmp_path)
    store.discard("trials/00001/predictions.npz")
    if content is not None:
        store.write("trials/00001/predictions.npz", content)
    with pytest.raises(InputError, match=f"trials/00001/predictions.npz.*{reason}"):
        evidence(store, "trials/00001", [])


READERS = {
    "training": (TrainingResult(metrics={"accuracy": 0.5}), lambda store: training_result(store, "a")),
    "audit": (AuditResult(metrics={"accuracy": 0.5}), lambda store: audit_result(store, "a/result.json")),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_stored_result_with_an_unknown_or_missing_field_or_one_of_another_type_is_damaged(tmp_path, kind):
    result, read = READERS[kind]
    store, plain = Store.at(str(tmp_path)), result.to_json()
    store.write_json("a/result.json", plain)
    assert read(store) == result
    changes = ({"x": "x"}, {"metrics": [0.5]}, {"metrics": {"accuracy": "0.5"}}, {"error": None}, {"seconds": "1"})
    wrong = {next(iter(change)): plain | change for change in changes}
    wrong |= {f"{name}: Field required": {n: v for n, v in plain.items() if n != name} for name in plain}
    for reason, content in (*wrong.items(), *(("dictionary", other) for other in ([], None, "text", 1))):
        store.write_json("a/result.json", content)
        with pytest.raises(Damaged, match=f"a/result.json is damaged .*{reason}"):
            read(store)


def test_membership_scores_of_other_images_replace_their_group_and_those_of_the_same_images_are_added(tmp_path):
    store, rows = Store.at(str(tmp_path)), np.arange(4)

    def group(name: str, at: np.ndarray) -> dict[str, np.ndarray]:
        return {"own/rows": at, "own/member": at < 2, f"own/{name}": at * 1.0}

    store.write("confirm/00000/1/predictions.npz", to_npz({"rows": rows, "labels": rows, **group("loss", rows)}))
    store.write("confirm/00000/1/audit.npz", to_npz({"auditor/rows": rows, "auditor/member": rows < 2, "auditor/lira": rows * 2.0}))
    for place, name, at in (("2", "gradient_norm", rows), ("3", "label_only", rows[:3])):
        store.write(f"versions/{place}/confirm/00000/1/predictions.npz", to_npz(group(name, at)))
    names = [set(evidence(store, "confirm/00000/1", later)) for later in ([], ["versions/2"], ["versions/2", "versions/3"])]
    common = {"rows", "labels", "auditor/rows", "auditor/member", "auditor/lira", "own/rows", "own/member"}
    assert [own - common for own in names] == [{"own/loss"}, {"own/loss", "own/gradient_norm"}, {"own/label_only"}]
    assert all(own >= common for own in names)


def test_a_replicate_whose_evidence_is_missing_or_does_not_fit_counts_as_failed_with_the_reason(tmp_path):
    store, succeeded = Store.at(str(tmp_path)), NetworkResult(metrics={"accuracy": 0.5})
    reason = lambda: stored_replicate(store, 0, 1, succeeded).result.error  # noqa: E731
    assert "confirm/00000/1/predictions.npz: missing" in reason()
    arrays = synthetic(3)
    store.write("confirm/00000/1/predictions.npz", to_npz(arrays))
    assert not reason()
    store.write("confirm/00000/1/predictions.npz", to_npz({n: a for n, a in arrays.items() if n != "logits"}))
    assert "no logits" in reason()
    store.write("confirm/00000/1/predictions.npz", to_npz({**arrays, "own/member": arrays["own/member"][:-1]}))
    assert reason()
    failed = NetworkResult(error="it diverged")
    assert stored_replicate(store, 0, 1, failed).result == failed
