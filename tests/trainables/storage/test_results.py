"""Results that are read from a study's files."""

import finished
import numpy as np
import pytest
from revised import SECOND, THIRD, write_reevaluation

from core.errors import InputError
from trainables.storage.arrays import to_npz
from trainables.storage.results import evidence


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
